"""The packet filter's text."""

import dataclasses
import ipaddress
import json
import re
from typing import Any

import pytest

from moorage.engines.host.configuration import ConnectionLimits
from moorage.engines.isolation.firewall import (
    NOT_PUBLIC,
    Policy,
    connected_networks,
    docker_rules,
    ruleset,
)

POLICY = Policy(
    instance_id="ab12",
    subnet="10.201.0.0/16",
    deny=("192.0.2.0/24", "8.8.8.0/24"),
    allow=("10.9.9.9/32",),
    resolvers=("10.255.255.53",),
    traffic=ConnectionLimits(),
)


def denied(text: str) -> list[ipaddress.IPv4Network]:
    (line,) = [it for it in text.splitlines() if "admin-prohibited" in it]
    inside = re.search(r"\{ (.*) \}", line)
    assert inside is not None
    return [ipaddress.IPv4Network(part) for part in inside[1].split(", ")]


def is_denied(address: str, policy: Policy = POLICY) -> bool:
    return any(ipaddress.IPv4Address(address) in network for network in denied(ruleset(policy)))


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "10.201.0.2",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.17.0.1",
        "192.168.1.1",
        "192.0.2.2",
        "8.8.8.8",
        "198.18.0.1",
        "224.0.0.251",
        "255.255.255.255",
        "0.0.0.0",
    ],
)
def test_what_is_not_public_is_denied(address: str) -> None:
    assert is_denied(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "203.0.113.80", "198.51.100.7"])
def test_what_is_public_is_not_denied(address: str) -> None:
    """The documentation ranges count as public: test networks put mirrors there."""
    assert not is_denied(address)


def test_documentation_range_is_denied_only_where_the_host_is_on_it() -> None:
    assert "192.0.2.0/24" not in NOT_PUBLIC
    elsewhere = dataclasses.replace(POLICY, deny=())
    assert not is_denied("192.0.2.2", elsewhere)


def test_denied_networks_do_not_overlap() -> None:
    networks = denied(ruleset(POLICY))
    assert all(not a.overlaps(b) for a in networks for b in networks if a is not b)


def from_app(text: str) -> list[str]:
    inside = text.split("chain from_app {", 1)[1].split("}\n  chain", 1)[0]
    return [line.strip() for line in inside.strip().splitlines()]


def test_order_of_what_an_app_may_send() -> None:
    rules = from_app(ruleset(POLICY))
    assert rules[0] == "ct state established,related accept"
    assert rules[1] == "meta nfproto != ipv4 drop"
    assert rules[2].startswith("ct state new add @flows { ip saddr ct count over ")
    assert rules[3:] == [
        "ip daddr { 10.255.255.53 } udp dport 53 accept",
        "ip daddr { 10.255.255.53 } tcp dport 53 accept",
        "tcp dport { 25, 465, 587 } reject with tcp reset",
        "ip daddr { 10.9.9.9/32 } accept",
        next(rule for rule in rules if "admin-prohibited" in rule),
        "accept",
    ]


def test_new_connections_above_the_rate_are_dropped_for_each_app_alone() -> None:
    rules = from_app(ruleset(with_traffic(app_new_connections=20)))
    assert rules[3] == (
        "ct state new update @paces { ip saddr limit rate over 20/second burst 20 packets } drop"
    )
    assert rules[4].endswith("dport 53 accept")


def with_traffic(**limits: Any) -> Policy:
    return dataclasses.replace(POLICY, traffic=ConnectionLimits(**limits))


def incoming(text: str) -> list[str]:
    inside = text.split("chain incoming {", 1)[1].split("\n  }\n", 1)[0]
    return [line.strip() for line in inside.strip().splitlines()]


def test_host_answers_apps_nothing_but_names() -> None:
    inside = ruleset(POLICY).split("chain from_app_to_host {")[1].split("}\n  chain", 1)[0]
    assert (
        [line.strip() for line in inside.strip().splitlines()]
        == [
            "ct state established ct direction reply accept",  # to a visitor, by the proxy
            *from_app(ruleset(POLICY))[:3],
            "ip daddr { 10.255.255.53 } udp dport 53 accept",
            "ip daddr { 10.255.255.53 } tcp dport 53 accept",
            "drop",
        ]
    )


def test_answers_to_visitors_do_not_count_as_what_an_app_sends() -> None:
    text = ruleset(with_traffic(app_bandwidth_mbit=10))
    inside = text.split("chain from_app_to_host {")[1].split("}\n  chain", 1)[0]
    first, second, *_ = (line.strip() for line in inside.strip().splitlines())
    assert first == "ct state established ct direction reply accept"
    assert second.startswith("update @sent { ip saddr limit rate over 1250000 bytes/second")


def test_nobody_on_the_host_but_its_root_may_ask_an_app() -> None:
    inside = ruleset(POLICY).split("chain outgoing {")[1].split("\n  }\n", 1)[0]
    assert inside.strip().splitlines()[1:] == [
        '    oifname "moab12-*" ct state new meta skuid != 0 reject'
    ]


def test_apps_are_matched_by_interface_and_only_this_gateways() -> None:
    text = ruleset(POLICY)
    assert 'iifname "moab12-*" jump from_app\n' in text
    assert 'oifname "moab12-*" jump to_app\n' in text
    assert 'iifname "moab12-*" jump from_app_to_host\n' in text
    assert "policy drop" not in text  # other traffic of the machine is none of our business


def test_table_is_replaced_in_one_transaction() -> None:
    assert ruleset(POLICY).startswith(
        "table inet moorage_ab12 {}\ndelete table inet moorage_ab12\ntable inet moorage_ab12 {\n"
    )


def test_connected_networks_leave_out_apps_of_any_gateway() -> None:
    addresses = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "192.0.2.2", "prefixlen": 24}]},
        {"ifname": "moab12-0", "addr_info": [{"local": "10.201.0.1", "prefixlen": 30}]},
        {"ifname": "mo00ff-7", "addr_info": [{"local": "10.201.0.29", "prefixlen": 30}]},
        {"ifname": "mobile0", "addr_info": [{"local": "198.51.100.9", "prefixlen": 25}]},
        {"ifname": "down0", "addr_info": []},
    ]
    assert connected_networks(json.dumps(addresses)) == (
        "127.0.0.0/8",
        "192.0.2.0/24",
        "198.51.100.0/25",
    )


def test_docker_lets_out_what_our_filter_passed_and_in_only_replies() -> None:
    assert docker_rules(POLICY) == [
        ["-i", "moab12-+", "-j", "ACCEPT"],
        ["-o", "moab12-+", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
    ]

"""What is read of /proc, and the packet filter's text."""

import json

import pytest

from moorage.engines.connection_limits import ConnectionLimits
from moorage.engines.host.network.listeners import Listener
from moorage.engines.rootless.listeners import connections, listeners, parse_table
from moorage.engines.rootless.probe import kernel_version, own_group
from moorage.engines.rootless.processes import Process, ProcessId, descendants, parse_stat
from moorage.engines.rootless.rules import Policy, own_addresses, ruleset

# As a kernel prints them: an app on 0.0.0.0:3000, one on 127.0.0.1:9229, two connections to 3000.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1
   1: 0100007F:240D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2 1
   2: 0100007F:0BB8 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 3 1
   3: 0100007F:D431 0100007F:0BB8 01 00000000:00000000 00:00000000 00000000  1000        0 4 1
   4: 0100007F:0BB8 0100007F:D432 01 00000000:00000000 00:00000000 00000000  1000        0 5 1
   5: 0100007F:0BB8 0100
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0BB9 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:0BBA 00000000000000000000000000000000:0000 0A
   2: 0000000000000000FFFF00000100007F:0BB8 0000000000000000FFFF00000100007F:D433 01
"""


def test_listeners_have_an_address_that_reaches_them() -> None:
    assert listeners(parse_table(TCP)) == [
        Listener("127.0.0.1", 3000, loopback_only=False),
        Listener("127.0.0.1", 9229, loopback_only=True),
    ]
    assert listeners(parse_table(TCP6)) == [
        Listener("::1", 3001, loopback_only=False),
        Listener("::1", 3002, loopback_only=True),
    ]


def test_connections_are_the_ones_taken_at_the_port_in_either_family() -> None:
    assert connections(parse_table(TCP) + parse_table(TCP6), 3000) == 3


def test_empty_table_is_no_listener() -> None:
    assert parse_table("") == []


def stat(pid: int, *, name: str = "node", state: str = "S", parent: int = 1) -> str:
    """A line of /proc/<pid>/stat: utime 150, stime 50 of 100 ticks a second, started at 777."""
    numbers = [parent, *[0] * 9, 150, 50, 0, 0, *[0] * 4, 777, *[0] * 20]
    return f"{pid} ({name}) {state} " + " ".join(map(str, numbers))


def test_process_is_known_by_id_and_start_whatever_its_name() -> None:
    process = parse_stat(stat(42, name="a) b (c", parent=7))
    assert process.id == ProcessId(42, 777)
    assert (process.name, process.parent, process.is_zombie) == ("a) b (c", 7, False)
    assert process.cpu_ms == 2000


@pytest.mark.parametrize("state", ["Z", "X"])
def test_dead_process_is_no_process(state: str) -> None:
    assert parse_stat(stat(42, state=state)).is_zombie


def process(pid: int, parent: int) -> Process:
    return Process(id=ProcessId(pid, pid), name="x", parent=parent, is_zombie=False, cpu_ms=0)


def test_descendants_are_found_however_deep_and_strangers_are_not() -> None:
    among = {it.id.pid: it for it in (
        process(1, 0), process(10, 1), process(11, 10), process(12, 11), process(20, 1),
    )}  # fmt: skip
    assert [it.id.pid for it in descendants(ProcessId(10, 10), among)] == [11, 12]


def test_id_that_was_used_again_has_no_descendants() -> None:
    among = {10: process(10, 1), 11: process(11, 10)}
    assert descendants(ProcessId(10, 9), among) == []


POLICY = Policy(
    deny=("203.0.113.9/32",),
    allow=("10.9.9.9/32",),
    resolvers=("10.255.255.53",),
    traffic=ConnectionLimits(app_new_connections=20, app_bandwidth_mbit=8),
)


def chain(name: str) -> list[str]:
    inside = ruleset(POLICY).split(f"chain {name} {{", 1)[1].split("\n  }\n", 1)[0]
    return [line.strip() for line in inside.strip().splitlines()]


def test_app_reaches_itself_and_what_the_policy_lets_it() -> None:
    rules = chain("from_app")
    assert rules[1] == 'oifname "lo" accept'
    assert rules[2] == "limit rate over 1000000 bytes/second burst 262144 bytes drop"
    assert "meta nfproto != ipv4 drop" in rules
    assert "ct state new limit rate over 20/second burst 20 packets drop" in rules
    denied = next(at for at, rule in enumerate(rules) if "203.0.113.9" in rule)
    assert rules.index("ip daddr { 10.9.9.9/32 } accept") < denied
    assert rules.index("tcp dport { 25, 465, 587 } reject with tcp reset") < denied
    assert rules[-1] == "accept"


def test_nobody_outside_begins_a_connection_to_the_app() -> None:
    assert chain("to_app")[-2:] == ["ct state established,related accept", "drop"]


def test_every_address_of_the_machine_is_its_own() -> None:
    addresses = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [
            {"local": "192.0.2.2", "prefixlen": 24}, {"local": "203.0.113.9", "prefixlen": 32},
        ]},
    ]  # fmt: skip
    assert own_addresses(json.dumps(addresses)) == (
        "127.0.0.1/32",
        "192.0.2.2/32",
        "203.0.113.9/32",
    )


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.1.0-28-amd64", (6, 1)), ("5.14-rc3", (5, 14)), ("strange", (0, 0))],
)
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


def test_own_group_is_the_one_of_version_2() -> None:
    service = "/user.slice/user-1000.slice/user@1000.service/app.slice/moorage.service"
    assert own_group(f"12:pids:/user\n0::{service}\n") == service
    assert own_group("12:pids:/user\n") is None

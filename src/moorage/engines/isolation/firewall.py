"""Makes and loads the packet filter of all apps of a gateway: one nftables table.

Rules match apps by the names of their interfaces, so that a new app changes no rule. An app may
reach the public internet over IPv4, and port 53 of the machine's resolvers.
"""

import ipaddress
import json
import re
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moorage.engines.host import processes
from moorage.engines.host.configuration import ConnectionLimits

_NETLINK_NETFILTER = 12
_GET_GENERATION = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_NEW_GENERATION = 10 << 8 | 15
_NLM_F_REQUEST = 1
_ANSWER_BYTES = 4096
_GENERATION_OFFSET = 24  # after the headers of message, nfnetlink and the first attribute
_TIMEOUT_SECONDS = 5.0
_LEGACY_TABLES = Path("/proc/thread-self/net/ip_tables_names")


class FilterWatch:
    """Remembers the generation at which the filter was found in order."""

    def __init__(self) -> None:
        self._in_order: int | None = None

    def check(self, repair: Callable[[], None]) -> None:
        """Calls `repair`, which checks the filter, unless nothing changed since its last call."""
        current = generation()
        if current is not None and current == self._in_order:
            return
        repair()
        self._in_order = current  # if it repaired something, the next call checks that


def generation() -> int | None:
    """Returns the generation in this thread's network namespace; None if that may not show all.

    It counts changes by nftables alone, so not those of an iptables of the older kind.
    """
    try:
        if _LEGACY_TABLES.read_text():
            return None
    except OSError:  # the kernel has no such tables
        pass
    try:
        return _asked()
    except OSError:
        return None


def _asked() -> int | None:
    question = struct.pack("=IHHIIBBH", 20, _GET_GENERATION, _NLM_F_REQUEST, 0, 0, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
        asking.settimeout(_TIMEOUT_SECONDS)
        asking.send(question)
        answer = asking.recv(_ANSWER_BYTES)
    if struct.unpack_from("=H", answer, 4)[0] != _NEW_GENERATION:
        return None
    return int.from_bytes(answer[_GENERATION_OFFSET : _GENERATION_OFFSET + 4], "big")


# IANA's special-purpose registry (RFC 6890), without the documentation ranges: no host answers
# there, and test networks use them for mirrors.
NOT_PUBLIC = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
_OURS = re.compile(r"mo[0-9a-f]{4,6}-")  # interfaces of any gateway's apps
MAX_FLOWS = 1024  # of an app at the same time, as all share the machine's connection table
_BYTES_A_MBIT = 125_000
_MIN_BURST_BYTES = 256 * 1024
_MAIL_PORTS = "{ 25, 465, 587 }"


class Destinations(Protocol):
    """Where apps may connect. Networks are IPv4 CIDRs; `allow` takes precedence."""

    @property
    def deny(self) -> tuple[str, ...]:
        """Denied networks, in addition to NOT_PUBLIC."""
        ...

    @property
    def allow(self) -> tuple[str, ...]:
        """Networks that are allowed although they are private."""
        ...

    @property
    def resolvers(self) -> tuple[str, ...]:
        """Hosts of which only port 53 is allowed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The input of `ruleset`. Networks are IPv4 CIDRs."""

    instance_id: str
    subnet: str
    deny: tuple[str, ...]
    allow: tuple[str, ...]
    resolvers: tuple[str, ...]
    traffic: ConnectionLimits
    build_bridge: str | None = None  # an interface from which builds are filtered as apps are

    @property
    def table(self) -> str:
        """The name of the nftables table, of the family inet."""
        return table_name(self.instance_id)

    @property
    def interfaces(self) -> str:
        """The prefix of the names of all apps' interfaces."""
        return interface_prefix(self.instance_id)


def table_name(instance_id: str) -> str:
    """Returns the name of the gateway's own table, of the family inet."""
    return f"moorage_{instance_id}"


def interface_prefix(instance_id: str) -> str:
    """Returns the prefix of the names of a gateway's interfaces and network namespaces."""
    return f"mo{instance_id}-"


def ruleset(policy: Policy) -> str:
    """Returns the text for `nft -f -` that replaces the gateway's table in one transaction."""
    name, apps = policy.table, f'"{policy.interfaces}*"'
    pace = new_flows(policy.traffic.app_new_connections, source="ip saddr")
    sent = bandwidth(policy.traffic.app_bandwidth_mbit, meter="sent", key="ip saddr")
    bridge = policy.build_bridge
    builds = "" if bridge is None else f'    iifname "{bridge}" jump from_app\n'
    builds_to_host = "" if bridge is None else f'    iifname "{bridge}" jump from_app_to_host\n'
    received = bandwidth(policy.traffic.app_bandwidth_mbit, meter="received", key="ip daddr")
    # The same for both chains, to the internet and to this machine's resolver: all flows count.
    begun = f"""\
    ct state established,related accept
    meta nfproto != ipv4 drop
    ct state new add @flows {{ ip saddr ct count over {MAX_FLOWS} }} reject
{pace}"""
    return f"""\
table inet {name} {{}}
delete table inet {name}
table inet {name} {{
  set flows {{ type ipv4_addr; size 65535; flags dynamic; }}
  set paces {{ type ipv4_addr; size 65535; flags dynamic, timeout; timeout 10s; }}
  set sent {{ type ipv4_addr; size 65535; flags dynamic, timeout; timeout 60s; }}
  set received {{ type ipv4_addr; size 65535; flags dynamic, timeout; timeout 60s; }}
  chain from_app {{
{sent}{begun}{destinations(policy, policy.subnet)}  }}
  chain from_app_to_host {{
    ct state established ct direction reply accept
{sent}{begun}{_dns(policy.resolvers)}    drop
  }}
  chain to_app {{
{received}    ct state established,related accept
    drop
  }}
  chain forwarding {{
    type filter hook forward priority filter - 10; policy accept;
{builds}    iifname {apps} jump from_app
    oifname {apps} jump to_app
  }}
  chain incoming {{
    type filter hook input priority filter - 10; policy accept;
{builds_to_host}    iifname {apps} jump from_app_to_host
  }}
  chain outgoing {{
    type filter hook output priority filter - 10; policy accept;
    oifname {apps} ct state new meta skuid != 0 reject
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {policy.subnet} oifname != {{ {apps}, "lo" }} masquerade
  }}
}}
"""


def short_memory(policy: Policy) -> str:
    """Returns the text that has the kernel forget visitors' connections soon after their end.

    An app that ends each connection would fill the kernel's table within minutes, as it remembers
    them for two. A kernel without this feature (CONFIG_NF_CT_NETLINK_TIMEOUT) remembers them.
    """
    return f"""\
table inet {policy.table} {{
  ct timeout visits {{
    protocol tcp
    l3proto ip
    policy = {{ fin_wait : 10, last_ack : 10, time_wait : 2, close : 2 }}
  }}
  chain remembering {{
    type filter hook output priority filter - 11; policy accept;
    oifname "{policy.interfaces}*" ct state new ct timeout set "visits"
  }}
}}
"""


def destinations(allowed: Destinations, *denied: str) -> str:
    """Returns the rules for the destinations of an app's new connections; the last one accepts."""
    allow = f"    ip daddr {_set(allowed.allow)} accept\n" if allowed.allow else ""
    deny = _set(_collapse((*NOT_PUBLIC, *denied, *allowed.deny)))
    return f"""\
{_dns(allowed.resolvers)}    tcp dport {_MAIL_PORTS} reject with tcp reset
{allow}    ip daddr {deny} reject with icmp type admin-prohibited
    accept
"""


def new_flows(a_second: int, *, source: str | None = None) -> str:
    """Returns the rule that drops new connections above a rate, after a burst of as many.

    0 means no limit. With `source`, the key of set `paces`, each source has its own rate. Clients
    resend a dropped packet after a second, so that an honest burst only takes longer.
    """
    if not a_second:
        return ""
    limit = f"limit rate over {a_second}/second burst {a_second} packets"
    meter = limit if source is None else f"update @paces {{ {source} {limit} }}"
    return f"    ct state new {meter} drop\n"


def bandwidth(mbit: int, *, meter: str | None = None, key: str = "") -> str:
    """Returns the rule that drops packets above a rate in Mbit/s; 0 means no limit.

    With `meter`, a set, each of its keys has its own rate. The burst is a tenth of a second, and at
    least several of the largest packets between a host and its namespaces.
    """
    if not mbit:
        return ""
    rate = mbit * _BYTES_A_MBIT
    burst = max(_MIN_BURST_BYTES, rate // 10)
    limit = f"limit rate over {rate} bytes/second burst {burst} bytes"
    return f"    {limit if meter is None else f'update @{meter} {{ {key} {limit} }}'} drop\n"


def _dns(resolvers: tuple[str, ...]) -> str:
    if not resolvers:
        return ""
    servers = _set(resolvers)
    return "".join(f"    ip daddr {servers} {it} dport 53 accept\n" for it in ("udp", "tcp"))


def connected_networks(addresses_json: str) -> tuple[str, ...]:
    """Returns this machine's IPv4 networks, from `ip -json -4 addr`, without gateways' own."""
    return tuple(
        str(ipaddress.ip_interface(f"{info['local']}/{info['prefixlen']}").network)
        for link in json.loads(addresses_json)
        if not _OURS.match(link["ifname"])
        for info in link["addr_info"]
    )


def load(policy: Policy, *, enter: Sequence[str] = ()) -> None:
    """Loads the filter, and adds exceptions to Docker's filter if needed. Raises OSError.

    `enter` is a command's prefix that enters another network namespace.
    """
    nft = [*enter, "nft", "-f", "-"]
    processes.run(nft, stdin=ruleset(policy))
    processes.run_leniently(nft, stdin=short_memory(policy))
    pass_docker(policy, enter=enter)


def pass_docker(policy: Policy, *, enter: Sequence[str] = ()) -> bool:
    """Adds exceptions to Docker's filter where it lacks them; returns whether it did.

    Docker may be started, or begin its filter again, after the gateway. Raises OSError.
    """
    existing = _dockers(enter)
    missing = [rule for rule in docker_rules(policy) if existing and _line(rule) not in existing]
    for rule in missing:
        processes.run([*enter, "iptables", "-w", "-I", "DOCKER-USER", *rule])
    return bool(missing)


def is_loaded(instance_id: str) -> bool:
    """Returns whether the gateway's table is loaded."""
    tables = processes.run(["nft", "list", "tables", "inet"])
    return f"table inet {table_name(instance_id)}" in tables.splitlines()


def forget_connections(instance_id: str, address: str) -> None:
    """Forgets an address's connections, which the kernel counts until long after their app's end.

    Does nothing if none of them is counted, or the filter is not loaded.
    """
    element = f"delete element inet {table_name(instance_id)} flows {{ {address} }}\n"
    processes.run_leniently(["nft", "-f", "-"], stdin=element)


def unload(policy: Policy, *, enter: Sequence[str] = ()) -> None:
    """Removes the filter, if it is loaded; `enter` is as for `load`."""
    name = policy.table
    gone = f"table inet {name} {{}}\ndelete table inet {name}\n"
    processes.run([*enter, "nft", "-f", "-"], stdin=gone)
    existing = _dockers(enter)
    for rule in docker_rules(policy):
        if _line(rule) in existing:
            processes.run([*enter, "iptables", "-w", "-D", "DOCKER-USER", *rule])


def docker_rules(policy: Policy) -> list[list[str]]:
    """Returns rules that accept apps' packets in Docker's filter, which drops unknown ones."""
    apps = f"{policy.interfaces}+"
    return [
        ["-i", apps, "-j", "ACCEPT"],
        ["-o", apps, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
    ]


def _dockers(enter: Sequence[str]) -> list[str]:
    """Returns the lines of Docker's chain for other programs' rules; [] where there is none."""
    if not processes.found("iptables"):
        return []
    output = processes.run([*enter, "iptables", "-w", "-S", "DOCKER-USER"], accept=(0, 1, 2, 3, 4))
    return output.splitlines()


def _line(rule: Sequence[str]) -> str:
    return " ".join(("-A", "DOCKER-USER", *rule))


def _collapse(networks: Iterable[str]) -> list[str]:
    """Merges overlapping networks, which nft refuses."""
    parsed = (ipaddress.IPv4Network(network, strict=False) for network in networks)
    return [str(network) for network in ipaddress.collapse_addresses(parsed)]


def _set(elements: Iterable[str]) -> str:
    return "{ " + ", ".join(elements) + " }"

"""An app's network: a namespace of its own, connected to the machine by a veth pair in a /30."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.host import processes
from moorage.engines.host.listeners import Listener
from moorage.engines.isolation import firewall
from moorage.engines.isolation.slots import NETNS_DIRECTORY, Slot

_FIRST_PORT, _PORTS = 10_000, 50_000

# The kernel lets packets for 127.0.0.1 in by the app's interface, which only the host is on. It
# keeps no memory of a connection that it did not see begin, and little of one that has ended.
_LOAD = """\
set -eu
echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
nft -f -
echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose
echo 2 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait
"""


@dataclass(frozen=True, kw_only=True)
class Forwarding:
    """From a port of the app's address to `listener`, for so many connections at a time."""

    port: int
    listener: Listener
    connections: int


def reaches(listener: Listener) -> bool:
    """Returns whether a listener can be forwarded to: IPv4 can't be led to IPv6's loopback."""
    return ":" not in listener.target


class Ports:
    """Gives ports to deployments: at one address none twice, until all others were given there."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # by slot

    def new(self, slot: int) -> int:
        """Returns a port for a deployment in `slot`, which none before it had there."""
        last = self._last.get(slot)
        at = secrets.randbelow(_PORTS) if last is None else (last - _FIRST_PORT + 1) % _PORTS
        self._last[slot] = _FIRST_PORT + at
        return self._last[slot]

    def note(self, slot: int, port: int) -> None:
        """Notes a port that a deployment was given before this gateway's start."""
        self._last.setdefault(slot, port)


def ruleset(forwarding: Forwarding) -> str:
    """Returns the text for `nft -f -` that replaces the table in one transaction.

    The kernel tracks the forwarded connections alone, so that an app can't fill its memory with
    others. The answers of a forwarded connection leave by loopback, until they are translated.
    """
    target, port = forwarding.listener.target, forwarding.listener.port
    return f"""\
table inet visits {{}}
delete table inet visits
table inet visits {{
  chain untracked_in {{
    type filter hook prerouting priority raw; policy accept;
    iifname "eth0" tcp dport {forwarding.port} accept
    notrack
  }}
  chain untracked_out {{
    type filter hook output priority raw; policy accept;
    oifname "lo" tcp sport {port} ip saddr {target} accept
    notrack
  }}
  chain forwarded {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" tcp dport {forwarding.port} dnat ip to {target}:{port}
  }}
  chain from_loopback {{
    type nat hook input priority srcnat; policy accept;
    iifname "eth0" ct status dnat snat ip to 127.0.0.1
  }}
  chain admitted {{
    type filter hook input priority filter; policy accept;
    iifname "eth0" ct state new ct count over {forwarding.connections} reject with tcp reset
    iifname "eth0" ct state untracked tcp flags & (syn | ack) == syn reject with tcp reset
  }}
}}
"""


def load(forwarding: Forwarding, *, netns: Path) -> None:
    """Forwards the port in a network, in place of what was forwarded there. Raises OSError."""
    argv = ["nsenter", f"--net={netns}", "/bin/sh", "-c", _LOAD]
    processes.run(argv, stdin=ruleset(forwarding))


_FIRST_METRIC = 1_000_000  # behind any other route

# In its own network an app may listen on any port, as in a container of Docker's: which ports need
# a capability is a rule of each network namespace (ip-sysctl, ip_unprivileged_port_start).
_SET_UP = """\
set -eu
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
exec ip -batch -
"""


@dataclass(frozen=True)
class Network:
    """One app's network. `name` is the name of the namespace, and of the host's interface."""

    name: str
    slot: Slot
    instance_id: str  # the gateway's

    @property
    def path(self) -> Path:
        """The file of the namespace, for `nsenter --net=`."""
        return NETNS_DIRECTORY / self.name

    @property
    def exists(self) -> bool:
        """Whether the namespace exists."""
        return self.path.exists()

    def create(self) -> None:
        """Makes the network, after removing an existing one; blocks. Raises OSError.

        The address may have been another app's, whose connections must not count for this one.
        """
        self.remove()
        firewall.forget_connections(self.instance_id, self.slot.app_address)
        processes.run(["ip", "-batch", "-"], stdin=host_batch(self))
        inside = ["nsenter", f"--net={self.path}", "/bin/sh", "-c", _SET_UP]
        processes.run(inside, stdin=inner_batch(self))

    def remove(self) -> None:
        """Removes the network, if it exists. Raises OSError."""
        if self.name in leftovers(self.name):
            remove_leftover(self.name)


def network_of(instance_id: str, slot: Slot) -> Network:
    """Returns the network of a gateway's slot."""
    return Network(f"{firewall.interface_prefix(instance_id)}{slot.number}", slot, instance_id)


def host_batch(network: Network) -> str:
    """Returns the commands for `ip -batch` on the host."""
    name = network.name
    return f"""\
netns add {name}
link add {name} type veth peer name eth0 netns {name}
link set {name} addrgenmode none
address add {network.slot.host_address}/30 dev {name}
link set {name} up
"""


def inner_batch(network: Network) -> str:
    """Returns the commands for `ip -batch` inside the namespace."""
    return f"""\
link set lo up
address add {network.slot.app_address}/30 dev eth0
link set eth0 addrgenmode none
link set eth0 up
route add default via {network.slot.host_address}
"""


def refuse_unused(subnet: str, instance_id: str) -> None:
    """Has the kernel refuse addresses of the subnet that no app has, instead of asking the world.

    Of two gateways with one subnet, each has a route of its own. Raises OSError.
    """
    processes.run(["ip", "route", "replace", *_unused(subnet, instance_id)])


def forget_unused(subnet: str, instance_id: str) -> None:
    """Removes what `refuse_unused` made, if it is there."""
    processes.run_leniently(["ip", "route", "delete", *_unused(subnet, instance_id)])


def _unused(subnet: str, instance_id: str) -> list[str]:
    return ["unreachable", subnet, "metric", str(_FIRST_METRIC + int(instance_id, 16))]


def leftovers(prefix: str) -> set[str]:
    """Returns the names of all network namespaces and interfaces that begin with `prefix`."""
    places = (NETNS_DIRECTORY, Path("/sys/class/net"))
    return {path.name for place in places for path in place.glob(f"{prefix}*")}


def remove_leftover(name: str) -> None:
    """Removes the namespace and the interface of that name. Raises OSError if one remains."""
    # The interface first: the kernel would remove it with its namespace, but some time later.
    batch = f"link delete {name}\nnetns delete {name}\n"
    output = processes.run_leniently(["ip", "-force", "-batch", "-"], stdin=batch)
    if leftovers(name) & {name}:
        raise OSError(f"network {name} can't be removed: {output.strip()}")

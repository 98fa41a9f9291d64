"""An app's network: a namespace of its own, connected to the machine by a veth pair in a /30."""

from dataclasses import dataclass
from pathlib import Path

from moorage.engines.host import tool
from moorage.engines.isolation import firewall
from moorage.engines.isolation.slots import NETNS_DIRECTORY, Slot

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
        tool.run(["ip", "-batch", "-"], stdin=host_batch(self))
        inside = ["nsenter", f"--net={self.path}", "/bin/sh", "-c", _SET_UP]
        tool.run(inside, stdin=inner_batch(self))

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
    tool.run(["ip", "route", "replace", *_unused(subnet, instance_id)])


def forget_unused(subnet: str, instance_id: str) -> None:
    """Removes what `refuse_unused` made, if it is there."""
    tool.run_leniently(["ip", "route", "delete", *_unused(subnet, instance_id)])


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
    said = tool.run_leniently(["ip", "-force", "-batch", "-"], stdin=batch)
    if leftovers(name) & {name}:
        raise OSError(f"network {name} can't be removed: {said.strip()}")

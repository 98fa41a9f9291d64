"""The network of all apps: one bridge, over which no app reaches another, behind the firewall.

It lies in the network namespace of the Docker daemon, which is the machine's own as a rule.
"""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from moorage.engines.docker.container import INSTANCE_LABEL
from moorage.engines.docker.daemon import Daemon, NotFound, calling
from moorage.engines.host import tool
from moorage.engines.isolation import firewall
from moorage.engines.isolation.firewall import Policy, interface_prefix, table_name

DOCKER_BRIDGE = "docker0"  # where builds run
_BRIDGE_PORTS = 1000  # a bridge has 1,024; builds and the kernel take some
_NOT_APPS = 3  # of the addresses: the network's own, the bridge's, the broadcast's


def network_name(instance_id: str) -> str:
    """Returns the name of the apps' network in Docker."""
    return f"moorage-{instance_id}"


def bridge_name(instance_id: str) -> str:
    """Returns the bridge's interface; the firewall knows it by its prefix."""
    return f"{interface_prefix(instance_id)}br"


def max_apps(subnet: str) -> int:
    """Returns how many apps can be on the network."""
    return min(_BRIDGE_PORTS, ip_network(subnet).num_addresses - _NOT_APPS)


def network(instance_id: str, subnet: str) -> dict[str, Any]:
    """Returns the body of `POST /networks/create`."""
    return {
        "Name": network_name(instance_id),
        "Driver": "bridge",
        "EnableIPv6": False,
        "Labels": {INSTANCE_LABEL: instance_id},
        "IPAM": {"Config": [{"Subnet": subnet}]},
        "Options": {
            "com.docker.network.bridge.name": bridge_name(instance_id),
            "com.docker.network.bridge.enable_icc": "false",
        },
    }


def bridge_rules(instance_id: str, subnet: str, *, builds: Sequence[str]) -> str:
    """Returns the text for `nft -f -` that drops what one app, or build, sends to another.

    Docker's own rule is only for machines whose bridges hand packets to the machine's filter. Apps
    have no IPv6, and may not choose their source address. Builds, whose networks `builds` are, may
    send any frame: none passes that tells another who has an address, or that it would take.
    """
    name = table_name(instance_id)
    between = "".join(
        f"    {field} {network} drop\n"
        for network in builds
        for field in ("ip saddr", "ip daddr", "arp saddr ip", "arp daddr ip")
    )
    return f"""\
table bridge {name} {{}}
delete table bridge {name}
table bridge {name} {{
  chain between {{
    type filter hook forward priority filter - 10; policy accept;
    ip saddr {subnet} drop
{between}  }}
}}
"""


def enter(daemon: Daemon) -> list[str]:
    """Returns the prefix of a command that is to run in Docker's network namespace."""
    return ["nsenter", f"--net={daemon.network}"]


def load(policy: Policy, daemon: Daemon) -> None:
    """Loads the firewall, or loads it again; blocks. Raises OSError."""
    firewall.load(policy, enter=enter(daemon))
    rules = bridge_rules(policy.instance_id, policy.subnet, builds=_networks_of_builds(daemon))
    tool.run([*enter(daemon), "nft", "-f", "-"], stdin=rules)


def _networks_of_builds(daemon: Daemon) -> tuple[str, ...]:
    said = tool.run([*enter(daemon), "ip", "-json", "-4", "address", "show", "dev", DOCKER_BRIDGE])
    return firewall.connected_networks(said)


def is_loaded(instance_id: str, daemon: Daemon) -> bool:
    """Returns whether all of the firewall is loaded; blocks."""
    found = tool.run([*enter(daemon), "nft", "list", "tables"]).splitlines()
    name = table_name(instance_id)
    return f"table inet {name}" in found and f"table bridge {name}" in found


def unload(policy: Policy, daemon: Daemon) -> None:
    """Removes the firewall; blocks."""
    name = policy.table
    firewall.unload(policy, enter=enter(daemon))
    gone = f"table bridge {name} {{}}\ndelete table bridge {name}\n"
    tool.run([*enter(daemon), "nft", "-f", "-"], stdin=gone)


def connected(daemon: Daemon) -> tuple[str, ...]:
    """Returns the networks of the machine that Docker runs on; blocks."""
    said = tool.run([*enter(daemon), "ip", "-json", "-4", "address"])
    return firewall.connected_networks(said)


async def ensure(daemon: Daemon, instance_id: str, subnet: str) -> None:
    """Makes the network, unless it is there. Raises DaemonFailed."""
    try:
        async with calling():
            await daemon.docker.networks.get(network_name(instance_id))
    except NotFound:
        async with calling():
            await daemon.docker.networks.create(network(instance_id, subnet))


async def remove(daemon: Daemon, instance_id: str) -> None:
    """Removes the network, if it is there. Raises DaemonFailed."""
    try:
        async with calling():
            await (await daemon.docker.networks.get(network_name(instance_id))).delete()
    except NotFound:
        return

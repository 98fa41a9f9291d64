"""The network of all apps: one bridge, over which no app reaches another, behind the firewall.

It lies in the network namespace of the Docker daemon, which is the machine's own as a rule.
"""

from ipaddress import ip_network
from typing import Any

from moorage.engines.docker.container import INSTANCE_LABEL
from moorage.engines.dockerd.daemon import Daemon, NotFound, calling
from moorage.engines.isolation.firewall import interface_prefix

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

"""The firewall of what Docker runs: of builds on its own bridge, and of apps beside them.

It is loaded in the network namespace of the daemon, which is the machine's own as a rule.
"""

import logging
from collections.abc import Callable, Sequence

from moorage.engines.dockerd.daemon import Daemon
from moorage.engines.host import tool
from moorage.engines.isolation import firewall
from moorage.engines.isolation.firewall import Policy, table_name

DOCKER_BRIDGE = "docker0"  # where builds run

logger = logging.getLogger(__name__)


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


def keep(instance_id: str, daemon: Daemon, policy: Callable[[], Policy]) -> None:
    """Reloads the firewall if somebody has flushed the machine's rules; blocks. Raises OSError."""
    if not is_loaded(instance_id, daemon):
        logger.warning("the packet filter of the apps was gone: it is loaded again")
        load(policy(), daemon)

"""The firewall of what Docker runs: of builds on its own bridge, and of apps beside them.

It is loaded in the network namespace of the daemon, which is the machine's own as a rule.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.dockerd.daemon import Daemon
from moorage.engines.engine import Limits
from moorage.engines.host import processes
from moorage.engines.host.cgroup import BUILDS, Cgroups
from moorage.engines.isolation import firewall
from moorage.engines.isolation.firewall import Policy, table_name

_MOUNTS = Path("/proc/self/mountinfo")
_KILL_SECONDS = 10.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class BuildGroup:
    """A group with limits for all commands of a build together. Methods block."""

    cgroups: Cgroups
    place: str  # is a part of what the builder's cache goes by, so it is the same for later builds

    @property
    def name(self) -> str:
        """The group's name below the gateway's."""
        return f"{BUILDS}/{self.place}"

    @property
    def parent(self) -> str:
        """The value for `--cgroup-parent`."""
        return f"/{self.cgroups.root}/{self.name}"

    def open(self, limits: Limits) -> None:
        """Makes the group, in place of an earlier one. Raises OSError."""
        self.remove()
        self.cgroups.create(self.name, limits)

    def was_full(self) -> bool:
        """Returns whether the group's memory was full; on version 1 also if that did no harm.

        There, the groups of commands take the number of killed processes with them.
        """
        group = self.cgroups.hierarchy.mounts["memory"] / self.cgroups.root / self.name
        if self.cgroups.hierarchy.version == 2:
            return self.cgroups.oom_kills(self.name) > 0
        most, limit = (
            int((group / f"memory.{file}").read_text())
            for file in ("max_usage_in_bytes", "limit_in_bytes")
        )
        return most >= limit

    def written(self) -> dict[int, int]:
        """Returns the bytes that each of its processes has written so far (proc_pid_io(5))."""
        found = {}
        for pid in {pid for group in self._groups() for pid in _pids(group)}:
            with contextlib.suppress(OSError, ValueError):  # it has just ended
                lines = Path(f"/proc/{pid}/io").read_text().splitlines()
                output = dict(line.split(": ") for line in lines)
                found[pid] = int(output["write_bytes"])
        return found

    def remove(self) -> None:
        """Kills every process in the group and the groups in it, and removes them."""
        deadline = time.monotonic() + _KILL_SECONDS
        while groups := self._groups():
            for group in groups:
                _end(group)
            if time.monotonic() > deadline:
                raise TimeoutError(f"control group {self.name} does not end")
            time.sleep(_POLL_SECONDS)
        remove_everywhere(f"{self.cgroups.root}/{self.name}")

    def _groups(self) -> list[Path]:
        """Returns the groups, in each hierarchy the innermost first."""
        found: list[Path] = []
        for top in self.cgroups.directories(self.name):
            for path, _, _ in os.walk(top, topdown=False):
                found.append(Path(path))
        return found


def remove_everywhere(name: str) -> None:
    """Removes a group without processes, and those in it, from all hierarchies; blocks.

    Docker makes a container's parents also in version 1's hierarchies that we use for nothing.
    """
    for line in _MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] in ("cgroup", "cgroup2"):
            top = Path(before.split(" ")[4]) / name
            for group, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # it is gone, or a build is just ending in it
                    Path(group).rmdir()


class ElsewhereGroup:
    """That of a build on another machine, of which nothing is known here."""

    parent = ""

    def was_full(self) -> bool:
        """Returns False."""
        return False

    def written(self) -> dict[int, int]:
        """Returns nothing."""
        return {}


def _pids(group: Path) -> list[int]:
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError:  # it is being removed
        return []


def _end(group: Path) -> None:
    """Kills a group's processes, and removes it unless some are still ending."""
    with contextlib.suppress(OSError):  # it is being removed, or has processes
        for pid in _pids(group):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        group.rmdir()


DOCKER_BRIDGE = "docker0"  # where builds run

logger = logging.getLogger(__name__)


def bridge_rules(instance_id: str, subnet: str, *, builds: Sequence[str]) -> str:
    """Returns the text for `nft -f -` that drops what one app, or build, sends to another.

    Docker's own rule works only where bridges hand packets to the machine's filter. Apps have no
    IPv6, and can't choose their source address. Builds, in the networks `builds`, may send any
    frame, so ARP between them is dropped too.
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
    processes.run([*enter(daemon), "nft", "-f", "-"], stdin=rules)


def _networks_of_builds(daemon: Daemon) -> tuple[str, ...]:
    output = processes.run(
        [*enter(daemon), "ip", "-json", "-4", "address", "show", "dev", DOCKER_BRIDGE]
    )
    return firewall.connected_networks(output)


def is_loaded(instance_id: str, daemon: Daemon) -> bool:
    """Returns whether all of the firewall is loaded; blocks."""
    found = processes.run([*enter(daemon), "nft", "list", "tables"]).splitlines()
    name = table_name(instance_id)
    return f"table inet {name}" in found and f"table bridge {name}" in found


def unload(policy: Policy, daemon: Daemon) -> None:
    """Removes the firewall; blocks."""
    name = policy.table
    firewall.unload(policy, enter=enter(daemon))
    gone = f"table bridge {name} {{}}\ndelete table bridge {name}\n"
    processes.run([*enter(daemon), "nft", "-f", "-"], stdin=gone)


def connected(daemon: Daemon) -> tuple[str, ...]:
    """Returns the networks of the machine that Docker runs on; blocks."""
    output = processes.run([*enter(daemon), "ip", "-json", "-4", "address"])
    return firewall.connected_networks(output)


def keep(instance_id: str, daemon: Daemon, policy: Callable[[], Policy]) -> None:
    """Reloads the firewall if somebody has flushed the machine's rules; blocks. Raises OSError."""
    if not is_loaded(instance_id, daemon):
        logger.warning("the packet filter of the apps was gone: it is loaded again")
        load(policy(), daemon)

"""What the machine lacks to isolate apps, and a trial that shows that it does."""

import ipaddress
import os
import platform
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.host import listeners, processes
from moorage.engines.host.cgroup import CONTROLLERS, Cgroups, Hierarchy, find_hierarchy
from moorage.engines.host.deployment_directory import DeploymentDirectory, Host
from moorage.engines.host.listeners import first_listeners
from moorage.engines.isolation import bubblewrap, seccomp
from moorage.errors import DeployFailed, IsolationMissing
from moorage.planning.plan import Plan, Stack
from moorage.threads import in_thread

# From a program to its package in Debian and Ubuntu.
PROGRAMS = {
    "bwrap": "bubblewrap",
    "nft": "nftables",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
}
_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_APPARMOR_USERNS = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_DEBIAN_USERNS = Path("/proc/sys/kernel/unprivileged_userns_clone")
_REACHABLE = 0o001
_EXPENDABLE_SCORE = 500
_NOBODY = "65534"
# Sets a score as root, tries to lower it without any privilege, and prints the result.
_LOWER_OOM_SCORE = """\
echo "$1" > /proc/self/oom_score_adj || exit
exec setpriv --reuid="$2" --regid="$2" --clear-groups --bounding-set=-all --inh-caps=-all sh -c '
for score in -1000 -1 0 499; do echo "$score" > /proc/self/oom_score_adj && break; done 2> /dev/null
cat /proc/self/oom_score_adj'
"""

NO_ROOT = (
    "the gateway does not run as root: start it with sudo, as `sudo make dev` does, or let a "
    'cluster run the apps, which needs no root here (isolation = "kubernetes")'
)
MISSING_RESOLVER = (
    "apps can reach no name server: name one in /etc/resolv.conf that is IPv4 and not on loopback"
)
MISSING_OOM_SCORE = (
    "apps could have the kernel spare them when memory is short: start the gateway with"
    " CAP_SYS_RESOURCE, or without an OOMScoreAdjust below 0"
)


def missing_here(run_dir: Path) -> list[str]:
    """Returns what this machine lacks to isolate apps; some of it only root can find."""
    missing = [*missing_privileges(run_dir=run_dir), *missing_programs()]
    if os.geteuid() == 0:
        missing += missing_diagnosis()
    if hierarchy() is None:
        missing.append(missing_hierarchy())
    if not bubblewrap.find_servers():
        missing.append(MISSING_RESOLVER)
    if os.geteuid() == 0 and held_oom_score() is None:
        missing.append(MISSING_OOM_SCORE)
    return missing


def missing_programs() -> list[str]:
    """Returns a sentence if programs are missing, with the command that installs them."""
    packages = {package for name, package in PROGRAMS.items() if not processes.found(name)}
    if not os.access(listeners.PROXY, os.X_OK):
        packages.add("systemd")
    if not packages:
        return []
    names = " ".join(sorted(packages))
    return [f"programs are not installed: apt-get install {names}"]


def missing_privileges(*, run_dir: Path) -> list[str]:
    """Returns a sentence for each privilege and kernel feature that is missing."""
    missing = []
    if os.geteuid() != 0:
        missing.append(NO_ROOT)
    if platform.machine() not in seccomp.ARCHITECTURES:
        missing.append(f"there is no system call filter for {platform.machine()}")
    if not Path("/dev/loop-control").exists():
        missing.append("there are no loop devices: modprobe loop")
    if _reads(_DEBIAN_USERNS) == "0":
        missing.append("user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1")
    missing += _unreachable(run_dir)
    return missing


def held_oom_score() -> int | None:
    """Returns an OOM score for apps that they can't lower; None if there is none.

    With the higher score, the kernel kills apps before the gateway. If the gateway lacks
    CAP_SYS_RESOURCE, an app could take the raise back, and the kernel would spare it: then all apps
    get 0. If the gateway's own score is below 0, they could lower even that.
    """
    for score in (_EXPENDABLE_SCORE, 0):
        output = processes.run(
            ["/bin/sh", "-c", _LOWER_OOM_SCORE, "sh", str(score), _NOBODY], accept=(0, 1, 2, 127)
        )
        if output.strip() == str(score):
            return score
    return None


def likely_causes() -> list[str]:
    """Returns possible causes of a failed trial run."""
    if _reads(_APPARMOR_USERNS) == "1":
        knob = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        return [f"AppArmor keeps bubblewrap, unless it has a profile, from namespaces: {knob}"]
    return []


def _unreachable(run_dir: Path) -> list[str]:
    for directory in run_dir.parents:
        if directory.exists() and not directory.stat().st_mode & _REACHABLE:
            return [f"apps' users can't pass to {run_dir}: chmod o+x {directory}"]
    return []


def hierarchy() -> Hierarchy | None:
    """Returns the machine's control groups; None when a controller is missing."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    return find_hierarchy(mountinfo, lambda mount: (mount / "cgroup.controllers").read_text())


def made_groups(instance_id: str) -> Cgroups | None:
    """Returns the control groups that an open engine has made on this machine, if it has."""
    found = hierarchy()
    groups = None if found is None else Cgroups(found, f"moorage-{instance_id}")
    return groups if groups is not None and groups.are_made else None


def missing_diagnosis() -> list[str]:
    """Returns a sentence if the kernel does not tell which sockets listen."""
    try:
        first_listeners(Path("/proc/self/ns/net"))
    except OSError:
        return ["the kernel does not tell which sockets listen: modprobe tcp_diag"]
    return []


def missing_hierarchy() -> str:
    """Returns the sentence for a machine without control groups."""
    names = ", ".join(CONTROLLERS)
    return f"control groups ({names}) are not mounted: mount -t cgroup2 none /sys/fs/cgroup"


def enable_forwarding() -> list[str]:
    """Enables IP forwarding in the kernel; returns a sentence if it refuses."""
    if _reads(_IP_FORWARD) == "1":
        return []
    try:
        _IP_FORWARD.write_text("1")
    except OSError:
        return ["packets are not forwarded: sysctl -w net.ipv4.ip_forward=1"]
    return []


def overlapping(subnet: str, networks: tuple[str, ...]) -> list[str]:
    """Returns a sentence if the machine is on a network that overlaps `subnet`."""
    ours = ipaddress.ip_network(subnet)
    taken = [network for network in networks if ipaddress.ip_network(network).overlaps(ours)]
    if not taken:
        return []
    return [f"the machine is on {taken[0]}, inside apps' {subnet}: configure another subnet"]


def _reads(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


EMPTY = "empty"  # the directory that is built, in the run directory
_PLAN = Plan(
    stack=Stack.CUSTOM, directory="", install=None, build="/bin/true", start="/bin/true",
    port=1, build_env={}, run_env={}, because=(),
)  # fmt: skip

D = TypeVar("D", bound=DeploymentDirectory)


async def trial(
    host: Host[D], make: Callable[[D, BuildSpec], Awaitable[None]], limits: Limits
) -> None:
    """Builds the trial deployment with `make`, and removes it. Raises IsolationMissing."""
    directory = host.directory(f"trial-{uuid.uuid4().hex[:8]}")
    spec = BuildSpec(
        deployment_id=directory.deployment_id, source=host.run_dir / EMPTY, plan=_PLAN,
        limits=limits, timeout_seconds=20,
    )  # fmt: skip
    try:
        await make(directory, spec)
    except OSError as error:
        raise IsolationMissing((f"a trial run failed: {error}",)) from error
    except DeployFailed as failed:
        output = failed.log_tail.strip() or failed.reason
        problem = f"a trial run failed: {output}"
        raise IsolationMissing((problem, *likely_causes())) from failed
    finally:
        await in_thread(directory.remove)

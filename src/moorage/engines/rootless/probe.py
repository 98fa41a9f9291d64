"""Finds what a machine lacks for isolating apps without root, with the commands that fix it."""

import os
import platform
from pathlib import Path

from moorage.engines.host import tool
from moorage.engines.host.kernel.cgroup import CONTROLLERS, Hierarchy
from moorage.engines.host.network import socket_proxy
from moorage.engines.host.network.probe import MISSING_RESOLVER, likely_causes
from moorage.engines.isolation import seccomp

__all__ = ["MISSING_RESOLVER", "delegated_hierarchy", "likely_causes", "missing", "soft_limits"]

# From a program to its package in Debian and Ubuntu.
PROGRAMS = {
    "pasta": "passt",
    "bwrap": "bubblewrap",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "prlimit": "util-linux",
}
_TUN = Path("/dev/net/tun")
_MAX_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
_DEBIAN_USERNS = Path("/proc/sys/kernel/unprivileged_userns_clone")
_CGROUPS = Path("/sys/fs/cgroup")
SUBGROUP = "gateway"  # DelegateSubgroup= of the service; the apps' groups are beside it
_COUNTS_PROCESSES_PER_NAMESPACE = (5, 14)  # in older kernels all apps share one RLIMIT_NPROC

_DISK = "the disk of an app (the kernel limits a file's size, the gateway measures the rest)"
_MEMORY = (
    "memory and processor time of an app (the kernel limits a process's memory, the gateway watches"
    " the sum, apps get what time the gateway leaves; control groups could hold both: start the"
    " gateway by systemd with Delegate=yes and DelegateSubgroup=gateway)"
)


def missing() -> list[str]:
    """Returns a sentence for each program, privilege and kernel feature that is missing."""
    sentences = []
    if os.geteuid() == 0:
        sentences.append("the gateway runs as root: it isolates better without isolation=rootless")
    packages = {package for name, package in PROGRAMS.items() if not tool.found(name)}
    if not os.access(socket_proxy.PROXY, os.X_OK):
        packages.add("systemd")
    if packages:
        names = " ".join(sorted(packages))
        sentences.append(f"programs are not installed: apt-get install {names}")
    if platform.machine() not in seccomp.ARCHITECTURES:
        sentences.append(f"there is no system call filter for {platform.machine()}")
    if kernel_version(platform.release()) < _COUNTS_PROCESSES_PER_NAMESPACE:
        sentences.append("the kernel is older than 5.14: it can't limit each app's processes")
    if not os.access(_TUN, os.R_OK | os.W_OK):
        sentences.append(f"{_TUN} is not for everybody: chmod 0666 {_TUN}")
    if _reads(_DEBIAN_USERNS) == "0" or _reads(_MAX_NAMESPACES) == "0":
        sentences.append(
            "user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1"
            " user.max_user_namespaces=65536"
        )
    return sentences


def soft_limits(*, with_groups: bool) -> str:
    """Returns the sentence about the limits that this mode only watches."""
    watched = _DISK if with_groups else f"{_DISK}, and {_MEMORY}"
    return (
        f"without root some limits are only watched: {watched};"
        " accept that with accept_soft_limits = true, or start the gateway with sudo"
    )


def kernel_version(release: str) -> tuple[int, int]:
    """Returns major and minor of `uname -r`; (0, 0) if it has another form."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def delegated_hierarchy() -> Hierarchy | None:
    """Returns the version 2 control group delegated to this user, as by systemd; None if none."""
    group = own_group(Path("/proc/self/cgroup").read_text())
    if group is None:
        return None
    directory = _CGROUPS / group.lstrip("/")
    if directory.name == SUBGROUP:
        directory = directory.parent
    controllers = (_reads(directory / "cgroup.controllers") or "").split()
    may_write = os.access(directory, os.W_OK) and os.access(directory / "cgroup.procs", os.W_OK)
    if not may_write or not set(CONTROLLERS) <= set(controllers):
        return None
    return Hierarchy(2, dict.fromkeys(CONTROLLERS, directory))


def own_group(text: str) -> str | None:
    """Returns this process's version 2 group, from the text of `/proc/self/cgroup` (cgroups(7))."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    return None


def _reads(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

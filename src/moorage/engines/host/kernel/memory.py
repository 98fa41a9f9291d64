"""Divides the machine's memory: a reserve for the gateway, the rest for apps and builds."""

import errno
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.host.kernel.cgroup import APPS, BUILDS, Cgroups, Hierarchy
from moorage.errors import IsolationMissing

_MEMINFO = Path("/proc/meminfo")
_MIB = 1024 * 1024
_KIB = 1024
_MAX_PIDS = (Path("/proc/sys/kernel/pid_max"), Path("/proc/sys/kernel/threads-max"))
_LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Division:
    """The settings by which the memory is divided."""

    reserve_bytes: int = 1024 * _MIB  # for the gateway, the proxy, the database, the system
    builds_at_once: int = 2
    build_bytes: int = 2048 * _MIB  # that one build may use


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The limits for all apps together, for all builds together, and for one build."""

    apps_bytes: int
    builds_bytes: int
    build_bytes: int


def divide(total_bytes: int, division: Division) -> Shares:
    """Returns the shares: builds get what the settings say, but at most half of the rest.

    Each build has its own part of the builds' share, so that none takes another's. Raises
    ValueError if the reserve leaves nothing.
    """
    rest = total_bytes - division.reserve_bytes
    if rest <= 0:
        reserve, total = division.reserve_bytes // _MIB, total_bytes // _MIB
        raise ValueError(f"a memory_reserve_mib of {reserve} leaves nothing of {total} MiB")
    builds = min(division.builds_at_once * division.build_bytes, rest // 2)
    return Shares(
        apps_bytes=rest - builds,
        builds_bytes=builds,
        build_bytes=min(division.build_bytes, builds // division.builds_at_once),
    )


def open_groups(groups: Cgroups, division: Division) -> Shares:
    """Makes the gateway's control groups, and divides the memory.

    Raises IsolationMissing.
    """
    try:
        groups.open()
        return share_memory(groups, division)
    except OSError as error:
        raise IsolationMissing((f"control groups can't be made: {error}",)) from error
    except ValueError as error:
        raise IsolationMissing((str(error),)) from error


def share_memory(groups: Cgroups, division: Division) -> Shares:
    """Sets the shares as limits of the groups of apps and builds; returns the shares.

    Raises OSError, and ValueError as `divide` does.
    """
    shares = divide(available_bytes(groups.hierarchy), division)
    pids = min(int(path.read_text()) for path in _MAX_PIDS)
    for name, memory_bytes in ((APPS, shares.apps_bytes), (BUILDS, shares.builds_bytes)):
        try:
            # Other programs keep a quarter of the machine's process ids.
            groups.limit_together(name, memory_bytes=memory_bytes, pids=pids * 3 // 4)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            logger.warning("%s of an earlier gateway use more than %d bytes", name, memory_bytes)
    return shares


def available_bytes(hierarchy: Hierarchy) -> int:
    """Returns the machine's memory, or the limit of the container that the gateway runs in."""
    limit = hierarchy.mounts["memory"] / _LIMIT_FILES[hierarchy.version]
    text = limit.read_text() if limit.exists() else ""
    return smaller_limit(_MEMINFO.read_text(), text)


def smaller_limit(meminfo: str, limit: str) -> int:
    """Returns the smaller of the machine's memory and a group's limit, in bytes.

    `meminfo` is the text of /proc/meminfo (proc_meminfo(5)); `limit` may be "max" or "".
    """
    total = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    if total is None:
        raise ValueError("/proc/meminfo does not tell the machine's memory")
    machine = int(total[1]) * _KIB
    return min(machine, int(limit)) if limit.strip().isdigit() else machine

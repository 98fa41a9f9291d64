"""Control groups of both versions: limits of apps, what they use, and how they share memory."""

import contextlib
import errno
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.engine import Limits, Usage
from moorage.errors import IsolationMissing
from moorage.whole_file import read_file

CONTROLLERS = ("memory", "cpu", "pids")
APPS, BUILDS, SERVICES = "apps", "builds", "services"
_SHARED = (APPS, BUILDS, SERVICES)
_UNLIMITED = -1
_SOCKETS_SHARE = 4  # version 1 counts sockets apart: they get a quarter of the memory, in addition
_ACCOUNTING = "cpuacct"  # on version 1 a controller of its own, often mounted with cpu
_CPU_PERIOD_US = 100_000
_KILL_SECONDS = 10.0
_VACATE_SECONDS = 1.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Hierarchy:
    """Where the controllers are mounted: one directory on version 2, one each on version 1."""

    version: int
    mounts: dict[str, Path]

    @property
    def roots(self) -> list[Path]:
        """The distinct mount points."""
        return list(dict.fromkeys(self.mounts.values()))


def find_hierarchy(mountinfo: str, unified_controllers: Callable[[Path], str]) -> Hierarchy | None:
    """Finds the controllers in the text of `/proc/self/mountinfo`; None when one is missing.

    `unified_controllers` returns the text of `cgroup.controllers` of a version 2 mount.
    """
    legacy: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, super_options = after.split(" ", 2)
        point = Path(before.split(" ")[4])
        if kind == "cgroup2" and set(CONTROLLERS) <= set(unified_controllers(point).split()):
            return Hierarchy(2, dict.fromkeys(CONTROLLERS, point))
        if kind == "cgroup":
            for option in super_options.split(","):
                if option in {*CONTROLLERS, _ACCOUNTING}:
                    legacy.setdefault(option, point)
    return Hierarchy(1, legacy) if set(legacy) >= set(CONTROLLERS) else None


def limit_writes(version: int, limits: Limits) -> list[tuple[str, str, str, bool]]:
    """Returns the writes that set `limits`: controller, file, text, whether the file must exist.

    Memory comes before memory plus swap: version 1 refuses the other order.
    """
    memory = str(limits.memory_bytes)
    cpu = [("cpu", file, text, True) for file, text in cpu_writes(version, limits.cpu_millis)]
    if version == 2:
        return [
            ("memory", "memory.max", memory, True),
            ("memory", "memory.swap.max", "0", False),
            ("memory", "memory.oom.group", "1", True),
            *cpu,
            ("pids", "pids.max", str(limits.pids), True),
        ]
    sockets = str(limits.memory_bytes // _SOCKETS_SHARE)
    return [
        ("memory", "memory.limit_in_bytes", memory, True),
        ("memory", "memory.memsw.limit_in_bytes", memory, False),
        ("memory", "memory.kmem.tcp.limit_in_bytes", sockets, False),
        *cpu,
        ("pids", "pids.max", str(limits.pids), True),
    ]


def shared_writes(version: int, memory_bytes: int, pids: int) -> list[tuple[str, str, str, bool]]:
    """Returns the writes that limit a group of groups, which may have had other limits before.

    If it is full, the kernel kills a process (version 1) or one inner group (2), never all of them:
    `memory.oom.group` stays 0. On version 1, memory and sockets share the bytes.
    """
    processes = ("pids", "pids.max", str(pids), True)
    if version == 2:
        return [
            ("memory", "memory.max", str(memory_bytes), True),
            ("memory", "memory.swap.max", "0", False),
            processes,
        ]
    sockets = memory_bytes // (1 + _SOCKETS_SHARE)
    memory = str(memory_bytes - sockets)
    return [
        ("memory", "memory.memsw.limit_in_bytes", str(_UNLIMITED), False),  # never below memory's
        ("memory", "memory.limit_in_bytes", memory, True),
        ("memory", "memory.memsw.limit_in_bytes", memory, False),
        ("memory", "memory.kmem.tcp.limit_in_bytes", str(sockets), False),
        processes,
    ]


def cpu_writes(version: int, cpu_millis: int) -> list[tuple[str, str]]:
    """Returns the files and texts that give a group `cpu_millis` thousandths of a core."""
    quota = cpu_millis * _CPU_PERIOD_US // 1000
    if version == 2:
        return [("cpu.max", f"{quota} {_CPU_PERIOD_US}")]
    return [("cpu.cfs_period_us", str(_CPU_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]


def parse_oom_kills(events: str) -> int:
    """Returns the `oom_kill` counter of `memory.events` (version 2) or `memory.oom_control` (1)."""
    return _counter(events, "oom_kill")


def _counter(text: str, wanted: str) -> int:
    """Returns a number from lines `name number`; 0 if it is not there."""
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == wanted:
            return int(count)
    return 0


@dataclass(frozen=True)
class Cgroups:
    """A gateway's control groups. Methods block, for a short time except for `kill`."""

    hierarchy: Hierarchy
    root: str  # "moorage-ab12"

    def open(self) -> None:
        """Makes the gateway's own groups and enables the controllers in them. Raises OSError."""
        if self.hierarchy.version == 2:
            _hand_down(self.hierarchy.roots[0])
        for name in ("", *_SHARED):
            for directory in self.directories(name):
                directory.mkdir(exist_ok=True)
                if self.hierarchy.version == 2:
                    _hand_down(directory)
        for name in self._within("") - {f"/{shared}" for shared in _SHARED}:
            self.remove(name[1:])  # an earlier version's; its apps are restarted

    @property
    def are_made(self) -> bool:
        """Whether the gateway's own groups are there."""
        return all(directory.is_dir() for directory in self.directories(SERVICES))

    def close(self) -> None:
        """Removes the gateway's own groups; those of apps and builds must be gone."""
        for name in self._within(SERVICES):
            self.remove(name)
        for name in (*_SHARED, ""):
            for directory in self.directories(name):
                _rmdir(directory)

    def limit_together(self, name: str, *, memory_bytes: int, pids: int) -> None:
        """Limits what all groups of APPS, or of BUILDS, use together. Raises OSError.

        Raises EBUSY, and keeps the old limit, if more memory is in use than the kernel can reclaim.
        """
        with self._shrunk(name, memory_bytes):
            self._write(name, shared_writes(self.hierarchy.version, memory_bytes, pids))

    def confine(self, service: str, pid: int, *, memory_bytes: int) -> None:
        """Limits the memory of a program that serves all apps; it may run already.

        Another call, for it or its successor, replaces the limit. Raises OSError.
        """
        name = f"{SERVICES}/{service}"
        for directory in self.directories(name):
            directory.mkdir(exist_ok=True)
        writes = shared_writes(self.hierarchy.version, memory_bytes, 0)
        with self._shrunk(name, memory_bytes):
            self._write(name, [write for write in writes if write[0] == "memory"])
        self.join(name, pid)

    @contextlib.contextmanager
    def _shrunk(self, name: str, memory_bytes: int) -> Iterator[None]:
        """Reclaims memory before a lower limit is set; raises EBUSY if too much is in use.

        Version 1 does so itself; version 2 would kill processes. Its `memory.high` only reclaims.
        """
        if self.hierarchy.version != 2 or self._charged_bytes(name) <= memory_bytes:
            yield
            return
        high = self.hierarchy.mounts["memory"] / self.root / name / "memory.high"
        try:
            high.write_text(str(memory_bytes))
            if (used := self._charged_bytes(name)) > memory_bytes:
                raise OSError(errno.EBUSY, f"{used} bytes are in use", name)
            yield
        finally:
            high.write_text("max")

    def create(self, name: str, limits: Limits) -> None:
        """Makes a new group with limits; kills and removes an existing one first."""
        self.remove(name)
        for directory in self.directories(name):
            directory.mkdir()
        self.limit(name, limits)

    def limit(self, name: str, limits: Limits) -> None:
        """Sets a group's limits. Raises OSError."""
        self._write(name, limit_writes(self.hierarchy.version, limits))

    def _write(self, name: str, writes: list[tuple[str, str, str, bool]]) -> None:
        for controller, file, text, required in writes:
            path = self.hierarchy.mounts[controller] / self.root / name / file
            if required or path.exists():
                path.write_text(text)

    def set_cpu(self, name: str, cpu_millis: int) -> None:
        """Sets only a group's share of processor time."""
        for file, text in cpu_writes(self.hierarchy.version, cpu_millis):
            (self.hierarchy.mounts["cpu"] / self.root / name / file).write_text(text)

    def join(self, name: str, pid: int) -> None:
        """Moves a process into a group; does nothing if the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            for directory in self.directories(name):
                (directory / "cgroup.procs").write_text(str(pid))

    def pids(self, name: str) -> list[int]:
        """Returns the processes in a group; empty when there is no such group."""
        return _read_pids(f"{self.hierarchy.mounts['pids']}/{self.root}/{name}")

    def oom_kills(self, name: str) -> int:
        """Returns how often the kernel killed a process in this group when memory ran out."""
        file = "memory.events" if self.hierarchy.version == 2 else "memory.oom_control"
        try:
            text = (self.hierarchy.mounts["memory"] / self.root / name / file).read_text()
        except FileNotFoundError:
            return 0
        return parse_oom_kills(text)

    def usage(self, name: str) -> Usage | None:
        """Returns what a group has used; None when there is no such group."""
        try:
            return Usage(cpu_ms=self._cpu_ms(name), memory_bytes=self._memory_bytes(name))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return None
            raise

    def unwritten_bytes(self, name: str) -> int:
        """Returns how many bytes a group has written that are not on disk yet. Raises OSError."""
        statistics = self._read("memory", name, "memory.stat")
        prefix = "file_" if self.hierarchy.version == 2 else "total_"
        return sum(_counter(statistics, f"{prefix}{it}") for it in ("dirty", "writeback"))

    def created_ns(self, name: str) -> int:
        """Returns when a group was made, Unix time. Raises OSError."""
        return (self.hierarchy.mounts["pids"] / self.root / name).stat().st_ctime_ns

    def _cpu_ms(self, name: str) -> int:
        if self.hierarchy.version == 2:
            return _counter(self._read("cpu", name, "cpu.stat"), "usage_usec") // 1000
        if _ACCOUNTING not in self.hierarchy.mounts:
            return 0
        return int(self._read(_ACCOUNTING, name, "cpuacct.usage")) // 1_000_000

    def _memory_bytes(self, name: str) -> int:
        """Returns the working set, computed as kubelet does."""
        statistics = self._read("memory", name, "memory.stat")
        if self.hierarchy.version == 2:
            return max(0, self._charged_bytes(name) - _counter(statistics, "inactive_file"))
        charged = int(self._read("memory", name, "memory.usage_in_bytes"))
        return max(0, charged - _counter(statistics, "total_inactive_file"))

    def _charged_bytes(self, name: str) -> int:
        return int(self._read("memory", name, "memory.current"))

    def _read(self, controller: str, name: str, file: str) -> str:
        return (self.hierarchy.mounts[controller] / self.root / name / file).read_text()

    def exists(self, name: str) -> bool:
        """Returns whether the group exists in any hierarchy."""
        return any(directory.is_dir() for directory in self.directories(name))

    def names(self) -> set[str]:
        """Returns the groups of all apps and builds."""
        return self._within(APPS) | self._within(BUILDS)

    def used(self, shared: str) -> list[str]:
        """Returns the groups of APPS, or of BUILDS, that can have processes."""
        directory = self.hierarchy.mounts["pids"] / self.root / shared
        return [f"{shared}/{name}" for name in _groups_in(directory)]

    def _within(self, shared: str) -> set[str]:
        directories = self.directories(shared)
        return {f"{shared}/{name}" for directory in directories for name in _groups_in(directory)}

    def kill_soon(self, name: str) -> None:
        """Kills every process of a group, without waiting until they are gone."""
        self._forbid_forks(name)
        for pid in self._pids_anywhere(name):
            _kill(pid, signal.SIGKILL)

    def kill(self, name: str) -> None:
        """Kills every process of a group and waits until they are gone. Raises TimeoutError."""
        self._forbid_forks(name)
        deadline = time.monotonic() + _KILL_SECONDS
        while pids := self._pids_anywhere(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"control group {name} does not die: processes {pids}")
            for pid in pids:
                _kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def remove(self, name: str) -> None:
        """Kills the processes of a group and removes it, if it exists."""
        self.kill(name)
        for directory in self.directories(name):
            _rmdir(directory)

    def _pids_anywhere(self, name: str) -> set[int]:
        """Returns the group's processes, also those that are not in all hierarchies yet."""
        return {pid for directory in self.directories(name) for pid in _read_pids(directory)}

    def _forbid_forks(self, name: str) -> None:
        path = self.hierarchy.mounts["pids"] / self.root / name / "pids.max"
        if path.exists():
            path.write_text("0")

    def directories(self, name: str) -> list[Path]:
        """Returns the directories of a group, one in each hierarchy."""
        return [root / self.root / name for root in self.hierarchy.roots]


def _hand_down(group: Path) -> None:
    """Enables the controllers for the groups in a version 2 group. Raises OSError.

    The kernel refuses that if the group has processes, except for the machine's root group. In a
    container the topmost group has processes, which are moved to a group of their own.
    """
    deadline = time.monotonic() + _VACATE_SECONDS
    while True:
        try:
            (group / "cgroup.subtree_control").write_text(" ".join(f"+{it}" for it in CONTROLLERS))
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            _vacate(group)  # repeated, as the processes may fork meanwhile
        else:
            return


def _vacate(group: Path) -> None:
    refuge = group / "init"
    refuge.mkdir(exist_ok=True)
    for pid in _read_pids(group):
        # 0 is a process outside this pid namespace; written to the file, it would mean ourselves.
        if pid:
            with contextlib.suppress(ProcessLookupError):
                (refuge / "cgroup.procs").write_text(str(pid))


def _groups_in(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _read_pids(directory: Path | str) -> list[int]:
    try:
        return [int(line) for line in read_file(f"{directory}/cgroup.procs").split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _rmdir(directory: Path) -> None:
    """Removes a group's directory; waits while the kernel reports it busy with ending processes."""
    deadline = time.monotonic() + _KILL_SECONDS
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


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
        raise ValueError("/proc/meminfo does not have the machine's memory")
    machine = int(total[1]) * _KIB
    return min(machine, int(limit)) if limit.strip().isdigit() else machine

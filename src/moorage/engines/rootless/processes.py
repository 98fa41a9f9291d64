"""Reads the machine's processes from /proc, and finds, signals and starts them.

A process is identified by its id and its start time, as the kernel reuses ids.
"""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.engines.host.tool import ENVIRONMENT

_PROC = Path("/proc")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PATIENCE_SECONDS = 1.0
_END_SECONDS = 10.0


class ProcessId(msgspec.Struct, frozen=True):
    """Identifies a process, even if its id is reused. `started` is in ticks since the boot."""

    pid: int
    started: int


@dataclass(frozen=True)
class Process:
    """One process, from `/proc/<pid>/stat` (proc_pid_stat(5))."""

    id: ProcessId
    name: str
    parent: int
    is_zombie: bool
    cpu_ms: int


def parse_stat(text: str) -> Process:
    """Parses a `stat` file; the process's name may contain anything, brackets too."""
    before, _, after = text.rpartition(")")
    pid, _, name = before.partition(" (")
    fields = after.split()  # the first is the state, the file's third
    return Process(
        id=ProcessId(int(pid), int(fields[19])),
        name=name,
        parent=int(fields[1]),
        is_zombie=fields[0] in "ZX",
        cpu_ms=sum(map(int, fields[11:15])) * 1000 // _TICKS_A_SECOND,
    )


def find(pid: int) -> Process | None:
    """Returns the process; None if it is gone or a zombie."""
    try:
        process = parse_stat((_PROC / str(pid) / "stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if process.is_zombie else process


def is_alive(wanted: ProcessId | None) -> bool:
    """Returns whether this process is alive, and not another one with its id."""
    found = None if wanted is None else find(wanted.pid)
    return found is not None and found.id == wanted


def everything() -> dict[int, Process]:
    """Returns all live processes, by id."""
    pids = (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 (quicker)
    return {process.id.pid: process for pid in pids if (process := find(pid)) is not None}


def descendants(ancestor: ProcessId, among: dict[int, Process]) -> list[Process]:
    """Returns all descendants of a process, without itself; none if it is not in `among`."""
    if ancestor.pid not in among or among[ancestor.pid].id != ancestor:
        return []
    children: dict[int, list[Process]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process)
    found = list(children.get(ancestor.pid, ()))
    for process in found:  # `found` grows during the loop
        found += children.get(process.id.pid, ())
    return found


def network_of(pid: int) -> int | None:
    """Returns the inode of a process's network namespace; None if it is gone or another user's."""
    try:
        return (_PROC / str(pid) / "ns" / "net").stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def command_line(pid: int) -> list[str]:
    """Returns the process's arguments; empty if it is gone."""
    try:
        text = (_PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.decode(errors="replace").split("\0")


def memory_bytes(pid: int) -> int:
    """Returns the process's memory that no file on disk backs; 0 if the process is gone.

    Memory shared by processes counts fully in each of them: see `memory_share_bytes`.
    """
    return _kilobytes(pid, "status", ("RssAnon:", "RssShmem:")) * 1024


def memory_share_bytes(pid: int) -> int:
    """Returns the same, but only its part of shared memory. Takes 5 ms for each 100 MiB."""
    try:
        return _kilobytes(pid, "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) * 1024
    except PermissionError:
        return memory_bytes(pid)


def _kilobytes(pid: int, file: str, names: tuple[str, ...]) -> int:
    """Returns the sum of these lines of a process's file (proc_pid_status(5)); 0 if it is gone."""
    try:
        lines = (_PROC / str(pid) / file).read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


def spawn(argv: Sequence[str], descriptors: Mapping[int, int]) -> ProcessId:
    """Starts a process that keeps running when the gateway ends. Raises OSError.

    `descriptors` maps a descriptor of the new process to the one of ours that it gets.
    """
    words = ("env", "--chdir=/", *argv)  # posix_spawn has no working directory
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
    pid = os.posix_spawnp("env", words, ENVIRONMENT, file_actions=actions, setsid=True)
    stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    return parse_stat(stat).id  # the file exists until we wait for the child, even if it ended


def send(wanted: ProcessId, number: signal.Signals) -> None:
    """Sends a signal to this process, if it is alive, and never to another one with its id."""
    try:
        handle = os.pidfd_open(wanted.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(wanted):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def wait_until_dead(processes: Sequence[ProcessId]) -> None:
    """Waits until all are gone, and kills them after a second; blocks. Raises TimeoutError."""
    begun = time.monotonic()
    while alive := [process for process in processes if is_alive(process)]:
        waited = time.monotonic() - begun
        if waited > _END_SECONDS:
            raise TimeoutError(f"processes do not die: {alive}")
        if waited > _PATIENCE_SECONDS:
            for process in alive:
                send(process, signal.SIGKILL)
        time.sleep(0.002)

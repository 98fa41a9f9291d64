"""Processes that outlive the one that started them, and how they are recognised afterwards.

Linux only, from /proc: it is the same process when id, start time and command line agree.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec


def notify(state: str) -> None:
    """Sends a state such as `READY=1` to the manager that started this process, if one did."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:  # a manager that has gone away is told nothing
            return


_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"  # not on every user's PATH


def find_program(name: str) -> Path | None:
    """Returns a program that came with the Python packages, else one of the system's, or None."""
    beside = Path(sys.executable).parent / name
    found = beside if beside.exists() else shutil.which(name) or shutil.which(name, path=_SYSTEM)
    return None if found is None else Path(found)


class ProcessRecord(msgspec.Struct, frozen=True):
    """What is stored of a started process: enough to recognise it after a crash of its owner."""

    pid: int
    start_ticks: int  # clock ticks from boot to its start: reveals a reused pid
    command: tuple[str, ...]


def spawn_detached(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    output: Path,
    keeps_output: bool = False,
    log: int | None = None,
) -> ProcessRecord:
    """Starts `command` in a session of its own and writes what it prints to `output`.

    `output` is emptied first, unless `keeps_output`. `log` is a descriptor that its standard output
    gets instead. This is no `Popen`, because the process may outlive whoever would have to wait for
    it. Raises OSError where the program can't be run.
    """
    words = tuple(command)
    if not os.access(words[0], os.X_OK):  # `env` below would only say so in the output
        raise FileNotFoundError(2, "no such program", words[0])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if keeps_output else os.O_TRUNC)
    pid = os.posix_spawnp(
        "env",  # replaces itself; posix_spawn has no working directory
        ("env", "--chdir", str(directory), *words),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(output), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 2 if log is None else log, 1),
        ],
        setsid=True,
    )
    _, start_ticks = _stat(pid)  # a child can be read until it is waited for, even if it ended
    return ProcessRecord(pid=pid, start_ticks=start_ticks, command=words)


def process_record(pid: int) -> ProcessRecord | None:
    """What to store of a process that another program started; None when it is gone already.

    Without its command, which it may still be about to change.
    """
    start_ticks = _start_ticks(pid)
    return None if start_ticks is None else ProcessRecord(pid, start_ticks, ())


def is_running(record: ProcessRecord) -> bool:
    """Whether the recorded process is alive; another one with its id does not count."""
    if _start_ticks(record.pid) != record.start_ticks:
        return False
    line = _command_line(record.pid)  # read once: in the moment of an exec it is empty
    return not line or _is_of(line, record.command)


def find_running(command: Sequence[str]) -> list[ProcessRecord]:
    """Every process that runs exactly `command`, recorded or not."""
    words = tuple(command)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        start_ticks = _start_ticks(pid) if _is_of(_command_line(pid), words) else None
        if start_ticks is not None:
            found.append(ProcessRecord(pid, start_ticks, words))
    return found


def works_in(record: ProcessRecord, directory: Path) -> bool:
    """Whether the process's working directory is this one, and was not removed since."""
    try:
        return Path(f"/proc/{record.pid}/cwd").samefile(directory)
    except OSError:
        return False


@contextlib.contextmanager
def process_handle(pid: int) -> Iterator[int | None]:
    """Gives a descriptor of the process with this id, see pidfd_open(2); None if there is none.

    An id that was recorded in another container may now be that of a thread, which is no process.
    Raises OSError when the machine has no descriptor or no memory left.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


async def terminate(record: ProcessRecord, *, grace_seconds: float) -> None:
    """Ends the process: SIGTERM, after `grace_seconds` SIGKILL. Returns when it is gone."""
    with process_handle(record.pid) as handle:
        # Checked with the handle open, so that the id can't be reused.
        if handle is not None and is_running(record):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not await _ended(handle, grace_seconds):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                await _ended(handle, grace_seconds)
    reap(record.pid)


async def wait_until_ended(record: ProcessRecord) -> None:
    """Waits without a limit until the process is gone."""
    with process_handle(record.pid) as handle:
        if handle is not None and is_running(record):
            await _ended(handle, None)


def reap(pid: int) -> None:
    """Removes an ended child from the process table; does nothing to any other process."""
    with contextlib.suppress(ChildProcessError):  # it is another process's child
        os.waitpid(pid, os.WNOHANG)


async def _ended(handle: int, timeout_seconds: float | None) -> bool:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(timeout_seconds):
            await ended.wait()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        loop.remove_reader(handle)


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None when there is none alive."""
    try:
        state, start_ticks = _stat(pid)
    except OSError:
        return None
    return None if state in "ZX" else start_ticks


def _stat(pid: int) -> tuple[str, int]:
    """A process's state and start, in clock ticks after boot; proc_pid_stat(5)."""
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # the name is any bytes
    state, *fields = stat.rpartition(")")[2].split()  # from field 3 on
    return state, int(fields[18])


def _is_of(line: bytes, command: tuple[str, ...]) -> bool:
    """Whether a command line is that of `command`, or of an `env` that will become it."""
    return line.endswith(b"".join(os.fsencode(word) + b"\0" for word in command))


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


_NICE = ("nice", "-n", "10")  # what serves comes first


class Output(msgspec.Struct, frozen=True):
    """What a program printed, and how it ended."""

    out: bytes
    errors: str
    code: int  # negative: the signal that ended it


async def output_of(command: Sequence[str]) -> Output:
    """Returns what a program printed, after it gave way to others. Raises OSError.

    Ends it when cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        *_NICE,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return Output(out, errors.decode(errors="replace"), await process.wait())

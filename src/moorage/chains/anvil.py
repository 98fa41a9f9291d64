"""The node of a local chain, as a process that outlives the one that started it.

Linux only: a process is recognised by its id together with its start time and command line, and
its port by the sockets it holds, both from /proc.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from moorage.errors import LocalChainFailed

ANVIL_VERSION: Final = "1.7.1"
INSTALL_COMMAND: Final = "npm ci --ignore-scripts"

_HOST = "127.0.0.1"
_SAVE_EVERY_SECONDS = 1
_STATES_KEPT = 64
_PLATFORM_PACKAGES = "@foundry-rs/anvil-*/bin/anvil"
_PROC_LISTENING = "0A"
_POLL_SECONDS = 0.005


class NodeRecord(msgspec.Struct, frozen=True):
    """What is noted of a started node: enough to know it again."""

    pid: int
    start_ticks: int  # clock ticks after boot at which it started: tells a reused pid
    command: tuple[str, ...]
    port: int


def find_anvil(search: Sequence[Path]) -> Path:
    """The `anvil` binary: from PATH, else from one of the `node_modules` directories in `search`.

    The binary itself, not npm's wrapper, which costs 0.16 s. Raises LocalChainFailed with the
    command that installs it.
    """
    on_path = shutil.which("anvil")
    if on_path is not None:
        return Path(on_path)
    for directory in search:
        found = next((path for path in directory.glob(_PLATFORM_PACKAGES) if path.is_file()), None)
        if found is not None:
            return found
    raise LocalChainFailed(
        "anvil, the local chain's node, was not found on PATH or in "
        f"{', '.join(map(str, search)) or 'any node_modules'}; install it with "
        f"`{INSTALL_COMMAND}` in the repository, "
        f"or `npm install --ignore-scripts @foundry-rs/anvil@{ANVIL_VERSION}`"
    )


def anvil_command(*, anvil: Path, chain_id: int, port: int, state: Path) -> tuple[str, ...]:
    """The argv of a node that mines each transaction at once and keeps its state in `state`.

    One slot an epoch: `safe` is one block behind the newest, `finalized` two. No accounts of its
    own: everybody knows anvil's default keys. State of a few blocks back is enough for calls and
    reorganisations; more of it would fill memory, then the home directory.
    """
    return (
        str(anvil),
        "--quiet",
        *("--host", _HOST),
        *("--port", str(port)),
        *("--chain-id", str(chain_id)),
        *("--accounts", "0"),
        *("--slots-in-an-epoch", "1"),
        *("--prune-history", str(_STATES_KEPT)),
        *("--state", str(state)),
        *("--state-interval", str(_SAVE_EVERY_SECONDS)),
    )


def spawn(command: tuple[str, ...], *, port: int, log: Path) -> NodeRecord:
    """Start `command` in a session of its own, its output appended to `log`.

    Not as a `Popen`, which would have the process waited for: nobody need be left to wait.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        command,
        {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    start_ticks = _start_ticks(pid)
    if start_ticks is None:  # cannot be: a child stays until it is waited for
        raise LocalChainFailed(f"{command[0]} vanished")
    return NodeRecord(pid=pid, start_ticks=start_ticks, command=command, port=port)


def is_running(record: NodeRecord) -> bool:
    """Whether the process that was started is alive: its id and its start time agree."""
    return _start_ticks(record.pid) == record.start_ticks


def runs_command(record: NodeRecord) -> bool:
    """Whether the running process's command line agrees with its record as well.

    Not to be asked of a process just spawned: for a moment it still shows its parent's, or none.
    """
    try:
        command = Path(f"/proc/{record.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return is_running(record) and command == b"".join(
        os.fsencode(word) + b"\0" for word in record.command
    )


async def wait_until_listening(record: NodeRecord, *, timeout_seconds: float) -> bool:
    """Whether the node came to listen on its port; False when it exited or took too long.

    That something answers there says little: it could be another node's port by now.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            while is_running(record):
                if _holds_port(record.pid, record.port):
                    return True
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        pass
    return False


async def terminate(record: NodeRecord, *, grace_seconds: float) -> None:
    """End the node: SIGTERM, on which it saves its state, after `grace_seconds` SIGKILL."""
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        if is_running(record):  # asked with the handle open: from here the id can't be reused
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not await _ended(handle, grace_seconds):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                await _ended(handle, grace_seconds)
        _reap(record.pid)
    finally:
        os.close(handle)


async def _ended(handle: int, timeout_seconds: float) -> bool:
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


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # adopted: somebody else's child
        os.waitpid(pid, os.WNOHANG)


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None when there is none alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # proc_pid_stat(5): from field 3 on
    return None if state in "ZX" else int(fields[18])


def _holds_port(pid: int, port: int) -> bool:
    """Whether the process has a socket that listens on 127.0.0.1:`port`."""
    local_address = f"0100007F:{port:04X}"
    try:
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        links = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    listening = {
        f"socket:[{columns[9]}]"
        for columns in map(str.split, rows)
        if columns[1] == local_address and columns[3] == _PROC_LISTENING
    }
    return not listening.isdisjoint(links)

"""Runs the node of a local chain as a process that outlives the one that started it.

Linux only: whether it listens is read from its sockets in /proc.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from moorage.errors import LocalChainFailed
from moorage.process import ProcessRecord, is_running, spawn_detached

ANVIL_VERSION: Final = "1.7.1"
INSTALL_COMMAND: Final = "npm ci --ignore-scripts"

_HOST = "127.0.0.1"
_SAVE_EVERY_SECONDS = 1
_STATES_KEPT = 64
_PLATFORM_PACKAGES = "@foundry-rs/anvil-*/bin/anvil"
_PROC_LISTENING = "0A"
_POLL_SECONDS = 0.005


class NodeRecord(ProcessRecord, frozen=True):
    """Identifies a started node."""

    port: int


def find_anvil(search: Sequence[Path]) -> Path:
    """Returns the `anvil` binary on PATH, else in one of the `node_modules` directories `search`.

    It is the binary itself, as npm's wrapper takes 0.16 s to start. Raises LocalChainFailed with
    the command that installs it.
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
    """Returns the argv of a node that mines each transaction at once; its state is in `state`.

    With one slot an epoch, `safe` is one block behind the newest, and `finalized` two. It has no
    accounts, as anvil's default keys are public. It keeps the state of a few blocks, enough for
    calls and reorganisations; more would fill memory, then the home directory.
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
    """Starts `command` in its own session; appends its output to `log`. Raises OSError."""
    started = spawn_detached(
        command,
        directory=log.parent,
        environment={name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
        output=log,
        keeps_output=True,
    )
    return NodeRecord(started.pid, started.start_ticks, started.command, port)


async def wait_until_listening(record: NodeRecord, *, timeout_seconds: float) -> bool:
    """Waits until the node listens; returns False if it exited or took too long.

    An answer at the port would not prove that: another process may use the port by now.
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

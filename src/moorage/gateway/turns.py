"""Which of the gateways of a data directory keeps its apps: the one that holds a file's lock.

The kernel releases the lock when a process ends, however it ends. So there is never a second
keeper, and the next one follows within a second.
"""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from moorage.auth.nonces import LOCK
from moorage.errors import AlreadyRunning, ConfigurationInvalid
from moorage.gateway.data_directory import GATEWAYS, NONCES
from moorage.settings import Settings

log = structlog.get_logger()

_KEEPER = ".keeper.lock"
_POLL_SECONDS = 0.25


class FileLock:
    """A lock on a file, which is made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, *, shared: bool = False) -> bool:
        """Takes the lock until `close`, unless another process has it; returns whether it did.

        With `shared`, others may have it the same way.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Releases the lock."""
        os.close(self._fd)


def enter(stack: AsyncExitStack, settings: Settings) -> FileLock:
    """Enters a named gateway; returns the lock of the one that keeps the apps.

    `stack` releases all locks. Raises AlreadyRunning for a name that runs, and beside a gateway
    without a name; ConfigurationInvalid without a database that several can share.
    """
    name, data_dir = settings.gateway_name, Path(settings.data_dir)
    if not settings.database_url:
        raise ConfigurationInvalid(
            "gateway_name: several gateways need a database_url, all of them the same."
        )
    alone = FileLock(data_dir / NONCES / LOCK)  # which a gateway without a name has for itself
    own, keeper = (FileLock(data_dir / GATEWAYS / each) for each in (f"{name}.lock", _KEEPER))
    for lock in (alone, own, keeper):
        stack.callback(lock.close)
    if not alone.take(shared=True):
        raise AlreadyRunning
    if not own.take():
        raise AlreadyRunning(f"A gateway named {name} runs on this data directory already.")
    return keeper


async def take_turns(
    lock: FileLock,
    *,
    beside: Callable[[asyncio.Event], Awaitable[None]],
    keep: Callable[[asyncio.Event], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Runs `beside` while another gateway keeps the apps, then `keep`, until `stop` is set.

    Both run until the event is set that they are given.
    """
    if not lock.take():
        turn = asyncio.Event()
        waiting = asyncio.create_task(_until_taken(lock, stop, turn), name="keeper")
        try:
            await beside(turn)
        finally:
            waiting.cancel()
    if not stop.is_set():
        log.info("this gateway keeps the apps now")
        await keep(stop)


async def _until_taken(lock: FileLock, stop: asyncio.Event, turn: asyncio.Event) -> None:
    """Sets `turn` when the lock is taken, or `stop` is set."""
    while not (stop.is_set() or lock.take()):
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    turn.set()

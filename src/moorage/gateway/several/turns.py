"""Which of several gateways keeps the apps.

Of those that share a data directory it is the one that holds a file's lock. The kernel releases it
when a process ends, however it ends: the next one follows within a second. Where apps are bound to
no machine, it is the one that holds a lease in the database.
"""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from moorage.auth.nonces import LOCK
from moorage.clock import Clock, boot_id
from moorage.errors import AlreadyRunning, ConfigurationInvalid, MoorageError
from moorage.gateway.platform.isolation import is_machine_bound
from moorage.gateway.state.data_directory import GATEWAYS, NONCES, SPOOL, gateway_id
from moorage.metrics import record_keeper_failure
from moorage.settings import Settings
from moorage.storage.migrate import migrate
from moorage.storage.opening import open_database
from moorage.storage.several.keeper_lease import KeeperLease
from moorage.threads import in_thread
from moorage.uploads.spool import sweep_spool

log = structlog.get_logger()

_KEEPER = ".keeper.lock"
_POLL_SECONDS = 0.25
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0

Serve = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set."""

Wait = Callable[[], Awaitable[object]]


class Turn(Protocol):
    """The turn to keep the apps, which one gateway has at a time."""

    async def take(self) -> bool:
        """Takes the turn if it is free; returns whether this gateway has it."""
        ...

    @property
    def holds(self) -> bool:
        """Whether this gateway has it still, as far as it knows; once it had it."""
        ...

    async def until_lost(self) -> None:
        """Returns when this gateway has it no longer."""
        ...

    async def give_back(self) -> None:
        """Leaves it to another, if this gateway has it."""
        ...


class FileLock:
    """A lock on a file, which is made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def lock(self, *, shared: bool = False) -> bool:
        """Takes the lock until `close`, unless another process has it; returns whether it did.

        With `shared`, others may have it the same way.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def take(self) -> bool:
        """As `Turn.take`."""
        return self.lock()

    @property
    def holds(self) -> bool:
        """Always: what the kernel locked, nobody takes away."""
        return True

    async def until_lost(self) -> None:
        """Returns never: what the kernel locked, nobody takes away."""
        await asyncio.Event().wait()

    async def give_back(self) -> None:
        """As `Turn.give_back`."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Releases the lock."""
        os.close(self._fd)


def sweep_abandoned_spools(data_dir: Path) -> None:
    """Removes what uploads left of named gateways that do not run."""
    for spool in (data_dir / SPOOL).iterdir():
        own = data_dir / GATEWAYS / f"{spool.name}.lock"
        if not spool.is_dir() or not own.exists():
            continue
        lock = FileLock(own)
        try:
            if lock.lock():
                sweep_spool(spool)
                with suppress(OSError):  # it holds what is not ours
                    spool.rmdir()
        finally:
            lock.close()


async def enter(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Turn:
    """Enters a named gateway; returns the turn to keep the apps, which `stack` gives back.

    Raises AlreadyRunning for a name that runs, and beside a gateway without a name;
    ConfigurationInvalid without what several gateways share.
    """
    name, data_dir = settings.gateway_name, Path(settings.data_dir)
    if not settings.database_url:
        raise ConfigurationInvalid(
            "gateway_name: several gateways need a database_url, all of them the same."
        )
    alone = FileLock(data_dir / NONCES / LOCK)  # which a gateway without a name has for itself
    own = FileLock(data_dir / GATEWAYS / f"{name}.lock")
    for lock in (alone, own):
        stack.callback(lock.close)
    if not alone.lock(shared=True):
        raise AlreadyRunning
    if not own.lock():
        raise AlreadyRunning(f"A gateway named {name} runs on this data directory already.")
    if is_machine_bound(settings):
        lock = FileLock(data_dir / GATEWAYS / _KEEPER)
        stack.callback(lock.close)
        return lock
    return await _open_lease(stack, settings, clock)


async def _open_lease(stack: AsyncExitStack, settings: Settings, clock: Clock) -> KeeperLease:
    if not settings.content_url:
        raise ConfigurationInvalid(
            "content_url: gateways whose apps run in a cluster keep in it what all of them need."
        )
    await in_thread(migrate, settings.database)
    db = open_database(settings.database)
    stack.callback(db.close)
    # With the machine's boot: a copied data directory has the same id.
    holder = f"{gateway_id(Path(settings.data_dir))}-{settings.gateway_name} {boot_id()}"
    lease = KeeperLease(db=db, holder=holder, clock=clock)
    stack.push_async_callback(lease.give_back)
    return lease


async def take_turns(
    turn: Turn,
    *,
    beside: Serve,
    keep: Serve,
    stop: asyncio.Event,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Runs `keep` while this gateway has the turn, else `beside`, until `stop` is set.

    A gateway that cannot keep the apps says so, gives the turn back, and serves beside whoever can;
    it tries again after a pause, which grows.
    """
    pause_seconds = 0.0
    while not stop.is_set():
        if pause_seconds or not await turn.take():
            await _serve(beside, partial(_until_taken, turn, stop, partial(pause, pause_seconds)))
        if stop.is_set():
            return
        log.info("this gateway keeps the apps now")
        try:
            await _serve(keep, partial(_first, turn.until_lost, stop.wait))
            pause_seconds = 0.0
        except (MoorageError, OSError) as failure:  # what fails later comes as a group
            pause_seconds = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2 or FIRST_PAUSE_SECONDS)
            log.error("this gateway cannot keep the apps", error=str(failure), again=pause_seconds)
            record_keeper_failure()
            await turn.give_back()


async def done_before(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Does the work, but cancels it when `stop` is set; returns whether it was done before."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        return working.done()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _serve(serve: Serve, until: Callable[[], Coroutine[None, None, None]]) -> None:
    """Serves until `until` returns."""
    over = asyncio.Event()
    waiting = asyncio.create_task(until(), name="keeper's turn")
    waiting.add_done_callback(lambda _: over.set())
    try:
        await serve(over)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _until_taken(turn: Turn, stop: asyncio.Event, pause: Wait) -> None:
    """Returns when the turn is taken, after a pause, or `stop` is set."""
    await _first(pause, stop.wait)
    while not (stop.is_set() or await turn.take()):
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue


async def _first(*waits: Wait) -> None:
    """Returns when one of them is done; cancels the others."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

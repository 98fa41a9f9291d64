"""Leadership: which of several gateways runs the apps, and which others run beside it.

The leader has the leader's lease in the database. Of those that share a data directory it also
holds a file's lock, which the kernel releases when a process ends: so the next one follows within a
second. All that run on one database must have the same keys.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from moorage.auth.nonces import LOCK
from moorage.clock import Clock, boot_id
from moorage.errors import (
    AlreadyRunning,
    ConfigurationInvalid,
    DatabaseUnavailable,
    MoorageError,
    VariablesUnreadable,
)
from moorage.file_lock import FileLock
from moorage.gateway.data_directory import GATEWAYS, NONCES, SPOOL, gateway_id
from moorage.gateway.engine_choice import is_machine_bound
from moorage.metrics import LEADER_FAILURES
from moorage.payments.relay.relayer import key_in
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.migrate import is_newest, migrate
from moorage.storage.opening import open_database
from moorage.storage.several import cluster
from moorage.storage.several.cluster import RunningGateway
from moorage.storage.several.leases import LeaderLease
from moorage.storage.vault import Vault
from moorage.threads import in_thread
from moorage.uploads.room import sweep_spool

SAY_SECONDS = 15.0
COPY_SECONDS = 2 * SAY_SECONDS + 5.0
"""How long a gateway of this id on another machine must be silent to be taken for gone.

Two ticks of a loop may lie two periods apart.
"""

_LEAVE_SECONDS = 5.0
_CHALLENGES = "challenges"
_SETTINGS = {"variables": "secrets_key_file", "relayer": "relayer_key_file"}
"""By what a key is for: the setting that names its file."""


class Registration:
    """Registers this gateway among those that run on the database."""

    def __init__(self, *, db: Database, clock: Clock, own: RunningGateway) -> None:
        self._db = db
        self._clock = clock
        self._own = own

    async def enter(self) -> None:
        """Says that this gateway runs. Raises ConfigurationInvalid if another has other keys.

        Raises AlreadyRunning if one with its id runs on another machine.
        """
        await self._refuse_copy()
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            for other in await cluster.running(tx, now_ms=now_ms):
                if other.id != self._own.id:
                    self._compare(other)
            await cluster.say(tx, self._own, now_ms=now_ms)

    async def say(self) -> None:
        """Says again that this gateway runs."""
        async with self._db.transaction(durable=False) as tx:
            await cluster.say(tx, self._own, now_ms=self._clock.now_ms())

    async def leave(self) -> None:
        """Says that this gateway runs no more: the next may have other keys at once."""
        try:
            async with asyncio.timeout(_LEAVE_SECONDS), self._db.transaction(durable=False) as tx:
                await cluster.leave(tx, self._own.id)
        except (DatabaseUnavailable, TimeoutError):
            log.warning("others on the database take this gateway for running, for a minute")

    async def _refuse_copy(self) -> None:
        """Raises AlreadyRunning when a gateway with this id says on another machine that it runs.

        It may also be this one, before its machine was started again: so that is waited for.
        """
        before = await self._elsewhere()
        if before is None:
            return
        log.warning("another machine's gateway had this id; waiting", seconds=COPY_SECONDS)
        await asyncio.sleep(COPY_SECONDS)
        after = await self._elsewhere()
        if after is not None and after.seen_at_ms != before.seen_at_ms:
            raise AlreadyRunning(
                f"data_dir is a copy: a gateway {after.name} with the same gateway.id runs on "
                "another machine. Remove gateway.id from the copy, or stop that gateway."
            )

    async def _elsewhere(self) -> RunningGateway | None:
        """Returns the gateway with this id that runs, or ran a moment ago, on another machine."""
        found = await cluster.running(self._db, now_ms=self._clock.now_ms())
        for other in found:
            if other.id == self._own.id and other.boot not in ("", self._own.boot):
                return other
        return None

    def _compare(self, other: RunningGateway) -> None:
        for use, fingerprint in self._own.keys.items():
            if other.keys.get(use, fingerprint) != fingerprint:
                raise ConfigurationInvalid(
                    f"{_SETTINGS[use]}: the gateway {other.name} on this database has another key "
                    f"({other.keys[use]}, here {fingerprint}). Give all of them the same file."
                )


def fingerprints(settings: Settings, *, vault: Vault) -> dict[str, str]:
    """Returns what tells keys apart, by what they are for. Raises ConfigurationInvalid."""
    found = {"variables": vault.mark}
    if settings.relayer_key_file:
        found["relayer"] = key_in(
            Path(settings.relayer_key_file), option="relayer_key_file"
        ).address
    return found


async def challenge_secret(db: Database, vault: Vault) -> bytes:
    """Returns the secret of payment challenges that all gateways on the database share.

    It is stored sealed, with the first key. Where no key opens it any more, there is another one,
    and clients are given fresh challenges.
    """
    fresh = vault.seal_secret(secrets.token_hex(32), _CHALLENGES)
    text = await cluster.agree(db, _CHALLENGES, fresh)
    try:
        secret = vault.open_secret(text, _CHALLENGES)
    except VariablesUnreadable:
        log.warning("payment challenges have a new secret: no key opens the one that was stored")
        await cluster.replace(db, _CHALLENGES, fresh)
        secret = vault.open_secret(fresh, _CHALLENGES)
    else:
        if not text.startswith(vault.mark):  # that key's line may go
            await cluster.replace(db, _CHALLENGES, vault.seal_secret(secret, _CHALLENGES))
    return hashlib.sha256(secret.encode()).digest()


log = structlog.get_logger()

AGAIN_SECONDS = 5.0
"""How long the lease is left to others while the database is of another version."""

FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0
_FENCE = ".leader.lock"
_POLL_SECONDS = 0.25

Serve = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set."""

Wait = Callable[[], Awaitable[object]]


class Lease(Protocol):
    """The leader's lease, which one gateway has at a time, as `LeaderLease`."""

    @property
    def holds(self) -> bool:
        """Whether this gateway may run the apps now."""
        ...

    async def take(self) -> bool:
        """Takes the lease if it is free; returns whether this gateway has it."""
        ...

    async def until_lost(self) -> None:
        """Returns when this gateway has it no longer."""
        ...

    async def give_back(self) -> None:
        """Gives it up, if this gateway has it."""
        ...


class Leadership:
    """The lease, left to others while the database is of another version of Moorage.

    A newer gateway is then about to take it, and its schema may forbid what an older one does. So
    an older gateway serves beside the leader until it is upgraded.
    """

    def __init__(
        self, lease: Lease, *, is_newest: Callable[[], Awaitable[bool]], clock: Clock
    ) -> None:
        """`is_newest` returns whether the schema is this version's; it may fail as a database."""
        self._lease = lease
        self._is_newest = is_newest
        self._clock = clock
        self._again_at = float("-inf")
        self._left = ""  # why this gateway left the lease that nobody else had

    @property
    def holds(self) -> bool:
        """Whether this gateway may run the apps now."""
        return self._lease.holds

    async def check(self) -> None:
        """Raises DatabaseUnavailable once this gateway left the lease, until another has it."""
        if self._left:
            raise DatabaseUnavailable(self._left)

    async def take(self) -> bool:
        """Takes the lease if it is free, and the schema is this version's; returns whether."""
        if self._clock.monotonic_seconds() < self._again_at:
            return False
        if not await self._lease.take():
            self._left = ""
            return False
        why = await self._why_not()
        if why and why != self._left:
            log.error("this gateway leaves the apps to others", error=why)
        self._left = why
        if not why:
            return True
        self._again_at = self._clock.monotonic_seconds() + AGAIN_SECONDS
        await self._lease.give_back()
        return False

    async def run(
        self,
        *,
        beside: Serve,
        lead: Serve,
        stop: asyncio.Event,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Runs `lead` while this gateway has the lease, else `beside`, until `stop` is set.

        A gateway that cannot run the apps logs that, gives the lease back, and serves beside the
        next leader; it tries again after a pause, which grows. Raises AlreadyRunning for a gateway
        that must not run at all.
        """
        pause_seconds = 0.0
        while not stop.is_set():
            if pause_seconds or not await self.take():
                wait = partial(pause, pause_seconds)
                await serve_until(beside, partial(self._until_taken, stop, wait))
            if stop.is_set():
                return
            log.info("this gateway runs the apps now")
            try:
                await serve_until(lead, partial(_first, self._lease.until_lost, stop.wait))
                pause_seconds = 0.0
            except AlreadyRunning:
                raise
            except (MoorageError, OSError) as failure:  # what fails later comes as a group
                pause_seconds = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2 or FIRST_PAUSE_SECONDS)
                log.error(
                    "this gateway cannot run the apps", error=str(failure), again=pause_seconds
                )
                LEADER_FAILURES.inc()
                await self._lease.give_back()

    async def _why_not(self) -> str:
        try:
            if await self._is_newest():
                return ""
        except DatabaseUnavailable as error:
            return f"Nobody runs the apps: {error.message}"
        return (
            "Nobody runs the apps: the database is of another version of Moorage than this "
            "gateway. Start one of that version, then upgrade this one."
        )

    async def _until_taken(self, stop: asyncio.Event, pause: Wait) -> None:
        """Returns when the lease is taken, after a pause, or `stop` is set."""
        await _first(pause, stop.wait)
        while not (stop.is_set() or await self.take()):
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await stop.wait()


async def open_leadership(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Leadership:
    """Enters a named gateway; `stack` gives back the lease that it takes.

    Raises AlreadyRunning for a name that runs, beside a gateway without a name, and where a gateway
    of another machine runs the apps of this database on that machine; ConfigurationInvalid without
    what several gateways share.
    """
    name, data_dir = settings.gateway_name, Path(settings.data_dir)
    if not settings.database_url:
        raise ConfigurationInvalid(
            "gateway_name: several gateways need a database_url, all of them the same."
        )
    if not is_machine_bound(settings) and not settings.content_url:
        raise ConfigurationInvalid(
            "content_url: gateways whose apps run in a cluster keep in it what all of them need."
        )
    alone = FileLock(data_dir / NONCES / LOCK)  # which a gateway without a name has for itself
    own = FileLock(data_dir / GATEWAYS / f"{name}.lock")
    for lock in (alone, own):
        stack.callback(lock.close)
    if not alone.lock(shared=True):
        raise AlreadyRunning
    if not own.lock():
        raise AlreadyRunning(f"A gateway named {name} runs on this data directory already.")
    await in_thread(migrate, settings.database)
    lease = await open_lease(stack, settings, clock)
    return Leadership(
        lease, is_newest=partial(in_thread, is_newest, settings.database), clock=clock
    )


async def open_lease(stack: AsyncExitStack, settings: Settings, clock: Clock) -> LeaderLease:
    """Opens the leader's lease of a migrated database, which `stack` gives back.

    Waits while a gateway of another machine may have apps of this database on that machine. Raises
    AlreadyRunning if one has.
    """
    data_dir, fence = Path(settings.data_dir), None
    db = open_database(settings.database)
    stack.callback(db.close)
    if is_machine_bound(settings):
        fence = FileLock(data_dir / GATEWAYS / _FENCE)
        stack.callback(fence.close)
    lease = LeaderLease(
        db=db,
        machine=f"{gateway_id(data_dir)} {boot_id()}",  # a copied data directory has the same id
        name=settings.gateway_name,
        clock=clock,
        fence=fence,
    )
    stack.push_async_callback(lease.give_back)
    if fence is not None:
        await lease.enter()
    return lease


async def acquire(lease: LeaderLease) -> None:
    """Returns once this gateway has the lease. Raises AlreadyRunning as `LeaderLease.take`."""
    while not await lease.take():  # noqa: ASYNC110 (nothing reports that a lock is free)
        await asyncio.sleep(_POLL_SECONDS)


async def lead_alone(lease: LeaderLease, lead: Serve, *, stop: asyncio.Event) -> None:
    """Runs `lead` with the lease of a gateway that has its data directory for itself."""
    await _first(partial(acquire, lease), stop.wait)
    if not stop.is_set():
        await serve_until(lead, partial(_first, lease.until_lost, stop.wait))


async def serve_until(serve: Serve, until: Callable[[], Coroutine[None, None, None]]) -> None:
    """Serves until `until` returns; raises what it raises."""
    over = asyncio.Event()
    waiting = asyncio.create_task(until(), name="leadership")
    waiting.add_done_callback(lambda _: over.set())
    try:
        await serve(over)
    finally:
        ended = waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    if ended:
        waiting.result()


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


async def _first(*waits: Wait) -> None:
    """Returns when one of them is done, or raises what it raises; cancels the others."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()

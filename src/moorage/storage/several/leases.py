"""Leases: which of the gateways on one database does a periodic duty.

A lease says which gateway may start the work. Work that was started may still go on after another
gateway took the lease, for instance after a long pause of the machine: so keys guard its writes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog
from sqlalchemy import bindparam, select, update

from moorage.clock import Clock
from moorage.errors import AlreadyRunning, DatabaseUnavailable
from moorage.storage.database import Database, Statement
from moorage.storage.schema import leases
from moorage.storage.several.watched_lease import Seen, WatchedLease, take_where

log = structlog.get_logger()

LEASE_MS = 30_000
RENEW_SECONDS = 10.0
CLOCK_BACK_MS = 10 * 60_000
"""A lease that ends later than in this time was taken before the clock was set back: it is free."""

_TAKE = take_where(
    leases.c.holder == bindparam("holder"),
    leases.c.expires_at_ms <= bindparam("now_ms"),
    leases.c.expires_at_ms > bindparam("latest_ms"),
)
MACHINE = "machine"
"""The row that names the machine with the apps' files; its gateways renew it together."""

MACHINE_SECONDS = 20.0
"""How long another machine's row must stay as it is until it counts as left."""

_RENEW_MACHINE_SECONDS = 5.0
_TOKEN = Statement(select(leases.c.token).where(leases.c.name == bindparam("name")))
_SET_END = Statement(
    update(leases)
    .where(
        leases.c.name == bindparam("of_name"),
        leases.c.holder == bindparam("of_holder"),
        leases.c.token == bindparam("of_token"),
    )
    .values(expires_at_ms=bindparam("until_ms"))
)


class _Held(NamedTuple):
    token: int
    until_seconds: float  # of the monotonic clock


class Leases:
    """The leases of one gateway.

    `holder` is its id, which stays the same when it restarts: so it takes over at once what its
    earlier process held.
    """

    def __init__(self, *, db: Database, holder: str, clock: Clock) -> None:
        self._db = db
        self.holder = holder
        self._clock = clock
        self._held: dict[str, _Held] = {}

    def holds(self, name: str) -> bool:
        """Whether this gateway holds the duty's lease, as far as it knows."""
        held = self._held.get(name)
        return held is not None and self._clock.monotonic_seconds() < held.until_seconds

    async def hold(self, name: str) -> bool:
        """Takes the duty's lease if it is free; returns whether this gateway holds it now.

        A lease that is held is not read again. Raises DatabaseUnavailable.
        """
        if self.holds(name):
            return True
        self._held.pop(name, None)
        token, until_seconds = await self._take(name)
        if token is None:
            return False
        self._held[name] = _Held(token, until_seconds)
        return True

    async def run(self) -> None:
        """Renews the held leases until cancelled; then releases them for other gateways."""
        try:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                await self._try(self.renew)
        finally:
            await self._try(self.release)

    async def renew(self) -> None:
        """Renews the held leases; drops those that others took. Raises DatabaseUnavailable."""
        until_seconds = self._until_seconds()
        lost = await self._set_ends(self._clock.now_ms() + LEASE_MS)
        for name, held in list(self._held.items()):
            if name in lost:
                log.warning("lease lost to another gateway", duty=name)
                del self._held[name]
            else:
                self._held[name] = held._replace(until_seconds=until_seconds)

    async def release(self) -> None:
        """Releases all held leases. Raises DatabaseUnavailable."""
        await self._set_ends(0)
        self._held.clear()

    async def _take(self, name: str) -> tuple[int | None, float]:
        """Tries to take the lease; returns its token, or None, and until when it is held."""
        now_ms, until_seconds = self._clock.now_ms(), self._until_seconds()
        async with self._db.transaction(durable=False) as tx:
            taken = await tx.execute(
                _TAKE,
                name=name,
                holder=self.holder,
                now_ms=now_ms,
                until_ms=now_ms + LEASE_MS,
                latest_ms=now_ms + CLOCK_BACK_MS,
            )
            row = await tx.one(_TOKEN, name=name) if taken == 1 else None
        return (None if row is None else int(row[0])), until_seconds

    async def _set_ends(self, until_ms: int) -> set[str]:
        """Sets the end of all held leases; returns the names of those that others took."""
        lost: set[str] = set()
        if not self._held:
            return lost
        async with self._db.transaction(durable=False) as tx:
            for name, held in list(self._held.items()):
                kept = await tx.execute(
                    _SET_END,
                    of_name=name,
                    of_holder=self.holder,
                    of_token=held.token,
                    until_ms=until_ms,
                )
                if kept != 1:
                    lost.add(name)
        return lost

    def _until_seconds(self) -> float:
        return self._clock.monotonic_seconds() + LEASE_MS / 1000

    async def _try(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except DatabaseUnavailable:
            log.warning("leases cannot be written; they run out by themselves")


class MachineLease:
    """Keeps the gateways of a second machine off a database that a server has.

    Apps, their files and their keys are on one machine. No clocks are compared: who comes second
    watches the row for a while.
    """

    def __init__(self, *, db: Database, holder: str, clock: Clock) -> None:
        """`holder` names the machine and this boot of it."""
        self._row = WatchedLease(db=db, name=MACHINE, holder=holder)
        self._holder = holder
        self._clock = clock
        self._renewing: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """Takes the lease and renews it until `close`; one that another machine left, after a wait.

        Raises AlreadyRunning if another machine renews it, and DatabaseUnavailable.
        """
        seen = await self._row.read() or Seen(self._holder, 0)
        if seen.holder != self._holder:
            log.warning("another machine had this database; waiting", seconds=MACHINE_SECONDS)
            await asyncio.sleep(MACHINE_SECONDS)
        if not await self.renew(seen_token=seen.token):
            raise AlreadyRunning(
                "A gateway of another machine, where the apps are, runs on this database: stop it "
                "first, or name another database_url."
            )
        self._renewing = asyncio.create_task(self._renew_on(), name="machine lease")

    async def run(self) -> None:
        """Returns never; raises AlreadyRunning when another machine has taken the lease."""
        if self._renewing is not None:
            await self._renewing

    async def close(self) -> None:
        """Ends the renewal. The lease stays: other gateways of the machine may run."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def renew(self, *, seen_token: int | None = None) -> bool:
        """Renews the lease; returns False if another machine has it. Raises DatabaseUnavailable.

        With `seen_token` it is taken from that machine if it was not renewed since.
        """
        until_ms = self._clock.now_ms() + round(MACHINE_SECONDS * 1000)
        return await self._row.take(until_ms=until_ms, seen_token=seen_token) is not None

    async def _renew_on(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_MACHINE_SECONDS)
            try:
                held = await self.renew()
            except DatabaseUnavailable:
                continue
            if not held:
                log.error("another machine took this database, while this one stood still")
                raise AlreadyRunning("A gateway of another machine took over this database.")

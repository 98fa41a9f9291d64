"""Which gateway, of those on several machines, keeps the apps.

The holder renews its lease every 5 s and stops 20 s after the last renewal; another takes it when
it was not renewed for 30 s. Each counts by its own monotonic clock, so there are never two,
whatever the machines' clocks say. It also counts the time for which a machine was suspended.
"""

import asyncio

import structlog

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.storage.database import Database
from moorage.storage.several.watched_lease import WatchedLease

log = structlog.get_logger()

KEEPER = "keeper"
LEFT_SECONDS = 30.0
"""How long another's lease must stand still until it counts as left."""

HELD_SECONDS = 20.0
"""How long after its last renewal a holder goes on."""

RENEW_SECONDS = 5.0


class KeeperLease:
    """The lease of one gateway; `holder` stays the same when it restarts, and then has it again."""

    def __init__(self, *, db: Database, holder: str, clock: Clock) -> None:
        self._row = WatchedLease(db=db, name=KEEPER, holder=holder)
        self._holder = holder
        self._clock = clock
        self._token: int | None = None
        self._until = 0.0
        self._watched: tuple[int, float] | None = None  # another's token, and since when

    @property
    def holds(self) -> bool:
        """Whether this gateway may act as keeper now."""
        return self._left_seconds > 0

    async def take(self) -> bool:
        """Takes the lease if it is free; returns whether this gateway has it. Ask again and again.

        A database that cannot be read says nothing: False.
        """
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                return self.holds or await self._take()
        except (DatabaseUnavailable, TimeoutError):
            return False

    async def until_lost(self) -> None:
        """Renews the lease; returns when it is lost, whatever the database does meanwhile.

        So no renewal is waited for: one that is cancelled may have to end its transaction first.
        """
        renewing: asyncio.Task[None] | None = None
        try:
            while self.holds:
                await asyncio.sleep(min(RENEW_SECONDS, self._left_seconds))
                if renewing is None or renewing.done():
                    renewing = asyncio.create_task(self._renew(), name="keeper's lease")
                await asyncio.wait([renewing], timeout=min(RENEW_SECONDS, self._left_seconds))
        finally:
            if renewing is not None:
                renewing.cancel()
        self._token = None
        log.error("another gateway may keep the apps now: this one's lease was not renewed in time")

    async def give_back(self) -> None:
        """Leaves the lease to whoever comes first."""
        token, self._token = self._token, None
        if token is None:
            return
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await self._row.release(token)
        except (DatabaseUnavailable, TimeoutError):
            log.warning("the keeper's lease is not released; it runs out by itself")

    async def _take(self) -> bool:
        now = self._clock.monotonic_seconds()
        row = await self._row.read()
        seen_token = None
        if row is not None and row.holder not in ("", self._holder):
            if self._watched is None or self._watched[0] != row.token:
                self._watched = (row.token, now)
            if now - self._watched[1] < LEFT_SECONDS:
                return False
            seen_token = row.token
        self._note(await self._row.take(until_ms=self._until_ms, seen_token=seen_token), now)
        return self.holds

    async def _renew(self) -> None:
        token, now = self._token, self._clock.monotonic_seconds()
        if token is None:
            return
        try:
            self._note(await self._row.renew(token, until_ms=self._until_ms), now)
        except DatabaseUnavailable:
            log.warning("the keeper's lease is not renewed; it runs out by itself")

    def _note(self, token: int | None, begun: float) -> None:
        """Counts from before the row was written: others see it later."""
        self._token, self._until = token, begun + HELD_SECONDS

    @property
    def _left_seconds(self) -> float:
        if self._token is None:
            return 0.0
        return max(0.0, self._until - self._clock.monotonic_seconds())

    @property
    def _until_ms(self) -> int:
        return self._clock.now_ms() + round(HELD_SECONDS * 1000)

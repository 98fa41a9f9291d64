"""Leases in the database: which gateway does a periodic duty, and which one runs the apps.

A lease says which gateway may start the work. Work that was started may continue after another
gateway took the lease, for instance after a long pause of the machine: so keys guard its writes.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog
from sqlalchemy import ColumnElement, bindparam, or_, select, update

from moorage.clock import Clock
from moorage.errors import AlreadyRunning, DatabaseUnavailable
from moorage.file_lock import FileLock
from moorage.storage.database import Database, Statement, Upsert, given
from moorage.storage.schema import leases

log = structlog.get_logger()

LEASE_MS = 30_000
RENEW_SECONDS = 10.0
CLOCK_BACK_MS = 10 * 60_000
"""A lease that ends later than in this time was taken before the clock was set back: it is free."""

LEADER = "leader"
"""The row of the gateway that runs the apps; apps of no machine are billed under this name."""

LEFT_SECONDS = 30.0
"""How long another's lease must stay unchanged until it counts as left."""

LEFT_BY_MACHINE_SECONDS = 20.0
"""The same, where only another machine can have left it."""

HELD_SECONDS = 20.0
"""How long after its last renewal a leader continues, if no file's lock keeps others away."""

RENEW_LEADER_SECONDS = 5.0
_ENTER_SECONDS = 1.0
_NOBODY = ""
_ANY_HOLDER = "-"  # no gateway has this id


def _take_where(*free: ColumnElement[bool]) -> Statement:
    """Takes the row of `name` for `holder` until `until_ms`, where any of the conditions holds."""
    return Statement(
        Upsert(
            table=leases,
            values={
                "name": bindparam("name"),
                "holder": bindparam("holder"),
                "token": 1,
                "expires_at_ms": bindparam("until_ms"),
            },
            replaced=("holder", "expires_at_ms"),
            changed={"token": leases.c.token + 1},
            where=or_(*free),
        )
    )


_TAKE = _take_where(
    leases.c.holder == bindparam("holder"),
    leases.c.expires_at_ms <= bindparam("now_ms"),
    leases.c.expires_at_ms > bindparam("latest_ms"),
)
_READ = Statement(select(leases.c.holder, leases.c.token).where(*given(leases, "name")))
_TAKE_WATCHED = _take_where(
    leases.c.holder == bindparam("own"),
    leases.c.holder == _NOBODY,
    leases.c.token == bindparam("seen_token"),
)
_TOKEN = Statement(select(leases.c.token).where(*given(leases, "name")))
_SET_END = Statement(
    update(leases)
    .where(
        *given(leases, name="of_name", holder="of_holder"), leases.c.token == bindparam("of_token")
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


class _Row(NamedTuple):
    """A row as it was read."""

    holder: str  # "" after a release
    token: int


class _WatchedRow:
    """A row that is taken over without comparing clocks of machines.

    Its token grows with each renewal: a row that does not change for long enough was left. Methods
    raise DatabaseUnavailable.
    """

    def __init__(self, *, db: Database, name: str, holder: str) -> None:
        self._db = db
        self._name = name
        self._holder = holder

    async def read(self) -> _Row | None:
        """Returns the row; None before the first time."""
        row = await self._db.one(_READ, name=self._name)
        return None if row is None else _Row(str(row[0]), int(row[1]))

    async def take(self, *, until_ms: int, seen_token: int | None = None) -> int | None:
        """Takes the row if it is nobody's or this holder's, or has this token; returns its token.

        Returns None if another has it. `until_ms` is for people who read the row.
        """
        return await self._write(
            self._holder, own=self._holder, until_ms=until_ms, seen_token=seen_token
        )

    async def renew(self, token: int, *, until_ms: int) -> int | None:
        """Renews what has this token still; returns the next token, or None."""
        return await self._write(self._holder, own=_ANY_HOLDER, until_ms=until_ms, seen_token=token)

    async def release(self, token: int) -> None:
        """Gives up what has this token still."""
        await self._write(_NOBODY, own=_ANY_HOLDER, until_ms=0, seen_token=token)

    async def _write(
        self, holder: str, *, own: str, until_ms: int, seen_token: int | None
    ) -> int | None:
        async with self._db.transaction(durable=False) as tx:
            written = await tx.execute(
                _TAKE_WATCHED,
                name=self._name,
                holder=holder,
                own=own,
                until_ms=until_ms,
                seen_token=seen_token,
            )
            row = await tx.one(_READ, name=self._name) if written == 1 else None
        return None if row is None else int(row[1])


class LeaderLease:
    """Which gateway runs the apps.

    Between machines, the leader renews its row every 5 s and stops 20 s after the last renewal;
    another gateway takes a row that was not renewed for 30 s. Each counts by its own monotonic
    clock, so there are never two, whatever the machines' clocks show. The clock also counts the
    time for which a machine was suspended.

    Where apps are bound to a machine, `fence` is a lock on its data directory. Its gateways follow
    each other as soon as the kernel releases it, and a leader that cannot reach the database
    remains leader. A gateway of another machine does not run beside them.
    """

    def __init__(
        self, *, db: Database, machine: str, name: str, clock: Clock, fence: FileLock | None = None
    ) -> None:
        """`machine` names the data directory and the machine's boot, `name` the gateway there.

        A gateway that restarts has the same names, and so has its lease again at once.
        """
        self._machine = machine
        self._holder = f"{machine} {name}"
        self._row = _WatchedRow(db=db, name=LEADER, holder=self._holder)
        self._clock = clock
        self._fence = fence
        self._token: int | None = None
        self._until = 0.0
        self._watched: tuple[int, float] | None = None  # another's token, and since when

    @property
    def holds(self) -> bool:
        """Whether this gateway may run the apps now."""
        return self._left_seconds > 0

    async def enter(self) -> None:
        """Waits until no gateway of another machine has the lease.

        Raises AlreadyRunning if one renews it, and DatabaseUnavailable.
        """
        while True:
            row = await self._row.read()
            if row is None or not self._is_elsewhere(row) or self._left(row):
                return
            await asyncio.sleep(_ENTER_SECONDS)

    async def take(self) -> bool:
        """Takes the lease if it is free; returns whether this gateway has it. Call it repeatedly.

        Returns False if the database cannot be read. Raises AlreadyRunning if a gateway of another
        machine renews it, where apps are bound to a machine.
        """
        if self.holds:
            return True
        if self._fence is not None and not self._fence.lock():
            return False
        try:
            async with asyncio.timeout(RENEW_LEADER_SECONDS):
                await self._take()
        except (DatabaseUnavailable, TimeoutError):
            pass
        finally:
            if not self.holds and self._fence is not None:
                self._fence.unlock()
        return self.holds

    async def until_lost(self) -> None:
        """Renews the lease; returns when it is lost, whatever the database does meanwhile.

        So no renewal is waited for: one that is cancelled may have to end its transaction first.
        Raises AlreadyRunning where a gateway of another machine has taken it from a fenced one.
        """
        renewing: asyncio.Task[None] | None = None
        try:
            while self.holds:
                await asyncio.sleep(min(RENEW_LEADER_SECONDS, self._left_seconds))
                if renewing is None or renewing.done():
                    renewing = asyncio.create_task(self._renew(), name="leader's lease")
                await asyncio.wait(
                    [renewing], timeout=min(RENEW_LEADER_SECONDS, self._left_seconds)
                )
        finally:
            if renewing is not None:
                renewing.cancel()
        self._token = None
        if self._fence is not None:
            log.error("a gateway of another machine took this database, while this one stood still")
            raise AlreadyRunning("A gateway of another machine took over this database.")
        log.error("another gateway may run the apps now: this one's lease was not renewed in time")

    async def give_back(self) -> None:
        """Gives the lease up. With a fence, the row keeps other machines away for a while."""
        token, self._token = self._token, None
        if self._fence is not None:
            self._fence.unlock()
            return
        if token is None:
            return
        try:
            async with asyncio.timeout(RENEW_LEADER_SECONDS):
                await self._row.release(token)
        except (DatabaseUnavailable, TimeoutError):
            log.warning("the leader's lease is not released; it runs out by itself")

    async def _take(self) -> None:
        now = self._clock.monotonic_seconds()
        row = await self._row.read()
        seen_token = None
        if row is not None and row.holder not in (_NOBODY, self._holder):
            if self._is_elsewhere(row) and not self._left(row):
                return
            seen_token = row.token  # or it is of a process that ended, as its fence is free
        self._note(await self._row.take(until_ms=self._until_ms, seen_token=seen_token), now)

    def _is_elsewhere(self, row: _Row) -> bool:
        """Returns whether another gateway has the row, and may be running."""
        if self._fence is None:
            return row.holder not in (_NOBODY, self._holder)
        return row.holder != _NOBODY and not row.holder.startswith(f"{self._machine} ")

    def _left(self, row: _Row) -> bool:
        """Returns whether another's row was seen unchanged for long enough."""
        now = self._clock.monotonic_seconds()
        if self._watched is None or self._watched[0] != row.token:
            if self._fence is not None:
                if self._watched is not None:
                    raise AlreadyRunning(
                        "A gateway of another machine, where the apps are, runs on this database: "
                        "stop it first, or name another database_url."
                    )
                log.warning(
                    "another machine had this database; waiting", seconds=LEFT_BY_MACHINE_SECONDS
                )
            self._watched = (row.token, now)
        left_seconds = LEFT_SECONDS if self._fence is None else LEFT_BY_MACHINE_SECONDS
        return now - self._watched[1] >= left_seconds

    async def _renew(self) -> None:
        token, now = self._token, self._clock.monotonic_seconds()
        if token is None:
            return
        try:
            self._note(await self._row.renew(token, until_ms=self._until_ms), now)
        except DatabaseUnavailable:
            log.warning("the leader's lease is not renewed")

    def _note(self, token: int | None, begun: float) -> None:
        """Counts from before the row was written: others see it later."""
        self._token, self._until = token, begun + HELD_SECONDS
        if token is not None:
            self._watched = None

    @property
    def _left_seconds(self) -> float:
        if self._token is None:
            return 0.0
        if self._fence is not None:
            return math.inf
        return max(0.0, self._until - self._clock.monotonic_seconds())

    @property
    def _until_ms(self) -> int:
        return self._clock.now_ms() + round(HELD_SECONDS * 1000)

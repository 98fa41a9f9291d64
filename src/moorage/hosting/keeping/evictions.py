"""Evictions: projects that an operator has ordered to be deleted are exported, then deleted."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Hashable, Mapping
from contextlib import suppress
from typing import NamedTuple

import structlog

from moorage.clock import Clock, SteadyWall, iso_utc
from moorage.core import Core
from moorage.errors import DatabaseUnavailable, MoorageError
from moorage.hosting.exports import Exporter
from moorage.hosting.keeping.deletion import Deletion
from moorage.hosting.keeping.suspension import block_project
from moorage.logs import redacted
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.operation import evictions, exports
from moorage.storage.operation.evictions import Eviction, FailedTry
from moorage.storage.operation.exports import Export
from moorage.threads import in_thread

_FIRST_SECONDS = 30.0
_MAX_SECONDS = 3600.0


class _Failed(NamedTuple):
    pause_seconds: float
    again_at: float
    since: float


class Retries:
    """Says of each work that failed when it is tried again: later each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[Hashable, _Failed] = {}  # times are monotonic seconds

    def is_due(self, work: Hashable) -> bool:
        """Returns whether it may be tried."""
        failed = self._failed.get(work)
        return failed is None or failed.again_at <= self._clock.monotonic_seconds()

    def failing_seconds(self, work: Hashable) -> float:
        """Returns for how long each try has failed; 0 before the first failure is noted."""
        failed = self._failed.get(work)
        return 0.0 if failed is None else self._clock.monotonic_seconds() - failed.since

    def failed(self, work: Hashable) -> float:
        """Notes a failure; returns the seconds until the next try."""
        before, now = self._failed.get(work), self._clock.monotonic_seconds()
        pause = _FIRST_SECONDS if before is None else min(2 * before.pause_seconds, _MAX_SECONDS)
        since = now if before is None else before.since
        self._failed[work] = _Failed(pause, again_at=now + pause, since=since)
        return pause

    def forget(self, work: Hashable) -> None:
        """Notes that it went well."""
        self._failed.pop(work, None)

    def keep(self, works: Container[Hashable]) -> None:
        """Forgets all others."""
        self._failed = {each: when for each, when in self._failed.items() if each in works}


log = structlog.get_logger()

DAY_MS = 24 * 3_600_000

AT_ONCE = 2
"""So many are exported at a time: a huge one holds up no other, and threads are left."""

AGAIN_SECONDS = 10.0
"""How long after one was looked at it is looked at again, while others are still exported."""

_PATIENCE_SECONDS = DAY_MS / 1000
"""For how long the last archive has to fail, at each try, before an earlier one has to do."""

_MAX_WHY = 1000
"""Letters of a failure that are kept for the operator; the log has all of it."""


STOPPED = "It is due to be deleted: "
"""What the reason begins with for which a project is suspended that is due; a cancelled order ends
that."""


class NoRoom(OSError):
    """The disk has no room for the copies that an archive is made of."""


class Evictions:
    """Carries orders out. An archive is made soon after the order, and again before the deletion.

    What is due is suspended first, whether its last archive can be made or not. A clock that is set
    forward makes nothing due.
    """

    def __init__(
        self,
        core: Core,
        exporter: Exporter,
        *,
        deletion: Deletion,
        held_bytes: Callable[[Project], Awaitable[int]],
        kept_days: int,
    ) -> None:
        """`held_bytes` returns how much a project's disk and volume hold, at most.

        Twice as much must be free: for copies, and for their archive. The operator's reserve counts
        as free, as the deletion gives back more.
        """
        self._db, self._clock = core.db, core.clock
        self._steady = SteadyWall(core.clock)
        self._exporter, self._files = exporter, exporter.files
        self._deletion = deletion
        self._held_bytes = held_bytes
        self._kept_ms = kept_days * DAY_MS
        self._retries = Retries(core.clock)
        self._failed: Mapping[str, FailedTry] = {}  # by project, as it is stored
        self._exporting_bytes = 0  # what archives being made need

    async def tick(self) -> None:
        """Exports and deletes what is due, some at once; then removes archives that are too old.

        While one takes long, the others are done: what is ordered or becomes due meanwhile has its
        turn, those first that are due first.
        """
        looked_at: dict[Eviction, float] = {}
        working: dict[str, asyncio.Task[None]] = {}
        line: deque[Eviction] = deque()
        read_at = float("-inf")
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = self._clock.monotonic_seconds()
                if not line or now >= read_at + AGAIN_SECONDS:  # not each time: there may be many
                    line, read_at = deque(await self._next(looked_at, working)), now
                while line and len(working) < AT_ONCE:
                    order = line.popleft()
                    looked_at[order] = now
                    working[order.project_id] = tasks.create_task(self._try(order))
                if not working:
                    break
                await asyncio.wait(
                    working.values(),
                    timeout=AGAIN_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                working = {each: task for each, task in working.items() if not task.done()}
        await self._forget()

    async def _next(
        self, looked_at: Mapping[Eviction, float], working: Collection[str]
    ) -> list[Eviction]:
        """Returns the orders whose turn it is, those first that are due first."""
        orders = await evictions.ordered(self._db)
        self._retries.keep(orders)
        self._failed = await evictions.failures(self._db) if orders else {}
        before = self._clock.monotonic_seconds() - AGAIN_SECONDS
        return [
            each
            for each in orders
            if each.project_id not in working
            and looked_at.get(each, before) <= before
            and self._retries.is_due(each)
        ]

    async def _try(self, order: Eviction) -> None:
        """Carries out what is due of an order. A failure is stored, and tried again later."""
        try:
            project = await projects.by_id(self._db, order.project_id)
            if project is not None:
                await self._carry_out(order, project)
            if order.project_id in self._failed:
                async with self._db.transaction(durable=False) as tx:
                    await evictions.forget_failure(tx, order.project_id)
        except Exception as error:  # a fault in one must not end the others' work
            again = self._retries.failed(order)
            known = isinstance(error, MoorageError | OSError)
            log.warning(
                "project not evicted",
                project=order.project_id,
                error=str(error),
                again_seconds=again,
                exc_info=not known,
            )
            await self._note_failure(order, (str(error) if known else "") or repr(error))
        else:
            self._retries.forget(order)

    async def _note_failure(self, order: Eviction, why: str) -> None:
        """Stores with an order why it waits, for the operator."""
        text = redacted(why).encode(errors="replace").decode()  # a file's name may be no UTF-8
        failed = FailedTry(self._clock.now_ms(), text[:_MAX_WHY])
        with suppress(DatabaseUnavailable):  # the log has it
            async with self._db.transaction(durable=False) as tx:
                await evictions.note_failure(tx, order, failed)

    async def _carry_out(self, order: Eviction, project: Project) -> None:
        is_due = order.at_ms <= self._steady.now_ms()
        if order.with_export and project.status is not ProjectStatus.DELETING:  # it is whole
            made = await self._made(project)
            if made is None or (is_due and not self._is_last(made, order)):
                if is_due:
                    await self._stop(order, project)
                await self._export(order, project, made, is_last=is_due)
        if not is_due or not await self._begin(order):
            return
        await self._deletion.delete(project)
        log.info("project evicted", project=project.id, reason=order.reason)

    async def _stop(self, order: Eviction, project: Project) -> None:
        """Suspends what is due: it serves no more, however long its last archive takes or fails.

        So nothing that the app does keeps it from being deleted, or changes its files meanwhile.
        """
        if project.blocked_reason is not None:
            return
        async with self._db.transaction(durable=True) as tx:
            if order in await evictions.ordered(tx):
                reason = f"{STOPPED}{order.reason}"
                await block_project(tx, project, reason, now_ms=self._clock.now_ms())

    async def _made(self, project: Project) -> Export | None:
        made = await exports.of_project(self._db, project.id)
        return made if made is not None and await self._files.has(made) else None

    def _is_last(self, made: Export, order: Eviction) -> bool:
        """Returns whether it was made when this order was due, and not one before it."""
        return made.is_last and made.until_ms >= order.at_ms + self._kept_ms

    async def _begin(self, order: Eviction) -> bool:
        """Begins the deletion, unless the order was cancelled or put off meanwhile."""
        async with self._db.transaction(durable=True) as tx:
            if order not in await evictions.ordered(tx):
                return False
            await self._deletion.begin(tx, order.project_id)
        return True

    async def _export(
        self, order: Eviction, project: Project, earlier: Export | None, *, is_last: bool
    ) -> None:
        """Makes an archive and tells its owner. One that fails for a day leaves the earlier one.

        That has to have the volume, if there is one.

        Raises MoorageError or OSError before that, or if there is none.
        """
        try:
            await self._make(order, project, earlier, is_last=is_last)
        except (MoorageError, OSError) as error:
            if earlier is None or self._retries.failing_seconds(order) < _PATIENCE_SECONDS:
                raise
            if project.volume and await self._files.lacks_volume(earlier):
                raise
            log.warning("earlier export is kept", project=project.id, error=str(error))

    async def _make(
        self, order: Eviction, project: Project, earlier: Export | None, *, is_last: bool
    ) -> None:
        needed = 2 * await self._held_bytes(project)
        self._exporting_bytes += needed
        try:
            free = await in_thread(self._files.free_bytes)
            if free < self._exporting_bytes:
                raise NoRoom(
                    f"no room on the disk for the archive: it may need {needed:,} bytes, with what "
                    f"is made beside it, and {free:,} are free"
                )
            archive = await self._exporter.make(project)
        finally:
            self._exporting_bytes -= needed
        made = Export(
            project_id=project.id,
            token=secrets.token_hex(32) if earlier is None else earlier.token,
            file_name=f"{project.unique_name}.tar",
            size_bytes=archive.size_bytes,
            sha256=archive.sha256,
            began_at_ms=self._clock.now_ms(),
            is_last=is_last,
            until_ms=max(order.at_ms, self._clock.now_ms()) + self._kept_ms,
        )
        await self._files.put(made, archive.path)
        async with self._db.transaction(durable=True) as tx:
            await exports.put(tx, made)
            await events.record(
                tx,
                wallet=project.wallet,
                kind=EventKind.PROJECT_EXPORTED,
                data={
                    "project_id": project.id,
                    "path": f"/exports/{made.token}",
                    "size_bytes": made.size_bytes,
                    "until": iso_utc(made.until_ms),
                },
                now_ms=self._clock.now_ms(),
            )
        log.info("project exported", project=project.id, size_bytes=made.size_bytes)
        if earlier is not None:
            await self._files.remove(earlier)

    async def _forget(self) -> None:
        for ended in await exports.ended(self._db, now_ms=self._steady.now_ms()):
            async with self._db.transaction(durable=True) as tx:
                await exports.remove(tx, ended)
            await self._files.remove(ended)

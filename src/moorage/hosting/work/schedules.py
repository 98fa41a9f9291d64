"""Turns schedules that are due into runs: each due time once, and what was missed is told."""

import uuid
from collections.abc import Callable
from itertools import chain, islice, takewhile

import structlog

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.failpoints import failpoint
from moorage.planning.cron import due_after
from moorage.records.event import EventKind
from moorage.records.run import Run, RunKind, RunStatus, Schedule
from moorage.storage import events
from moorage.storage.apps import runs
from moorage.storage.apps.runs import Due
from moorage.storage.database import Database, Transaction

log = structlog.get_logger()

EVERY_SECONDS = 1.0
MAX_MISSED = 1_000
"""So many missed due times are counted."""

LATE_MS = 60_000
"""A due time that was passed by more is missed: it is made up for, and told."""

KEPT_RUNS = 2_000
"""Of a project: twenty schedules make 28,800 a day, and requests cost nothing."""

_AT_ONCE = 100
_KEPT_MS = 90 * 86_400_000
_HELD = "The project was suspended or paused then: it is not made up for."
_STILL = "The run before it was still under way."


class Schedules:
    """Looks every second for schedules that are due."""

    def __init__(self, *, db: Database, clock: Clock, on_queued: Callable[[], None]) -> None:
        self._db = db
        self._clock = clock
        self._on_queued = on_queued

    async def tick(self) -> None:
        """Makes a run of each schedule that is due: of all its due times that were passed."""
        for due in await runs.due(self._db, now_ms=self._clock.now_ms(), limit=_AT_ONCE):
            try:
                await self._take(due)
            except DatabaseUnavailable:
                raise
            except Exception:  # a fault in one, as of a time zone that is gone, holds up no other
                log.exception("schedule failed", project=due.schedule.project_id)

    async def purge(self) -> None:
        """Removes old runs whose logs are not kept: of 90 days ago, or more than `KEPT_RUNS`."""
        before_ms = self._clock.now_ms() - _KEPT_MS
        async with self._db.transaction(durable=False) as tx:
            await runs.purge(tx, before_ms=before_ms, keep=KEPT_RUNS)

    async def _take(self, due: Due) -> None:
        schedule, now_ms = due.schedule, self._clock.now_ms()
        if not due.may_run:
            async with self._db.transaction(durable=True) as tx:
                next_ms = schedule.next_due_at_ms
                await runs.advance(tx, schedule, next_due_at_ms=next_ms, is_held=True)
            return
        later = due_after(schedule.cron, schedule.timezone, max(now_ms, schedule.next_due_at_ms))
        async with self._db.transaction(durable=True) as tx:
            if not await runs.advance(tx, schedule, next_due_at_ms=next(later), is_held=False):
                return
            why = _HELD if schedule.is_held else ""
            if not why and await runs.is_under_way(tx, schedule):
                why = _STILL
            run = _run_of(due, now_ms, skipped=why)
            if await runs.add(tx, run) and run.missed:
                await _tell(tx, run)
            failpoint("schedule taken")
        failpoint("schedule queued")
        self._on_queued()


def _run_of(due: Due, now_ms: int, *, skipped: str) -> Run:
    """Returns the run that stands for all due times of a schedule up to now."""
    schedule = due.schedule
    return Run(
        id=str(uuid.uuid4()),
        project_id=schedule.project_id,
        wallet=due.wallet,
        kind=RunKind.COMMAND if schedule.command else RunKind.REQUEST,
        command=schedule.command,
        path=schedule.path,
        timeout_seconds=schedule.timeout_seconds,
        status=RunStatus.SKIPPED if skipped else RunStatus.QUEUED,
        created_at_ms=now_ms,
        schedule=schedule.name,
        due_at_ms=schedule.next_due_at_ms,
        missed=_passed(schedule, by_ms=now_ms if skipped else now_ms - LATE_MS),
        reason=skipped,
        ended_at_ms=now_ms if skipped else None,
    )


def _passed(schedule: Schedule, *, by_ms: int) -> int:
    """Returns how many due times have come by a time, at most MAX_MISSED."""
    first_ms = schedule.next_due_at_ms
    times = chain([first_ms], due_after(schedule.cron, schedule.timezone, first_ms))
    return sum(1 for _ in islice(takewhile(lambda at_ms: at_ms <= by_ms, times), MAX_MISSED))


async def _tell(tx: Transaction, run: Run) -> None:
    data: dict[str, str | int | float] = {
        "project_id": run.project_id,
        "schedule": run.schedule or "",
        "run_id": run.id,
        "status": run.status,
        "missed": run.missed,
        "reason": run.reason,
    }
    kind, now_ms = EventKind.RUN_MISSED, run.created_at_ms
    await events.record(tx, wallet=run.wallet, kind=kind, data=data, now_ms=now_ms)

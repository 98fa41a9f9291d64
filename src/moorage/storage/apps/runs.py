"""Queries over runs and schedules."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    delete,
    false,
    func,
    or_,
    select,
    text,
    update,
)

from moorage.planning.cron import due_after
from moorage.planning.plan import PlannedSchedule
from moorage.records.project import Project, ProjectStatus
from moorage.records.run import RUN_TRANSITIONS, Run, RunStatus, Schedule
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    Upsert,
    columns_of,
    insert_of,
    parameters,
    record_of,
)
from moorage.storage.schema import projects
from moorage.storage.work_schema import runs, schedules, work

_WORKED = ("ran_ms", "charged_micro_usd")
_OWN = [name for name in Run.__struct_fields__ if name not in _WORKED]
_columns = [
    *(runs.c[name] for name in _OWN),
    *(func.coalesce(work.c[name], 0) for name in _WORKED),
]
_found = select(*_columns).select_from(runs).outerjoin(work, work.c.id == runs.c.id)
_this = runs.c.id == bindparam("run_id")
_of_project = runs.c.project_id == bindparam("project_id")
_of_wallet = runs.c.wallet == bindparam("of_wallet")  # not those of who had the project before
_queued = runs.c.status == RunStatus.QUEUED.value
# As the indexes have it: `holds = 1`, which SQLAlchemy writes for SQLite, would find none.
_running = or_(runs.c.status == RunStatus.RUNNING.value, text("runs.holds"))
_has_log = text("runs.is_kept")


def _before(status: RunStatus) -> ColumnElement[bool]:
    """Returns the condition that a run may come into a state."""
    return runs.c.status.in_([one.value for one in RunStatus if status in RUN_TRANSITIONS[one]])


_ADD = Statement(Upsert(table=runs, values=parameters(_OWN)))
_ONE = Statement(_found.where(_this))
_newest = (runs.c.created_at_ms.desc(), runs.c.id.desc())
_PAGE = Statement(
    _found.where(_of_project, _of_wallet).order_by(*_newest).limit(bindparam("limit"))
)
_place = select(runs.c.created_at_ms).where(_this).scalar_subquery()
_PAGE_BEFORE = Statement(
    _found.where(
        _of_project,
        _of_wallet,
        or_(
            runs.c.created_at_ms < _place,
            and_(runs.c.created_at_ms == _place, runs.c.id < bindparam("run_id")),
        ),
    )
    .order_by(*_newest)
    .limit(bindparam("limit"))
)
_COUNT_QUEUED = Statement(select(func.count()).select_from(runs).where(_of_project, _queued))
_RUNNING = Statement(_found.where(_running))
_turns = (
    select(
        runs.c.id,
        func.row_number()
        .over(partition_by=(runs.c.wallet, runs.c.kind), order_by=(runs.c.created_at_ms, runs.c.id))
        .label("turn"),
    )
    .where(_queued)
    .subquery()
)
_NEXT = Statement(
    _found.join(_turns, _turns.c.id == runs.c.id)
    .where(_turns.c.turn <= bindparam("of_each"))
    .order_by(runs.c.created_at_ms, runs.c.id)
)
_BEGIN = Statement(
    update(runs)
    .where(_this, _queued)
    .values(
        status=RunStatus.RUNNING.value,
        deployment_id=bindparam("deployment"),
        holds=bindparam("is_held"),
        is_kept=bindparam("is_held"),
    )
)
_START = Statement(
    update(runs)
    .where(_this, runs.c.status == RunStatus.RUNNING.value, runs.c.started_at_ms.is_(None))
    .values(started_at_ms=bindparam("at_ms"))
)
_END = {
    status: Statement(
        update(runs)
        .where(_this, _before(status))
        .values(
            status=status.value,
            exit_code=bindparam("code"),
            reason=bindparam("why"),
            ended_at_ms=bindparam("at_ms"),
        )
    )
    for status in RunStatus
}
_CLEARED = Statement(update(runs).where(_this).values(holds=false()))
_UNDER_WAY_OF = Statement(
    select(runs.c.id).where(
        _of_project, runs.c.status.in_([RunStatus.QUEUED.value, RunStatus.RUNNING.value])
    )
)
_HOLDS = Statement(select(func.count()).where(_of_project, text("runs.holds")))
_KEPT = Statement(select(runs.c.id).where(_has_log))
_KEPT_OF = Statement(
    select(runs.c.id)
    .where(_of_project, _has_log)
    .order_by(*_newest)
    .offset(bindparam("after"))
    .limit(bindparam("limit"))
)
_FORGET = Statement(update(runs).where(_this, ~runs.c.holds).values(is_kept=false()))
_ages = select(
    runs.c.id, func.row_number().over(partition_by=runs.c.project_id, order_by=_newest).label("age")
).subquery()
_PURGE = Statement(
    delete(runs).where(
        or_(
            runs.c.ended_at_ms < bindparam("before_ms"),
            runs.c.id.in_(select(_ages.c.id).where(_ages.c.age > bindparam("keep"))),
        ),
        runs.c.ended_at_ms.is_not(None),
        ~runs.c.is_kept,
        ~runs.c.holds,
    )
)


async def add(tx: Transaction, run: Run) -> bool:
    """Adds a run; returns False if its due time has one: the clock was set back since."""
    given = msgspec.structs.asdict(run)
    return await tx.execute(_ADD, **{name: given[name] for name in _OWN}) == 1


async def by_id(source: Source, run_id: str) -> Run | None:
    """Returns a run."""
    return await source.record(Run, _ONE, run_id=run_id)


async def page(source: Source, of: Project, *, before: str | None, limit: int) -> list[Run]:
    """Returns at most `limit` runs of a project that came before one of them, the newest first.

    Those of a wallet that had the project before are left out.
    """
    statement = _PAGE if before is None else _PAGE_BEFORE
    given: dict[str, Any] = {"project_id": of.id, "of_wallet": of.wallet, "limit": limit}
    return await source.records(Run, statement, **given, run_id=before)


async def queued_of(source: Source, project_id: str) -> int:
    """Returns how many runs of a project wait."""
    return await source.number(_COUNT_QUEUED, project_id=project_id)


async def held(source: Source) -> list[Run]:
    """Returns the runs that run, and those that have ended and are not cleared away."""
    return await source.records(Run, _RUNNING)


async def next_queued(source: Source, *, of_each: int) -> list[Run]:
    """Returns the first runs of each kind that wait, so many of each wallet, oldest first."""
    return await source.records(Run, _NEXT, of_each=of_each)


async def begin(tx: Transaction, run_id: str, deployment_id: str, *, holds: bool) -> bool:
    """Lets a queued run begin with the files of a deployment; returns whether it was queued.

    `holds`: an engine will have something of it.
    """
    done = await tx.execute(_BEGIN, run_id=run_id, deployment=deployment_id, is_held=holds)
    return done == 1


async def start(tx: Transaction, run_id: str, *, at_ms: int) -> bool:
    """Notes that its command is started now; returns False if it was before, or has ended."""
    return await tx.execute(_START, run_id=run_id, at_ms=at_ms) == 1


async def end(
    tx: Transaction,
    run_id: str,
    status: RunStatus,
    *,
    reason: str = "",
    exit_code: int | None = None,
    at_ms: int,
) -> bool:
    """Ends a run; returns False if it had ended, or may not end so."""
    done = await tx.execute(_END[status], run_id=run_id, code=exit_code, why=reason, at_ms=at_ms)
    return done == 1


async def clear(tx: Transaction, run_id: str) -> None:
    """Notes that no engine has more of it than its log."""
    await tx.execute(_CLEARED, run_id=run_id)


async def holds(source: Source, project_id: str) -> bool:
    """Returns whether an engine may have more of a run of a project than its log."""
    return bool(await source.number(_HOLDS, project_id=project_id))


async def under_way_of(source: Source, project_id: str) -> list[str]:
    """Returns the ids of a project's runs that wait or run."""
    return await source.values(_UNDER_WAY_OF, project_id=project_id)


async def kept(source: Source) -> set[str]:
    """Returns the ids of all runs of which an engine has something."""
    return set(await source.values(_KEPT))


async def kept_of(source: Source, project_id: str, *, after: int = 0) -> list[str]:
    """Returns the same of a project, the newest first, without the first so many."""
    return await source.values(_KEPT_OF, project_id=project_id, after=after, limit=1_000)


async def forget(tx: Transaction, run_id: str) -> None:
    """Notes that the log of a run that was cleared away is kept no longer."""
    await tx.execute(_FORGET, run_id=run_id)


async def purge(tx: Transaction, *, before_ms: int, keep: int) -> None:
    """Removes runs that ended before a time, or before the last `keep` of their project.

    Those whose logs are kept stay.
    """
    await tx.execute(_PURGE, before_ms=before_ms, keep=keep)


class Due(NamedTuple):
    """A schedule that is due, and what decides whether it may run."""

    schedule: Schedule
    wallet: str
    may_run: bool
    """Whether its project is served, or asleep."""


_schedule = (schedules.c.project_id == bindparam("project_id")) & (
    schedules.c.name == bindparam("of_name")
)
_may_run = and_(
    projects.c.status == ProjectStatus.ACTIVE.value, projects.c.serving_deployment_id.is_not(None)
)
_DUE = Statement(
    select(*columns_of(schedules, Schedule), projects.c.wallet, _may_run)
    .join_from(schedules, projects, projects.c.id == schedules.c.project_id)
    .where(
        or_(
            and_(schedules.c.next_due_at_ms <= bindparam("now_ms"), ~schedules.c.is_held),
            and_(schedules.c.is_held, _may_run),
        )
    )
    .order_by(schedules.c.next_due_at_ms)
    .limit(bindparam("limit"))
)
_SCHEDULES_OF = Statement(
    select(*columns_of(schedules, Schedule))
    .where(schedules.c.project_id == bindparam("project_id"))
    .order_by(schedules.c.name)
)
_ADD_SCHEDULE = insert_of(schedules, Schedule)
_ADVANCE = Statement(
    update(schedules)
    .where(
        _schedule,
        schedules.c.next_due_at_ms == bindparam("seen_ms"),
        schedules.c.is_held == bindparam("was_held"),
    )
    .values(next_due_at_ms=bindparam("next_ms"), is_held=bindparam("holds"))
)
_REMOVE_SCHEDULES = Statement(
    delete(schedules).where(schedules.c.project_id == bindparam("project_id"))
)
_LAST_OF_SCHEDULE = Statement(
    _found.where(_of_project, _of_wallet, runs.c.schedule == bindparam("of_name"))
    .order_by(*_newest)
    .limit(1)
)
_UNDER_WAY_OF_SCHEDULE = Statement(
    select(func.count())
    .select_from(runs)
    .where(
        _of_project,
        runs.c.schedule == bindparam("of_name"),
        runs.c.status.in_([RunStatus.QUEUED.value, RunStatus.RUNNING.value]),
    )
)


async def due(source: Source, *, now_ms: int, limit: int) -> list[Due]:
    """Returns the schedules that are due, or whose project runs again, the earliest first."""
    rows = await source.all(_DUE, now_ms=now_ms, limit=limit)
    return [Due(record_of(Schedule, row[:-2]), row[-2], bool(row[-1])) for row in rows]


async def schedules_of(source: Source, project_id: str) -> list[Schedule]:
    """Returns a project's schedules, by name."""
    return await source.records(Schedule, _SCHEDULES_OF, project_id=project_id)


async def last_of(source: Source, of: Project, name: str) -> Run | None:
    """Returns the newest run of a project's schedule, since it is its wallet's."""
    return await source.record(
        Run, _LAST_OF_SCHEDULE, project_id=of.id, of_wallet=of.wallet, of_name=name
    )


async def is_under_way(source: Source, schedule: Schedule) -> bool:
    """Returns whether a run of a schedule waits or runs."""
    return bool(
        await source.number(
            _UNDER_WAY_OF_SCHEDULE, project_id=schedule.project_id, of_name=schedule.name
        )
    )


async def advance(tx: Transaction, seen: Schedule, *, next_due_at_ms: int, is_held: bool) -> bool:
    """Sets when a schedule is due next; returns False if it has changed since it was read."""
    done = await tx.execute(
        _ADVANCE,
        project_id=seen.project_id,
        of_name=seen.name,
        seen_ms=seen.next_due_at_ms,
        was_held=seen.is_held,
        next_ms=next_due_at_ms,
        holds=is_held,
    )
    return done == 1


async def set_schedules(
    tx: Transaction, project_id: str, planned: Iterable[PlannedSchedule], *, now_ms: int
) -> None:
    """Replaces a project's schedules; one whose times are the same keeps the next of them."""
    before = {each.name: each for each in await schedules_of(tx, project_id)}
    await tx.execute(_REMOVE_SCHEDULES, project_id=project_id)
    for each in planned:
        old = before.get(each.name)
        row = Schedule(
            project_id=project_id,
            name=each.name,
            cron=each.cron,
            timezone=each.timezone,
            command=each.command or "",
            path=each.path or "",
            timeout_seconds=each.timeout_seconds,
            next_due_at_ms=next(due_after(each.cron, each.timezone, now_ms)),
        )
        if old is not None and (old.cron, old.timezone) == (each.cron, each.timezone):
            row = msgspec.structs.replace(
                row, next_due_at_ms=old.next_due_at_ms, is_held=old.is_held
            )
        await tx.execute(_ADD_SCHEDULE, **msgspec.structs.asdict(row))

"""Queries over jobs: claiming in turn, with a lease and a fencing token.

It is the turn of the wallet of which the fewest jobs run, then of the job that waits the longest;
one that builds waits for a place as well. The last free place is for a wallet of which none runs.
So no wallet holds up another's, however much it queues and however long each takes.
"""

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    func,
    insert,
    select,
    tuple_,
    update,
)

from moorage.records.job import Job, JobKind, JobStatus, LostJob, Places
from moorage.storage.database import Database, Row, Source, Statement, Transaction
from moorage.storage.schema import jobs

_INSERT = Statement(
    insert(jobs).values(
        id=bindparam("id"),
        kind=bindparam("kind"),
        subject_id=bindparam("subject_id"),
        wallet=bindparam("wallet"),
        builds=bindparam("builds"),
        status=JobStatus.QUEUED.value,
        step="",
        attempts=0,
        fence=0,
        run_at_ms=bindparam("run_at_ms"),
        lease_until_ms=0,
    )
)
LONGEST_WAIT_MS = 10 * 60_000
"""No job is put off for longer: one that seems to be was queued before the clock was set back."""

_now: BindParameter[int] = bindparam("now_ms")
_has_come = (jobs.c.run_at_ms <= _now) | (jobs.c.run_at_ms > _now + LONGEST_WAIT_MS)
_claimable = ((jobs.c.status == JobStatus.QUEUED.value) & _has_come) | (
    (jobs.c.status == JobStatus.RUNNING.value) & (jobs.c.lease_until_ms <= _now)
)
_others = jobs.alias()
_other_runs = (_others.c.status == JobStatus.RUNNING.value) & (_others.c.lease_until_ms > _now)
_other_builds = _other_runs & _others.c.builds & (_others.c.step == "")
_of_its_wallet = _others.c.wallet == jobs.c.wallet


def _many(*which: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(_others).where(*which).scalar_subquery()


_has_place = (
    ~jobs.c.builds
    | (jobs.c.step != "")
    | and_(
        _many(_other_builds) < bindparam("builds_at_once"),
        _many(_other_builds, _of_its_wallet) < bindparam("builds_of_wallet"),
    )
)
_leaves_a_place = (_many(_other_runs, _of_its_wallet) == 0) | (
    _many(_other_runs) < bindparam("last_place")
)
_NEXT = Statement(
    select(*(jobs.c[name] for name in Job.__struct_fields__))
    .where(_claimable, _leaves_a_place, _has_place)
    .order_by(_many(_other_runs, _of_its_wallet), jobs.c.run_at_ms, jobs.c.id)
    .limit(1)
)
_QUEUE = (
    select(
        jobs.c.subject_id,
        jobs.c.run_at_ms,
        jobs.c.id,
        # As many of its wallet will have been begun when it is its turn.
        (
            _many(_other_runs, _of_its_wallet)
            + func.row_number().over(
                partition_by=jobs.c.wallet, order_by=(jobs.c.run_at_ms, jobs.c.id)
            )
        ).label("turn"),
    )
    .where(jobs.c.status == JobStatus.QUEUED.value)
    .cte()
)
_it = _QUEUE.alias()
_POSITION = Statement(
    select(func.count())
    .select_from(_QUEUE)
    .join(
        _it,
        tuple_(_QUEUE.c.turn, _QUEUE.c.run_at_ms, _QUEUE.c.id)
        <= tuple_(_it.c.turn, _it.c.run_at_ms, _it.c.id),
    )
    .where(_it.c.subject_id == bindparam("subject_id"))
)
_mine = (jobs.c.id == bindparam("job_id")) & (jobs.c.fence == bindparam("held_fence"))
_CLAIM = Statement(
    update(jobs)
    .where(_mine)
    .values(
        status=JobStatus.RUNNING.value,
        fence=jobs.c.fence + 1,
        attempts=jobs.c.attempts + 1,
        lease_until_ms=bindparam("until_ms"),
        holder=bindparam("holder"),
    )
)
_RENEW = Statement(update(jobs).where(_mine).values(lease_until_ms=bindparam("until_ms")))
_RECORD = Statement(update(jobs).where(_mine).values(step=bindparam("done_step")))
_running = _mine & (jobs.c.status == JobStatus.RUNNING.value)
_RETRY = Statement(
    update(jobs)
    .where(_running)
    .values(status=JobStatus.QUEUED.value, run_at_ms=bindparam("later_ms"))
)
_HAND_BACK = Statement(
    update(jobs).where(_running).values(status=JobStatus.QUEUED.value, attempts=jobs.c.attempts - 1)
)
_FINISH = Statement(update(jobs).where(_mine).values(status=JobStatus.DONE.value))
_REVOKE = Statement(
    update(jobs)
    .where(jobs.c.kind == bindparam("of_kind"), jobs.c.subject_id == bindparam("of_subject"))
    .values(status=JobStatus.DONE.value, fence=jobs.c.fence + 1)
)
_EXPIRE_LEASES = Statement(
    update(jobs)
    .where(
        jobs.c.status == JobStatus.RUNNING.value,
        jobs.c.holder.in_([bindparam("of_holder"), ""]),  # "": claimed before holders were noted
    )
    .values(lease_until_ms=0)
)


async def add(
    tx: Transaction,
    *,
    job_id: str,
    kind: JobKind,
    subject_id: str,
    wallet: str,
    builds: bool,
    run_at_ms: int,
) -> None:
    """Queue a job. Raises UniqueViolation when its subject has one of that kind."""
    await tx.execute(
        _INSERT,
        id=job_id,
        kind=kind,
        subject_id=subject_id,
        wallet=wallet,
        builds=builds,
        run_at_ms=run_at_ms,
    )


async def claimable(db: Database, *, now_ms: int, places: Places) -> bool:
    """Whether any job waits to be claimed, and may be."""
    return await _next(db, now_ms, places) is not None


async def position(db: Database, *, subject_id: str, now_ms: int) -> int | None:
    """How many queued jobs are begun before the subject's, plus one, as things stand.

    None when it is not queued. Places are not looked at.
    """
    row = await db.one(_POSITION, subject_id=subject_id, now_ms=now_ms)
    return int(row[0]) or None if row else None


async def claim(
    tx: Transaction, *, holder: str, now_ms: int, until_ms: int, places: Places
) -> Job | None:
    """Take, for the gateway `holder`, the job whose turn it is, or one whose lease ran out.

    None when there is none.

    One that another gateway took since it was read is that one's: the next is taken.
    """
    while (row := await _next(tx, now_ms, places)) is not None:
        waiting = Job(*row)
        claimed = await tx.execute(
            _CLAIM,
            job_id=waiting.id,
            held_fence=waiting.fence,
            until_ms=until_ms,
            holder=holder,
        )
        if claimed == 1:
            return msgspec.structs.replace(
                waiting, attempts=waiting.attempts + 1, fence=waiting.fence + 1
            )
    return None


async def renew(tx: Transaction, job: Job, *, until_ms: int) -> bool:
    """Keep the lease; False when the job was taken away."""
    return await tx.execute(_RENEW, job_id=job.id, held_fence=job.fence, until_ms=until_ms) == 1


async def record_step(tx: Transaction, job: Job, step: str) -> bool:
    """Note a completed step; False when the job was taken away."""
    return await tx.execute(_RECORD, job_id=job.id, held_fence=job.fence, done_step=step) == 1


async def hold(tx: Transaction, job: Job, step: str) -> None:
    """Note a completed step. Raises LostJob when the job was taken away."""
    if not await record_step(tx, job, step):
        raise LostJob


async def finish(tx: Transaction, job: Job) -> bool:
    """Close the job; False when it was taken away."""
    return await tx.execute(_FINISH, job_id=job.id, held_fence=job.fence) == 1


async def retry(tx: Transaction, job: Job, *, run_at_ms: int) -> bool:
    """Queue the job again for later; False when it is over or was taken away."""
    touched = await tx.execute(_RETRY, job_id=job.id, held_fence=job.fence, later_ms=run_at_ms)
    return touched == 1


async def hand_back(tx: Transaction, job: Job) -> bool:
    """Queue the job again as if it had not been begun; False when it is over or taken away."""
    return await tx.execute(_HAND_BACK, job_id=job.id, held_fence=job.fence) == 1


async def revoke(tx: Transaction, *, kind: JobKind, subject_id: str) -> None:
    """Take the subject's job away from whoever holds it, for good."""
    await tx.execute(_REVOKE, of_kind=kind, of_subject=subject_id)


async def expire_leases(tx: Transaction, holder: str) -> int:
    """Free what an earlier process of the gateway `holder` had claimed; gives how many."""
    return await tx.execute(_EXPIRE_LEASES, of_holder=holder)


async def _next(source: Source, now_ms: int, places: Places) -> Row | None:
    return await source.one(
        _NEXT,
        now_ms=now_ms,
        last_place=places.jobs - 1,
        builds_at_once=places.builds,
        builds_of_wallet=places.builds_of_wallet,
    )

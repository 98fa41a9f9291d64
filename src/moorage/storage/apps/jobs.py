"""Queries over jobs: they are claimed in turn, with a lease and a fencing token.

Next is the wallet with the fewest running jobs, and of it the job that has waited the longest; a
job that builds also needs a free place for a build. The last free place is kept for a wallet
without a running job. So no wallet delays others, however many jobs it queues.
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

from moorage.records.deployment import Job, JobKind, JobPlaces, JobStatus, LostJob
from moorage.storage.database import (
    Database,
    Row,
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
)
from moorage.storage.schema import deployments, jobs

MOVING = "moving"
"""The step of a job for which a project's volume goes from one engine to another: its app waits."""

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
MAX_WAIT_MS = 10 * 60_000
"""No job waits longer for its time: one that seems to was queued before the clock was set back."""

_now: BindParameter[int] = bindparam("now_ms")
_has_come = (jobs.c.run_at_ms <= _now) | (jobs.c.run_at_ms > _now + MAX_WAIT_MS)
_claimable = ((jobs.c.status == JobStatus.QUEUED.value) & _has_come) | (
    (jobs.c.status == JobStatus.RUNNING.value) & (jobs.c.lease_until_ms <= _now)
)
_others = jobs.alias()
_other_runs = (_others.c.status == JobStatus.RUNNING.value) & (_others.c.lease_until_ms > _now)
_other_builds = _other_runs & _others.c.builds & (_others.c.step == "")
_of_its_wallet = _others.c.wallet == jobs.c.wallet


def _count(*which: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(_others).where(*which).scalar_subquery()


_has_place = (
    ~jobs.c.builds
    | (jobs.c.step != "")
    | and_(
        _count(_other_builds) < bindparam("builds_at_once"),
        _count(_other_builds, _of_its_wallet) < bindparam("builds_of_wallet"),
    )
)
_leaves_a_place = (_count(_other_runs, _of_its_wallet) == 0) | (
    _count(_other_runs) < bindparam("last_place")
)
_NEXT = Statement(
    select(*columns_of(jobs, Job))
    .where(_claimable, _leaves_a_place, _has_place)
    .order_by(_count(_other_runs, _of_its_wallet), jobs.c.run_at_ms, jobs.c.id)
    .limit(1)
)
_QUEUE = (
    select(
        jobs.c.subject_id,
        jobs.c.run_at_ms,
        jobs.c.id,
        # How many jobs of its wallet run or come first, itself included.
        (
            _count(_other_runs, _of_its_wallet)
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
    .where(*given(_it, "subject_id"))
)
_WAITING = Statement(
    select(func.count(), func.min(jobs.c.run_at_ms)).where(
        jobs.c.status == JobStatus.QUEUED.value, _has_come
    )
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
_HELD = Statement(select(jobs.c.id).where(_mine))
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
    .where(*given(jobs, kind="of_kind", subject_id="of_subject"))
    .values(status=JobStatus.DONE.value, fence=jobs.c.fence + 1)
)
_CARRIES = Statement(
    select(jobs.c.id)
    .join(deployments, deployments.c.id == jobs.c.subject_id)
    .where(
        *given(deployments, "project_id"),
        jobs.c.step == MOVING,
        jobs.c.status != JobStatus.DONE.value,
    )
    .limit(1)
)
_EXPIRE_LEASES = Statement(
    update(jobs)
    .where(jobs.c.status == JobStatus.RUNNING.value, *given(jobs, holder="of_holder"))
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
    """Queues a job. Raises UniqueViolation when its subject already has one of that kind."""
    await tx.execute(
        _INSERT,
        id=job_id,
        kind=kind,
        subject_id=subject_id,
        wallet=wallet,
        builds=builds,
        run_at_ms=run_at_ms,
    )


async def claimable(db: Database, *, now_ms: int, places: JobPlaces) -> bool:
    """Whether a job waits that may be claimed now."""
    return await _next(db, now_ms, places) is not None


async def waiting(source: Source, *, now_ms: int) -> tuple[int, int | None]:
    """Returns how many jobs wait for a place, and since when the first of them does, if any."""
    row = await source.one(_WAITING, now_ms=now_ms)
    return (0, None) if row is None else (int(row[0]), row[1])


async def position(db: Database, *, subject_id: str, now_ms: int) -> int | None:
    """Returns the subject's position in the queue, from 1; None when it is not queued.

    It does not depend on how many places are free.
    """
    row = await db.one(_POSITION, subject_id=subject_id, now_ms=now_ms)
    return int(row[0]) or None if row else None


async def claim(
    tx: Transaction, *, holder: str, now_ms: int, until_ms: int, places: JobPlaces
) -> Job | None:
    """Claims the next job, queued or with an ended lease, for the gateway `holder`.

    If another gateway claims the job meanwhile, the next one is tried. Returns None without a job.
    """
    while (row := await _next(tx, now_ms, places)) is not None:
        waiting = Job(*row)
        claimed = await tx.execute(
            _CLAIM, job_id=waiting.id, held_fence=waiting.fence, until_ms=until_ms, holder=holder
        )
        if claimed == 1:
            return msgspec.structs.replace(
                waiting, attempts=waiting.attempts + 1, fence=waiting.fence + 1
            )
    return None


async def renew(tx: Transaction, job: Job, *, until_ms: int) -> bool:
    """Extends the lease; returns False when the job was taken away."""
    return await tx.execute(_RENEW, job_id=job.id, held_fence=job.fence, until_ms=until_ms) == 1


async def is_held(source: Source, job: Job) -> bool:
    """Whether the job was not taken away."""
    return await source.one(_HELD, job_id=job.id, held_fence=job.fence) is not None


async def is_moving(source: Source, project_id: str) -> bool:
    """Whether a project's volume is on its way, so that no app of the project may be started."""
    return await source.one(_CARRIES, project_id=project_id) is not None


async def record_step(tx: Transaction, job: Job, step: str) -> bool:
    """Records a completed step; returns False when the job was taken away."""
    return await tx.execute(_RECORD, job_id=job.id, held_fence=job.fence, done_step=step) == 1


async def hold(tx: Transaction, job: Job, step: str) -> None:
    """Records a completed step. Raises LostJob when the job was taken away."""
    if not await record_step(tx, job, step):
        raise LostJob


async def finish(tx: Transaction, job: Job) -> bool:
    """Ends the job; returns False when it was taken away."""
    return await tx.execute(_FINISH, job_id=job.id, held_fence=job.fence) == 1


async def retry(tx: Transaction, job: Job, *, run_at_ms: int) -> bool:
    """Queues the job again for later; returns False when it is over or was taken away."""
    touched = await tx.execute(_RETRY, job_id=job.id, held_fence=job.fence, later_ms=run_at_ms)
    return touched == 1


async def hand_back(tx: Transaction, job: Job) -> bool:
    """Queues the job again, without counting the attempt; returns False when it is over or lost."""
    return await tx.execute(_HAND_BACK, job_id=job.id, held_fence=job.fence) == 1


async def revoke(tx: Transaction, *, kind: JobKind, subject_id: str) -> None:
    """Ends the subject's job, and takes it away from the gateway that holds it."""
    await tx.execute(_REVOKE, of_kind=kind, of_subject=subject_id)


async def expire_leases(tx: Transaction, holder: str) -> int:
    """Ends the leases that an earlier process of the gateway `holder` left; returns how many."""
    return await tx.execute(_EXPIRE_LEASES, of_holder=holder)


async def _next(source: Source, now_ms: int, places: JobPlaces) -> Row | None:
    return await source.one(
        _NEXT,
        now_ms=now_ms,
        last_place=places.jobs - 1,
        builds_at_once=places.builds,
        builds_of_wallet=places.builds_of_wallet,
    )

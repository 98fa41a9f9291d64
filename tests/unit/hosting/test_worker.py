import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import bindparam, select, update

from moorage.hosting.work import worker as module
from moorage.hosting.work.worker import LEASE_MS, Worker
from moorage.records.deployment import Job, JobKind, JobPlaces, JobStatus, LostJob
from moorage.storage.apps import jobs
from moorage.storage.database import Statement
from moorage.storage.schema import jobs as table
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import GATEWAY, OTHER_GATEWAY
from support.gateway.clock import START_MS, MovableClock
from support.gateway.waiting import until

PLACES = JobPlaces(jobs=3, builds=2, builds_of_wallet=1)
ONE_PLACE = JobPlaces(jobs=1, builds=1, builds_of_wallet=1)
ROW = Statement(
    select(table.c.status, table.c.attempts, table.c.run_at_ms, table.c.lease_until_ms).where(
        table.c.subject_id == bindparam("subject")
    )
)
TAKE_AWAY = Statement(
    update(table).where(table.c.subject_id == bindparam("subject")).values(fence=table.c.fence + 1)
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.002)


async def add(db: FaultyDatabase, *subjects: str) -> None:
    async with db.transaction(durable=False) as tx:
        for subject in subjects:
            await jobs.add(
                tx,
                job_id=str(uuid.uuid4()),
                kind=JobKind.DEPLOY,
                subject_id=subject,
                wallet="",
                builds=False,
                run_at_ms=START_MS,
            )


async def row(db: FaultyDatabase, subject: str) -> tuple[str, int, int, int]:
    found = await db.one(ROW, subject=subject)
    assert found is not None
    return (found[0], found[1], found[2], found[3])


class Work:
    """Carries jobs out as the test says, and remembers which and how many at once."""

    def __init__(self, db: FaultyDatabase) -> None:
        self._db = db
        self.begun: list[Job] = []
        self.ended: list[str] = []
        self.active: list[str] = []
        self.most_at_once = 0
        self.faults: list[Exception] = []  # raised by the next runs, one each
        self.blocks = False
        self.released = asyncio.Event()

    async def carry_out(self, job: Job) -> None:
        assert job.subject_id not in self.active, "twice at once"
        self.begun.append(job)
        self.active.append(job.subject_id)
        self.most_at_once = max(self.most_at_once, len(self.active))
        try:
            if self.faults:
                raise self.faults.pop(0)
            if self.blocks:
                await self.released.wait()
            async with self._db.transaction(durable=False) as tx:
                await jobs.finish(tx, job)
        finally:
            self.active.remove(job.subject_id)
            self.ended.append(job.subject_id)

    @property
    def subjects(self) -> list[str]:
        return [job.subject_id for job in self.begun]


@pytest.fixture
def work(db: FaultyDatabase) -> Work:
    return Work(db)


@pytest.fixture
def worker(db: FaultyDatabase, clock: MovableClock, work: Work) -> Worker:
    return Worker(db=db, carry_out=work.carry_out, places=PLACES, holder=GATEWAY, clock=clock)


def worker_of(
    db: FaultyDatabase, clock: MovableClock, carry_out: Callable[[Job], Awaitable[None]]
) -> Worker:
    """One with a single place."""
    return Worker(db=db, carry_out=carry_out, places=ONE_PLACE, holder=GATEWAY, clock=clock)


async def claimed_by(db: FaultyDatabase, holder: str) -> None:
    async with db.transaction(durable=False) as tx:
        await jobs.claim(
            tx, holder=holder, now_ms=START_MS, until_ms=START_MS + LEASE_MS, places=PLACES
        )


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(worker.run())
    yield task
    assert not task.done(), "whatever happens, the worker goes on"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_waiting_jobs_are_carried_out_a_few_at_a_time(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, *"abcde")
    work.blocks = True
    async with running(worker):
        await until(lambda: len(work.begun) == 2)
        for _ in range(5):
            await asyncio.sleep(0.002)
        assert len(work.begun) == 2
        work.released.set()
        await until(lambda: len(work.ended) == 5)
    assert (sorted(work.subjects), work.most_at_once) == (list("abcde"), 2)


async def test_worker_that_is_woken_looks_at_once(
    db: FaultyDatabase, worker: Worker, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 3600.0)
    async with running(worker):
        await asyncio.sleep(0.01)
        await add(db, "a")
        worker.wake()
        await until(lambda: work.subjects == ["a"])


async def test_failed_jobs_give_their_places_back_and_are_tried_again_later_each_time(
    db: FaultyDatabase, worker: Worker, work: Work, clock: MovableClock
) -> None:
    await add(db, "a")
    work.faults = [OSError("one"), RuntimeError("two"), ValueError("three")]
    async with running(worker):
        for attempt, pause_ms in enumerate((1_000, 4_000, 16_000), start=1):
            await until(lambda attempt=attempt: len(work.ended) == attempt)
            await until(lambda: is_in(db, "a", JobStatus.QUEUED))
            assert await row(db, "a") == (
                JobStatus.QUEUED,
                attempt,
                clock.now_ms() + pause_ms,
                (await row(db, "a"))[3],
            )
            clock.advance(pause_ms)
        await until(lambda: is_in(db, "a", JobStatus.DONE))
    assert [job.attempts for job in work.begun] == [1, 2, 3, 4]


async def is_in(db: FaultyDatabase, subject: str, status: JobStatus) -> bool:
    return (await row(db, subject))[0] == status


async def test_more_failures_than_places_do_not_stop_the_worker(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    work.faults = [OSError(str(number)) for number in range(5)]
    await add(db, *"abcde")
    async with running(worker):
        await until(lambda: len(work.ended) == 5)
        await add(db, "f")
        await until(lambda: is_in(db, "f", JobStatus.DONE))


async def test_job_that_was_lost_is_not_tried_again(
    db: FaultyDatabase, worker: Worker, work: Work, clock: MovableClock
) -> None:
    await add(db, "a")
    work.faults = [LostJob()]
    async with running(worker):
        await until(lambda: work.ended == ["a"])
        for _ in range(5):
            await asyncio.sleep(0.002)
    assert (await row(db, "a"))[2] == START_MS


async def test_job_that_fails_after_it_was_finished_stays_finished(
    db: FaultyDatabase, clock: MovableClock
) -> None:
    begun = []

    async def finish_and_fail(job: Job) -> None:
        begun.append(job)
        async with db.transaction(durable=False) as tx:
            await jobs.finish(tx, job)
        raise OSError("while clearing up")

    await add(db, "a")
    async with running(worker_of(db, clock, finish_and_fail)):
        await until(lambda: len(begun) == 1)
        clock.advance(10 * LEASE_MS)
        for _ in range(5):
            await asyncio.sleep(0.002)
    assert len(begun) == 1


async def test_database_that_goes_away_and_comes_back_is_outlived(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    db.refuse_writes()
    async with running(worker):
        await asyncio.sleep(0.02)
        db.allow_writes()
        await add(db, *"abc")
        db.refuse_writes()
        await asyncio.sleep(0.02)  # many times as many tries as there are places
        assert work.begun == []
        db.allow_writes()
        await until(lambda: sorted(work.ended) == list("abc"))


async def test_database_that_goes_away_at_work_is_outlived(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, "first")
    async with running(worker):
        await until(lambda: work.ended == ["first"])
        await add(db, *"abc")
        db.refuse_writes()
        await asyncio.sleep(0.02)  # many times as many tries as there are places
        assert work.ended == ["first"]
        db.allow_writes()
        await until(lambda: sorted(work.ended[1:]) == list("abc"))


async def test_job_whose_retry_cannot_be_recorded_runs_again_when_it_can(
    db: FaultyDatabase, clock: MovableClock
) -> None:
    begun = []

    async def fail(job: Job) -> None:
        begun.append(job)
        if len(begun) == 1:
            db.refuse_writes()
        raise OSError("disk")

    await add(db, "a")
    async with running(worker_of(db, clock, fail)):
        await until(lambda: len(begun) == 1)
        await asyncio.sleep(0.01)
        assert await is_in(db, "a", JobStatus.RUNNING)
        db.allow_writes()
        await until(lambda: is_in(db, "a", JobStatus.QUEUED))
        clock.advance(1_000)  # the first pause, far less than the lease
        await until(lambda: len(begun) == 2)


async def test_worker_stops_without_a_database(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: work.subjects == ["a"])
        db.refuse_writes()
    assert work.ended == ["a"]
    assert (await row(db, "a"))[:2] == (JobStatus.RUNNING, 1)


async def test_what_an_earlier_process_of_this_gateway_held_is_taken_over(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, "a")
    await claimed_by(db, GATEWAY)
    async with running(worker):
        await until(lambda: work.ended == ["a"])
    assert work.begun[0].attempts == 2


async def test_what_another_gateway_holds_waits_for_its_lease_to_run_out(
    db: FaultyDatabase, worker: Worker, work: Work, clock: MovableClock
) -> None:
    await add(db, "a")
    await claimed_by(db, OTHER_GATEWAY)
    async with running(worker):
        await asyncio.sleep(0.02)
        assert work.begun == []
        clock.advance(LEASE_MS)
        await until(lambda: work.ended == ["a"])


async def test_lease_is_renewed_while_the_work_goes_on(
    db: FaultyDatabase, worker: Worker, work: Work, clock: MovableClock
) -> None:
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: work.subjects == ["a"])
        for _ in range(5):
            clock.advance(LEASE_MS // 2)
            expected = clock.now_ms() + LEASE_MS
            await until(lambda expected=expected: leased_until(db, expected))
        assert len(work.begun) == 1


async def leased_until(db: FaultyDatabase, expected: int) -> bool:
    return (await row(db, "a"))[3] == expected


async def test_renewals_outlive_a_database_that_goes_away(
    db: FaultyDatabase, worker: Worker, work: Work, clock: MovableClock
) -> None:
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: work.subjects == ["a"])
        db.refuse_writes()
        await asyncio.sleep(0.01)
        db.allow_writes()
        clock.advance(LEASE_MS // 2)
        await until(lambda: leased_until(db, clock.now_ms() + LEASE_MS))


async def test_work_ends_when_its_job_is_taken_away(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: work.subjects == ["a"])
        async with db.transaction(durable=False) as tx:
            await tx.execute(TAKE_AWAY, subject="a")
        await until(lambda: work.ended == ["a"])


async def test_step_of_the_clock_never_has_one_job_run_twice_at_once(
    db: FaultyDatabase,
    worker: Worker,
    work: Work,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 3600.0)
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: len(work.begun) == 1)
        clock.step(10 * LEASE_MS)
        await until(lambda: len(work.begun) == 2)
        work.released.set()
        await until(lambda: is_in(db, "a", JobStatus.DONE))
        await add(db, "b", "c", "d")  # every place is free again
        await until(lambda: len(work.ended) == 5)
    assert work.ended[:2] == ["a", "a"]
    assert [job.fence for job in work.begun[:2]] == [1, 2]


async def test_abandoned_work_has_ended_when_the_call_returns(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: work.subjects == ["a"])
        await worker.abandon("unknown")
        assert work.ended == []
        async with db.transaction(durable=False) as tx:
            await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id="a")
        await worker.abandon("a")
        assert work.ended == ["a"]
        work.blocks = False
        await add(db, "b", "c", "d")
        await until(lambda: len(work.ended) == 4)


async def test_dropped_work_ends_soon(db: FaultyDatabase, worker: Worker, work: Work) -> None:
    await add(db, "a")
    work.blocks = True
    async with running(worker):
        await until(lambda: work.subjects == ["a"])
        async with db.transaction(durable=False) as tx:
            await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id="a")
        worker.drop("a")
        worker.drop("unknown")
        await until(lambda: work.ended == ["a"])


async def test_worker_that_is_stopped_hands_its_jobs_back_as_not_begun(
    db: FaultyDatabase, worker: Worker, work: Work
) -> None:
    await add(db, "a", "b", "c")
    work.blocks = True
    async with running(worker):
        await until(lambda: len(work.begun) == 2)
    assert len(work.ended) == 2
    for subject in "abc":
        assert (await row(db, subject))[:2] == (JobStatus.QUEUED, 0)

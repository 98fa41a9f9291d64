import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select

from moorage.errors import UniqueViolation
from moorage.records.deployment import Job, JobKind, JobPlaces, JobStatus
from moorage.storage.apps import jobs
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import jobs as table
from support.books.overtaken import OvertakenDatabase
from support.books.records_fixture import ALICE, BOB, CAROL, GATEWAY, OTHER_GATEWAY
from support.gateway.clock import START_MS

LEASE_MS = 60_000
PLACES = JobPlaces(jobs=1000, builds=2, builds_of_wallet=1)
ROW = Statement(
    select(table.c.status, table.c.step, table.c.attempts, table.c.fence, table.c.run_at_ms).where(
        table.c.subject_id == bindparam("subject")
    )
)


async def add(
    db: Database,
    subject: str = "one",
    *,
    wallet: str = ALICE,
    builds: bool = False,
    run_at_ms: int = START_MS,
) -> None:
    async with db.transaction(durable=False) as tx:
        await jobs.add(
            tx,
            job_id=str(uuid.uuid4()),
            kind=JobKind.DEPLOY,
            subject_id=subject,
            wallet=wallet,
            builds=builds,
            run_at_ms=run_at_ms,
        )


async def claim(db: Database, now_ms: int = START_MS, *, places: JobPlaces = PLACES) -> Job | None:
    async with db.transaction(durable=False) as tx:
        return await jobs.claim(
            tx, holder=GATEWAY, now_ms=now_ms, until_ms=now_ms + LEASE_MS, places=places
        )


async def claimed(db: Database, now_ms: int = START_MS) -> Job:
    job = await claim(db, now_ms)
    assert job is not None
    return job


async def row(db: Database, subject: str = "one") -> tuple[object, ...]:
    found = await db.one(ROW, subject=subject)
    assert found is not None
    return found


async def test_claimed_job_is_nobody_elses_until_its_lease_runs_out(db: Database) -> None:
    await add(db)
    assert await jobs.claimable(db, now_ms=START_MS, places=PLACES)
    first = await claimed(db)
    assert (first.subject_id, first.kind, first.attempts, first.fence) == ("one", "deploy", 1, 1)

    for now_ms in (START_MS, START_MS + LEASE_MS - 1):
        assert not await jobs.claimable(db, now_ms=now_ms, places=PLACES)
        assert await claim(db, now_ms) is None

    second = await claimed(db, START_MS + LEASE_MS)
    assert (second.attempts, second.fence) == (2, 2)


async def test_job_for_later_waits(db: Database) -> None:
    await add(db, run_at_ms=START_MS + 10)
    assert await claim(db, START_MS + 9) is None
    assert await claim(db, START_MS + 10) is not None


@pytest.mark.parametrize("step_ms", [jobs.MAX_WAIT_MS + 1, 365 * 86_400_000])
async def test_clock_set_back_holds_no_job_up(db: Database, step_ms: int) -> None:
    await add(db)
    assert await claim(db, START_MS - jobs.MAX_WAIT_MS) is None
    assert await claim(db, START_MS - step_ms) is not None


async def test_clock_set_back_takes_no_job_from_its_holder(db: Database) -> None:
    await add(db)
    await claimed(db)
    assert await claim(db, START_MS - 365 * 86_400_000) is None


async def test_longest_waiting_job_comes_first(db: Database) -> None:
    for subject, run_at_ms in (("second", START_MS - 1), ("first", START_MS - 2)):
        await add(db, subject, run_at_ms=run_at_ms)
    assert [(await claimed(db)).subject_id for _ in range(2)] == ["first", "second"]


async def test_forty_claims_at_once_take_each_job_once(db: Database) -> None:
    subjects = [f"subject {number}" for number in range(25)]
    for subject in subjects:
        await add(db, subject)

    taken = await asyncio.gather(*(claim(db) for _ in range(40)))

    assert sorted(job.subject_id for job in taken if job) == sorted(subjects)
    assert taken.count(None) == 15


async def test_job_that_another_gateway_takes_meanwhile_is_that_ones(
    db: Database, db_path: Path
) -> None:
    await add(db)
    theirs: list[Job | None] = []

    async def overtaking() -> None:
        theirs.append(await claim(db))

    with closing(OvertakenDatabase(db_path, overtaking)) as overtaken:
        assert await claim(overtaken) is None
    assert [job.fence for job in theirs if job] == [1]
    assert (await row(db))[2:4] == (1, 1)  # one attempt, one fence


async def test_who_is_overtaken_at_a_job_takes_the_next(db: Database, db_path: Path) -> None:
    await add(db, "first", wallet=ALICE, run_at_ms=START_MS - 1)
    await add(db, "second", wallet=BOB)
    with closing(OvertakenDatabase(db_path, lambda: claim(db))) as overtaken:
        job = await claim(overtaken)
    assert job is not None
    assert (job.subject_id, job.fence) == ("second", 1)


async def test_a_subject_has_one_job_of_a_kind(db: Database) -> None:
    await add(db)
    with pytest.raises(UniqueViolation):
        await add(db)


Write = Callable[[Transaction, Job], Awaitable[bool]]
WRITES: dict[str, Write] = {
    "renew": lambda tx, job: jobs.renew(tx, job, until_ms=START_MS + 999),
    "record a step": lambda tx, job: jobs.record_step(tx, job, "built"),
    "finish": jobs.finish,
    "retry": lambda tx, job: jobs.retry(tx, job, run_at_ms=START_MS),
    "hand back": jobs.hand_back,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_whoever_holds_the_job_writes(db: Database, write: Write) -> None:
    await add(db)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        assert await write(tx, job)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_older_fence_writes_nothing(db: Database, write: Write) -> None:
    await add(db)
    old = await claimed(db)
    await claimed(db, START_MS + LEASE_MS)
    before = await row(db)

    async with db.transaction(durable=False) as tx:
        assert not await write(tx, old)

    assert await row(db) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_revoked_job_is_over_for_its_holder_and_for_all(db: Database, write: Write) -> None:
    await add(db)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id="one")
    before = await row(db)

    async with db.transaction(durable=False) as tx:
        assert not await write(tx, job)

    assert await row(db) == before
    assert not await jobs.claimable(db, now_ms=START_MS + 10 * LEASE_MS, places=PLACES)


async def test_renewed_lease_lasts_longer(db: Database) -> None:
    await add(db)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        await jobs.renew(tx, job, until_ms=START_MS + 2 * LEASE_MS)
    assert await claim(db, START_MS + LEASE_MS) is None


async def test_recorded_step_is_there_for_the_next_claim(db: Database) -> None:
    await add(db)
    job = await claimed(db)
    assert job.step == ""
    async with db.transaction(durable=False) as tx:
        await jobs.record_step(tx, job, "built")
    assert (await claimed(db, START_MS + LEASE_MS)).step == "built"


async def test_retried_job_waits_and_counts_the_attempt(db: Database) -> None:
    await add(db)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        await jobs.retry(tx, job, run_at_ms=START_MS + 5)
    assert await claim(db, START_MS + 4) is None
    assert (await claimed(db, START_MS + 5)).attempts == 2


async def test_job_handed_back_was_not_begun(db: Database) -> None:
    await add(db)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        await jobs.hand_back(tx, job)
    assert (await claimed(db)).attempts == 1


async def test_finished_job_is_neither_retried_nor_handed_back(db: Database) -> None:
    await add(db)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        assert await jobs.finish(tx, job)
        assert not await jobs.retry(tx, job, run_at_ms=START_MS)
        assert not await jobs.hand_back(tx, job)
    assert (await row(db))[0] == JobStatus.DONE
    assert not await jobs.claimable(db, now_ms=START_MS + 10 * LEASE_MS, places=PLACES)


async def test_gateway_that_starts_takes_over_its_own_jobs_alone(db: Database) -> None:
    await add(db)
    await claimed(db)
    async with db.transaction(durable=False) as tx:
        assert await jobs.expire_leases(tx, OTHER_GATEWAY) == 0
    assert await claim(db) is None
    async with db.transaction(durable=False) as tx:
        assert await jobs.expire_leases(tx, GATEWAY) == 1
    assert (await claimed(db)).fence == 2


async def test_wallet_of_which_the_fewest_run_comes_first_then_who_waits_longest(
    db: Database,
) -> None:
    for number in range(4):
        await add(db, f"alice {number}", run_at_ms=START_MS - 100 + number)
    for number in range(2):
        await add(db, f"bob {number}", wallet=BOB, run_at_ms=START_MS - 50 + number)
    await add(db, "carol", wallet=CAROL)
    begun = [(await claimed(db)).subject_id for _ in range(7)]
    assert begun == ["alice 0", "bob 0", "carol", "alice 1", "bob 1", "alice 2", "alice 3"]


async def test_job_that_ended_counts_for_its_wallet_no_more(db: Database) -> None:
    await add(db, "first", run_at_ms=START_MS - 3)
    first = await claimed(db)
    await add(db, "bob", wallet=BOB, run_at_ms=START_MS - 1)
    await add(db, "second", run_at_ms=START_MS - 2)
    async with db.transaction(durable=False) as tx:
        await jobs.finish(tx, first)
    assert (await claimed(db)).subject_id == "second"


async def test_last_place_is_for_a_wallet_of_which_none_runs(db: Database) -> None:
    places = JobPlaces(jobs=3, builds=2, builds_of_wallet=1)
    for number in range(4):
        await add(db, f"alice {number}", run_at_ms=START_MS - 10 + number)
    begun = [await claim(db, places=places) for _ in range(2)]
    assert [job.subject_id for job in begun if job] == ["alice 0", "alice 1"]
    assert await claim(db, places=places) is None
    assert not await jobs.claimable(db, now_ms=START_MS, places=places)

    await add(db, "bob", wallet=BOB)
    last = await claim(db, places=places)
    assert last is not None
    assert last.subject_id == "bob"
    async with db.transaction(durable=False) as tx:
        await jobs.finish(tx, last)
    assert await claim(db, places=places) is None  # it is free again, and not for hers


async def test_only_place_there_is_serves_everybody(db: Database) -> None:
    places = JobPlaces(jobs=1, builds=1, builds_of_wallet=1)
    await add(db)
    assert await claim(db, places=places) is not None


async def test_builds_wait_for_places_in_all_and_of_their_wallet(db: Database) -> None:
    for subject, wallet in [("a1", ALICE), ("a2", ALICE), ("b", BOB), ("c", CAROL)]:
        await add(db, subject, wallet=wallet, builds=True)
    await add(db, "starts only", wallet=ALICE, run_at_ms=START_MS)
    begun = {}
    while (job := await claim(db)) is not None:
        begun[job.subject_id] = job
    assert "starts only" in begun
    assert len(begun) == 3  # two builds, and what needs no place for one
    assert len({"a1", "a2"} & begun.keys()) <= 1

    built = next(job for name, job in begun.items() if name != "starts only")
    async with db.transaction(durable=False) as tx:
        await jobs.record_step(tx, built, "built")
    following = await claimed(db)
    assert following.subject_id not in begun
    assert await claim(db) is None


async def test_resumed_job_that_is_built_needs_no_place(db: Database) -> None:
    await add(db, "a", builds=True)
    job = await claimed(db)
    async with db.transaction(durable=False) as tx:
        await jobs.record_step(tx, job, "built")
        await jobs.retry(tx, job, run_at_ms=START_MS)
    await add(db, "b", builds=True)
    assert {(await claimed(db)).subject_id for _ in range(2)} == {"a", "b"}


async def test_position_is_the_order_in_which_jobs_are_begun(db: Database) -> None:
    await add(db, "runs", run_at_ms=START_MS - 200)
    await claimed(db)
    for number in range(3):
        await add(db, f"alice {number}", run_at_ms=START_MS - 100 + number)
        await add(db, f"bob {number}", wallet=BOB, run_at_ms=START_MS - 50 + number)
    names = [f"{who} {number}" for who in ("alice", "bob") for number in range(3)]
    told = {name: await jobs.position(db, subject_id=name, now_ms=START_MS) for name in names}
    begun = [(await claimed(db)).subject_id for _ in range(6)]
    assert [told[name] for name in begun] == [1, 2, 3, 4, 5, 6]


async def test_what_is_not_queued_has_no_position(db: Database) -> None:
    await add(db)
    await claimed(db)
    for subject in ("one", "nobodys"):
        assert await jobs.position(db, subject_id=subject, now_ms=START_MS) is None

"""Transactions that wait while another is committed are committed together, each as if alone."""

import asyncio
import resource
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select

from moorage.errors import CommitUnknown, DatabaseUnavailable, UniqueViolation
from moorage.storage.database import Statement, Transaction
from moorage.storage.schema import wallets
from support.books.faulty_database import FaultyDatabase

ADD = Statement(
    insert(wallets).values(address=bindparam("wallet"), balance_micro_usd=0, created_at_ms=0)
)
ALL = Statement(select(wallets.c.address).order_by(wallets.c.address))

Body = Callable[[Transaction], Awaitable[None]]


@pytest.fixture
async def db(db_path: Path) -> AsyncIterator[FaultyDatabase]:
    database = FaultyDatabase(db_path)
    yield database
    database.close()


async def nothing(_: Transaction) -> None:
    """What most transactions do beyond adding their row."""


async def add(
    db: FaultyDatabase, wallet: str, *, durable: bool = True, then: Body = nothing
) -> None:
    async with db.transaction(durable=durable) as tx:
        await tx.execute(ADD, wallet=wallet)
        await then(tx)


@asynccontextmanager
async def one_being_committed(db: FaultyDatabase) -> AsyncIterator[None]:
    """What begins within waits for the commit of another transaction, which ends afterwards."""
    gate = threading.Event()
    db.delay_commits(gate.wait)
    first = asyncio.create_task(add(db, "first"))
    while not db.is_writing:
        await asyncio.sleep(0)
    try:
        yield
        for _ in range(3):  # so that each waits for its turn
            await asyncio.sleep(0)
    finally:
        gate.set()
    await first


async def all_wallets(db: FaultyDatabase) -> list[str]:
    return [wallet for (wallet,) in await db.all(ALL)]


async def test_what_waited_meanwhile_is_committed_once(db: FaultyDatabase) -> None:
    with db.statements() as run:
        async with one_being_committed(db):
            waiting = [asyncio.create_task(add(db, f"{number}")) for number in range(5)]
        await asyncio.gather(*waiting)

    assert run.count("COMMIT") == 2
    assert await all_wallets(db) == ["0", "1", "2", "3", "4", "first"]


async def test_error_takes_back_its_own_transaction_alone(db: FaultyDatabase) -> None:
    async def fail(_: Transaction) -> None:
        raise RuntimeError("mine")

    async with one_being_committed(db):
        waiting = [
            asyncio.create_task(add(db, "0", then=fail)),
            asyncio.create_task(add(db, "1")),
            asyncio.create_task(add(db, "2", then=fail)),
            asyncio.create_task(add(db, "3")),
        ]
    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(end) for end in ends] == ["mine", "None", "mine", "None"]
    assert await all_wallets(db) == ["1", "3", "first"]


async def test_commit_that_fails_is_told_to_each_by_an_error_of_its_own(
    db: FaultyDatabase, db_path: Path
) -> None:
    log = db_path.with_name(f"{db_path.name}-wal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def end_the_file(_: Transaction) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 100, before[1]))

    try:
        async with one_being_committed(db):
            waiting = [
                asyncio.create_task(add(db, "0")),
                asyncio.create_task(add(db, "1", then=end_the_file)),
            ]
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert [type(end) for end in ends] == [CommitUnknown, CommitUnknown]
    assert ends[0] is not ends[1]
    await add(db, "next")
    assert await all_wallets(db) == ["first", "next"]


async def test_kill_between_its_parts_leaves_none_of_a_shared_commit(
    db: FaultyDatabase, db_path: Path, tmp_path: Path
) -> None:
    left = tmp_path / "left"

    async def be_killed(_: Transaction) -> None:
        left.mkdir()
        for suffix in ("", "-wal"):  # the rest of what a process has is gone with it
            shutil.copy(f"{db_path}{suffix}", left / f"{db_path.name}{suffix}")

    async with one_being_committed(db):
        waiting = [
            asyncio.create_task(add(db, "0")),
            asyncio.create_task(add(db, "1", then=be_killed)),
            asyncio.create_task(add(db, "2")),
        ]
    await asyncio.gather(*waiting)

    after = FaultyDatabase(left / db_path.name)
    assert await all_wallets(after) == ["first"]
    after.close()
    assert await all_wallets(db) == ["0", "1", "2", "first"]


async def test_error_is_raised_once_what_led_to_it_is_committed(db: FaultyDatabase) -> None:
    async with one_being_committed(db):
        adding = asyncio.create_task(add(db, "0"))
        again = asyncio.create_task(add(db, "0"))
    with pytest.raises(UniqueViolation):
        await again

    assert "0" in await all_wallets(db)
    await adding


async def test_what_sqlite_rolls_back_by_itself_is_lost_for_each(db: FaultyDatabase) -> None:
    async def end_and_fail(_: Transaction) -> None:
        db.sql("ROLLBACK")  # as SQLite does at some errors of input and output
        raise RuntimeError

    async with one_being_committed(db):
        waiting = [
            asyncio.create_task(add(db, "0")),
            asyncio.create_task(add(db, "1", then=end_and_fail)),
            asyncio.create_task(add(db, "2")),
        ]
    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(end) for end in ends] == [DatabaseUnavailable, DatabaseUnavailable, type(None)]
    assert await all_wallets(db) == ["2", "first"]


async def test_part_that_cannot_be_taken_back_is_committed_with_nobody(db: FaultyDatabase) -> None:
    async def fail(_: Transaction) -> None:
        db.keep_parts()
        raise RuntimeError

    async with one_being_committed(db):
        waiting = [
            asyncio.create_task(add(db, "0")),
            asyncio.create_task(add(db, "1", then=fail)),
            asyncio.create_task(add(db, "2")),
        ]
    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(end) for end in ends] == [DatabaseUnavailable, DatabaseUnavailable, type(None)]
    assert await all_wallets(db) == ["2", "first"]


async def test_first_one_that_is_cancelled_is_committed_with_the_others(
    db: FaultyDatabase,
) -> None:
    has_run = asyncio.Event()
    others_may_end = asyncio.Event()

    async def say(_: Transaction) -> None:
        has_run.set()

    async def linger(_: Transaction) -> None:
        await others_may_end.wait()

    async with one_being_committed(db):
        first = asyncio.create_task(add(db, "0", then=say))
        second = asyncio.create_task(add(db, "1", then=linger))
    await has_run.wait()
    first.cancel()
    others_may_end.set()
    await asyncio.gather(first, second, return_exceptions=True)

    assert first.cancelled()
    assert not db.is_writing
    assert await all_wallets(db) == ["0", "1", "first"]


@pytest.mark.parametrize("at", ["its turn", "the disk"])
async def test_event_loop_that_ends_waits_for_no_commit_for_ever(
    db: FaultyDatabase, at: str
) -> None:
    gate, has_run, lingers = threading.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_: Transaction) -> None:
        db.delay_commits(gate.wait)
        has_run.set()
        if at == "its turn":
            await lingers.wait()

    async with one_being_committed(db):
        begun = asyncio.all_tasks()
        waiting = [asyncio.create_task(add(db, "0")), asyncio.create_task(add(db, "1", then=slow))]
    await has_run.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - begun:
        task.cancel()  # as asyncio.run does, of the committing one as well
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    _, still = await asyncio.wait(waiting, timeout=30)

    assert not still
    assert not db.is_writing
    await add(db, "next")


async def test_durable_one_shares_no_commit_that_does_not_reach_the_disk(
    db: FaultyDatabase,
) -> None:
    with db.statements() as run:
        async with one_being_committed(db):
            waiting = [
                asyncio.create_task(add(db, "relaxed", durable=False)),
                asyncio.create_task(add(db, "durable", durable=True)),
                asyncio.create_task(add(db, "joining", durable=False)),
            ]
        await asyncio.gather(*waiting)

    turns = [each for each in run if each.startswith(("PRAGMA synchronous", "COMMIT"))]
    assert turns == [
        "PRAGMA synchronous = FULL",
        "COMMIT",
        "PRAGMA synchronous = NORMAL",
        "COMMIT",
        "PRAGMA synchronous = FULL",
        "COMMIT",
    ]
    assert await all_wallets(db) == ["durable", "first", "joining", "relaxed"]

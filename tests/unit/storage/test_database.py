import asyncio
import resource
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, literal, select, update

from moorage.errors import CommitUnknown, DatabaseUnavailable
from moorage.storage import sqlite as module
from moorage.storage.database import Statement, Transaction
from moorage.storage.schema import postings, wallets
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, BOB

ADD = Statement(
    insert(wallets).values(
        address=bindparam("wallet"), balance_micro_usd=bindparam("amount"), created_at_ms=0
    )
)
BALANCE = Statement(
    select(wallets.c.balance_micro_usd).where(wallets.c.address == bindparam("wallet"))
)
SET = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("of_wallet"))
    .values(balance_micro_usd=bindparam("amount"))
)
ADD_POSTING = Statement(
    insert(postings).values(id=bindparam("id"), kind=bindparam("kind"), created_at_ms=0)
)
_counting = select(literal(1).label("n")).cte("counting", recursive=True)
_counting = _counting.union_all(select(_counting.c.n + 1).where(_counting.c.n < 100_000))
MANY_ROWS = Statement(select(_counting.c.n))
COUNT = Statement(select(func.count()).select_from(wallets))


@pytest.fixture
def db(db_path: Path) -> Iterator[FaultyDatabase]:
    """The product's own, which does not give way between statements as the tests' does."""
    database = FaultyDatabase(db_path)
    yield database
    database.close()


@pytest.fixture
def other(db_path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection to the same file."""
    connection = sqlite3.connect(db_path, isolation_level=None, timeout=0)
    yield connection
    connection.close()


async def add(
    db: FaultyDatabase, wallet: str, amount: int | None = 1, *, durable: bool = True
) -> None:
    async with db.transaction(durable=durable) as tx:
        await tx.execute(ADD, wallet=wallet, amount=amount)


async def write(
    db: FaultyDatabase, body: Callable[[Transaction], Awaitable[None]], *, durable: bool = True
) -> None:
    """A transaction that adds a wallet, then does `body`."""
    async with db.transaction(durable=durable) as tx:
        await tx.execute(ADD, wallet=ALICE, amount=5)
        await body(tx)


async def usable(db: FaultyDatabase) -> bool:
    """Whether a transaction can be written and read back."""
    await add(db, BOB, 77)
    return await db.one(BALANCE, wallet=BOB) == (77,)


class Held:
    """Keeps the database's thread busy, so that a durable commit waits."""

    def __init__(self, db: FaultyDatabase) -> None:
        self._gate = threading.Event()
        db.delay_commits(self._gate.wait)

    def release(self) -> None:
        self._gate.set()


async def test_cancellation_in_the_block_rolls_back(db: FaultyDatabase) -> None:
    entered = asyncio.Event()

    async def linger(_: Transaction) -> None:
        entered.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(write(db, linger))
    await entered.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    assert writing.cancelled()
    assert await db.one(BALANCE, wallet=ALICE) is None
    assert await usable(db)


async def test_commit_once_begun_survives_cancellations(db: FaultyDatabase) -> None:
    held = Held(db)
    writing = asyncio.create_task(add(db, ALICE, 5))
    while not db.is_writing:
        await asyncio.sleep(0)
    for _ in range(3):
        writing.cancel()
        await asyncio.sleep(0)
    assert not writing.done()
    held.release()
    await asyncio.gather(writing, return_exceptions=True)

    assert writing.cancelled()
    assert await db.one(BALANCE, wallet=ALICE) == (5,)
    assert await usable(db)


async def write_and_break_at_commit(db: FaultyDatabase) -> None:
    """A deferred foreign key that nothing satisfies: COMMIT fails and leaves the transaction."""

    async def break_it(_: Transaction) -> None:
        db.sql("PRAGMA defer_foreign_keys = ON")
        db.sql("INSERT INTO entries VALUES (1, 'no posting', 'earned', 0)")

    await write(db, break_it)


async def test_commit_that_fails_leaves_nothing_and_the_connection_usable(
    db: FaultyDatabase,
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await write_and_break_at_commit(db)

    assert await db.one(BALANCE, wallet=ALICE) is None
    assert await usable(db)


async def test_commit_that_fails_while_its_caller_is_cancelled_leaves_the_connection_usable(
    db: FaultyDatabase,
) -> None:
    held = Held(db)
    writing = asyncio.create_task(write_and_break_at_commit(db))
    while not db.is_writing:
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.sleep(0)
    held.release()
    await asyncio.gather(writing, return_exceptions=True)

    assert writing.cancelled()
    assert await db.one(BALANCE, wallet=ALICE) is None
    assert await usable(db)


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_durable_transactions_sync_fully(
    db: FaultyDatabase, durable: bool, synchronous: int
) -> None:
    for again in (durable, not durable, durable):
        async with db.transaction(durable=again):
            (mode,) = db.sql("PRAGMA synchronous").fetchone()
    assert mode == synchronous


async def test_forty_transactions_at_once_happen_one_after_the_other(db: FaultyDatabase) -> None:
    await add(db, ALICE, 0)

    async def increment() -> None:
        async with db.transaction(durable=True) as tx:
            row = await tx.one(BALANCE, wallet=ALICE)
            assert row is not None
            await asyncio.sleep(0)
            await tx.execute(SET, of_wallet=ALICE, amount=row[0] + 1)

    await asyncio.gather(*(increment() for _ in range(40)))

    assert await db.one(BALANCE, wallet=ALICE) == (40,)


async def test_writer_of_another_process_is_waited_for(
    db: FaultyDatabase, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(add(db, ALICE, 5))
    for _ in range(3):
        await asyncio.sleep(0.01)
    assert not writing.done()
    assert await db.one(BALANCE, wallet=ALICE) is None  # reads never wait

    other.execute("COMMIT")
    await writing

    assert await db.one(BALANCE, wallet=ALICE) == (5,)


async def test_writer_of_another_process_is_not_waited_for_for_ever(
    db: FaultyDatabase, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_WAIT_SECONDS", 0.03)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="do not pay"):
        await add(db, ALICE, 5)

    other.execute("COMMIT")

    assert await usable(db)


@pytest.mark.parametrize("durable", [True, False])
async def test_full_disk_is_unavailable_and_passes(db: FaultyDatabase, durable: bool) -> None:
    (pages,) = db.sql("PRAGMA page_count").fetchone()
    db.sql(f"PRAGMA max_page_count = {pages}")

    async def fill(tx: Transaction) -> None:
        for number in range(1_000):
            await tx.execute(ADD_POSTING, id=f"{number}", kind="x" * 4_000)

    with pytest.raises(DatabaseUnavailable):
        await write(db, fill, durable=durable)

    db.sql("PRAGMA max_page_count = 1000000")
    assert await db.one(BALANCE, wallet=ALICE) is None
    assert await usable(db)


async def test_error_that_ended_the_transaction_by_itself_is_the_one_reported(
    db: FaultyDatabase,
) -> None:
    async def end_and_fail(_: Transaction) -> None:
        db.sql("ROLLBACK")  # as SQLite does at some errors of input and output
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        await write(db, end_and_fail)
    assert await usable(db)


async def test_read_only_file_is_unavailable_and_passes(db: FaultyDatabase) -> None:
    db.refuse_writes()
    with pytest.raises(DatabaseUnavailable):
        await add(db, ALICE, 5)

    db.allow_writes()

    assert await usable(db)


async def test_damaged_file_is_unavailable(
    db: FaultyDatabase, db_path: Path, other: sqlite3.Connection
) -> None:
    await add(db, ALICE, 5)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = db_path.stat().st_size
    with db_path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    with pytest.raises(DatabaseUnavailable):
        await db.one(COUNT)
    with pytest.raises(DatabaseUnavailable):
        await add(db, BOB)


async def test_check_says_when_reads_fail(db: FaultyDatabase) -> None:
    await db.check()
    db.refuse_reads()

    with pytest.raises(DatabaseUnavailable):
        await db.check()


async def test_error_in_the_middle_of_the_rows_is_unavailable(db: FaultyDatabase) -> None:
    db.refuse_reads(after_steps=20_000)

    with pytest.raises(DatabaseUnavailable):
        await db.all(MANY_ROWS)

    db.allow_reads()
    assert len(await db.all(MANY_ROWS)) == 100_000


async def test_broken_rule_of_the_schema_is_our_own_fault(db: FaultyDatabase) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"NOT NULL.*balance_micro_usd"):
        await add(db, ALICE, None)
    assert await usable(db)


async def test_reader_cannot_write(db: FaultyDatabase) -> None:
    with pytest.raises(DatabaseUnavailable):
        await db.one(ADD, wallet=ALICE, amount=1)


async def test_checkpoints_go_on_after_one_failed(
    db: FaultyDatabase, db_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHECKPOINT_SECONDS", 0.001)
    refused = asyncio.Event()
    loop = asyncio.get_running_loop()

    allowed = False

    # Set before the connection's thread uses it and left there: to change it meanwhile would have
    # each of two threads wait for the lock that the other holds.
    def judge(*_: object) -> int:
        if allowed:
            return sqlite3.SQLITE_OK
        loop.call_soon_threadsafe(refused.set)
        return sqlite3.SQLITE_DENY

    db.judge_checkpoints(judge)
    checkpointing = asyncio.create_task(db.run())
    await add(db, ALICE)
    before = db_path.read_bytes()
    await refused.wait()
    allowed = True
    async with asyncio.timeout(60):
        while db_path.read_bytes() == before:
            await asyncio.sleep(0.001)

    assert not checkpointing.done()
    checkpointing.cancel()
    await asyncio.gather(checkpointing, return_exceptions=True)


async def test_what_was_committed_is_there_after_reopening(db_path: Path) -> None:
    first = FaultyDatabase(db_path)
    await add(first, ALICE, 5)
    first.close()

    second = FaultyDatabase(db_path)
    assert await second.one(BALANCE, wallet=ALICE) == (5,)
    second.close()


async def test_commit_that_cannot_be_written_is_unknown_and_passes(
    db: FaultyDatabase, db_path: Path
) -> None:
    """The log may grow no further: what is written of the transaction is left as it is."""
    log = db_path.with_name(f"{db_path.name}-wal")
    await add(db, BOB)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def end_the_file(_: Transaction) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 100, before[1]))

    try:
        with pytest.raises(CommitUnknown, match="not known"):
            await write(db, end_the_file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await add(db, ALICE, 5)
    assert await db.one(BALANCE, wallet=ALICE) == (5,)


async def test_lost_answer_to_a_commit_is_unknown_and_no_failure(db: FaultyDatabase) -> None:
    db.forgets_answers = True
    with pytest.raises(CommitUnknown):
        await add(db, ALICE, 5)
    assert await db.one(BALANCE, wallet=ALICE) == (5,)


async def test_snapshots_one_after_the_other_use_one_connection(
    db: FaultyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    connect = sqlite3.connect

    def counted(path: Path, **options: Any) -> sqlite3.Connection:
        opened.append(path)
        connection: sqlite3.Connection = connect(path, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", counted)
    for _ in range(3):
        async with db.snapshot() as snapshot:
            await snapshot.one(COUNT)
    assert len(opened) == 1

"""What every database does, SQLite's file and PostgreSQL's server alike, by a pooler too."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from moorage.errors import UniqueViolation
from moorage.storage.database import Database, Statement, Value
from moorage.storage.opening import open_database
from moorage.storage.schema import deployments, projects, wallets
from moorage.storage.several.cluster import identity
from moorage.storage.several.shared_tables import SharedTables
from support.books.postgres_fixture import PostgresServer
from support.books.records_fixture import ALICE, BOB, CAROL, add_deployment, add_project
from support.books.statements import statements


async def identity_of(url: str) -> str:
    db = open_database(url)
    try:
        return await identity(db)
    finally:
        db.close()
        await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
        gc.collect()


async def test_identity_is_one_for_all_of_a_database_and_another_for_its_copy(
    postgres_server: PostgresServer,
) -> None:
    books = postgres_server.create(is_open=True)
    copied = postgres_server.create(template=books, is_open=True)
    connection = await asyncpg.connect(postgres_server.url(books))
    await connection.execute("CREATE ROLE plain LOGIN")
    await connection.close()
    url = postgres_server.url(books)
    found = await identity_of(url)
    assert await identity_of(url.replace("moorage@", "plain@")) == found
    assert await identity_of(postgres_server.url(copied)) != found
    assert all(part.isdigit() for part in found.split("/"))


pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

ADD = Statement(
    insert(wallets).values(
        address=bindparam("wallet"), balance_micro_usd=bindparam("amount"), created_at_ms=0
    )
)
BALANCE = Statement(
    select(wallets.c.balance_micro_usd).where(wallets.c.address == bindparam("of_wallet"))
)
BALANCES = Statement(
    select(wallets.c.address, wallets.c.balance_micro_usd).order_by(wallets.c.address)
)
TAKE = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("of_wallet"))
    .where(wallets.c.balance_micro_usd >= bindparam("amount"))
    .values(balance_micro_usd=wallets.c.balance_micro_usd - bindparam("amount"))
)
SET = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("of_wallet"))
    .values(balance_micro_usd=bindparam("amount"))
)
WITH_VOLUME = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(volume=bindparam("new_volume"))
)
HAS_VOLUME = Statement(select(projects.c.volume).where(projects.c.id == bindparam("project_id")))
LOG_TAIL = Statement(select(deployments.c.log_tail))

Open = Callable[[], Database]


@pytest.fixture(params=["sqlite", "postgresql", "pooled"])
def place(request: pytest.FixtureRequest) -> Iterator[Path | str]:
    """Where a new database is."""
    if request.param == "sqlite":
        yield request.getfixturevalue("db_path")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create()
    pooled = request.param == "pooled"
    yield server.url(name, directory=request.getfixturevalue("postgres_pooler") if pooled else None)
    server.drop(name)


@pytest.fixture
async def opening(place: Path | str) -> AsyncIterator[Open]:
    """Opens one more gateway's view of the same new database."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(open_database(place))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn


@pytest.fixture
def db(opening: Open) -> Database:
    return opening()


async def add(db: Database, wallet: str, amount: int) -> None:
    async with db.transaction(durable=True) as tx:
        await tx.execute(ADD, wallet=wallet, amount=amount)


@pytest.mark.parametrize("durable", [True, False])
async def test_what_is_written_is_read_once_the_block_ends(db: Database, durable: bool) -> None:
    async with db.transaction(durable=durable) as tx:
        assert await tx.execute(ADD, wallet=ALICE, amount=5) == 1
        assert await tx.one(BALANCE, of_wallet=ALICE) == (5,)
        assert await db.one(BALANCE, of_wallet=ALICE) is None
    assert await db.one(BALANCE, of_wallet=ALICE) == (5,)


async def test_error_in_the_block_undoes_it_and_goes_through(db: Database) -> None:
    async def fail() -> None:
        async with db.transaction(durable=True) as tx:
            await tx.execute(ADD, wallet=ALICE, amount=5)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await fail()
    assert await db.all(BALANCES) == []
    await add(db, ALICE, 6)


async def test_row_with_the_key_of_another_undoes_the_transaction(db: Database) -> None:
    await add(db, ALICE, 5)

    async def add_again() -> None:
        async with db.transaction(durable=True) as tx:
            await tx.execute(ADD, wallet=BOB, amount=1)
            await tx.execute(ADD, wallet=ALICE, amount=6)

    with pytest.raises(UniqueViolation):
        await add_again()
    assert await db.all(BALANCES) == [(ALICE, 5)]


@pytest.mark.parametrize("amount", [2_147_483_648, 2**53])
async def test_amounts_above_two_thousand_dollars_are_exact(db: Database, amount: int) -> None:
    await add(db, ALICE, amount)
    async with db.transaction(durable=True) as tx:
        assert await tx.execute(TAKE, of_wallet=ALICE, amount=amount - 1) == 1
        assert await tx.execute(TAKE, of_wallet=ALICE, amount=2) == 0
    assert await db.one(BALANCE, of_wallet=ALICE) == (1,)


async def test_many_rows_are_written_at_once(db: Database) -> None:
    rows: list[dict[str, Value]] = [
        {"wallet": wallet, "amount": at} for at, wallet in enumerate((ALICE, BOB, CAROL))
    ]
    async with db.transaction(durable=False) as tx:
        await tx.execute_many(ADD, rows)
    assert await db.all(BALANCES) == [(ALICE, 0), (BOB, 1), (CAROL, 2)]


async def test_truth_is_read_as_it_was_written(db: Database) -> None:
    project = await add_project(db)
    for truth in (1, 0):
        async with db.transaction(durable=True) as tx:
            assert await tx.execute(WITH_VOLUME, project_id=project.id, new_volume=truth) == 1
        assert await db.one(HAS_VOLUME, project_id=project.id) == (truth,)


async def test_text_that_an_app_wrote_with_a_nul_is_stored(db: Database) -> None:
    project = await add_project(db)
    await add_deployment(db, project, log_tail="before\0after")
    assert await db.one(LOG_TAIL) in [("before\0after",), ("before\ufffdafter",)]


async def test_snapshot_shows_the_state_of_its_first_read(db: Database, opening: Open) -> None:
    await add(db, ALICE, 5)
    async with db.snapshot() as snapshot:
        assert await snapshot.all(BALANCES) == [(ALICE, 5)]
        await add(opening(), BOB, 6)
        assert await snapshot.all(BALANCES) == [(ALICE, 5)]
    assert len(await db.all(BALANCES)) == 2


async def test_each_snapshot_shows_what_was_written_before_it(db: Database) -> None:
    async with db.snapshot() as first:
        assert await first.all(BALANCES) == []
        await add(db, ALICE, 5)
        async with db.snapshot() as second:
            assert await second.all(BALANCES) == [(ALICE, 5)]
        assert await first.all(BALANCES) == []
    async with db.snapshot() as third:
        assert await third.all(BALANCES) == [(ALICE, 5)]


async def test_ten_of_forty_debits_at_once_find_credits(db: Database, opening: Open) -> None:
    """By two gateways."""
    await add(db, ALICE, 10)
    gateways = (db, opening())

    async def take(number: int) -> int:
        async with gateways[number % 2].transaction(durable=False) as tx:
            return await tx.execute(TAKE, of_wallet=ALICE, amount=1)

    taken = await asyncio.gather(*(take(number) for number in range(40)))
    assert sum(taken) == 10
    assert await db.one(BALANCE, of_wallet=ALICE) == (0,)


async def test_what_a_transaction_has_read_is_true_until_its_end(
    db: Database, opening: Open
) -> None:
    """Two gateways that each read, then write, one after the other."""
    await add(db, ALICE, 0)
    gateways = (db, opening())

    async def count(number: int) -> None:
        async with gateways[number % 2].transaction(durable=False) as tx:
            row = await tx.one(BALANCE, of_wallet=ALICE)
            assert row
            await asyncio.sleep(0)
            await tx.execute(SET, of_wallet=ALICE, amount=row[0] + 1)

    await asyncio.gather(*(count(number) for number in range(20)))
    assert await db.one(BALANCE, of_wallet=ALICE) == (20,)


async def test_cancelled_block_leaves_nothing_and_the_database_usable(db: Database) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with db.transaction(durable=True) as tx:
            await tx.execute(ADD, wallet=ALICE, amount=5)
            begun.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await add(db, BOB, 1)
    assert await db.all(BALANCES) == [(BOB, 1)]


async def test_reads_at_once_each_get_the_answer_to_their_own_question(db: Database) -> None:
    wallets_of = {wallet: at for at, wallet in enumerate((ALICE, BOB, CAROL))}
    for wallet, amount in wallets_of.items():
        await add(db, wallet, amount)

    async def read(number: int) -> bool:
        wallet = (ALICE, BOB, CAROL)[number % 3]
        if number % 2:
            return await db.one(BALANCE, of_wallet=wallet) == (wallets_of[wallet],)
        return await db.all(BALANCES) == sorted(wallets_of.items())

    assert all(await asyncio.gather(*(read(number) for number in range(300))))


# PostgreSQL alone


@pytest.fixture
def named(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = open_database(url)
    try:
        yield database
    finally:
        database.close()
        await asyncio.sleep(0)


async def test_server_takes_every_statement(postgres_server: PostgresServer, named: str) -> None:
    async with opened(postgres_server.url(named)) as database:
        await SharedTables(database).open(lost_ms=0)
    ours = statements()
    assert len(ours) > 150
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    connection = await asyncpg.connect(postgres_server.url(named))
    try:
        for statement in ours:
            await connection.prepare(statement.compiled(dialect).sql)
    finally:
        await connection.close()


async def test_what_a_transaction_has_read_is_true_whatever_the_server_isolates_by_default(
    postgres_server: PostgresServer, named: str
) -> None:
    connection = await asyncpg.connect(postgres_server.url(named))
    for default in ("isolation = 'repeatable read'", "read_only = on"):
        await connection.execute(f"ALTER DATABASE {named} SET default_transaction_{default}")
    await connection.close()
    async with opened(postgres_server.url(named)) as db:
        await add(db, ALICE, 0)

        async def count() -> None:
            async with db.transaction(durable=False) as tx:
                row = await tx.one(BALANCE, of_wallet=ALICE)
                assert row
                await tx.execute(SET, of_wallet=ALICE, amount=row[0] + 1)

        await asyncio.gather(*(count() for _ in range(20)))
        assert await db.one(BALANCE, of_wallet=ALICE) == (20,)

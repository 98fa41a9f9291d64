"""What becomes of transactions when a PostgreSQL server, or the way to it, fails."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import bindparam, insert, select, update

from moorage.errors import CommitUnknown, DatabaseUnavailable
from moorage.storage.database import Database, Statement
from moorage.storage.opening import open_database
from moorage.storage.postgres import LOCK, PostgresDatabase
from moorage.storage.schema import wallets
from support.books.postgres_fixture import PostgresServer
from support.books.postgres_relay import SOCKET, relaying
from support.books.records_fixture import ALICE, BOB, CAROL
from support.gateway.waiting import until

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
    .where(wallets.c.balance_micro_usd >= 1)
    .values(balance_micro_usd=wallets.c.balance_micro_usd - 1)
)
FAILING = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '{code}'; END $$;
CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON wallets {when}
    FOR EACH ROW EXECUTE FUNCTION fail();
"""

STOPS = b"SFATAL\0VFATAL\0C57P01\0Mit stops\0\0"
SHUTDOWN = b"E" + struct.pack("!I", 4 + len(STOPS)) + STOPS
"""What a server says that stops, be it after it has committed."""


@pytest.fixture
def named(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@pytest.fixture
async def outsider(
    postgres_server: PostgresServer, named: str
) -> AsyncIterator["asyncpg.Connection"]:
    """Another program's connection to the database."""
    connection = await asyncpg.connect(postgres_server.url(named))
    yield connection
    await connection.close()


@asynccontextmanager
async def opened(db: str | Database) -> AsyncIterator[Database]:
    database = open_database(db) if isinstance(db, str) else db
    try:
        yield database
    finally:
        database.close()
        await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn


async def add(db: Database, wallet: str, amount: int) -> None:
    async with db.transaction(durable=True) as tx:
        await tx.execute(ADD, wallet=wallet, amount=amount)


async def take(db: Database) -> str:
    """Takes one from Alice; returns what the gateway then knows."""
    try:
        async with db.transaction(durable=True) as tx:
            await tx.execute(TAKE, of_wallet=ALICE)
    except CommitUnknown:
        return "unknown"
    except DatabaseUnavailable:
        return "undone"
    return "done"


async def balance(db: Database) -> int:
    """Alice's, once the server answers."""
    found: list[int] = []

    async def read() -> bool:
        try:
            row = await db.one(BALANCE, of_wallet=ALICE)
        except DatabaseUnavailable:
            return False
        assert row
        found.append(row[0])
        return True

    await until(read)
    return found[0]


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_transaction_that_the_server_gives_up_is_undone(
    postgres_server: PostgresServer,
    named: str,
    outsider: "asyncpg.Connection",
    code: str,
    when: str,
) -> None:
    """At a statement or at COMMIT: a serialization failure, a deadlock."""
    await outsider.execute(FAILING.format(code=code, when=when))
    async with opened(postgres_server.url(named)) as db:
        with pytest.raises(DatabaseUnavailable) as raised:
            await add(db, ALICE, 5)
        assert not isinstance(raised.value, CommitUnknown)
        assert await db.all(BALANCES) == []
        await outsider.execute("DROP TRIGGER fails ON wallets")
        await add(db, ALICE, 5)
        assert await db.all(BALANCES) == [(ALICE, 5)]


async def test_deadlock_with_another_program_undoes_ours_and_leaves_its_alone(
    postgres_server: PostgresServer, named: str, outsider: "asyncpg.Connection"
) -> None:
    async with opened(postgres_server.url(named)) as db:
        await add(db, ALICE, 5)
        await add(db, BOB, 5)
        # Whoever waits longer than its own deadlock_timeout looks for one, and gives up.
        await outsider.execute("SET deadlock_timeout = '1h'")
        async with outsider.transaction():
            await outsider.execute(f"UPDATE wallets SET warned_hours = 1 WHERE address = '{BOB}'")
            both = asyncio.Event()

            async def take_both() -> None:
                async with db.transaction(durable=True) as tx:
                    await tx.execute(TAKE, of_wallet=ALICE)
                    both.set()
                    await tx.execute(TAKE, of_wallet=BOB)

            taking = asyncio.create_task(take_both())
            await both.wait()
            await outsider.execute(f"UPDATE wallets SET warned_hours = 1 WHERE address = '{ALICE}'")
            with pytest.raises(DatabaseUnavailable):
                await taking
        assert await db.all(BALANCES) == [(ALICE, 5), (BOB, 5)]
        assert await take(db) == "done"


async def test_what_was_committed_outlives_the_servers_crash(
    postgres_server: PostgresServer, named: str, outsider: "asyncpg.Connection"
) -> None:
    """Whatever its default is, as the gateway goes on and relies on it."""
    await outsider.execute(f"ALTER DATABASE {named} SET synchronous_commit = off")
    await outsider.close()
    async with opened(postgres_server.url(named)) as db:
        for durable in (True, False):
            async with db.transaction(durable=durable) as tx:
                await tx.execute(ADD, wallet=ALICE if durable else BOB, amount=5)
        await asyncio.to_thread(postgres_server.restart)
        assert await balance(db) == 5
        assert await db.all(BALANCES) == [(ALICE, 5), (BOB, 5)]


async def test_connections_that_the_server_has_ended_are_replaced(
    postgres_server: PostgresServer, named: str, outsider: "asyncpg.Connection"
) -> None:
    async with opened(postgres_server.url(named)) as db:
        await add(db, ALICE, 100)
        await asyncio.gather(*(db.one(BALANCE, of_wallet=ALICE) for _ in range(8)))
        await outsider.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        known = Counter([await take(db) for _ in range(10)])
        assert known["done"] > 0
        assert await balance(db) == 100 - known["done"]


async def test_gateway_that_stands_still_in_a_transaction_stops_the_others_for_a_while_only(
    postgres_server: PostgresServer, named: str
) -> None:
    url = postgres_server.url(named)
    stalled = PostgresDatabase(url, idle_seconds=0.2)
    holds, goes_on = asyncio.Event(), asyncio.Event()
    async with opened(stalled), opened(url) as other:
        await add(other, ALICE, 5)

        async def stand_still() -> None:
            async with stalled.transaction(durable=True) as tx:
                holds.set()
                await goes_on.wait()
                await tx.execute(TAKE, of_wallet=ALICE)

        holding = asyncio.create_task(stand_still())
        await holds.wait()
        await add(other, BOB, 1)  # waits for the server to end the one that does nothing
        goes_on.set()
        with pytest.raises(DatabaseUnavailable):
            await holding
        assert await other.all(BALANCES) == [(ALICE, 5), (BOB, 1)]


IDLE_SECONDS = 2.0


@pytest.mark.parametrize("through", ["nothing", "pooler"])
async def test_gateway_cut_off_within_a_statement_stops_the_others_for_a_while_only(
    postgres_server: PostgresServer,
    postgres_pooler: Path,
    named: str,
    tmp_path: Path,
    through: str,
) -> None:
    """The server waits for the statement to go on, and by itself ends no session that does so."""
    way = postgres_pooler if through == "pooler" else postgres_server.directory
    with relaying(way, tmp_path) as relay:
        behind = PostgresDatabase(
            postgres_server.url(named, directory=tmp_path), idle_seconds=IDLE_SECONDS
        )
        other = PostgresDatabase(
            postgres_server.url(named, directory=way), idle_seconds=IDLE_SECONDS
        )
        async with opened(behind), opened(other):
            await add(other, BOB, 1)

            async def cut_off() -> None:
                async with behind.transaction(durable=True) as tx:
                    relay.is_cut_in_next_statement = True
                    await tx.execute(ADD, wallet=ALICE, amount=5)

            cut = asyncio.create_task(cut_off())
            await until(lambda: relay.is_cut)
            await add(other, CAROL, 1)
            relay.is_cut = False
            with pytest.raises(DatabaseUnavailable):
                await cut
            assert await other.all(BALANCES) == [(BOB, 1), (CAROL, 1)]


async def test_writer_that_waited_when_it_was_cut_off_never_has_the_lock(
    postgres_server: PostgresServer, named: str, outsider: "asyncpg.Connection", tmp_path: Path
) -> None:
    """Else it would hold up the others once more."""
    with relaying(postgres_server.directory, tmp_path) as relay:
        url = postgres_server.url(named, directory=tmp_path)
        async with opened(PostgresDatabase(url, idle_seconds=IDLE_SECONDS)) as behind:
            await add(behind, BOB, 1)
            async with outsider.transaction():
                await outsider.execute(LOCK)
                waiting = asyncio.create_task(add(behind, ALICE, 5))
                await until(lambda: one_waits(outsider))
                relay.is_cut = True
                await until(lambda: none_waits(outsider))
            relay.is_cut = False
            await waiting
            assert await behind.all(BALANCES) == [(ALICE, 5), (BOB, 1)]


async def one_waits(outsider: "asyncpg.Connection") -> bool:
    return await waiting_for_lock(outsider) == 1


async def none_waits(outsider: "asyncpg.Connection") -> bool:
    return await waiting_for_lock(outsider) == 0


async def waiting_for_lock(outsider: "asyncpg.Connection") -> int:
    waiting: int = await outsider.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )
    return waiting


async def test_of_a_gateways_writers_few_wait_at_the_server_and_reads_pass_them(
    postgres_server: PostgresServer, named: str, outsider: "asyncpg.Connection"
) -> None:
    """Each that waits there holds up the others once more if the gateway is cut off."""
    url = postgres_server.url(named)
    async with opened(url) as db, opened(url) as other:
        async with other.transaction(durable=True):
            writers = [asyncio.create_task(add(db, f"0x{at:040x}", 1)) for at in range(20)]

            async def two_wait() -> bool:
                found = await waiting_for_lock(outsider)
                assert found <= 2
                return found == 2

            await until(two_wait)
            reads = (db.one(BALANCE, of_wallet=ALICE) for _ in range(20))
            assert await asyncio.gather(*reads) == [None] * 20
            assert await two_wait()
            assert not any(writer.done() for writer in writers)
        await asyncio.gather(*writers)
        assert len(await other.all(BALANCES)) == 20


async def test_server_that_stands_still_is_told_of_and_found_again(
    postgres_server: PostgresServer, named: str
) -> None:
    url = postgres_server.url(named)
    async with opened(url) as patient:
        await add(patient, ALICE, 5)
    async with opened(PostgresDatabase(url, wait_seconds=4)) as db:

        async def stop_before_the_commit() -> None:
            async with db.transaction(durable=True) as tx:
                await tx.execute(TAKE, of_wallet=ALICE)
                postgres_server.stand_still()

        try:
            with pytest.raises(CommitUnknown):
                await stop_before_the_commit()
            with pytest.raises(DatabaseUnavailable):
                await db.one(BALANCE, of_wallet=ALICE)
        finally:
            postgres_server.go_on()
        assert await balance(db) in (4, 5)


async def test_server_that_restarts_under_load_doubles_nothing_and_loses_nothing(
    postgres_server: PostgresServer, named: str
) -> None:
    """Two gateways take from one wallet, whatever they are told, until the server is back."""
    url = postgres_server.url(named)
    async with opened(url) as one, opened(url) as two:
        await add(one, ALICE, 1_000_000)
        known: Counter[str] = Counter()
        restarted = asyncio.Event()

        async def spend(db: Database) -> None:
            after = 0
            while after < 5:
                known[outcome := await take(db)] += 1
                if restarted.is_set() and outcome == "done":
                    after += 1
                await asyncio.sleep(0)

        spending = [asyncio.create_task(spend(db)) for db in (one, two, one, two)]
        await until(lambda: known["done"] > 20)
        await asyncio.to_thread(postgres_server.restart)
        restarted.set()
        await asyncio.gather(*spending)
        left = await balance(one)
    assert 1_000_000 - known["done"] - known["unknown"] <= left <= 1_000_000 - known["done"]


async def test_pooler_that_comes_between_is_noticed(
    postgres_server: PostgresServer, postgres_pooler: Path, named: str, tmp_path: Path
) -> None:
    """Else statements that one session has prepared would be asked of another."""
    (tmp_path / SOCKET).symlink_to(postgres_server.directory / SOCKET)
    url = postgres_server.url(named, directory=tmp_path)
    async with opened(url) as one, opened(url) as two:
        await add(one, ALICE, 100)
        await balance(two)
        (tmp_path / SOCKET).unlink()
        (tmp_path / SOCKET).symlink_to(postgres_pooler / SOCKET)
        await asyncio.to_thread(postgres_server.restart)
        assert await balance(one) == await balance(two) == 100
        known = Counter(await asyncio.gather(*(take(db) for db in (one, two) * 20)))
        left = await balance(one)
    assert known["done"] > 0
    assert 100 - known["done"] - known["unknown"] <= left <= 100 - known["done"]


async def test_server_that_is_gone_is_told_of_and_found_again(
    postgres_server: PostgresServer, named: str
) -> None:
    async with opened(postgres_server.url(named)) as db:
        await add(db, ALICE, 5)
        await asyncio.to_thread(postgres_server.stop)
        try:
            with pytest.raises(DatabaseUnavailable):
                await db.one(BALANCE, of_wallet=ALICE)
            with pytest.raises(DatabaseUnavailable):
                await add(db, BOB, 5)
            with pytest.raises(DatabaseUnavailable):
                await db.check()
        finally:
            await asyncio.to_thread(postgres_server.start)
        assert await db.all(BALANCES) == [(ALICE, 5)]
        await add(db, BOB, 5)


@pytest.mark.parametrize("instead", [b"", SHUTDOWN])
async def test_commit_whose_answer_is_lost_is_unknown(
    postgres_server: PostgresServer, named: str, tmp_path: Path, instead: bytes
) -> None:
    """It may be there, as here, or not: nobody may take it for undone."""
    with relaying(postgres_server.directory, tmp_path) as relay:
        async with opened(postgres_server.url(named, directory=tmp_path)) as db:
            await add(db, BOB, 5)
            relay.loses_next_commit, relay.instead = True, instead
            with pytest.raises(CommitUnknown):
                await add(db, ALICE, 5)
    async with opened(postgres_server.url(named)) as db:
        assert await db.all(BALANCES) == [(ALICE, 5), (BOB, 5)]


async def test_connection_that_is_lost_within_a_transaction_leaves_nothing(
    postgres_server: PostgresServer, named: str
) -> None:
    async with opened(postgres_server.url(named)) as db:

        async def write() -> None:
            async with db.transaction(durable=True) as tx:
                await tx.execute(ADD, wallet=ALICE, amount=5)
                await asyncio.to_thread(postgres_server.stop)
                await tx.execute(ADD, wallet=BOB, amount=5)

        try:
            with pytest.raises(DatabaseUnavailable):
                await write()
        finally:
            await asyncio.to_thread(postgres_server.start)
        assert await db.all(BALANCES) == []

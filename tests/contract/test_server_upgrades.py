"""A PostgreSQL server's schema is upgraded while gateways and backups read from it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from moorage.errors import DatabaseUnavailable
from moorage.storage.altering import WAIT_SECONDS, alter, locks
from moorage.storage.migrate import NEWEST_REVISION
from moorage.storage.opening import open_database
from support.books.postgres_fixture import PostgresServer

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

SCRIPT = """
ALTER TABLE wallets ADD COLUMN one INTEGER;
ALTER TABLE payments ADD COLUMN one INTEGER;
CREATE TABLE more (one INTEGER);
CREATE INDEX ix_more ON more (one);
CREATE INDEX ix_projects_more ON projects (wallet);
UPDATE alembic_version SET version_num = 'next';
"""
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
WAITING = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'"""


def script(since: str | None) -> str:
    """The next version's upgrade."""
    return SCRIPT if since == NEWEST_REVISION else ""


@pytest.fixture
async def url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    name = await asyncio.to_thread(postgres_server.create)
    yield postgres_server.url(name)
    await asyncio.to_thread(postgres_server.drop, name)


@pytest.fixture
async def reader(url: str) -> AsyncIterator[asyncpg.Connection]:
    """As a gateway of the old version, or a backup: within one transaction, without our lock."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "a backup"})
    await connection.execute(SNAPSHOT)
    yield connection
    await connection.close()


async def revision(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    finally:
        await connection.close()


async def until_waits(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval(WAITING):
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


def test_what_is_made_is_not_locked_and_what_is_indexed_can_be_read() -> None:
    assert locks(SCRIPT) == {
        "wallets": "ACCESS EXCLUSIVE",
        "payments": "ACCESS EXCLUSIVE",
        "projects": "SHARE",
    }


@pytest.mark.parametrize(("first", "second"), [("wallets", "payments"), ("payments", "wallets")])
async def test_reader_of_two_tables_and_an_upgrade_of_both_do_not_wait_for_each_other(
    url: str, reader: asyncpg.Connection, first: str, second: str
) -> None:
    await reader.fetch(f"SELECT * FROM {first}")
    upgrade = asyncio.create_task(asyncio.to_thread(alter, url, script))
    await until_waits(url)

    await reader.fetch(f"SELECT * FROM {second}", timeout=30)  # a deadlock would fail one of both
    await reader.execute("COMMIT")

    await upgrade
    assert await revision(url) == "next"


async def test_others_read_and_write_while_an_upgrade_waits_for_a_long_reader(
    url: str, reader: asyncpg.Connection
) -> None:
    await reader.fetch("SELECT * FROM payments")
    upgrade = asyncio.create_task(asyncio.to_thread(alter, url, script))
    await until_waits(url)

    gateway = await asyncpg.connect(url)
    slowest = 0.0
    for _ in range(3):
        began = time.monotonic()
        await gateway.fetch("SELECT * FROM wallets JOIN payments ON payer = address", timeout=30)
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.5)
    await gateway.close()
    db = open_database(url)
    async with db.transaction(durable=True):
        pass
    db.close()
    assert slowest < 2 * WAIT_SECONDS
    assert not upgrade.done()

    await reader.execute("COMMIT")
    await upgrade
    assert await revision(url) == "next"


async def test_upgrade_that_does_not_get_its_turn_leaves_all_as_it_was_and_names_who_is_in_the_way(
    url: str, reader: asyncpg.Connection
) -> None:
    await reader.fetch("SELECT * FROM wallets")
    with pytest.raises(DatabaseUnavailable) as told:
        await asyncio.to_thread(alter, url, script, seconds=0.5)
    assert re.search(rf"session {reader.get_server_pid()} \(a backup\)", told.value.message)
    assert await revision(url) == NEWEST_REVISION
    await reader.fetch("SELECT * FROM payments", timeout=30)


async def test_gateways_that_start_together_upgrade_once(url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(alter, url, script) for _ in range(3)))
    assert await revision(url) == "next"

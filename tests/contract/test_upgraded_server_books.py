"""Books of earlier versions come onto a PostgreSQL server, and are upgraded there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from moorage.operate.moving import move_books
from moorage.settings import load_settings
from moorage.storage.migrate import is_newest, migrate
from moorage.storage.purpose import Purpose, purpose_of, set_purpose
from support.books.old_books import DUMPS, MONEY, OF_SERVER, assert_sound, money_of, write_books
from support.books.postgres_fixture import PostgresServer

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

SCHEMA = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT tablename, indexname, indexdef, '', ''
FROM pg_indexes WHERE schemaname = 'public'
"""


@pytest.fixture
async def empty(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database without a schema."""
    name = await asyncio.to_thread(postgres_server.create, template="template0")
    yield postgres_server.url(name)
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
    await asyncio.to_thread(postgres_server.drop, name)


@pytest.fixture
async def newest(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of one that this version made."""
    name = await asyncio.to_thread(postgres_server.create)
    yield postgres_server.url(name)
    await asyncio.to_thread(postgres_server.drop, name)


async def read(url: str, *queries: str) -> list[set[tuple[object, ...]]]:
    connection = await asyncpg.connect(url)
    try:
        return [{tuple(row) for row in await connection.fetch(query)} for query in queries]
    finally:
        await connection.close()


async def test_books_that_the_first_version_with_servers_wrote_are_upgraded_there(
    empty: str, newest: str
) -> None:
    connection = await asyncpg.connect(empty)
    await connection.execute(OF_SERVER.read_text())
    await connection.close()
    before = await read(empty, *MONEY)
    assert all(before)
    assert not await asyncio.to_thread(is_newest, empty)

    await asyncio.to_thread(migrate, empty)

    assert await asyncio.to_thread(is_newest, empty)
    assert await read(empty, *MONEY) == before
    assert await asyncio.to_thread(purpose_of, empty) is Purpose.DEV
    assert await read(empty, SCHEMA) == await read(newest, SCHEMA)
    await assert_sound(empty)


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: str(dump.stem))
async def test_upgraded_file_moves_to_a_server_as_it_was(
    dump: Path, empty: str, tmp_path: Path
) -> None:
    file = tmp_path / "moorage.db"
    write_books(dump, file)
    set_purpose(file, Purpose.SERVE)
    before = money_of(file)
    migrate(file)

    settings = load_settings(file=None, environ={}, data_dir=str(tmp_path), database_url=empty)
    moved = await move_books(settings)

    assert moved.balances_micro_usd > 0
    assert await read(empty, *MONEY) == before
    await assert_sound(empty)

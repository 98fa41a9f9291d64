"""Books move from a gateway's file to a PostgreSQL server; a backup makes them a file again."""

import asyncio
import fcntl
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import BigInteger, Boolean, CheckConstraint, Integer, Table

from moorage.backup.staging import Staging
from moorage.engines.sandbox.kind import SandboxExports
from moorage.errors import AlreadyRunning, ConfigurationInvalid
from moorage.operate.moving import Moved, move_books
from moorage.settings import Settings, load_settings
from moorage.storage import copying
from moorage.storage.database import Transaction
from moorage.storage.money import accounts
from moorage.storage.opening import Purpose, open_database, purpose_of, set_purpose
from moorage.storage.schema import metadata
from support.books.postgres_fixture import PostgresServer
from support.books.records_fixture import ALICE, fund
from support.gateway.clock import MovableClock

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

MANY = 1_201  # more than are read at once
ROWS = {"events": MANY, "alert_channels": 1}  # a channel has one row
WAITING = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction'"""
Table_ = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    """Of a database without a schema."""
    name = postgres_server.create(template="template0")
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def settings(url: str, db_path: Path) -> Settings:
    """Of a stopped gateway with rows in every table, that shall have its books on the server."""
    set_purpose(db_path, Purpose.SERVE)
    with closing(sqlite3.connect(db_path)) as connection, connection:
        for table in metadata.sorted_tables:
            marks = ", ".join("?" * len(table.columns))
            rows = [values(table, number) for number in range(ROWS.get(table.name, 3))]
            adding = f"INSERT INTO {table.name} ({named(table)}) VALUES ({marks})"
            connection.executemany(adding, rows)
    return load_settings(file=None, environ={}, data_dir=str(db_path.parent), database_url=url)


def values(table: Table, number: int) -> list[object]:
    """A row of a table, which differs from its others in each column that may."""
    states = {
        str(check.sqltext).split()[0]: re.findall(r"'(\w+)'", str(check.sqltext))
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    return [
        states[column.name][0]
        if column.name in states
        else "'ü\\"
        if column.name == "description"
        else value(column.type, number, nullable=bool(column.nullable))
        for column in table.columns
    ]


def value(kind: Any, number: int, *, nullable: bool) -> object:
    if nullable and number == 1:
        return None
    if isinstance(kind, Boolean):
        return number % 2
    if isinstance(kind, BigInteger):
        return 2**40 * number + 1
    return number + 1 if isinstance(kind, Integer) else str(number + 1)


def of_file(path: Path) -> Table_:
    """All rows, in an order of their own."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table.name: sorted(connection.execute(selecting(table)).fetchall(), key=repr)
            for table in metadata.sorted_tables
        }


async def of_server(url: str) -> Table_:
    connection = await asyncpg.connect(url)
    try:
        found = {
            table.name: await connection.fetch(selecting(table)) for table in metadata.sorted_tables
        }
    finally:
        await connection.close()
    return {
        name: sorted((tuple(map(plain, row)) for row in rows), key=repr)
        for name, rows in found.items()
    }


def plain(found: object) -> object:
    return int(found) if isinstance(found, bool) else found


def selecting(table: Table) -> str:
    return f"SELECT {named(table)} FROM {table.name}"


def named(table: Table) -> str:
    """Its columns, in the metadata's order: a file that was migrated has another."""
    return ", ".join(f'"{column.name}"' for column in table.columns)


async def move(settings: Settings) -> Moved:
    moved = await move_books(settings)
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
    return moved


async def test_every_row_of_every_table_is_moved(settings: Settings, url: str) -> None:
    file = Path(settings.data_dir) / "moorage.db"
    before = of_file(file)
    moved = await move(settings)
    assert await of_server(url) == before == of_file(Path(moved.file))
    assert moved.rows == {name: len(rows) for name, rows in before.items()}
    assert moved.rows["events"] == MANY
    assert not file.exists()
    assert await asyncio.to_thread(purpose_of, url) is Purpose.SERVE


async def test_ledger_goes_on_where_it_was(settings: Settings, url: str) -> None:
    moved = await move(settings)
    db = open_database(url)
    try:
        await fund(db, ALICE, 500_000)
        places = [row[0] for row in (await of_server(url))["entries"]]
        assert await accounts.balance(db, ALICE) == 500_000
    finally:
        db.close()
        await asyncio.sleep(0)
    assert len(set(places)) == moved.rows["entries"] + 2


async def test_server_waits_for_nothing_while_the_file_is_read(
    settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends a transaction that does nothing for 20 s; a large file takes longer."""
    waiting: list[int] = []
    contents = copying.contents

    async def noted(tx: Transaction) -> dict[str, copying.Content]:
        connection = await asyncpg.connect(url)
        waiting.append(await connection.fetchval(WAITING))
        await connection.close()
        return await contents(tx)

    monkeypatch.setattr(copying, "contents", noted)
    await move(settings)
    assert waiting == [0, 1, 1]  # the file; the server before and after


async def test_move_that_was_interrupted_ends_when_it_is_run_again(
    settings: Settings, url: str
) -> None:
    """Between the server's commit and the file's new name."""
    first = await move(settings)
    Path(first.file).rename(Path(settings.data_dir) / "moorage.db")
    assert await move(settings) == first


async def test_file_of_an_earlier_move_is_kept(settings: Settings, url: str) -> None:
    earlier = Path(settings.data_dir) / "moorage.db.moved"
    earlier.write_text("earlier books")
    moved = await move(settings)
    assert earlier.read_text() == "earlier books"
    assert await of_server(url) == of_file(Path(moved.file))


async def test_database_with_rows_is_refused(settings: Settings, url: str) -> None:
    first = await move(settings)
    Path(first.file).rename(file := Path(settings.data_dir) / "moorage.db")
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE wallets SET balance_micro_usd = balance_micro_usd + 1")
    await connection.close()
    there = await of_server(url)
    with pytest.raises(ConfigurationInvalid, match="rows already"):
        await move(settings)
    assert await of_server(url) == there
    assert file.exists()


async def test_gateway_that_runs_is_left_alone(settings: Settings, url: str) -> None:
    nonces = Path(settings.data_dir) / "nonces"
    nonces.mkdir()
    with (nonces / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning):
            await move(settings)
    assert (Path(settings.data_dir) / "moorage.db").exists()
    await move(settings)


async def test_database_of_the_local_chains_takes_no_real_books(
    settings: Settings, postgres_server: PostgresServer
) -> None:
    name = postgres_server.create()
    url = postgres_server.url(name)
    await asyncio.to_thread(set_purpose, url, Purpose.DEV)
    try:
        with pytest.raises(ConfigurationInvalid, match="another kind"):
            await move(load_settings(file=None, data_dir=settings.data_dir, database_url=url))
    finally:
        postgres_server.drop(name)


async def test_backup_of_a_server_is_a_file_with_every_row(
    settings: Settings, url: str, tmp_path: Path
) -> None:
    before = of_file(Path(settings.data_dir) / "moorage.db")
    await move(settings)
    directory = tmp_path / "staging"
    directory.mkdir()
    clock = MovableClock()
    data_dir = Path(settings.data_dir)
    staging = Staging(
        data_dir=data_dir,
        database=settings.database,
        exports=SandboxExports(data_dir / "apps", tmp_path / "mounts", clock),
        directory=directory,
        clock=clock,
    )
    await staging.take()
    await asyncio.sleep(0)
    assert of_file(directory / "moorage.db") == before
    assert purpose_of(directory / "moorage.db") is Purpose.SERVE

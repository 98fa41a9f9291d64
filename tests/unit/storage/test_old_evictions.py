"""A gateway of an earlier version, which makes no exports, deletes nothing that needs one.

Such a gateway may keep the apps while its successor runs beside it, over the newer schema.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from moorage.clock import iso_utc
from moorage.storage.database import Database
from moorage.storage.migrate import migrate
from moorage.storage.opening import open_database
from moorage.storage.operation import evictions
from moorage.storage.operation.evictions import Eviction, FailedTry
from support.books.old_books import DUMPS, write_books
from support.books.records_fixture import ALICE, add_project
from support.gateway.clock import START_MS

LATER_MS = START_MS + 100 * 365 * 86_400_000
OLD_QUERY = (
    "SELECT evictions.project_id FROM evictions JOIN projects"
    " ON projects.id = evictions.project_id WHERE projects.deleted_at_ms IS NULL AND at_ms <= ?"
)
OLD_ORDER = (
    "INSERT INTO evictions (project_id, reason, at_ms) VALUES (?, ?, ?)"
    " ON CONFLICT (project_id) DO UPDATE SET reason = excluded.reason, at_ms = excluded.at_ms"
)
"""As versions from 0028 on ask and write."""


def due_for_old_ones(path: Path, *, now_ms: int) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [str(row[0]) for row in connection.execute(OLD_QUERY, [now_ms])]


def order_as_old_ones(path: Path, project_id: str, *, at_ms: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(OLD_ORDER, [project_id, "closing", at_ms])


@pytest.mark.parametrize("with_export", [True, False], ids=["export", "none"])
async def test_old_gateway_sees_only_what_is_deleted_without_an_export(
    db: Database, db_path: Path, with_export: bool
) -> None:
    project = await add_project(db, ALICE, "shop")
    order = Eviction(project.id, "closing", START_MS, with_export)
    async with db.transaction(durable=True) as tx:
        await evictions.order(tx, order)
    assert await evictions.ordered(db) == [order]
    seen = [] if with_export else [project.id]
    assert due_for_old_ones(db_path, now_ms=LATER_MS) == seen


async def test_order_of_before_the_upgrade_is_hidden_and_keeps_its_day(tmp_path: Path) -> None:
    path = tmp_path / "moorage.db"
    (dump,) = (each for each in DUMPS if each.stem == "0028")
    write_books(dump, path)
    with closing(sqlite3.connect(path)) as connection:
        (project_id,) = connection.execute("SELECT id FROM projects LIMIT 1").fetchone()
    order_as_old_ones(path, project_id, at_ms=START_MS)
    assert due_for_old_ones(path, now_ms=LATER_MS) == [project_id]

    migrate(path)

    assert due_for_old_ones(path, now_ms=LATER_MS) == []
    with closing(open_database(path)) as db:
        assert await evictions.ordered(db) == [Eviction(project_id, "closing", START_MS)]


async def test_what_an_old_gateway_orders_holds(db: Database, db_path: Path) -> None:
    project = await add_project(db, ALICE, "shop")
    async with db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "closing", START_MS))
    order_as_old_ones(db_path, project.id, at_ms=START_MS + 5)
    assert await evictions.ordered(db) == [Eviction(project.id, "closing", START_MS + 5)]


async def test_failure_is_forgotten_where_an_old_gateway_orders_anew(
    db: Database, db_path: Path
) -> None:
    """It leaves the columns of the failure as they are: it knows none of them."""
    project = await add_project(db, ALICE, "shop")
    order = Eviction(project.id, "closing", START_MS)
    async with db.transaction(durable=True) as tx:
        await evictions.order(tx, order)
        await evictions.note_failure(tx, order, FailedTry(START_MS, "no room"))
    assert await evictions.failures(db) == {project.id: FailedTry(START_MS, "no room")}
    order_as_old_ones(db_path, project.id, at_ms=START_MS + 5)
    assert await evictions.failures(db) == {}


async def test_new_order_has_not_failed_though_it_is_due_as_the_one_before(db: Database) -> None:
    project = await add_project(db, ALICE, "shop")
    order = Eviction(project.id, "closing", START_MS)
    async with db.transaction(durable=True) as tx:
        await evictions.order(tx, order)
        await evictions.note_failure(tx, order, FailedTry(START_MS, "no room"))
        await evictions.order(tx, Eviction(project.id, "closing", START_MS, with_export=False))
    assert await evictions.failures(db) == {}


async def test_order_that_was_changed_while_it_was_tried_has_not_failed(db: Database) -> None:
    project = await add_project(db, ALICE, "shop")
    tried = Eviction(project.id, "closing", START_MS)
    async with db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "closing", LATER_MS))
        await evictions.note_failure(tx, tried, FailedTry(START_MS, "no room"))
    assert await evictions.failures(db) == {}


def test_day_that_an_old_gateway_tells_is_one() -> None:
    assert iso_utc(evictions.HIDDEN_MS) == "9999-01-01T00:00:00.000Z"

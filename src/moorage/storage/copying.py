"""Copies a database, as a file or row by row, and proves that both are the same.

Both have the newest schema; one may be a file and the other a server's.
"""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Table, bindparam, func, insert, select, tuple_

from moorage.errors import DatabaseUnavailable
from moorage.records.deployment import DeploymentStatus
from moorage.storage.database import Database, Row, Statement, Transaction, Value, without_nul
from moorage.storage.schema import deployments, metadata, projects

_living = projects.c.deleted_at_ms.is_(None)
_APPS = Statement(
    select(deployments.c.id)
    .join_from(deployments, projects)
    .where(
        _living,
        deployments.c.is_kept,
        deployments.c.status.in_([DeploymentStatus.READY.value, DeploymentStatus.SUPERSEDED.value]),
    )
    .order_by(deployments.c.created_at_ms, deployments.c.id)
)
_VOLUMES = Statement(
    select(projects.c.id).where(_living, projects.c.volume).order_by(projects.c.id)
)


def copy_database(source: Path, target: Path) -> None:
    """Copies a database that others may be writing to, without blocking them.

    Raises DatabaseUnavailable.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)  # all pages at once: one read transaction
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{source} cannot be copied: {error}.") from error


async def apps(db: Database) -> Sequence[str]:
    """Returns the deployments that serve or can be served again."""
    return [row[0] for row in await db.all(_APPS)]


async def volumes(db: Database) -> Sequence[str]:
    """Returns the projects that have a volume."""
    return [row[0] for row in await db.all(_VOLUMES)]


_ROWS_AT_ONCE = 500  # a row may hold tens of kilobytes


class _Queries(NamedTuple):
    first: Statement  # the first rows, by their key
    after: Statement  # the next ones after a key
    add: Statement
    columns: tuple[str, ...]
    key: tuple[int, ...]  # where the key's columns are


class Content(NamedTuple):
    """How many rows a table has, and a number that depends on all of them, in any order."""

    rows: int
    digest: int


def _queries_of(table: Table) -> _Queries:
    key = list(table.primary_key.columns)
    rows = select(table).order_by(*key).limit(_ROWS_AT_ONCE)
    places = [bindparam(f"after_{column.name}", type_=column.type) for column in key]
    names = tuple(column.name for column in table.columns)
    values = {
        column.name: bindparam(f"new_{column.name}", type_=column.type) for column in table.columns
    }
    return _Queries(
        first=Statement(rows),
        after=Statement(rows.where(tuple_(*key) > tuple_(*places))),
        add=Statement(insert(table).values(values)),
        columns=names,
        key=tuple(names.index(column.name) for column in key),
    )


_TABLES = {table.name: _queries_of(table) for table in metadata.sorted_tables}
_COUNTERS = tuple(
    Statement(
        select(func.setval(func.pg_get_serial_sequence(table.name, column.name), func.max(column)))
    )
    for table in metadata.sorted_tables
    if (column := table.autoincrement_column) is not None
)


async def copy(source: Transaction, target: Transaction, *, to_server: bool) -> None:
    """Copies all rows. What a server counts by itself continues there, with `to_server`."""
    for queries in _TABLES.values():
        async for rows in _pages(source, queries):
            given: list[Mapping[str, Value]] = [
                {f"new_{name}": value for name, value in zip(queries.columns, row, strict=True)}
                for row in rows
            ]
            await target.execute_many(queries.add, given)
    if to_server:
        for counter in _COUNTERS:
            await target.one(counter)


async def contents(tx: Transaction) -> dict[str, Content]:
    """Returns what each table holds, read row by row."""
    return {name: await _content(tx, queries) for name, queries in _TABLES.items()}


async def _content(tx: Transaction, queries: _Queries) -> Content:
    count = total = 0
    async for rows in _pages(tx, queries):
        count += len(rows)
        total += sum(int.from_bytes(_digest(row)) for row in rows)
    return Content(count, total)


def _digest(row: Row) -> bytes:
    """Returns the SHA-256 of a row, the same for each kind of database."""
    plain = (int(value) if isinstance(value, bool) else without_nul(value) for value in row)
    return hashlib.sha256(repr(tuple(plain)).encode()).digest()


async def _pages(tx: Transaction, queries: _Queries) -> AsyncIterator[list[Row]]:
    rows = await tx.all(queries.first)
    while rows:
        yield rows
        last = {f"after_{queries.columns[at]}": rows[-1][at] for at in queries.key}
        rows = await tx.all(queries.after, **last)

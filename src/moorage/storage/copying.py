"""Copies all rows of one database into another that has none, and proves that they are the same.

Both have the newest schema; one may be a file and the other a server's.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from sqlalchemy import Table, bindparam, func, insert, select, tuple_

from moorage.storage.database import Row, Statement, Transaction, Value, without_nul
from moorage.storage.schema import metadata

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
    """Copies all rows. What a server counts by itself goes on from there, with `to_server`."""
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

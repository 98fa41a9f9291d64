"""The interface of the database: statements, transactions and rows.

`open_database` returns one. Statements are SQLAlchemy Core's, compiled once for each dialect that
runs them. A driver's errors are raised as `DatabaseUnavailable` or a subclass; those that only our
own mistake can cause (a broken CHECK, a wrong statement) are raised unchanged.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import NullType

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

Record = TypeVar("Record")
"""A Struct, or a NamedTuple."""

Value = int | str | None
Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Upsert:
    """Inserts a row, or changes the row that has its key.

    `replaced` are the columns that get the new row's values; `changed` maps others to expressions.
    Without either, or where `where` is false for it, the present row stays as it is.
    """

    table: Table
    values: Mapping[str, object]
    replaced: Collection[str] = ()
    changed: Mapping[str, object] = field(default_factory=dict)
    where: ColumnElement[bool] | None = None

    def clause(self, dialect: str) -> ClauseElement:
        """Returns the statement for this dialect."""
        adding = _insert(dialect)(self.table).values(self.values)
        if not self.replaced and not self.changed:
            return adding.on_conflict_do_nothing()
        return adding.on_conflict_do_update(
            index_elements=list(self.table.primary_key.columns),
            set_={**{name: adding.excluded[name] for name in self.replaced}, **self.changed},
            where=self.where,
        )


class Compiled(NamedTuple):
    """A statement's text for one dialect, and the parameters that have fixed values."""

    sql: str
    fixed: Mapping[str, Value]
    places: Sequence[str] = ()
    """The parameters in the text's order, where the dialect numbers them."""
    truths: Collection[str] = ()
    """The parameters that are boolean."""

    def positional(self, given: Mapping[str, Value]) -> list[Value]:
        """Returns the values by number, as a PostgreSQL server takes them: a boolean's as bool.

        Its texts hold no NUL, which an app may well have written: U+FFFD stands for it.
        """
        values = self.parameters(given)
        truths = self.truths
        return [
            bool(value) if name in truths and value is not None else without_nul(value)
            for name in self.places
            for value in (values.get(name),)
        ]

    def parameters(self, given: Mapping[str, Value]) -> Mapping[str, Value]:
        """Returns `given` together with the fixed values."""
        return {**self.fixed, **given} if self.fixed else given


class Statement:
    """A statement with named parameters."""

    __slots__ = ("_compiled", "_source")

    def __init__(self, source: ClauseElement | Upsert) -> None:
        self._source = source
        self._compiled: dict[Dialect, Compiled] = {}

    def compiled(self, dialect: Dialect) -> Compiled:
        """Returns its text for `dialect`, which is compiled at the first call."""
        found = self._compiled.get(dialect)
        if found is None:
            found = self._compiled[dialect] = self._compile(dialect)
        return found

    def _compile(self, dialect: Dialect) -> Compiled:
        source = self._source
        clause = source.clause(dialect.name) if isinstance(source, Upsert) else source
        visitors.traverse(clause, {}, {"bindparam": _prepare})
        compiled: Any = clause.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        fixed = {
            name: _plain(value) for name, value in compiled.params.items() if value is not None
        }
        truths = {name for name, bound in compiled.binds.items() if isinstance(bound.type, Boolean)}
        return Compiled(str(compiled), fixed, tuple(compiled.positiontup or ()), truths)


def _insert(dialect: str) -> "type[sqlite.Insert] | type[postgresql.Insert]":
    """Returns the kind of insert that can change a row that is there."""
    if dialect == "sqlite":
        return sqlite.Insert
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 (2 MiB, with a server alone)

    return postgresql.Insert


def substring(text: ColumnElement[str], start: int, length: int | BindParameter[Any]) -> Any:
    """Returns `length` characters of a column from `start` on, the first being 1."""
    return func.substr(text, cast(start, Integer), cast(length, Integer))


def without_nul(value: Value) -> Value:
    """Returns a value as a PostgreSQL server takes it: texts with U+FFFD for NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value


def _plain(value: Value) -> Value:
    """Returns an enum's member as plain text, which sqlite3 binds 2 µs faster than the member."""
    return str(value) if isinstance(value, StrEnum) else value


def _prepare(parameter: BindParameter[Any]) -> None:
    """Lets a parameter have no value yet; every number may be as large as micro-USD are.

    Constants are written into the text. SQLite would parse a statement again each time that it runs
    if a parameter decided whether an index with a WHERE can be used.
    """
    parameter.required = False  # expanding an IN list requires every value; ours come when it runs
    has_type = not isinstance(parameter.type, NullType)  # otherwise it can't be written
    parameter.literal_execute = parameter.unique and parameter.value is not None and has_type
    if isinstance(parameter.type, Integer):
        parameter.type = BigInteger()


def _fields_of(kind: type[Any]) -> tuple[str, ...]:
    """Returns the names of the fields of a Struct, or of a NamedTuple."""
    fields: tuple[str, ...] = (
        kind._fields if issubclass(kind, tuple) else kind.__struct_fields__  # type: ignore[attr-defined]
    )
    return fields


def columns_of(table: Table, kind: type[Any]) -> list[Column[Any]]:
    """Returns the columns that are named as the fields of a record, in their order."""
    return [table.c[name] for name in _fields_of(kind)]


def parameters(names: Iterable[str]) -> dict[str, BindParameter[Any]]:
    """Returns a parameter for each column, with the column's name."""
    return {name: bindparam(name) for name in names}


def given(table: FromClause, *names: str, **others: str) -> list[ColumnElement[bool]]:
    """Returns that columns equal the parameters of their names, or of those in `others`."""
    wanted = dict(zip(names, names, strict=True)) | others
    return [table.c[column] == bindparam(name) for column, name in wanted.items()]


def insert_of(table: Table, kind: type[Any] | None = None) -> Statement:
    """Returns the statement that inserts a record; its fields, or all columns, are parameters."""
    names = table.c.keys() if kind is None else _fields_of(kind)
    return Statement(insert(table).values(parameters(names)))


def upsert_of(table: Table, kind: type[Any] | None = None) -> Statement:
    """Returns the same, which replaces the row that has its key."""
    names = table.c.keys() if kind is None else _fields_of(kind)
    keys = table.primary_key.columns.keys()
    replaced = [name for name in names if name not in keys]
    return Statement(Upsert(table=table, values=parameters(names), replaced=replaced))


def pattern_of(text: str) -> str:
    """Returns the pattern of LIKE for a text somewhere in a column, escaped by a backslash."""
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


MAX_IDS = 100
"""How many ids one query takes."""

_ID_NAMES = [f"id_{number}" for number in range(MAX_IDS)]


def is_listed(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Returns the condition that a column is one of the ids that `listed` gives a statement."""
    return column.in_([bindparam(name, type_=Text) for name in _ID_NAMES])


def listed(ids: Sequence[str]) -> dict[str, str | None]:
    """Returns the parameters of `is_listed`: the first MAX_IDS of the ids."""
    return dict.fromkeys(_ID_NAMES) | dict(zip(_ID_NAMES, ids, strict=False))


def record_of(kind: type[Record], row: Row) -> Record:
    """Returns the record whose fields a row holds, in their order.

    SQLite has 0 and 1 for booleans; enums are stored as their values.
    """
    fields = row if issubclass(kind, tuple) else dict(zip(_fields_of(kind), row, strict=True))
    return msgspec.convert(fields, kind, strict=False)


class Source(Protocol):
    """Something to read from: the database, or a transaction of it."""

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """Returns the first row, or None. Raises DatabaseUnavailable."""
        ...

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Returns every row. Raises DatabaseUnavailable."""
        ...

    async def record(
        self, kind: type[Record], statement: Statement, /, **given: Value
    ) -> Record | None:
        """Returns the first row as a record; None without a row."""
        row = await self.one(statement, **given)
        return None if row is None else record_of(kind, row)

    async def records(
        self, kind: type[Record], statement: Statement, /, **given: Value
    ) -> list[Record]:
        """Returns every row as a record."""
        return [record_of(kind, row) for row in await self.all(statement, **given)]

    async def value(self, statement: Statement, /, **given: Value) -> Any | None:
        """Returns the first column of the first row; None without a row."""
        row = await self.one(statement, **given)
        return None if row is None else row[0]

    async def values(self, statement: Statement, /, **given: Value) -> list[Any]:
        """Returns the first column of every row."""
        return [row[0] for row in await self.all(statement, **given)]

    async def number(self, statement: Statement, /, **given: Value) -> int:
        """Returns a count or a sum, the first column of the first row; 0 for none."""
        return int(await self.value(statement, **given) or 0)


class Transaction(Source, Protocol):
    """The statements of one transaction, or of one snapshot."""

    async def execute(self, statement: Statement, **given: Value) -> int:
        """Runs a write; returns the number of rows it touched. Raises UniqueViolation."""
        ...

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        """Runs a write once for each of `rows`; does not count the rows it touched."""
        ...


class Database(Source, Protocol):
    """A database. Each read outside a transaction is one of its own; writes need a transaction."""

    def transaction(
        self, *, durable: bool, of: Collection[str] = ()
    ) -> AbstractAsyncContextManager[Transaction]:
        """Opens a write transaction: commits when the block ends, rolls back when it raises.

        No other write transaction runs meanwhile. With `of` (wallets, chain transactions, names of
        projects, relayers) it changes rows of these alone, and those that name others may run.
        Other rows that it reads may change before it ends. Read by the transaction within the
        block: only it sees what is committed together with it.

        With `durable`, the commit has reached the disk before the block is left: for money and
        promises to clients. A commit that has begun is not interrupted; a cancellation is raised
        after it. Raises CommitUnknown when the outcome is not known; DatabaseUnavailable when
        nothing was changed.
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """Opens a read-only transaction; all its reads see the state of the first one."""
        ...

    async def check(self) -> None:
        """Checks by a read that the database works. Raises DatabaseUnavailable."""
        ...

    async def run(self) -> None:
        """Does the database's periodic maintenance until cancelled."""
        ...

    def close(self) -> None:
        """Closes the database. No transaction may be open."""
        ...

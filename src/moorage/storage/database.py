"""The interface of the database: statements, transactions and rows.

`open_database` returns one. Statements are SQLAlchemy Core's, compiled once for each dialect that
runs them. A driver's errors are raised as `DatabaseUnavailable` or a subclass; those that only our
own mistake can cause (a broken CHECK, a wrong statement) are raised unchanged.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
from sqlalchemy import BigInteger, Boolean, ColumnElement, Integer, Table, cast, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import NullType

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

Record = TypeVar("Record", bound=msgspec.Struct)
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
        insert = _insert(dialect)(self.table).values(self.values)
        if not self.replaced and not self.changed:
            return insert.on_conflict_do_nothing()
        return insert.on_conflict_do_update(
            index_elements=list(self.table.primary_key.columns),
            set_={**{name: insert.excluded[name] for name in self.replaced}, **self.changed},
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

    Constants are written into the text. SQLite would parse a statement anew each time that it runs
    if a parameter decided whether an index with a WHERE can be used.
    """
    parameter.required = False  # expanding an IN list requires every value; ours come when it runs
    has_type = not isinstance(parameter.type, NullType)  # otherwise it can't be written
    parameter.literal_execute = parameter.unique and parameter.value is not None and has_type
    if isinstance(parameter.type, Integer):
        parameter.type = BigInteger()


def struct_of(kind: type[Record], row: Row) -> Record:
    """Returns the record whose fields a row holds, in their order."""
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind)


class Source(Protocol):
    """Something to read from: the database, or a transaction of it."""

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """Returns the first row, or None. Raises DatabaseUnavailable."""
        ...

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Returns every row. Raises DatabaseUnavailable."""
        ...


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

        No other runs meanwhile. With `of` those may run that name nothing of the same: it names
        wallets, chain transactions, projects' names and relayers, and changes rows of these alone.
        What else it reads, others may change before it ends. Within the block read by the
        transaction: it alone sees what those wrote that are committed together with it.

        With `durable`, the commit has reached the disk before the block is left: for money and
        for whatever was promised to a client. A commit that has begun is not interrupted; a
        cancellation is raised after it. Raises CommitUnknown when it is not known whether it was
        committed, otherwise DatabaseUnavailable, and then nothing was changed.
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

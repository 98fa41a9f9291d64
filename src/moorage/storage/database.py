"""The database as its users know it: statements, transactions, and the rows they give.

`open_database` gives one. Statements are SQLAlchemy Core's, compiled once for each dialect that
runs them. What a driver raises comes out as `DatabaseUnavailable` or one of its kinds; what only a
mistake of ours can cause (a broken CHECK, a wrong statement) stays as it is.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter

Record = TypeVar("Record", bound=msgspec.Struct)
Value = int | str | None
Row = tuple[Any, ...]

_INSERT: Mapping[str, type[sqlite.Insert] | type[postgresql.Insert]] = {
    "sqlite": sqlite.Insert,
    "postgresql": postgresql.Insert,
}


@dataclass(frozen=True, kw_only=True)
class Upsert:
    """Inserts a row; where one with its key is there, that one is changed, or stays as it is.

    `replaced` are the columns that take the new row's values, `changed` what others are set to.
    With `where`, only a row of which it is true is changed.
    """

    table: Table
    values: Mapping[str, object]
    replaced: Collection[str] = ()
    changed: Mapping[str, object] = field(default_factory=dict)
    where: ColumnElement[bool] | None = None

    def clause(self, dialect: str) -> ClauseElement:
        """The statement of this dialect."""
        insert = _INSERT[dialect](self.table).values(self.values)
        if not self.replaced and not self.changed:
            return insert.on_conflict_do_nothing()
        return insert.on_conflict_do_update(
            index_elements=list(self.table.primary_key.columns),
            set_={**{name: insert.excluded[name] for name in self.replaced}, **self.changed},
            where=self.where,
        )


class Compiled(NamedTuple):
    """A statement's text for one dialect, and the values that the statement itself fixes."""

    sql: str
    fixed: Mapping[str, Value]

    def parameters(self, given: Mapping[str, Value]) -> Mapping[str, Value]:
        """`given`, with the values that the statement itself fixes."""
        return {**self.fixed, **given} if self.fixed else given


class Statement:
    """A statement with named parameters."""

    __slots__ = ("_compiled", "_source")

    def __init__(self, source: ClauseElement | Upsert) -> None:
        self._source = source
        self._compiled: dict[Dialect, Compiled] = {}

    def compiled(self, dialect: Dialect) -> Compiled:
        """Its text for `dialect`; made at the first call."""
        found = self._compiled.get(dialect)
        if found is None:
            found = self._compiled[dialect] = self._compile(dialect)
        return found

    def _compile(self, dialect: Dialect) -> Compiled:
        source = self._source
        clause = source.clause(dialect.name) if isinstance(source, Upsert) else source
        # Expanding an IN list at compile time wants every value; ours come when it runs.
        visitors.traverse(clause, {}, {"bindparam": _make_optional})
        compiled = clause.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        return Compiled(str(compiled), fixed)


def _make_optional(parameter: BindParameter[Any]) -> None:
    parameter.required = False


def struct_of(kind: type[Record], row: Row) -> Record:
    """The record whose fields a row holds, in their order."""
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind)


class Source(Protocol):
    """What can be read: the database, or a transaction of it."""

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """The first row, or None. Raises DatabaseUnavailable."""
        ...

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Every row. Raises DatabaseUnavailable."""
        ...


class Transaction(Source, Protocol):
    """The statements of one transaction, or of one snapshot."""

    async def execute(self, statement: Statement, **given: Value) -> int:
        """Runs a write; gives the number of rows it touched. Raises UniqueViolation."""
        ...

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        """Runs a write once for each of `rows`; nobody counts what it touched."""
        ...


class Database(Source, Protocol):
    """Reads, each of its own, and transactions, one at a time."""

    def transaction(self, *, durable: bool) -> AbstractAsyncContextManager[Transaction]:
        """One write transaction: commits when the block ends, rolls back when it raises.

        With `durable`, the commit has reached the disk before the block is left: for money and
        for whatever was promised to a client. A commit once begun is seen to its end, then a
        cancellation is raised. Raises CommitUnknown when nobody can tell whether it was committed,
        otherwise DatabaseUnavailable, and then nothing was changed.
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """Reads that all see the database as it stood at the first one. Writing is refused."""
        ...

    async def check(self) -> None:
        """Reads something, for readiness. Raises DatabaseUnavailable."""
        ...

    async def run(self) -> None:
        """Keeps the database in order until cancelled."""
        ...

    def close(self) -> None:
        """Closes it; a transaction under way has ended."""
        ...

"""A thin database: SQLAlchemy Core statements, compiled once, run on SQLite.

Reads run in the event loop on a connection of their own (WAL: they never wait for a writer).
Writes run one transaction at a time. A durable transaction has reached the disk when it commits;
its fsync happens in a thread. Checkpoints of the write-ahead log happen in a thread as well.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter

from moorage.errors import DatabaseUnavailable
from moorage.threads import in_thread, to_its_end

log = structlog.get_logger()

Record = TypeVar("Record", bound=msgspec.Struct)
Value = int | str | None
Row = tuple[Any, ...]

_NONE: Mapping[str, Value] = {}

_DIALECT = sqlite.dialect(paramstyle="named")
_BUSY_WAIT_SECONDS = 5.0
_BUSY_PAUSE_SECONDS = 0.01
_CHECKPOINT_SECONDS = 5.0
_WRITER_CACHE_KIB = 64 * 1024  # filled only by a database as large; metering touches all of it
_PRIMARY_CODE = 0xFF  # an extended result code's low byte (sqlite3.h)


class Statement:
    """A SQLAlchemy Core statement as SQL text with named parameters, compiled once."""

    __slots__ = ("_fixed", "sql")

    def __init__(self, clause: ClauseElement) -> None:
        # Expanding an IN list at compile time wants every value; ours come when it runs.
        visitors.traverse(clause, {}, {"bindparam": _make_optional})
        compiled = clause.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        self._fixed = {k: v for k, v in compiled.params.items() if v is not None}

    def parameters(self, given: Mapping[str, Value]) -> Mapping[str, Value]:
        """`given`, with the values that the statement itself fixes."""
        return {**self._fixed, **given} if self._fixed else given


def _make_optional(parameter: BindParameter[Any]) -> None:
    parameter.required = False


def struct_of(kind: type[Record], row: Row) -> Record:
    """The record whose fields a row holds, in their order."""
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind)


class Transaction:
    """The statements of one transaction, or of one snapshot."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """The first row, as the transaction sees it."""
        return _first(self._connection, statement, given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Every row, as the transaction sees it."""
        return _every(self._connection, statement, given)

    async def execute(self, statement: Statement, **given: Value) -> int:
        """Run a write; gives the number of rows it touched. Raises UniqueViolation."""
        return _run(self._connection, statement.sql, statement.parameters(given))

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> int:
        """Run a write once for each of many `rows`, in a thread; else as `execute`."""
        given = [statement.parameters(row) for row in rows]
        loop = asyncio.get_running_loop()
        return await to_its_end(
            loop.run_in_executor(self._thread, _run_many, self._connection, statement.sql, given)
        )


class UniqueViolation(Exception):
    """A row with this key exists; the transaction is to be left."""


_UNIQUE_CODES = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_FAULTS_OF_OURS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)


def _ours(error: sqlite3.Error) -> Exception:
    """UniqueViolation or DatabaseUnavailable for an error of the driver.

    What only a mistake of ours can cause (a broken CHECK, a wrong statement) stays as it is.
    """
    if getattr(error, "sqlite_errorcode", None) in _UNIQUE_CODES:
        return UniqueViolation(str(error))
    if isinstance(error, _FAULTS_OF_OURS):
        return error
    log.warning("database refuses", error=str(error))
    return DatabaseUnavailable()


def _first(
    connection: sqlite3.Connection, statement: Statement, given: Mapping[str, Value]
) -> Row | None:
    try:
        row: Row | None = connection.execute(statement.sql, statement.parameters(given)).fetchone()
    except sqlite3.Error as error:
        raise _ours(error) from error
    return row


def _every(
    connection: sqlite3.Connection, statement: Statement, given: Mapping[str, Value]
) -> list[Row]:
    try:
        return connection.execute(statement.sql, statement.parameters(given)).fetchall()
    except sqlite3.Error as error:
        raise _ours(error) from error


def _run(connection: sqlite3.Connection, sql: str, given: Mapping[str, Value] = _NONE) -> int:
    """Run a statement; gives the number of rows it touched."""
    try:
        return connection.execute(sql, given).rowcount
    except sqlite3.Error as error:
        raise _ours(error) from error


def _run_many(connection: sqlite3.Connection, sql: str, rows: Sequence[Mapping[str, Value]]) -> int:
    """Run a statement for each of `rows`; gives the number of rows touched in all."""
    try:
        return connection.executemany(sql, rows).rowcount
    except sqlite3.Error as error:
        raise _ours(error) from error


class Database:
    """One SQLite file. Open it in the event loop that uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _connect(path)
        self._reader.execute("PRAGMA query_only = ON")
        self._writer = _connect(path)
        self._writer.execute("PRAGMA wal_autocheckpoint = 0")
        self._writer.execute("PRAGMA busy_timeout = 0")
        self._writer.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        self._is_durable: bool | None = None  # what the writer's pragma says
        self._checkpointer = _connect(path)
        self._write_lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._uncheckpointed = asyncio.Event()

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """The first row of a read, or None. Raises DatabaseUnavailable."""
        return _first(self._reader, statement, given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Every row of a read. Raises DatabaseUnavailable."""
        return _every(self._reader, statement, given)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """Reads that all see the database as it stood at the first one. Writing is refused."""
        connection = _connect(self._path)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            yield Transaction(connection, self._thread)
        finally:
            connection.close()

    async def check(self) -> None:
        """Read from the file, for readiness. Raises DatabaseUnavailable."""
        _run(self._reader, "PRAGMA schema_version")

    @asynccontextmanager
    async def transaction(self, *, durable: bool) -> AsyncIterator[Transaction]:
        """One write transaction: commits when the block ends, rolls back when it raises.

        With `durable`, the commit has reached the disk before the block is left: for money and
        for whatever was promised to a client. A commit once begun is seen to its end, then a
        cancellation is raised. Raises DatabaseUnavailable; then nothing was changed.
        """
        async with self._write_lock:
            await self._begin(durable=durable)
            try:
                yield Transaction(self._writer, self._thread)
                await self._commit(durable=durable)
            finally:
                self._uncheckpointed.set()
                self._roll_back()

    async def _begin(self, *, durable: bool) -> None:
        """Begin, waiting for a writer of another process as long as is bearable."""
        self._roll_back()
        if durable is not self._is_durable:
            _run(self._writer, f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable
        deadline = asyncio.get_running_loop().time() + _BUSY_WAIT_SECONDS
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                late = asyncio.get_running_loop().time() >= deadline
                if late or not _is_busy(error):
                    raise _ours(error) from error
            else:
                return
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)

    async def _commit(self, *, durable: bool) -> None:
        if durable:
            loop = asyncio.get_running_loop()
            await to_its_end(loop.run_in_executor(self._thread, _run, self._writer, "COMMIT"))
        else:
            _run(self._writer, "COMMIT")

    def _roll_back(self) -> None:
        """Leave the transaction, unless it was committed or SQLite has left it already."""
        if self._writer.in_transaction:
            _run(self._writer, "ROLLBACK")

    async def run(self) -> None:
        """Checkpoint the write-ahead log now and then, until cancelled."""
        while True:
            await self._uncheckpointed.wait()
            self._uncheckpointed.clear()
            try:
                await in_thread(_run, self._checkpointer, "PRAGMA wal_checkpoint(PASSIVE)")
            except DatabaseUnavailable:
                self._uncheckpointed.set()  # nothing is lost: the log only grows meanwhile
            await asyncio.sleep(_CHECKPOINT_SECONDS)

    def close(self) -> None:
        """Close the file; a transaction under way has ended."""
        self._thread.shutdown()
        for connection in (self._reader, self._writer, self._checkpointer):
            connection.close()


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection

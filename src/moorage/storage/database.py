"""A thin database: SQLAlchemy Core statements, compiled once, run on SQLite.

Reads run in the event loop on a connection of their own (WAL: they never wait for a writer).
Writes run one transaction at a time. A durable transaction has reached the disk when it commits;
its fsync happens in a thread. Checkpoints of the write-ahead log happen in a thread as well.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter

from moorage.errors import DatabaseUnavailable

Value = int | str | None
Row = tuple[Any, ...]

_DIALECT = sqlite.dialect(paramstyle="named")
_BUSY_WAIT_SECONDS = 5.0
_CHECKPOINT_SECONDS = 5.0


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


class Transaction:
    """The statements of one write transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """The first row, as the transaction sees it."""
        row: Row | None = self._execute(statement, given).fetchone()
        return row

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Every row, as the transaction sees it."""
        return self._execute(statement, given).fetchall()

    async def execute(self, statement: Statement, **given: Value) -> int:
        """Run a write; gives the number of rows it touched. Raises UniqueViolation."""
        return self._execute(statement, given).rowcount

    def _execute(self, statement: Statement, given: Mapping[str, Value]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement.sql, statement.parameters(given))
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in _UNIQUE_CODES:
                raise UniqueViolation(str(error)) from error
            raise
        except sqlite3.OperationalError as error:
            raise DatabaseUnavailable(str(error)) from error


class UniqueViolation(Exception):
    """A row with this key exists; the transaction is to be left."""


_UNIQUE_CODES = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


class Database:
    """One SQLite file. Open it in the event loop that uses it."""

    def __init__(self, path: Path) -> None:
        self._reader = _connect(path)
        self._reader.execute("PRAGMA query_only = ON")
        self._writer = _connect(path)
        self._writer.execute("PRAGMA wal_autocheckpoint = 0")
        self._writer.execute("PRAGMA busy_timeout = 0")
        self._checkpointer = _connect(path)
        self._write_lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._uncheckpointed = asyncio.Event()

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """The first row of a read, or None. Raises DatabaseUnavailable."""
        row: Row | None = self._read(statement, given).fetchone()
        return row

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """Every row of a read. Raises DatabaseUnavailable."""
        return self._read(statement, given).fetchall()

    def _read(self, statement: Statement, given: Mapping[str, Value]) -> sqlite3.Cursor:
        try:
            return self._reader.execute(statement.sql, statement.parameters(given))
        except sqlite3.OperationalError as error:
            raise DatabaseUnavailable(str(error)) from error

    @asynccontextmanager
    async def transaction(self, *, durable: bool) -> AsyncIterator[Transaction]:
        """One write transaction: commits when the block ends, rolls back when it raises.

        With `durable`, the commit has reached the disk before the block is left: for money and
        for whatever was promised to a client. Raises DatabaseUnavailable.
        """
        async with self._write_lock:
            await self._begin(durable=durable)
            try:
                yield Transaction(self._writer)
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            await self._commit(durable=durable)
        self._uncheckpointed.set()

    async def _begin(self, *, durable: bool) -> None:
        deadline = asyncio.get_running_loop().time() + _BUSY_WAIT_SECONDS
        while True:
            try:
                self._writer.execute(
                    "PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL"
                )
                self._writer.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                late = asyncio.get_running_loop().time() > deadline
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or late:
                    raise DatabaseUnavailable(str(error)) from error
            await asyncio.sleep(0.01)

    async def _commit(self, *, durable: bool) -> None:
        try:
            if durable:
                await self._in_thread(self._writer.execute, "COMMIT")
            else:
                self._writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise DatabaseUnavailable(str(error)) from error

    async def _in_thread(self, function: Any, *args: Any) -> None:
        """Run to its end even when the caller is cancelled: the connection is not shared."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def run(self) -> None:
        """Checkpoint the write-ahead log now and then, until cancelled."""
        while True:
            await self._uncheckpointed.wait()
            self._uncheckpointed.clear()
            await asyncio.to_thread(self._checkpointer.execute, "PRAGMA wal_checkpoint(PASSIVE)")
            await asyncio.sleep(_CHECKPOINT_SECONDS)

    def close(self) -> None:
        """Close the file; a transaction under way has ended."""
        self._thread.shutdown()
        for connection in (self._reader, self._writer, self._checkpointer):
            connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection

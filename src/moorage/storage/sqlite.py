"""A database in an SQLite file.

Reads run in the event loop on their own connection (WAL: they never wait for a writer). One write
transaction runs at a time. A durable transaction is on disk when its commit returns; its fsync
runs in a thread, and so do checkpoints of the write-ahead log.

Transactions that wait for their turn meanwhile share the next commit: forcing the log to disk costs
more than all statements of a payment.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import structlog
from sqlalchemy.dialects import sqlite

from moorage.errors import CommitUnknown, DatabaseUnavailable, UniqueViolation
from moorage.storage.database import Database, Row, Statement, Transaction, Value
from moorage.threads import in_thread, to_its_end

log = structlog.get_logger()

_NONE: Mapping[str, Value] = {}
_DIALECT = sqlite.dialect(paramstyle="named")
_BUSY_WAIT_SECONDS = 5.0
_BUSY_PAUSE_SECONDS = 0.01
_CHECKPOINT_SECONDS = 5.0
_WRITER_CACHE_KIB = 64 * 1024  # metering reads all of it; a smaller database fills less
_PRIMARY_CODE = 0xFF  # an extended result code's low byte (sqlite3.h)
_UNIQUE_CODES = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_FAULTS_OF_OURS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)


class _Transaction(Transaction):
    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        return _first(self._connection, statement, given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        return _every(self._connection, statement, given)

    async def execute(self, statement: Statement, **given: Value) -> int:
        compiled = statement.compiled(_DIALECT)
        return _run(self._connection, compiled.sql, compiled.parameters(given))

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        """Runs in a thread, as there may be many rows."""
        compiled = statement.compiled(_DIALECT)
        given = [compiled.parameters(row) for row in rows]
        loop = asyncio.get_running_loop()
        await to_its_end(
            loop.run_in_executor(self._thread, _run_many, self._connection, compiled.sql, given)
        )


def _ours(error: sqlite3.Error) -> Exception:
    """Returns UniqueViolation or DatabaseUnavailable for a driver's error, or a fault of ours."""
    if getattr(error, "sqlite_errorcode", None) in _UNIQUE_CODES:
        return UniqueViolation()
    if isinstance(error, _FAULTS_OF_OURS):
        return error
    log.warning("database refuses", error=str(error))
    return DatabaseUnavailable()


def _first(
    connection: sqlite3.Connection, statement: Statement, given: Mapping[str, Value]
) -> Row | None:
    compiled = statement.compiled(_DIALECT)
    try:
        row: Row | None = connection.execute(compiled.sql, compiled.parameters(given)).fetchone()
    except sqlite3.Error as error:
        raise _ours(error) from error
    return row


def _every(
    connection: sqlite3.Connection, statement: Statement, given: Mapping[str, Value]
) -> list[Row]:
    compiled = statement.compiled(_DIALECT)
    try:
        return connection.execute(compiled.sql, compiled.parameters(given)).fetchall()
    except sqlite3.Error as error:
        raise _ours(error) from error


def _run(connection: sqlite3.Connection, sql: str, given: Mapping[str, Value] = _NONE) -> int:
    """Runs a statement; returns the number of rows it touched."""
    try:
        return connection.execute(sql, given).rowcount
    except sqlite3.Error as error:
        raise _ours(error) from error


def _run_many(
    connection: sqlite3.Connection, sql: str, rows: Sequence[Mapping[str, Value]]
) -> None:
    try:
        connection.executemany(sql, rows)
    except sqlite3.Error as error:
        raise _ours(error) from error


def _commit(connection: sqlite3.Connection) -> None:
    """Commits. Raises CommitUnknown where writing failed: it may still be there after a crash."""
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if _primary_code(error) == sqlite3.SQLITE_IOERR:
            log.exception("database does not tell whether it committed")
            raise CommitUnknown from error
        raise _ours(error) from error


class _Group:
    """Transactions that one commit ends, after each of them has run: all of them last, or none."""

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self._ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception | None) -> None:
        """Tells every transaction of it that it was committed, or why it was not."""
        self._ended.set_result(error)

    async def wait(self) -> None:
        """Waits until it is committed, even if cancelled. Raises why it was not."""
        error = await to_its_end(self._ended)
        if isinstance(error, DatabaseUnavailable):
            raise type(error) from error  # one for each caller, which may add to it
        if error is not None:
            raise error


class SqliteDatabase(Database):
    """One SQLite file. Open it in the event loop that uses it."""

    def __init__(self, path: Path, *, speed: float = 1.0) -> None:
        """`speed` divides how long it waits for another process that writes."""
        self._path = path
        self._speed = speed
        self._reader = _connect_reading(path)
        self._spare: list[sqlite3.Connection] = []  # for snapshots, one at most
        self._writer = _connect(path)
        self._writer.execute("PRAGMA wal_autocheckpoint = 0")
        self._writer.execute("PRAGMA busy_timeout = 0")
        self._writer.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        self._is_durable: bool | None = None  # what the writer's pragma is set to
        self._checkpointer = _connect(path)
        self._write_lock = asyncio.Lock()
        self._waiting = 0  # for that lock
        self._group: _Group | None = None  # has run, and is not committed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._uncheckpointed = asyncio.Event()

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """On the connection that reads, in the event loop."""
        return _first(self._reader, statement, given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """On the connection that reads, in the event loop."""
        return _every(self._reader, statement, given)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """Reads on its own connection, which is kept for the next one: opening one takes 0.5 ms."""
        connection = self._spare.pop() if self._spare else _connect_reading(self._path)
        try:
            connection.execute("BEGIN")
            yield _Transaction(connection, self._thread)
        finally:
            connection.rollback()
            if self._spare:
                connection.close()
            else:
                self._spare.append(connection)

    async def check(self) -> None:
        """Reads the file's schema version."""
        _run(self._reader, "PRAGMA schema_version")

    @asynccontextmanager
    async def transaction(
        self,
        *,
        durable: bool,
        of: Collection[str] = (),  # noqa: ARG002 (one at a time writes to a file)
    ) -> AsyncIterator[Transaction]:
        """Waits for this process's other transactions, and some seconds for other processes.

        The first of a group commits it, once all have run that waited for their turn meanwhile.
        """
        group: _Group | None = None
        try:
            async with self._turn():
                joined = group = await self._joined(durable=durable)
                if joined is None:
                    await self._begin(durable=durable)
                try:
                    with self._part_of(joined):
                        yield _Transaction(self._writer, self._thread)
                finally:
                    self._uncheckpointed.set()
                if joined is None and self._waiting:
                    group = self._group = _Group(durable=durable)
                elif joined is None:
                    await self._commit(durable=durable)
        except Exception:
            if group is not None:  # what it was refused for may not be there in the end
                await group.wait()
            raise
        if group is not None and joined is None:
            await to_its_end(self._end_in_turn(group))
        if group is not None:
            await group.wait()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._write_lock.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._write_lock.release()

    async def _joined(self, *, durable: bool) -> _Group | None:
        """Returns the group that has run, if it is good enough to join, else commits it."""
        group = self._group
        if group is not None and durable and not group.durable:
            await self._end(group)
            return None
        return group

    @contextmanager
    def _part_of(self, group: _Group | None) -> Iterator[None]:
        """Takes back what is written within, and no more, if it ends with an error."""
        if group is not None:
            _run(self._writer, "SAVEPOINT part")
        try:
            yield
            if group is not None:
                _run(self._writer, "RELEASE part")
        except BaseException:
            if group is None:
                self._roll_back()
            elif not self._take_back_part():
                self._group = None
                group.end(DatabaseUnavailable())
            raise

    def _take_back_part(self) -> bool:
        """Takes back what was written since the savepoint; False when the whole group is gone.

        SQLite itself rolls all of it back at some errors of input and output.
        """
        try:
            _run(self._writer, "ROLLBACK TO part")
            _run(self._writer, "RELEASE part")
        except DatabaseUnavailable:
            self._roll_back()
            return False
        return True

    async def _end_in_turn(self, group: _Group) -> None:
        """Commits the group after those that wait now, unless somebody else has ended it.

        Even if cancelled, as all tasks are at an event loop's end: others wait for the outcome.
        """
        while self._group is group:
            with suppress(asyncio.CancelledError):
                async with self._turn():
                    if self._group is group:
                        await self._end(group)

    async def _end(self, group: _Group) -> None:
        """Commits the group, and tells its transactions."""
        self._group = None
        try:
            await self._commit(durable=group.durable)
        except Exception as error:  # noqa: BLE001 (each of its transactions raises it)
            group.end(error)
        except asyncio.CancelledError:  # it waited for the outcome, and dropped it
            group.end(CommitUnknown())
            raise
        else:
            group.end(None)

    async def _begin(self, *, durable: bool) -> None:
        """Begins, after waiting up to `_BUSY_WAIT_SECONDS` for another process that writes."""
        self._roll_back()
        if durable is not self._is_durable:
            _run(self._writer, f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable
        deadline = asyncio.get_running_loop().time() + _BUSY_WAIT_SECONDS / self._speed
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                late = asyncio.get_running_loop().time() >= deadline
                if late or not (_primary_code(error) == sqlite3.SQLITE_BUSY):
                    raise _ours(error) from error
            else:
                return
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)

    async def _commit(self, *, durable: bool) -> None:
        try:
            if durable:
                loop = asyncio.get_running_loop()
                await to_its_end(loop.run_in_executor(self._thread, _commit, self._writer))
            else:
                _commit(self._writer)
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        """Rolls back, unless the transaction was committed or SQLite has ended it already."""
        if self._writer.in_transaction:
            _run(self._writer, "ROLLBACK")

    async def run(self) -> None:
        """Checkpoints the write-ahead log after writes, until cancelled."""
        while True:
            await self._uncheckpointed.wait()
            self._uncheckpointed.clear()
            try:
                await in_thread(_run, self._checkpointer, "PRAGMA wal_checkpoint(PASSIVE)")
            except DatabaseUnavailable:
                self._uncheckpointed.set()  # nothing is lost: the log only grows until the next try
            await asyncio.sleep(_CHECKPOINT_SECONDS)

    def close(self) -> None:
        """Closes the file. No transaction may be open."""
        self._thread.shutdown()
        for connection in (self._reader, self._writer, self._checkpointer, *self._spare):
            connection.close()


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE


def _connect_reading(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection

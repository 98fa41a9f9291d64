"""A database on a PostgreSQL server, 15 or later; also behind a pooler of transactions.

A pooler may choose another session for each transaction, so nothing is kept in a session.

Write transactions first take one lock of the whole schema, so that one runs at a time, as in an
SQLite file: what it has read stays true, whichever gateway writes. Those that name whose rows they
change share that lock, and take one of each name besides: so several wallets' payments are booked
at the same time. Reads need no lock.

The functions at the end are about a database that no gateway uses yet: its schema's revision, and
what it is for. They block, and each has a connection of its own.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import structlog
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from moorage.errors import CommitUnknown, ConfigurationInvalid, DatabaseUnavailable, UniqueViolation
from moorage.storage.database import Database, Row, Statement, Transaction, Value
from moorage.threads import to_its_end

log = structlog.get_logger()

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
_CONNECTIONS = 8
SECONDS = 30.0
"""How long a connection, a free place in the pool, or a statement may be waited for."""

_WRITERS = 2
"""Transactions of a gateway that have the lock or wait for it at the server: one, and the next."""

_SHARERS = 4
"""The same of transactions that share it."""

_MAX_NAMES = 30
"""What names more runs alone: a server has room for some thousand locks, of all who use it."""

IDLE_SECONDS = 8.0
"""How long a gateway may do nothing within a transaction, as all others wait for its end.

One that is cut off from the server, or stands still, holds up the others for this time, and for
half as long again until one of them checks who does. Together that is less than what is left of any
lease when it is renewed.
"""

_STATEMENTS = 200  # prepared ones that a session keeps, where nothing lies between
_OWN_SESSION = "SELECT pg_backend_pid()"

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
"""Whatever the server's defaults are. Stricter levels would read as of before the lock was had."""

_WRITE_LOCK = 0x4D4F4F52  # "MOOR"
LOCK = f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"
"""The statement that a write transaction begins with, unless it names whose rows it is about."""

_SHARED_LOCK = f"SELECT pg_advisory_xact_lock_shared({_WRITE_LOCK})"
_LOCK_OF_NAME = f"SELECT pg_advisory_xact_lock({_WRITE_LOCK}, {{key}})"

_END_SILENT = f"""
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = 0 AND objid = {_WRITE_LOCK} AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND usename = current_user AND state != 'disabled' AND wait_event_type = 'Client'
    AND state_change < clock_timestamp() - make_interval(secs => {{seconds}})
"""  # noqa: S608 (constants)
"""Ends who has the lock, and for some seconds has neither sent anything nor read an answer.

The server's own timeout counts between statements only. The driver prepares a statement without
ending it there: who is cut off before it asks for its rows would have the lock for ever.
"""

_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
"""Else a server that crashes forgets what the gateway, which keeps running, relies on."""

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""The connection is gone, or no answer came."""

UNREACHABLE = (asyncpg.PostgresError, *_LOST)
"""What a server, or the way to it, may answer anything with."""

_PASSING = (
    asyncpg.TransactionRollbackError,  # a serialization failure, a deadlock
    asyncpg.OperatorInterventionError,  # the server stops
    asyncpg.InsufficientResourcesError,  # too many connections, a full disk
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidTransactionStateError,  # a standby; the gateway stood still
    asyncpg.LockNotAvailableError,  # others write, and each of them goes on
    asyncpg.InvalidCachedStatementError,  # another version has just changed the schema
)


class _Transaction(Transaction):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        row = await _asked(self._connection.fetchrow, statement, given)
        return None if row is None else tuple(row)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        return [tuple(row) for row in await _asked(self._connection.fetch, statement, given)]

    async def execute(self, statement: Statement, **given: Value) -> int:
        done: str = await _asked(self._connection.execute, statement, given)
        count = done.rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        compiled = statement.compiled(_DIALECT)
        try:
            await self._connection.executemany(
                compiled.sql, [compiled.positional(row) for row in rows], timeout=SECONDS
            )
        except UNREACHABLE as error:
            raise _ours(error) from error


class PostgresDatabase(Database):
    """One schema of one database; `url` names it (`postgresql://…`)."""

    def __init__(
        self, url: str, *, wait_seconds: float = SECONDS, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """`wait_seconds` and `idle_seconds` are what SECONDS and IDLE_SECONDS say."""
        self._url = url
        self._seconds = wait_seconds
        self._idle_seconds = idle_seconds
        self._end_silent = _END_SILENT.format(seconds=idle_seconds)
        self._opening = asyncio.Lock()
        self._writers = asyncio.Semaphore(_WRITERS)
        self._sharers = asyncio.Semaphore(_SHARERS)
        self._pool: asyncpg.Pool | None = None
        self._pooled = False

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        """On any free connection."""
        async with self._connection() as connection:
            return await _Transaction(connection).one(statement, **given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        """On any free connection."""
        async with self._connection() as connection:
            return await _Transaction(connection).all(statement, **given)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """Isolated by `REPEATABLE READ`."""
        async with self._connection() as connection:
            await _run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield _Transaction(connection)
            finally:
                await _roll_back(connection)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        durable: bool,  # noqa: ARG002 (each is)
        of: Collection[str] = (),
    ) -> AsyncIterator[Transaction]:
        """Waits for the write transactions of all gateways, with `of` for some. Each is durable."""
        if len(of) > _MAX_NAMES:
            of = ()
        places = self._sharers if of else self._writers
        async with self._place_among(places), self._connection() as connection:
            try:
                await self._lock(connection, _beginning(self._idle_seconds, of))
                yield _Transaction(connection)
            except BaseException:
                await _roll_back(connection)
                raise
            await to_its_end(asyncio.ensure_future(_commit(connection)))

    async def check(self) -> None:
        """Asks the server for nothing."""
        async with self._connection() as connection:
            await _run(connection, "SELECT 1")

    async def run(self) -> None:
        """Does nothing: the server maintains itself."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Closes the connections at once."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def _place_among(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                await places.acquire()
        except TimeoutError as error:
            raise _ours(error) from error
        try:
            yield
        finally:
            places.release()

    async def _lock(self, connection: Any, begin: str) -> None:
        """Begins a transaction that has the lock, which it takes from who keeps it in silence.

        It checks on its own connection, as a pooler may have no other to give.
        """
        given_up = time.monotonic() + self._seconds
        while True:
            try:
                await connection.execute(begin)
            except asyncpg.LockNotAvailableError as error:
                await _roll_back(connection)
                if time.monotonic() >= given_up:
                    raise _ours(error) from error
                await _run(connection, self._end_silent)
            except UNREACHABLE as error:
                raise _ours(error) from error
            else:
                return

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = await self._opened()
        try:
            connection = await pool.acquire(timeout=self._seconds)
        except UNREACHABLE as error:
            raise _ours(error) from error
        try:
            yield connection
        finally:
            await asyncio.shield(_released(pool, connection))

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                try:
                    self._pooled = await self._is_pooled()
                    self._pool = await asyncpg.create_pool(
                        self._url,
                        min_size=0,
                        max_size=_CONNECTIONS,
                        timeout=self._seconds,
                        command_timeout=self._seconds,
                        statement_cache_size=0 if self._pooled else _STATEMENTS,
                        init=self._prepare,
                        reset=_nothing_to_reset,
                    )
                except UNREACHABLE as error:
                    raise _ours(error) from error
            return self._pool

    async def _prepare(self, connection: Any) -> None:
        """Has sums be whole numbers: PostgreSQL's type for them has a fraction, and no bound."""
        if not self._pooled and await is_pooled(connection):
            self.close()  # it came between just now
            raise asyncpg.InterfaceError("a pooler is there that was not: connect again")
        await connection.set_type_codec(
            "numeric", schema="pg_catalog", encoder=str, decoder=int, format="text"
        )

    async def _is_pooled(self) -> bool:
        connection = await asyncpg.connect(
            self._url, timeout=self._seconds, command_timeout=self._seconds, statement_cache_size=0
        )
        try:
            return await is_pooled(connection)
        finally:
            connection.terminate()


def _beginning(idle_seconds: float, of: Collection[str]) -> str:
    """Returns how a write transaction begins; it fails when the lock is not had in half the time.

    So what waits for a gateway that is gone is gone itself before it could have the lock.
    """
    idle_ms = idle_seconds * 1000
    lock = "; ".join(_shared_locks(of)) if of else LOCK
    return (
        f"{_BEGIN}; SET LOCAL idle_in_transaction_session_timeout = {idle_ms:.0f}; "
        f"SET LOCAL lock_timeout = {idle_ms / 2:.0f}; {_DURABLE}; {lock}; "
        "SET LOCAL lock_timeout TO DEFAULT"
    )


def _shared_locks(of: Collection[str]) -> list[str]:
    """Returns the statements that take a share of the lock, and each name's lock.

    All take them in the same order, so that no two wait for each other. Two names may have one
    lock: then one waits for the other without need.
    """
    keys = sorted({zlib.crc32(name.encode()) - 2**31 for name in of})
    return [_SHARED_LOCK, *(_LOCK_OF_NAME.format(key=key) for key in keys)]


async def is_pooled(connection: Any) -> bool:
    """Whether this transaction's session is not the one that was connected to."""
    session: int = await connection.fetchval(_OWN_SESSION)
    return bool(session != connection.get_server_pid())


async def _nothing_to_reset(_: Any) -> None:
    """A connection keeps nothing between transactions."""


async def _released(pool: asyncpg.Pool, connection: Any) -> None:
    with suppress(*UNREACHABLE):
        await pool.release(connection)


async def _asked(ask: Any, statement: Statement, given: Mapping[str, Value]) -> Any:
    compiled = statement.compiled(_DIALECT)
    try:
        return await ask(compiled.sql, *compiled.positional(given))
    except UNREACHABLE as error:
        raise _ours(error) from error


async def _run(connection: Any, sql: str) -> None:
    try:
        await connection.execute(sql)
    except UNREACHABLE as error:
        raise _ours(error) from error


async def _commit(connection: Any) -> None:
    """Commits. Raises CommitUnknown unless the server says that it did, or that it did not.

    A server that stops may say so after it has committed.
    """
    try:
        done = await connection.execute("COMMIT")
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.TransactionRollbackError) as error:
        raise _ours(error) from error
    except UNREACHABLE as error:
        log.warning("database does not tell whether it committed", error=str(error))
        raise CommitUnknown from error
    if done != "COMMIT":  # a statement failed before, and the block went on
        raise DatabaseUnavailable


async def _roll_back(connection: Any) -> None:
    """Rolls back; a connection that can't is lost, and with it what it had begun."""
    with suppress(*UNREACHABLE):
        await asyncio.shield(connection.execute("ROLLBACK"))


def _ours(error: Exception) -> Exception:
    """Returns UniqueViolation or DatabaseUnavailable for a driver's error, or a fault of ours."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return UniqueViolation()
    if isinstance(error, (*_LOST, *_PASSING)):
        log.warning("database refuses", error=str(error))
        return DatabaseUnavailable()
    return error


UPGRADE_SECONDS = 10.0
"""How long an upgrade waits for a table that others use; requests wait behind it as long."""

_Answer = TypeVar("_Answer")
_HAS_SCHEMA = "SELECT to_regclass('alembic_version') IS NOT NULL"
_COMMENT = "SELECT obj_description('alembic_version'::regclass, 'pg_class')"


_FACTS = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
    pg_is_in_recovery(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
"""
_CLOSING_SQL = """
SELECT CASE WHEN has_database_privilege('public', datname, 'CONNECT') THEN
    format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC;', datname)
    || CASE WHEN pg_has_role(current_user, datdba, 'USAGE') THEN ''
        ELSE format(' GRANT CONNECT ON DATABASE %I TO %I;', datname, current_user) END
    ELSE '' END
FROM pg_database WHERE datname = current_database()
"""


OPEN_TO_ALL = (
    "every role of the server may connect to this database, and hold the gateway's locks: revoke "
    "that"
)
"""What is wrong with a database whose `closing_sql` is not empty."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a server says of itself, and of the database that a URL names there."""

    version: int
    encoding: str
    standby: bool  # it can only be read
    may_create: bool  # tables, in the schema that is searched first
    pooled: bool  # something between chooses a connection of its own for each transaction
    closing_sql: str = ""  # keeps the server's other roles out; "" where PUBLIC may not connect


def server_facts(url: str) -> Server:
    """Returns what a server says of itself."""

    async def read(connection: Any) -> Server:
        version, encoding, standby, may_create = await connection.fetchrow(_FACTS)
        return Server(
            version=version,
            encoding=encoding,
            standby=standby,
            may_create=may_create,
            pooled=await is_pooled(connection),
            closing_sql=await connection.fetchval(_CLOSING_SQL),
        )

    return _answered(url, read)


def require_closed(url: str) -> None:
    """Raises ConfigurationInvalid for a database that every role of its server may connect to.

    Whoever is connected can take the advisory locks of a database, without a right to any row, and
    so keep the gateway from writing for as long as it likes.
    """

    async def read(connection: Any) -> str:
        return str(await connection.fetchval(_CLOSING_SQL))

    if sql := _answered(url, read):
        raise ConfigurationInvalid(f"database_url: {OPEN_TO_ALL}, as its owner: {sql}")


def revision(url: str) -> str | None:
    """Returns the schema's revision; None without a schema. Raises as all here do.

    ConfigurationInvalid for a URL that cannot be read; DatabaseUnavailable for a server that
    cannot be reached or refuses.
    """
    return _answered(url, _revision_in)


def comment(url: str) -> str | None:
    """Returns what the database says of itself, as `set_comment` stored it."""

    async def read(connection: Any) -> str | None:
        if not await connection.fetchval(_HAS_SCHEMA):
            return None
        text: str | None = await connection.fetchval(_COMMENT)
        return text

    return _answered(url, read)


def set_comment(url: str, text: str) -> str:
    """Stores what a database says of itself, unless it says something; returns what it says then.

    It is the comment of a table, which copies of the database have too.
    """

    async def store(connection: Any) -> str:
        await connection.execute(LOCK)
        stored: str | None = await connection.fetchval(_COMMENT)
        if stored is None:
            quoted = text.replace("'", "''")
            await connection.execute(f"COMMENT ON TABLE alembic_version IS '{quoted}'")
        return stored or text

    return _answered(url, store)


def upgrade(url: str, script: Callable[[str | None], str]) -> None:
    """Runs the SQL that `script` returns for the revision that the database has; "" for nothing.

    In one transaction; gateways that start at the same time do it one after the other. Raises
    DatabaseUnavailable as well where others use a table that is altered, for `UPGRADE_SECONDS`.
    """

    async def run(connection: Any) -> None:
        await connection.execute(LOCK)
        if sql := script(await _revision_in(connection)):
            await connection.execute(f"SET LOCAL lock_timeout = {UPGRADE_SECONDS * 1000:.0f}")
            await connection.execute(sql)

    _answered(url, run)


async def _revision_in(connection: Any) -> str | None:
    """Returns the schema's revision; None without a schema."""
    if not await connection.fetchval(_HAS_SCHEMA):
        return None
    found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return found


def _answered(url: str, ask: Callable[[Any], Awaitable[_Answer]]) -> _Answer:
    """Returns what `ask` does, in one transaction on a connection of its own."""
    return asyncio.run(_ask_server(url, ask))


async def _ask_server(url: str, ask: Callable[[Any], Awaitable[_Answer]]) -> _Answer:
    async with _connected(url) as connection, connection.transaction(isolation="read_committed"):
        return await ask(connection)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    """Yields a connection of its own; what the server refuses within it becomes an error of ours.

    Raises ConfigurationInvalid for a URL that cannot be read; DatabaseUnavailable.
    """
    try:
        connection = await asyncpg.connect(url, timeout=SECONDS, statement_cache_size=0)
    except (asyncpg.ClientConfigurationError, ValueError):
        # The driver's own sentence may quote a part of the password.
        raise ConfigurationInvalid(
            "database_url: it is not of the form postgresql://user:password@host:5432/database. "
            "Characters such as @ / : ? # % in the password are written as %40 %2F %3A %3F %23 %25."
        ) from None
    except UNREACHABLE as error:
        raise _unavailable(error) from error
    try:
        yield connection
    except UNREACHABLE as error:
        raise _unavailable(error) from error
    finally:
        connection.terminate()


def _unavailable(error: Exception) -> DatabaseUnavailable:
    problem = str(error) or "it does not answer"
    return DatabaseUnavailable(f"database_url: the server cannot be used: {problem}.")

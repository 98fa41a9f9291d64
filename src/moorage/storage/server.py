"""A PostgreSQL server's database as a whole: its schema's revision, and what it is for.

For moments when no gateway uses it yet. The functions block, and each has a connection of its own.
Everything happens in transactions, so that a pooler of transactions may lie between.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from moorage.errors import ConfigurationInvalid, DatabaseUnavailable
from moorage.storage.postgres import LOCK, SECONDS, UNREACHABLE, is_pooled

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


def look(url: str) -> Server:
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

    return _asked(url, read)


def require_closed(url: str) -> None:
    """Raises ConfigurationInvalid for a database that every role of its server may connect to.

    Whoever is connected can take the advisory locks of a database, without a right to any row, and
    so keep the gateway from writing for as long as it likes.
    """

    async def read(connection: Any) -> str:
        return str(await connection.fetchval(_CLOSING_SQL))

    if sql := _asked(url, read):
        raise ConfigurationInvalid(f"database_url: {OPEN_TO_ALL}, as its owner: {sql}")


def revision(url: str) -> str | None:
    """Returns the schema's revision; None without a schema. Raises as all here do.

    ConfigurationInvalid for a URL that cannot be read; DatabaseUnavailable for a server that
    cannot be reached or refuses.
    """
    return _asked(url, _revision_in)


def comment(url: str) -> str | None:
    """Returns what the database says of itself, as `set_comment` stored it."""

    async def read(connection: Any) -> str | None:
        if not await connection.fetchval(_HAS_SCHEMA):
            return None
        text: str | None = await connection.fetchval(_COMMENT)
        return text

    return _asked(url, read)


def set_comment(url: str, text: str) -> str:
    """Stores what a database says of itself, unless it says something; returns what it says then.

    It is the comment of a table, which copies of the database have too.
    """

    async def store(connection: Any) -> str:
        await connection.execute(LOCK)
        said: str | None = await connection.fetchval(_COMMENT)
        if said is None:
            quoted = text.replace("'", "''")
            await connection.execute(f"COMMENT ON TABLE alembic_version IS '{quoted}'")
        return said or text

    return _asked(url, store)


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

    _asked(url, run)


async def _revision_in(connection: Any) -> str | None:
    """Returns the schema's revision; None without a schema."""
    if not await connection.fetchval(_HAS_SCHEMA):
        return None
    found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return found


def _asked(url: str, ask: Callable[[Any], Awaitable[_Answer]]) -> _Answer:
    """Returns what `ask` does, in one transaction on a connection of its own."""
    return asyncio.run(_ask(url, ask))


async def _ask(url: str, ask: Callable[[Any], Awaitable[_Answer]]) -> _Answer:
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
    said = str(error) or "it does not answer"
    return DatabaseUnavailable(f"database_url: the server cannot be used: {said}.")

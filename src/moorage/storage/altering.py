"""Upgrades the schema of a PostgreSQL server's database while gateways serve from it.

All of it is one transaction: an upgrade that fails leaves nothing. Who reads several tables within
a transaction of its own takes no lock of ours, so an upgrade that waited for one table while it has
altered another could hold up a reader that waits for that one, each for ever. So all tables that
are altered are locked before anything is done, and only the first of them is waited for; where
another is in use, all are given back, and that one is waited for first. Nobody waits longer for an
upgrade that does not come to its turn than `WAIT_SECONDS` at a time.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import asyncpg
import structlog

from moorage.errors import DatabaseUnavailable
from moorage.storage.postgres import LOCK
from moorage.storage.server import connected, revision_in

log = structlog.get_logger()

WAIT_SECONDS = 2.0
"""How long a lock is waited for, and with it those that ask for the same later.

Longer than the server's `deadlock_timeout` (1 s), as only then it ends a vacuum that is in the way.
"""

UPGRADE_SECONDS = 60.0
"""How long an upgrade is tried. It may take longer once it has its locks."""

_WHOLE, _WRITES = "ACCESS EXCLUSIVE", "SHARE"  # what a lock keeps others from
_ALTERED = re.compile(r"^(?:ALTER|DROP) TABLE (\w+)", re.MULTILINE)
_INDEXED = re.compile(r"^CREATE (?:UNIQUE )?INDEX \w+ ON (\w+)", re.MULTILINE)
_CREATED = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
_THERE = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL"
_OLDEST = """
SELECT pid, coalesce(nullif(application_name, ''), backend_type),
    extract(epoch FROM clock_timestamp() - xact_start)::int
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid != pg_backend_pid()
ORDER BY xact_start LIMIT 1
"""


class _InUse(Exception):
    """A lock was not to be had."""

    def __init__(self, table: str, *, waited: bool) -> None:
        """`table` is "" where it was none of those that are locked first."""
        self.table = table
        self.waited = waited
        super().__init__(table)


def alter(
    url: str, script: Callable[[str | None], str], *, seconds: float = UPGRADE_SECONDS
) -> None:
    """Runs the SQL that `script` returns for the revision that the database has; "" for nothing.

    Gateways that start at the same time do it one after the other. Blocks. Raises
    DatabaseUnavailable when it did not come to its turn within `seconds`, and as `server.connected`
    does.
    """
    asyncio.run(_alter(url, cache(script), seconds))


def locks(script: str) -> Mapping[str, str]:
    """Returns the tables that a script finds and changes, and how each is locked, in its order."""
    made = set(_CREATED.findall(script))
    altered = dict.fromkeys(_ALTERED.findall(script), _WHOLE)
    indexed = dict.fromkeys(_INDEXED.findall(script), _WRITES)
    return {table: how for table, how in (indexed | altered).items() if table not in made}


async def _alter(url: str, script: Callable[[str | None], str], seconds: float) -> None:
    given_up, first = time.monotonic() + seconds, ""
    async with connected(url) as connection:
        since = await revision_in(connection)
        while sql := script(since):
            try:
                async with connection.transaction(isolation="read_committed"):
                    since = await _attempt(connection, sql, since=since, first=first)
            except _InUse as in_use:
                if time.monotonic() >= given_up:
                    raise DatabaseUnavailable(await _in_the_way(connection, seconds)) from None
                log.warning("upgrade of the database waits for its turn", table=in_use.table)
                if in_use.waited:  # and others behind it: now they have as long
                    await asyncio.sleep(WAIT_SECONDS)
                first = in_use.table


async def _attempt(connection: Any, sql: str, *, since: str | None, first: str) -> str | None:
    """Runs a script unless another gateway was faster; returns the revision that there is then."""
    await connection.execute(f"SET LOCAL lock_timeout = {WAIT_SECONDS * 1000:.0f}")
    try:
        await connection.execute(LOCK)
        found = await revision_in(connection)
        if found == since:
            await _lock(connection, locks(sql), first)
            await connection.execute(sql)
            found = await revision_in(connection)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        raise _InUse("", waited=True) from None
    return found


async def _lock(connection: Any, wanted: Mapping[str, str], first: str) -> None:
    """Locks all tables, or raises _InUse; waits for the first of them alone."""
    there = {row[0] for row in await connection.fetch(_THERE, list(wanted))}
    tables = sorted(there, key=lambda table: table != first)
    for number, table in enumerate(tables):
        how = f"LOCK TABLE {table} IN {wanted[table]} MODE {'NOWAIT' if number else ''}"
        try:
            await connection.execute(how)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            raise _InUse(table, waited=not number) from None


async def _in_the_way(connection: Any, seconds: float) -> str:
    """Says whose transaction lasts longest, which is the one to look at."""
    said = f"database_url: tables were in use for {seconds:.0f} s, so the schema is not upgraded"
    oldest = await connection.fetchrow(_OLDEST)
    if oldest is None:
        return f"{said}. Start it again."
    pid, name, lasts = oldest
    return (
        f"{said}. The longest transaction there is of session {pid} ({name}), for {lasts} s: wait "
        "for its end, or end it, and start it again."
    )

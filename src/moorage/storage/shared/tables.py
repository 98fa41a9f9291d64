"""Used nonces and counts of requests in PostgreSQL, and the mark, which it never loses.

The tables of nonces and counts are unlogged, so that a row costs no wait for the disk. A crash of
the server empties them: the row with the floor is gone then, too, which says so. They are no part
of the schema, and each start makes those that are missing.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import text

from moorage.errors import DatabaseUnavailable
from moorage.storage.database import Database, Row, Statement, Transaction
from moorage.storage.shared.holder import TABLES, Mark
from moorage.storage.shared.together import Together

_MAKE_LOCK = "SELECT pg_advisory_xact_lock(1297043282)"
_TABLES = (
    """CREATE UNLOGGED TABLE IF NOT EXISTS used_nonces
    (digest TEXT PRIMARY KEY, timestamp_ms BIGINT NOT NULL, body TEXT)""",
    "CREATE INDEX IF NOT EXISTS used_nonces_by_time ON used_nonces (timestamp_ms)",
    "CREATE UNLOGGED TABLE IF NOT EXISTS nonce_floor (id INT PRIMARY KEY, timestamp_ms BIGINT)",
    # This one is logged: it says what the others must not forget.
    """CREATE TABLE IF NOT EXISTS nonce_mark
    (id INT PRIMARY KEY, timestamp_ms BIGINT NOT NULL, holder TEXT NOT NULL DEFAULT '')""",
    """CREATE UNLOGGED TABLE IF NOT EXISTS request_counts
    (key TEXT PRIMARY KEY, times BIGINT[] NOT NULL, until_us BIGINT NOT NULL)""",
)
_USE = Statement(  # in the digests' order, so that no two gateways wait for each other
    text(
        "WITH floor AS (SELECT timestamp_ms FROM nonce_floor), "
        "added AS (INSERT INTO used_nonces (digest, timestamp_ms) SELECT it.digest, it.at_ms "
        "FROM json_to_recordset(CAST(:asked AS JSON)) AS it(digest TEXT, at_ms BIGINT), floor "
        "WHERE it.at_ms > floor.timestamp_ms ORDER BY it.digest "
        "ON CONFLICT DO NOTHING RETURNING digest) "
        "SELECT (SELECT timestamp_ms FROM floor), (SELECT string_agg(digest, ',') FROM added)"
    )
)
_REMEMBER = Statement(
    text(
        "UPDATE used_nonces SET body = CAST(:body AS TEXT) "
        "WHERE digest = CAST(:digest AS TEXT) AND body IS NULL RETURNING 1"
    )
)
_OF_BODY = Statement(
    text(
        "SELECT 1 FROM used_nonces "
        "WHERE digest = CAST(:digest AS TEXT) AND body = CAST(:body AS TEXT)"
    )
)
_RESTORE = Statement(
    text(
        "INSERT INTO nonce_floor SELECT 1, timestamp_ms FROM nonce_mark "
        "ON CONFLICT DO NOTHING RETURNING 1"
    )
)
_RAISE_FLOOR = Statement(
    text(
        "UPDATE nonce_floor SET timestamp_ms = greatest(timestamp_ms, CAST(:at_ms AS BIGINT)) "
        "RETURNING 1"
    )
)
_NEWEST = Statement(
    text("SELECT max(timestamp_ms) FROM used_nonces WHERE timestamp_ms <= CAST(:at_ms AS BIGINT)")
)
_FORGET = Statement(
    text(
        "WITH gone AS (DELETE FROM used_nonces WHERE timestamp_ms <= CAST(:at_ms AS BIGINT) "
        "RETURNING 1) SELECT count(*) FROM gone"
    )
)
_MARK = Statement(
    text(
        "INSERT INTO nonce_mark AS it VALUES (1, CAST(:at_ms AS BIGINT)) ON CONFLICT (id) "
        "DO UPDATE SET timestamp_ms = greatest(it.timestamp_ms, excluded.timestamp_ms) "
        "RETURNING timestamp_ms, holder"
    )
)
_READ_MARK = Statement(text("SELECT timestamp_ms, holder FROM nonce_mark"))
_SET_HOLDER = Statement(text("UPDATE nonce_mark SET holder = CAST(:holder AS TEXT)"))
_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
_BEFORE = "excluded.times[1] - (excluded.until_us - excluded.times[1])"  # the window's beginning
_COUNT = Statement(
    text(
        f"WITH asked AS MATERIALIZED (SELECT it.*, now.us FROM (SELECT {_NOW} AS us) AS now, "  # noqa: S608 (constants)
        "json_to_recordset(CAST(:asked AS JSON)) AS it(key TEXT, most BIGINT, window_us BIGINT)), "
        "counted AS (INSERT INTO request_counts AS it "
        "SELECT key, ARRAY[us], us + window_us FROM asked ORDER BY key "
        "ON CONFLICT (key) DO UPDATE SET "
        "times = (SELECT coalesce(array_agg(time), '{}') FROM unnest(it.times) AS time "
        f"WHERE time > {_BEFORE}) || excluded.times, until_us = excluded.until_us "
        f"WHERE (SELECT count(*) FROM unnest(it.times) AS time WHERE time > {_BEFORE}) "
        "< (SELECT most FROM asked WHERE asked.key = excluded.key) RETURNING key) "
        "SELECT asked.key, counted.key IS NOT NULL, "
        "(SELECT min(time) + asked.window_us - asked.us FROM unnest(it.times) AS time "
        "WHERE time > asked.us - asked.window_us) "
        "FROM asked LEFT JOIN counted ON counted.key = asked.key "
        "LEFT JOIN request_counts AS it ON it.key = asked.key"
    )
)
_FORGET_COUNTS = Statement(  # waits for no row: who counts many keys at once may wait for it
    text(
        "WITH gone AS (DELETE FROM request_counts WHERE key IN "  # noqa: S608 (constants)
        f"(SELECT key FROM request_counts WHERE until_us <= {_NOW} FOR UPDATE SKIP LOCKED) "
        "RETURNING 1) SELECT count(*) FROM gone"
    )
)


class _Use(NamedTuple):
    digest: str
    at_ms: int


class _Count(NamedTuple):
    key: str
    most: int
    window_us: int


class SharedTables:
    """Used nonces and counts of requests, in tables of a PostgreSQL database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._uses = Together(self._use_all)
        self._counts = Together(self._count_all)

    async def open(self, *, lost_ms: int) -> None:
        """Makes missing tables. `lost_ms`: no nonce was used elsewhere above this timestamp."""
        async with self._db.transaction(durable=True) as tx:
            await tx.one(Statement(text(_MAKE_LOCK)))
            for sql in _TABLES:
                await tx.execute(Statement(text(sql)))
            mark = _mark(await tx.one(_MARK, at_ms=lost_ms))
            await tx.one(_RESTORE)
            await tx.one(_RAISE_FLOOR, at_ms=lost_ms)
            if lost_ms >= 0 and mark.holder != TABLES:  # whose floor may be below it
                await _refuse_up_to(tx, mark)
                await tx.execute(_SET_HOLDER, holder=TABLES)

    async def use(self, digest: str, timestamp_ms: int) -> tuple[bool, int] | None:
        """Records a nonce; returns whether it is new, and the floor. None: all were lost.

        Nothing is recorded if its timestamp is not above the floor. Raises DatabaseUnavailable,
        as all methods do.
        """
        return await self._uses.ask(_Use(digest, timestamp_ms), key=digest)

    async def _use_all(self, asked: Sequence[_Use]) -> list[tuple[bool, int] | None]:
        row = await self._db.one(_USE, asked=_json(asked))
        floor_ms, added = row if row is not None else (None, None)
        if floor_ms is None:
            return [None] * len(asked)
        new = set((added or "").split(","))
        return [(each.digest in new, floor_ms) for each in asked]

    async def read_mark(self) -> Mark:
        """Returns the mark as it is."""
        return _mark(await self._db.one(_READ_MARK))

    async def mark(self, timestamp_ms: int) -> Mark:
        """Raises the mark, on the disk; returns it, with who holds the nonces now."""
        async with self._db.transaction(durable=True) as tx:
            return _mark(await tx.one(_MARK, at_ms=timestamp_ms))

    async def hand_over(self, lost: str, begin: Callable[[int], Awaitable[str]]) -> Mark:
        """Has another hold the nonces in place of `lost`, unless another does already.

        `begin` is given the mark, as the floor of whoever follows, and returns its name.
        """
        async with self._db.transaction(durable=True) as tx:
            mark = _mark(await tx.one(_READ_MARK))
            if mark.holder != lost:
                return mark
            holder = await begin(mark.timestamp_ms)
            if holder == TABLES:
                await _refuse_up_to(tx, mark)
            await tx.execute(_SET_HOLDER, holder=holder)
        return Mark(mark.timestamp_ms, holder)

    async def forget(self, until_ms: int) -> None:
        """Forgets the nonces up to a timestamp, and raises the floor to the newest of them.

        Not to the timestamp itself: a clock that was ahead for a moment would have it refuse all.
        """
        row = await self._db.one(_NEWEST, at_ms=until_ms)
        newest_ms = None if row is None else row[0]
        if newest_ms is not None and await self._db.one(_RAISE_FLOOR, at_ms=newest_ms) is not None:
            await self._db.one(_FORGET, at_ms=newest_ms)

    async def remember_body(self, digest: str, body: str) -> None:
        """Remembers the body of a used nonce's request."""
        await self._db.one(_REMEMBER, digest=digest, body=body)

    async def was_of_body(self, digest: str, body: str) -> bool:
        """Whether that body is remembered."""
        return await self._db.one(_OF_BODY, digest=digest, body=body) is not None

    async def count(self, key: str, *, limit: int, window_us: int) -> int:
        """Counts a request unless `limit` passed in the window; returns microseconds to wait."""
        return await self._counts.ask(_Count(key, limit, window_us), key=key)

    async def _count_all(self, asked: Sequence[_Count]) -> list[int]:
        rows = await self._db.all(_COUNT, asked=_json(asked))
        waits = {key: 0 if counted else max(1, int(wait_us or 1)) for key, counted, wait_us in rows}
        return [waits[each.key] for each in asked]

    async def forget_counts(self) -> None:
        """Forgets the keys that were quiet for their window."""
        await self._db.one(_FORGET_COUNTS)


async def _refuse_up_to(tx: Transaction, mark: Mark) -> None:
    """Makes the mark the tables' floor, where they have lost theirs, or others held the nonces."""
    await tx.one(_RESTORE)
    if mark.holder != TABLES:
        await tx.one(_RAISE_FLOOR, at_ms=mark.timestamp_ms)


def _json(asked: Sequence[_Use] | Sequence[_Count]) -> str:
    return msgspec.json.encode([each._asdict() for each in asked]).decode()


def _mark(row: Row | None) -> Mark:
    if row is None:  # somebody has deleted it
        raise DatabaseUnavailable
    return Mark(*row)

"""Used nonces and counts of requests in PostgreSQL, and the mark, which it never loses.

The tables of nonces and counts are unlogged, so that a row costs no wait for the disk. A crash of
the server empties them: the row with the floor is gone then, too, which says so. They are no part
of the schema, and each start makes those that are missing.
"""

from collections.abc import Awaitable, Callable

from sqlalchemy import text

from moorage.errors import DatabaseUnavailable
from moorage.storage.database import Database, Row, Statement, Transaction
from moorage.storage.shared.holder import TABLES, Mark

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
_USE = Statement(
    text(
        "WITH floor AS (SELECT timestamp_ms FROM nonce_floor), "
        "added AS (INSERT INTO used_nonces (digest, timestamp_ms) "
        "SELECT CAST(:digest AS TEXT), CAST(:at_ms AS BIGINT) FROM floor "
        "WHERE CAST(:at_ms AS BIGINT) > floor.timestamp_ms "
        "ON CONFLICT DO NOTHING RETURNING 1) "
        "SELECT (SELECT timestamp_ms FROM floor), (SELECT count(*) FROM added)"
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
_RECENT = "FROM unnest(it.times) AS time WHERE time > now.us - CAST(:window_us AS BIGINT)"
_COUNT = Statement(
    text(
        f"WITH now AS MATERIALIZED (SELECT {_NOW} AS us), "  # noqa: S608 (constants)
        "counted AS (INSERT INTO request_counts AS it "
        "SELECT CAST(:key AS TEXT), ARRAY[us], us + CAST(:window_us AS BIGINT) FROM now "
        "ON CONFLICT (key) DO UPDATE SET "
        "times = (SELECT coalesce(array_agg(time), '{}') FROM unnest(it.times) AS time "
        "WHERE time > excluded.times[1] - CAST(:window_us AS BIGINT)) || excluded.times, "
        "until_us = excluded.until_us "
        "WHERE (SELECT count(*) FROM unnest(it.times) AS time "
        "WHERE time > excluded.times[1] - CAST(:window_us AS BIGINT)) < CAST(:max AS BIGINT) "
        "RETURNING 1) "
        "SELECT (SELECT count(*) FROM counted), "
        f"(SELECT min(time) + CAST(:window_us AS BIGINT) - now.us {_RECENT}) "
        "FROM now LEFT JOIN request_counts AS it ON it.key = CAST(:key AS TEXT)"
    )
)
_FORGET_COUNTS = Statement(
    text(
        f"WITH gone AS (DELETE FROM request_counts WHERE until_us <= {_NOW} "  # noqa: S608
        "RETURNING 1) SELECT count(*) FROM gone"
    )
)


class SharedTables:
    """Used nonces and counts of requests, in tables of a PostgreSQL database."""

    def __init__(self, db: Database) -> None:
        self._db = db

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
        row = await self._db.one(_USE, digest=digest, at_ms=timestamp_ms)
        floor_ms, count = row if row is not None else (None, 0)
        return None if floor_ms is None else (count == 1, floor_ms)

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
        row = await self._db.one(_COUNT, key=key, max=limit, window_us=window_us)
        counted, wait_us = row if row is not None else (1, None)
        return 0 if counted else max(1, int(wait_us or 1))

    async def forget_counts(self) -> None:
        """Forgets the keys that were quiet for their window."""
        await self._db.one(_FORGET_COUNTS)


async def _refuse_up_to(tx: Transaction, mark: Mark) -> None:
    """Makes the mark the tables' floor, where they have lost theirs, or others held the nonces."""
    await tx.one(_RESTORE)
    if mark.holder != TABLES:
        await tx.one(_RAISE_FLOOR, at_ms=mark.timestamp_ms)


def _mark(row: Row | None) -> Mark:
    if row is None:  # somebody has deleted it
        raise DatabaseUnavailable
    return Mark(*row)

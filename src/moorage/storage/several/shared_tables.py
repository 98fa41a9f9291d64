"""Used nonces, counts of requests and a report of the machine, which several gateways share.

Their tables in PostgreSQL are unlogged, so that a row costs no wait for the disk. A crash of
the server empties them, together with the row of the floor, whose absence shows the loss. The mark
is logged: no used nonce has a timestamp above it, so after a crash it becomes the floor. The tables
are no part of the schema; each start creates those that are missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec
from sqlalchemy import text

from moorage.errors import DatabaseUnavailable
from moorage.storage.database import Database, Statement

MAX_BATCH = 100

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")

_MAKE_LOCK = "SELECT pg_advisory_xact_lock(1297043282)"
_TABLES = (
    """CREATE UNLOGGED TABLE IF NOT EXISTS used_nonces
    (digest TEXT PRIMARY KEY, timestamp_ms BIGINT NOT NULL, body TEXT)""",
    "CREATE INDEX IF NOT EXISTS used_nonces_by_time ON used_nonces (timestamp_ms)",
    "CREATE UNLOGGED TABLE IF NOT EXISTS nonce_floor (id INT PRIMARY KEY, timestamp_ms BIGINT)",
    "CREATE TABLE IF NOT EXISTS nonce_mark (id INT PRIMARY KEY, timestamp_ms BIGINT NOT NULL)",
    """CREATE UNLOGGED TABLE IF NOT EXISTS request_counts
    (key TEXT PRIMARY KEY, times BIGINT[] NOT NULL, until_us BIGINT NOT NULL)""",
    """CREATE UNLOGGED TABLE IF NOT EXISTS machine_report
    (id INT PRIMARY KEY, report TEXT NOT NULL, written_at TIMESTAMPTZ NOT NULL)""",
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
        "RETURNING timestamp_ms"
    )
)
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
_REPORT = Statement(
    text(
        "INSERT INTO machine_report VALUES (1, CAST(:report AS TEXT), clock_timestamp()) "
        "ON CONFLICT (id) DO UPDATE SET report = excluded.report, "
        "written_at = excluded.written_at RETURNING 1"
    )
)
_READ_REPORT = Statement(
    text(
        "SELECT report, CAST(extract(epoch FROM clock_timestamp() - written_at) AS FLOAT) "
        "FROM machine_report"
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
    """What several gateways share and may lose, in tables of a PostgreSQL database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._uses = Batches(self._use_all)
        self._counts = Batches(self._count_all)

    async def open(self, *, lost_ms: int) -> None:
        """Creates missing tables. `lost_ms`: no nonce was used elsewhere above this timestamp."""
        async with self._db.transaction(durable=True) as tx:
            await tx.one(Statement(text(_MAKE_LOCK)))
            for sql in _TABLES:
                await tx.execute(Statement(text(sql)))
            await tx.one(_MARK, at_ms=lost_ms)
            await tx.one(_RESTORE)
            await tx.one(_RAISE_FLOOR, at_ms=lost_ms)

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

    async def raise_mark(self, timestamp_ms: int) -> int:
        """Raises the mark, on the disk; returns it."""
        async with self._db.transaction(durable=True) as tx:
            row = await tx.one(_MARK, at_ms=timestamp_ms)
        if row is None:
            raise DatabaseUnavailable
        return int(row[0])

    async def restore_floor(self) -> None:
        """Refuses all timestamps up to the mark, if the floor was lost with the nonces."""
        await self._db.one(_RESTORE)

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

    async def write_report(self, report: str) -> None:
        """Replaces what the gateway that runs a machine's apps reports of them."""
        await self._db.one(_REPORT, report=report)

    async def read_report(self) -> tuple[str, float] | None:
        """Returns the last report and its age in seconds; None without one."""
        row = await self._db.one(_READ_REPORT)
        return None if row is None else (str(row[0]), float(row[1]))


def _json(asked: Sequence[_Use] | Sequence[_Count]) -> str:
    return msgspec.json.encode([each._asdict() for each in asked]).decode()


class _Waiting(NamedTuple, Generic[_Asked, _Answer]):
    asked: _Asked
    key: str
    answer: "asyncio.Future[_Answer]"


class Batches(Generic[_Asked, _Answer]):
    """Asks the database for several at once.

    A question alone costs a round trip, and more processor time on both sides than its answer is
    worth. Questions that come while one is under way wait, and are asked together next. So nobody
    waits where few ask, and where many ask each costs a fraction. Two questions with the same key
    are never in one batch.
    """

    def __init__(self, ask: Callable[[Sequence[_Asked]], Awaitable[Sequence[_Answer]]]) -> None:
        """`ask` returns the answers in the order of what it is asked."""
        self._ask = ask
        self._waiting: list[_Waiting[_Asked, _Answer]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, asked: _Asked, *, key: str) -> _Answer:
        """Returns the answer; raises what asking for it, and for others with it, raises."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(asked, key, answer)
        self._waiting.append(waiting)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(), name="ask-batches")
        return await answer

    async def _ask_all(self) -> None:
        try:
            while taken := self._take():
                await self._answer(taken)
        finally:
            self._asking = None
            for each in self._waiting:  # the gateway stops
                each.answer.cancel()

    def _take(self) -> list[_Waiting[_Asked, _Answer]]:
        """Takes the next ones from those that wait, without those whose caller has gone."""
        taken: dict[str, _Waiting[_Asked, _Answer]] = {}
        left = []
        for each in self._waiting:
            if each.answer.done():
                continue
            if each.key in taken or len(taken) == MAX_BATCH:
                left.append(each)
            else:
                taken[each.key] = each
        self._waiting = left
        return list(taken.values())

    async def _answer(self, taken: Sequence[_Waiting[_Asked, _Answer]]) -> None:
        try:
            answers = await self._ask([each.asked for each in taken])
            answered = list(zip(taken, answers, strict=True))
        except Exception as error:  # noqa: BLE001 (raised to each caller)
            for each in taken:
                if not each.answer.done():
                    each.answer.set_exception(error)
        except BaseException:
            for each in taken:
                each.answer.cancel()
            raise
        else:
            for each, answer in answered:
                if not each.answer.done():
                    each.answer.set_result(answer)

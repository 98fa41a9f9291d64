"""Nonces, rates and the machine's report, which gateways share in PostgreSQL's tables.

One gateway has its nonces in a file: both pass the same tests.
"""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from moorage.auth.nonces import NonceFile, NonceStore, SharedNonces
from moorage.auth.rate_limit import SharedRateLimiter
from moorage.auth.wallet import Wallet
from moorage.engines.engine import Capabilities
from moorage.errors import (
    AuthUnavailable,
    DatabaseUnavailable,
    LeaderAway,
    NoCapacity,
    NonceReused,
    RateLimited,
    TimestampExpired,
)
from moorage.gateway.platform_beside import SILENT_SECONDS, MachineView, report
from moorage.storage.database import Database, Statement
from moorage.storage.opening import open_database
from moorage.storage.several.shared_tables import SharedTables
from support.books.postgres_fixture import PostgresServer
from support.gateway.clock import START_MS, MovableClock
from support.gateway.fakes import FakeRuntime
from support.gateway.waiting import until

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

ASYNCHRONOUS = (
    """DO $$ BEGIN EXECUTE format(
    'ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$""",
    """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN RAISE 'it may be lost'; END IF;
    RETURN NEW; END $$""",
    """CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON nonce_mark
    FOR EACH ROW EXECUTE FUNCTION refuse()""",
)
"""A server with this default; a mark that is not forced to disk is refused there."""

COUNT_AGAIN = "UPDATE request_counts SET times = times WHERE key = 'counted'"
KEYS = "SELECT key FROM request_counts"

ALICE, BOB = Wallet("0x" + "a" * 40), Wallet("0x" + "b" * 40)


class Gateways:
    """Two gateways' views of what they share."""

    def __init__(
        self, databases: list[Database], tables: list[SharedTables], clock: MovableClock
    ) -> None:
        self.clock = clock
        self.databases = databases
        self.tables = tuple(tables)
        self.nonces = tuple(SharedNonces(each, clock=clock) for each in tables)

    def limiters(self, name: str, *, limit: int) -> list[SharedRateLimiter]:
        return [SharedRateLimiter(each, name=name, limit=limit) for each in self.tables]

    async def forget(self) -> None:
        """What the second forgets by itself, now and then."""
        await self.nonces[1].forget()


class InFile:
    """One gateway, as two: nothing but its file is there."""

    def __init__(self, file: NonceFile, clock: MovableClock) -> None:
        self.clock = clock
        self.nonces = (file, file)

    async def forget(self) -> None:
        await self.nonces[0].consume(BOB, self.clock.now_ms(), new())


Views = Gateways | InFile


@pytest.fixture
async def in_tables(postgres_server: PostgresServer) -> AsyncIterator[Gateways]:
    name = postgres_server.create()
    databases = [open_database(postgres_server.url(name)) for _ in range(2)]
    gateways = Gateways(databases, list(map(SharedTables, databases)), MovableClock())
    await asyncio.gather(*(each.open(lost_ms=-1) for each in gateways.tables))  # at once
    yield gateways
    for database in databases:
        database.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
    gc.collect()
    postgres_server.drop(name)


@pytest.fixture
async def in_file(tmp_path: Path) -> AsyncIterator[InFile]:
    clock = MovableClock()
    file = NonceFile(tmp_path / "nonces", clock=clock)
    yield InFile(file, clock)
    await file.close()


@pytest.fixture(params=["in_file", "in_tables"])
def views(request: pytest.FixtureRequest) -> Views:
    found: Views = request.getfixturevalue(request.param)
    return found


def new() -> str:
    return str(uuid.uuid4())


async def passes(nonces: NonceStore, wallet: Wallet, at_ms: int, nonce: str) -> bool:
    try:
        await nonces.consume(wallet, at_ms, nonce)
    except NonceReused:
        return False
    return True


async def test_of_many_requests_with_a_nonce_at_both_one_passes(views: Views) -> None:
    nonce = new()
    uses = [passes(views.nonces[i % 2], ALICE, START_MS + i, nonce) for i in range(20)]
    assert sum(await asyncio.gather(*uses)) == 1
    assert await passes(views.nonces[0], BOB, START_MS, nonce)  # it is another wallet's


async def test_body_of_a_nonce_is_known_at_the_other(views: Views) -> None:
    (one, two), nonce = views.nonces, new()
    await one.consume(ALICE, START_MS, nonce)
    await one.remember_body(ALICE, START_MS, nonce, "body")
    await one.remember_body(ALICE, START_MS, nonce, "later")
    assert await two.was_of_body(ALICE, nonce, "body")
    assert not await two.was_of_body(ALICE, nonce, "later")
    assert not await two.was_of_body(BOB, nonce, "body")


async def test_forgotten_nonce_is_refused_by_its_timestamp(views: Views) -> None:
    (one, _), nonce = views.nonces, new()
    await one.consume(ALICE, START_MS, nonce)
    views.clock.advance(120_000)
    await views.forget()
    views.clock.step(-120_000)  # set back: the timestamp is in the window again
    with pytest.raises(TimestampExpired):
        await one.consume(ALICE, START_MS, nonce)
    await one.consume(ALICE, START_MS + 1, new())


async def test_clock_that_was_ahead_for_a_moment_refuses_nothing_new(views: Views) -> None:
    (one, _), nonce = views.nonces, new()
    await one.consume(ALICE, START_MS, nonce)
    views.clock.step(3_600_000)
    await views.forget()
    views.clock.step(-3_600_000)
    await one.consume(ALICE, START_MS + 1, new())
    with pytest.raises(TimestampExpired):
        await one.consume(ALICE, START_MS, nonce)


@pytest.mark.parametrize("offset_ms", [-60_001, 60_001])
async def test_timestamp_out_of_the_window_is_refused(views: Views, offset_ms: int) -> None:
    with pytest.raises(TimestampExpired):
        await views.nonces[0].consume(ALICE, START_MS + offset_ms, new())


async def test_nonces_that_a_crash_of_the_server_lost_do_not_pass_again(
    in_tables: Gateways, postgres_server: PostgresServer
) -> None:
    (one, two), nonce, ahead = in_tables.nonces, new(), new()
    await one.consume(ALICE, START_MS, nonce)
    await two.consume(ALICE, START_MS + 40_000, ahead)  # by a clock that is ahead
    await asyncio.to_thread(postgres_server.stop)
    with pytest.raises(AuthUnavailable):
        await one.consume(ALICE, START_MS, new())
    await asyncio.to_thread(postgres_server.start)

    for gateway in (one, two):
        while True:
            try:
                with pytest.raises(TimestampExpired):
                    await gateway.consume(ALICE, START_MS, nonce)
            except AuthUnavailable:
                continue  # a connection that the crash has cut
            break
    with pytest.raises(TimestampExpired):
        await one.consume(ALICE, START_MS + 40_000, ahead)
    in_tables.clock.advance(46_000)  # the mark is 5 s above what was used
    await one.consume(ALICE, in_tables.clock.now_ms(), new())


async def test_mark_is_forced_to_disk_by_a_server_that_commits_asynchronously(
    in_tables: Gateways,
) -> None:
    database = in_tables.databases[0]
    async with database.transaction(durable=True) as tx:
        for sql in ASYNCHRONOUS:
            await tx.execute(Statement(text(sql)))
    database.close()  # so that its connections are new
    for at_ms in (START_MS, START_MS + 60_000):
        await in_tables.nonces[0].consume(ALICE, at_ms, new())


async def test_nonces_of_a_gateway_that_was_alone_are_below_the_floor(in_tables: Gateways) -> None:
    await in_tables.tables[0].open(lost_ms=START_MS)
    with pytest.raises(TimestampExpired):
        await in_tables.nonces[1].consume(ALICE, START_MS, new())
    await in_tables.nonces[1].consume(ALICE, START_MS + 1, new())


async def test_both_count_requests_together(in_tables: Gateways) -> None:
    one, two = in_tables.limiters("wallets", limit=10)

    async def passes(limiter: SharedRateLimiter, key: str) -> bool:
        try:
            await limiter.check(key)
        except RateLimited:
            return False
        return True

    burst = [passes((one, two)[i % 2], "alice") for i in range(30)]
    assert sum(await asyncio.gather(*burst)) == 10
    assert await passes(two, "bob")
    other, _ = in_tables.limiters("polls", limit=10)
    assert await passes(other, "alice")  # another limiter's count


async def test_request_passes_again_once_the_oldest_leaves_the_window(in_tables: Gateways) -> None:
    store = in_tables.tables[0]
    assert await store.count("key", limit=1, window_us=3_600_000_000) == 0
    wait_us = await store.count("key", limit=1, window_us=3_600_000_000)
    assert 0 < wait_us <= 3_600_000_000

    async def passes() -> bool:
        return await store.count("key", limit=1, window_us=1000) == 0

    await until(passes)


async def test_counts_are_forgotten_without_waiting_for_who_counts(in_tables: Gateways) -> None:
    """Who counts many keys has locked some, and may wait for another that is being forgotten."""
    store, (one, two) = in_tables.tables[0], in_tables.databases
    for key in ("counted", "quiet"):
        await store.count(key, limit=1, window_us=1)
    async with one.transaction(durable=True) as tx:
        await tx.execute(Statement(text(COUNT_AGAIN)))
        await in_tables.tables[1].forget_counts()
        assert await two.all(Statement(text(KEYS))) == [("counted",)]


async def test_server_that_is_away_is_said(
    in_tables: Gateways, postgres_server: PostgresServer
) -> None:
    await asyncio.to_thread(postgres_server.stop)
    try:
        with pytest.raises(DatabaseUnavailable):
            await in_tables.limiters("wallets", limit=1)[0].check("alice")
    finally:
        await asyncio.to_thread(postgres_server.start)


async def test_gateway_knows_what_the_leader_of_its_machine_reports_and_when_it_is_silent(
    in_tables: Gateways, tmp_path: Path
) -> None:
    engine, clock = FakeRuntime(), in_tables.clock
    capabilities = Capabilities()
    view = MachineView(
        capabilities=capabilities, state_dir=tmp_path, shared=in_tables.tables[1], clock=clock
    )
    await view.refresh()
    with pytest.raises(NoCapacity):
        await view.resources()
    with pytest.raises(LeaderAway):
        await view.check()

    await report(engine, in_tables.tables[0])
    await view.refresh()
    assert await view.resources() == await engine.resources()
    await view.check()
    clock.advance(round(1000 * SILENT_SECONDS) + 1)
    with pytest.raises(LeaderAway, match="end it"):
        await view.check()

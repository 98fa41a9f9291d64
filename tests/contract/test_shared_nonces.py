"""Nonces and rates that gateways share on a PostgreSQL server."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from clock import START_MS, MovableClock
from moorage.auth.shared_nonces import SharedNonces, SharedRateLimiter
from moorage.auth.wallet import Wallet
from moorage.errors import (
    AuthUnavailable,
    DatabaseUnavailable,
    NonceReused,
    RateLimited,
    TimestampExpired,
)
from moorage.storage.database import Database, Statement
from moorage.storage.opening import open_database
from moorage.storage.shared import SharedTables
from postgres_fixture import PostgresServer
from waiting import until

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

ALICE, BOB = Wallet("0x" + "a" * 40), Wallet("0x" + "b" * 40)


class Gateways:
    """Two gateways' views of what they share."""

    def __init__(self, databases: list[Database], clock: MovableClock) -> None:
        self.clock = clock
        self.databases = databases
        self.tables = tuple(SharedTables(each) for each in databases)
        self.nonces = tuple(SharedNonces(each, clock=clock) for each in self.tables)

    def limiters(self, name: str, *, limit: int) -> list[SharedRateLimiter]:
        return [SharedRateLimiter(each, name=name, limit=limit) for each in self.tables]


@pytest.fixture
async def gateways(postgres_server: PostgresServer) -> AsyncIterator[Gateways]:
    name = postgres_server.create()
    databases = [open_database(postgres_server.url(name)) for _ in range(2)]
    gateways = Gateways(databases, MovableClock())
    await asyncio.gather(*(each.open(lost_ms=-1) for each in gateways.tables))  # both start at once
    yield gateways
    for database in databases:
        database.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
    gc.collect()
    postgres_server.drop(name)


def new() -> str:
    return str(uuid.uuid4())


async def passes(nonces: SharedNonces, wallet: Wallet, at_ms: int, nonce: str) -> bool:
    try:
        await nonces.consume(wallet, at_ms, nonce)
    except NonceReused:
        return False
    return True


async def test_of_many_requests_with_a_nonce_at_both_one_passes(gateways: Gateways) -> None:
    nonce = new()
    uses = [passes(gateways.nonces[i % 2], ALICE, START_MS + i, nonce) for i in range(20)]
    assert sum(await asyncio.gather(*uses)) == 1
    assert await passes(gateways.nonces[0], BOB, START_MS, nonce)  # it is another wallet's


async def test_body_of_a_nonce_is_known_at_the_other(gateways: Gateways) -> None:
    (one, two), nonce = gateways.nonces, new()
    await one.consume(ALICE, START_MS, nonce)
    await one.remember_body(ALICE, START_MS, nonce, "body")
    await one.remember_body(ALICE, START_MS, nonce, "later")
    assert await two.was_of_body(ALICE, nonce, "body")
    assert not await two.was_of_body(ALICE, nonce, "later")
    assert not await two.was_of_body(BOB, nonce, "body")


async def test_forgotten_nonce_is_refused_by_its_timestamp(gateways: Gateways) -> None:
    (one, two), nonce = gateways.nonces, new()
    await one.consume(ALICE, START_MS, nonce)
    gateways.clock.advance(120_000)
    await two.forget()
    gateways.clock.step(-120_000)  # set back: the timestamp is in the window again
    with pytest.raises(TimestampExpired):
        await one.consume(ALICE, START_MS, nonce)
    await one.consume(ALICE, START_MS + 1, new())


async def test_clock_that_was_ahead_for_a_moment_refuses_nothing_new(gateways: Gateways) -> None:
    (one, two), nonce = gateways.nonces, new()
    await one.consume(ALICE, START_MS, nonce)
    gateways.clock.step(3_600_000)
    await two.forget()
    gateways.clock.step(-3_600_000)
    await one.consume(ALICE, START_MS + 1, new())
    with pytest.raises(TimestampExpired):
        await one.consume(ALICE, START_MS, nonce)


@pytest.mark.parametrize("offset_ms", [-60_001, 60_001])
async def test_timestamp_out_of_the_window_is_refused(gateways: Gateways, offset_ms: int) -> None:
    with pytest.raises(TimestampExpired):
        await gateways.nonces[0].consume(ALICE, START_MS + offset_ms, new())


async def test_nonces_that_a_crash_of_the_server_lost_do_not_pass_again(
    gateways: Gateways, postgres_server: PostgresServer
) -> None:
    (one, two), nonce, ahead = gateways.nonces, new(), new()
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
    gateways.clock.advance(46_000)  # the mark is 5 s above what was used
    await one.consume(ALICE, gateways.clock.now_ms(), new())


async def test_mark_is_forced_to_disk_by_a_server_that_commits_asynchronously(
    gateways: Gateways,
) -> None:
    database = gateways.databases[0]
    async with database.transaction(durable=True) as tx:
        for sql in ASYNCHRONOUS:
            await tx.execute(Statement(text(sql)))
    database.close()  # so that its connections are new
    for at_ms in (START_MS, START_MS + 60_000):
        await gateways.nonces[0].consume(ALICE, at_ms, new())


async def test_nonces_of_a_gateway_that_was_alone_are_below_the_floor(gateways: Gateways) -> None:
    await gateways.tables[0].open(lost_ms=START_MS)
    with pytest.raises(TimestampExpired):
        await gateways.nonces[1].consume(ALICE, START_MS, new())
    await gateways.nonces[1].consume(ALICE, START_MS + 1, new())


async def test_both_count_requests_together(gateways: Gateways) -> None:
    one, two = gateways.limiters("wallets", limit=10)

    async def passes(limiter: SharedRateLimiter, key: str) -> bool:
        try:
            await limiter.check(key)
        except RateLimited:
            return False
        return True

    burst = [passes((one, two)[i % 2], "alice") for i in range(30)]
    assert sum(await asyncio.gather(*burst)) == 10
    assert await passes(two, "bob")
    other, _ = gateways.limiters("polls", limit=10)
    assert await passes(other, "alice")  # another limiter's count


async def test_request_passes_again_once_the_oldest_leaves_the_window(gateways: Gateways) -> None:
    table = gateways.tables[0]
    assert await table.count("key", limit=1, window_us=3_600_000_000) == 0
    wait_us = await table.count("key", limit=1, window_us=3_600_000_000)
    assert 0 < wait_us <= 3_600_000_000

    async def passes() -> bool:
        return await table.count("key", limit=1, window_us=1000) == 0

    await until(passes)


async def test_server_that_is_away_is_said(
    gateways: Gateways, postgres_server: PostgresServer
) -> None:
    await asyncio.to_thread(postgres_server.stop)
    try:
        with pytest.raises(DatabaseUnavailable):
            await gateways.limiters("wallets", limit=1)[0].check("alice")
    finally:
        await asyncio.to_thread(postgres_server.start)

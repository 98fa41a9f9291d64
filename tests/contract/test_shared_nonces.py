"""Nonces and rates, in one gateway's file, and shared by PostgreSQL's tables or a Valkey server."""

import asyncio
import gc
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from clock import START_MS, MovableClock
from moorage.auth.nonces import NonceFile, NonceStore
from moorage.auth.shared_nonces import SharedNonces, SharedRateLimiter
from moorage.auth.wallet import Wallet
from moorage.errors import (
    AuthUnavailable,
    ConfigurationInvalid,
    DatabaseUnavailable,
    NonceReused,
    RateLimited,
    TimestampExpired,
)
from moorage.storage.database import Database, Statement
from moorage.storage.opening import open_database
from moorage.storage.shared.holder import HolderAway
from moorage.storage.shared.store import SharedStore
from moorage.storage.shared.tables import SharedTables
from moorage.storage.shared.valkey import ValkeyStore, look
from postgres_fixture import PostgresServer
from valkey_fixture import PASSWORD, ValkeyServer
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

COUNT_AGAIN = "UPDATE request_counts SET times = times WHERE key = 'counted'"
KEYS = "SELECT key FROM request_counts"

ALICE, BOB = Wallet("0x" + "a" * 40), Wallet("0x" + "b" * 40)


class Gateways:
    """Two gateways' views of what they share."""

    def __init__(
        self, databases: list[Database], stores: list[SharedStore], clock: MovableClock
    ) -> None:
        self.clock = clock
        self.databases = databases
        self.stores = tuple(stores)
        self.nonces = tuple(SharedNonces(each, clock=clock) for each in stores)

    def limiters(self, name: str, *, limit: int) -> list[SharedRateLimiter]:
        return [SharedRateLimiter(each, name=name, limit=limit) for each in self.stores]

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


@asynccontextmanager
async def sharing(server: PostgresServer, valkeys: tuple[str, ...] = ()) -> AsyncIterator[Gateways]:
    """Two gateways; each with the Valkey server of its URL, if there are any."""
    name = server.create()
    databases = [open_database(server.url(name)) for _ in range(2)]
    tables = [SharedTables(each) for each in databases]
    held: list[ValkeyStore | None] = [*map(ValkeyStore, valkeys)] or [None, None]
    gateways = Gateways(databases, list(map(SharedStore, tables, held)), MovableClock())
    await asyncio.gather(*(each.open(lost_ms=-1) for each in gateways.stores))  # at once
    await gateways.stores[0].go_back()
    yield gateways
    for valkey in held:
        if valkey is not None:
            await valkey.close()
    for database in databases:
        database.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
    gc.collect()
    server.drop(name)


@pytest.fixture
async def in_tables(postgres_server: PostgresServer) -> AsyncIterator[Gateways]:
    async with sharing(postgres_server) as gateways:
        yield gateways


@pytest.fixture
async def in_valkey(
    postgres_server: PostgresServer, valkey_server: ValkeyServer
) -> AsyncIterator[Gateways]:
    url = valkey_server.url
    async with sharing(postgres_server, (url, url)) as gateways:
        yield gateways


@pytest.fixture
async def in_file(tmp_path: Path) -> AsyncIterator[InFile]:
    clock = MovableClock()
    file = NonceFile(tmp_path / "nonces", clock=clock)
    yield InFile(file, clock)
    await file.close()


@pytest.fixture(params=["in_tables", "in_valkey"])
def gateways(request: pytest.FixtureRequest) -> Gateways:
    found: Gateways = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["in_file", "in_tables", "in_valkey"])
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
    await in_tables.stores[0].open(lost_ms=START_MS)
    with pytest.raises(TimestampExpired):
        await in_tables.nonces[1].consume(ALICE, START_MS, new())
    await in_tables.nonces[1].consume(ALICE, START_MS + 1, new())


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
    store = gateways.stores[0]
    assert await store.count("key", limit=1, window_us=3_600_000_000) == 0
    wait_us = await store.count("key", limit=1, window_us=3_600_000_000)
    assert 0 < wait_us <= 3_600_000_000

    async def passes() -> bool:
        return await store.count("key", limit=1, window_us=1000) == 0

    await until(passes)


async def test_counts_are_forgotten_without_waiting_for_who_counts(in_tables: Gateways) -> None:
    """Who counts many keys has locked some, and may wait for another that is being forgotten."""
    store, (one, two) = in_tables.stores[0], in_tables.databases
    for key in ("counted", "quiet"):
        await store.count(key, limit=1, window_us=1)
    async with one.transaction(durable=True) as tx:
        await tx.execute(Statement(text(COUNT_AGAIN)))
        await in_tables.stores[1].forget_counts()
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


# Faults of a Valkey server


async def emptied(server: ValkeyServer) -> None:
    server.empty()


async def restarted(server: ValkeyServer) -> None:
    await asyncio.to_thread(server.restart)


async def restarted_with_an_older_copy(server: ValkeyServer) -> None:
    await asyncio.to_thread(server.restart)


async def refuses_for_lack_of_memory(server: ValkeyServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1")


@pytest.fixture
async def mended(valkey_server: ValkeyServer) -> AsyncIterator[ValkeyServer]:
    yield valkey_server
    valkey_server.go_on()
    await asyncio.to_thread(valkey_server.restart)  # with all its settings as they were


@pytest.mark.parametrize(
    ("fault", "holder"),
    [
        (emptied, "valkey"),
        (restarted, "valkey"),
        (restarted_with_an_older_copy, "valkey"),
        (refuses_for_lack_of_memory, "tables"),
    ],
)
async def test_nonces_that_valkey_lost_do_not_pass_again(
    in_valkey: Gateways,
    mended: ValkeyServer,
    fault: Callable[[ValkeyServer], Awaitable[None]],
    holder: str,
) -> None:
    (one, two), nonce = in_valkey.nonces, new()
    await one.consume(ALICE, START_MS, new())
    if fault is restarted_with_an_older_copy:
        mended.save()
    await one.consume(ALICE, START_MS, nonce)
    await fault(mended)

    for gateway in (two, one):
        with pytest.raises(TimestampExpired):
            await gateway.consume(ALICE, START_MS, nonce)
    in_valkey.clock.advance(6_000)  # the mark is 5 s above what was used
    fresh = new()
    await one.consume(ALICE, in_valkey.clock.now_ms(), fresh)
    assert not await passes(two, ALICE, in_valkey.clock.now_ms(), fresh)
    assert (await held_by(in_valkey)) == holder


async def held_by(gateways: Gateways) -> str:
    mark = await gateways.stores[0].mark(-1)
    return "valkey" if mark.holder else "tables"


async def test_nonces_are_held_by_postgresql_while_valkey_stands_still(
    in_valkey: Gateways, mended: ValkeyServer
) -> None:
    (one, two), nonce, later = in_valkey.nonces, new(), new()
    await one.consume(ALICE, START_MS, nonce)
    mended.stand_still()
    with pytest.raises(TimestampExpired):
        await one.consume(ALICE, START_MS, nonce)
    in_valkey.clock.advance(6_000)
    at_ms = in_valkey.clock.now_ms()
    uses = [passes(in_valkey.nonces[i % 2], ALICE, at_ms, later) for i in range(20)]
    assert sum(await asyncio.gather(*uses)) == 1
    assert await held_by(in_valkey) == "tables"

    mended.go_on()
    await in_valkey.stores[1].go_back()
    assert await held_by(in_valkey) == "valkey"
    for gateway, used, used_ms in ((one, nonce, START_MS), (two, later, at_ms)):
        with pytest.raises((TimestampExpired, NonceReused)):
            await gateway.consume(ALICE, used_ms, used)
    in_valkey.clock.advance(6_000)
    await one.consume(ALICE, in_valkey.clock.now_ms(), new())


async def test_gateway_without_a_way_to_valkey_brings_the_other_to_the_tables(
    postgres_server: PostgresServer, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    nowhere = f"unix://{tmp_path}/nobody"
    async with sharing(postgres_server, (valkey_server.url, nowhere)) as gateways:
        (one, two), early, late = gateways.nonces, new(), new()
        await one.consume(ALICE, START_MS, new())
        assert await held_by(gateways) == "valkey"
        with pytest.raises(TimestampExpired):
            await two.consume(ALICE, START_MS, new())
        assert await held_by(gateways) == "tables"

        # Up to the mark that it knows, the first goes on as before; nobody else takes these.
        assert await passes(one, ALICE, START_MS + 1, early)
        assert not await passes(one, ALICE, START_MS + 1, early)
        with pytest.raises(TimestampExpired):
            await two.consume(ALICE, START_MS + 1, early)
        gateways.clock.advance(6_000)
        assert await passes(one, ALICE, gateways.clock.now_ms(), late)
        assert not await passes(two, ALICE, gateways.clock.now_ms(), late)


@pytest.mark.parametrize("seed", range(3))
async def test_no_nonce_passes_twice_whatever_valkey_forgets(
    in_valkey: Gateways, mended: ValkeyServer, seed: int
) -> None:
    """A long random story of both gateways; each remembers what passed."""
    drawn = random.Random(seed)
    passed: set[tuple[int, str]] = set()
    known: list[tuple[int, str]] = []
    for step in range(400):
        in_valkey.clock.advance(drawn.randrange(400))
        match drawn.randrange(60):
            case 0:
                mended.empty()
            case 1:
                mended.save()
            case 2:
                await asyncio.to_thread(mended.restart)
            case 3 | 4:
                await in_valkey.stores[drawn.randrange(2)].replace(drawn.choice(["", "gone"]))
            case 5:
                await in_valkey.stores[drawn.randrange(2)].go_back()
            case 6:
                await in_valkey.forget()
        if drawn.randrange(2) or not known:
            known.append((in_valkey.clock.now_ms() + drawn.randrange(-3_000, 3_000), new()))
        used = at_ms, nonce = drawn.choice(known[-20:])
        try:
            is_first = await passes(in_valkey.nonces[drawn.randrange(2)], ALICE, at_ms, nonce)
        except TimestampExpired:
            continue
        assert is_first == (used not in passed), (step, used)
        passed.add(used)
    assert len(passed) > 20


async def test_what_valkey_holds_is_forgotten_in_time(
    in_valkey: Gateways, valkey_server: ValkeyServer
) -> None:
    valkey_server.empty()
    await in_valkey.stores[0].replace((await in_valkey.stores[0].mark(-1)).holder)
    (one, two), nonce = in_valkey.nonces, new()
    at_ms = START_MS + 6_000
    for each in range(50):
        await one.consume(ALICE, at_ms + each, new())
    await two.consume(ALICE, at_ms, nonce)
    await two.remember_body(ALICE, at_ms, nonce, "body")
    await in_valkey.limiters("wallets", limit=10)[0].check("alice")

    keys = valkey_server.ask("KEYS", "*").split()
    assert len(keys) == 3
    for key in keys:
        assert 0 < int(valkey_server.ask("TTL", key)) <= 600
    (nonces,) = (key for key in keys if ":nonces:" in key)
    assert int(valkey_server.ask("ZCARD", nonces)) == 52  # with the floor
    in_valkey.clock.advance(200_000)
    await in_valkey.forget()
    assert int(valkey_server.ask("ZCARD", nonces)) == 1


async def test_requests_are_counted_in_postgresql_while_valkey_is_away(
    in_valkey: Gateways, mended: ValkeyServer
) -> None:
    one, two = in_valkey.limiters("wallets", limit=1)
    await one.check("alice")
    await asyncio.to_thread(mended.stop)
    try:
        await one.check("alice")  # the tables begin anew
        for limiter in (one, two):
            with pytest.raises(RateLimited):
                await limiter.check("alice")
    finally:
        await asyncio.to_thread(mended.start)


async def test_valkey_server_says_what_it_is(valkey_server: ValkeyServer) -> None:
    server = await look(valkey_server.url)
    assert server.name in ("Valkey", "Redis")
    assert server.version >= (7, 0)
    assert (server.replica, server.evicts) == (False, "noeviction")


async def test_password_of_valkey_is_in_no_message(valkey_server: ValkeyServer) -> None:
    url = valkey_server.url
    for wrong in (url.replace("?password=", "?passwort="), f"valkey://:{PASSWORD}@host:x/0"):
        with pytest.raises(ConfigurationInvalid) as refused:
            ValkeyStore(wrong)
        assert "s3cret" not in str(refused.value)
    with pytest.raises(HolderAway) as away:
        await look(url.replace("s3cret", "another-s3cret"))
    assert "s3cret" not in f"{away.value} {away.value.__cause__}"

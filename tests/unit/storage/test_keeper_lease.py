"""The keeper's lease: one gateway acts, another follows when it was left, whatever clocks say."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from moorage.storage import postgres
from moorage.storage.database import Database
from moorage.storage.opening import open_database
from moorage.storage.several import keeper_lease, leases
from moorage.storage.several.keeper_lease import HELD_SECONDS, LEFT_SECONDS, KeeperLease
from support.books.faulty_database import FaultyDatabase
from support.gateway.clock import MovableClock


@pytest.fixture
def other_db(db_path: Path) -> Iterator[Database]:
    with closing(open_database(db_path)) as database:
        yield database


@pytest.fixture
def one(db: Database, clock: MovableClock) -> KeeperLease:
    return KeeperLease(db=db, holder="one", clock=clock)


@pytest.fixture
def two(other_db: Database, clock: MovableClock) -> KeeperLease:
    return KeeperLease(db=other_db, holder="two", clock=clock)


def in_no_time(monkeypatch: pytest.MonkeyPatch, clock: MovableClock) -> None:
    """Waits advance the clock and take no time."""
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        clock.advance(math.ceil(seconds * 1000))
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)


async def test_one_of_two_keeps_the_apps_until_it_gives_them_back(
    one: KeeperLease, two: KeeperLease
) -> None:
    for _ in range(3):
        assert await one.take()
        assert not await two.take()
    assert (one.holds, two.holds) == (True, False)

    await one.give_back()
    assert not one.holds
    assert await two.take()
    assert not await one.take()


async def test_lease_that_stood_still_is_taken_after_its_holder_has_stopped(
    one: KeeperLease, two: KeeperLease, clock: MovableClock
) -> None:
    assert await one.take()
    assert not await two.take()  # from now on it watches
    clock.advance(round(HELD_SECONDS * 1000))
    assert not one.holds
    assert not await two.take()
    clock.advance(round((LEFT_SECONDS - HELD_SECONDS) * 1000))
    assert await two.take()
    assert not await one.take()


async def test_holder_that_renews_is_never_overtaken(
    one: KeeperLease, two: KeeperLease, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await one.take()
    in_no_time(monkeypatch, clock)
    renewing = asyncio.create_task(one.until_lost())
    begun = clock.monotonic_seconds()
    while clock.monotonic_seconds() < begun + 5 * LEFT_SECONDS:
        assert not await two.take()
        await asyncio.sleep(0)
    assert one.holds
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_holder_that_stood_still_learns_that_another_keeps_the_apps(
    one: KeeperLease, two: KeeperLease, clock: MovableClock
) -> None:
    assert await one.take()
    assert not await two.take()
    clock.advance(round(LEFT_SECONDS * 1000))
    assert await two.take()
    await asyncio.wait_for(one.until_lost(), 60)
    assert not one.holds
    assert two.holds


async def test_clocks_that_differ_make_no_second_keeper(
    one: KeeperLease, other_db: Database, clock: MovableClock
) -> None:
    ahead = MovableClock(clock.now_ms() + 86_400_000)
    two = KeeperLease(db=other_db, holder="two", clock=ahead)
    assert await one.take()
    assert not await two.take()
    ahead.advance(round((LEFT_SECONDS - 1) * 1000))
    assert not await two.take()


async def test_restarted_gateway_has_its_lease_at_once(
    one: KeeperLease, other_db: Database, clock: MovableClock
) -> None:
    assert await one.take()
    assert await KeeperLease(db=other_db, holder="one", clock=clock).take()


async def test_database_that_is_away_ends_the_lease_in_time(
    db: FaultyDatabase, one: KeeperLease, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await one.take()
    db.refuse_writes()
    begun = clock.monotonic_seconds()
    in_no_time(monkeypatch, clock)
    await one.until_lost()
    assert clock.monotonic_seconds() - begun == HELD_SECONDS
    assert not await one.take()
    db.allow_writes()
    assert await one.take()


async def test_database_that_does_not_answer_ends_the_lease_in_time(
    db: FaultyDatabase, one: KeeperLease, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a gateway that is cut off acts on beside the next keeper."""
    monkeypatch.setattr(keeper_lease, "HELD_SECONDS", 0.1)
    assert await one.take()
    monkeypatch.setattr(keeper_lease, "RENEW_SECONDS", 0.01)
    db.answer_no_writes()
    in_no_time(monkeypatch, clock)
    async with asyncio.timeout(60):
        await one.until_lost()
    assert not one.holds
    db.answer_writes()


def test_lease_outlasts_a_gateway_that_is_cut_off_while_it_writes() -> None:
    """It holds up the others' renewals; else a keeper would stop that nobody follows."""
    held_up_seconds = 1.5 * postgres.IDLE_SECONDS
    assert keeper_lease.RENEW_SECONDS + held_up_seconds < HELD_SECONDS
    assert leases.RENEW_SECONDS + held_up_seconds < leases.LEASE_MS / 1000

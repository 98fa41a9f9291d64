"""Leases: one gateway does a duty, one leads; another follows when it was left."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from moorage.errors import AlreadyRunning
from moorage.file_lock import FileLock
from moorage.storage import postgres
from moorage.storage.database import Database
from moorage.storage.opening import open_database
from moorage.storage.several import leases as lease_rules
from moorage.storage.several.leases import (
    CLOCK_BACK_MS,
    HELD_SECONDS,
    LEASE_MS,
    LEFT_BY_MACHINE_SECONDS,
    LEFT_SECONDS,
    LeaderLease,
    Leases,
)
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import GATEWAY, OTHER_GATEWAY
from support.gateway.clock import MovableClock

DUTY = "metering"


@pytest.fixture
def other_db(db_path: Path) -> Iterator[Database]:
    with closing(open_database(db_path)) as database:
        yield database


@pytest.fixture
def leases(db: Database, clock: MovableClock) -> Leases:
    return Leases(db=db, holder=GATEWAY, clock=clock)


@pytest.fixture
def others(other_db: Database, clock: MovableClock) -> Leases:
    """Those of another gateway on the same file."""
    return Leases(db=other_db, holder=OTHER_GATEWAY, clock=clock)


async def test_one_gateway_of_two_has_a_duty(leases: Leases, others: Leases) -> None:
    for _ in range(3):
        assert await leases.hold(DUTY)
        assert not await others.hold(DUTY)
    assert await others.hold("another duty")


async def test_of_many_that_ask_at_once_one_has_the_duty(
    db_path: Path, clock: MovableClock
) -> None:
    databases = [open_database(db_path) for _ in range(8)]
    asked = [
        Leases(db=db, holder=f"gateway {number}", clock=clock)
        for number, db in enumerate(databases)
    ]
    assert sum(await asyncio.gather(*(it.hold(DUTY) for it in asked))) == 1
    for db in databases:
        db.close()


async def test_lease_that_is_not_renewed_runs_out(
    leases: Leases, others: Leases, clock: MovableClock
) -> None:
    assert await leases.hold(DUTY)
    clock.advance(LEASE_MS - 1)
    assert not await others.hold(DUTY)
    clock.advance(1)
    assert await others.hold(DUTY)
    assert not await leases.hold(DUTY)


async def test_lease_is_kept_while_it_is_renewed(
    leases: Leases, others: Leases, clock: MovableClock
) -> None:
    assert await leases.hold(DUTY)
    for _ in range(4):
        clock.advance(LEASE_MS - 1)
        await leases.renew()
        assert not await others.hold(DUTY)
        assert await leases.hold(DUTY)


async def test_renewal_does_not_take_back_what_another_has_by_now(
    leases: Leases, others: Leases, clock: MovableClock
) -> None:
    assert await leases.hold(DUTY)
    clock.advance(LEASE_MS)
    assert await others.hold(DUTY)
    await leases.renew()
    assert not await leases.hold(DUTY)
    assert await others.hold(DUTY)


async def test_gateway_that_starts_again_has_its_duties_at_once(
    leases: Leases, other_db: Database, clock: MovableClock
) -> None:
    assert await leases.hold(DUTY)
    assert await Leases(db=other_db, holder=GATEWAY, clock=clock).hold(DUTY)


async def test_gateway_that_stops_leaves_its_duties_to_others(
    leases: Leases, others: Leases
) -> None:
    assert await leases.hold(DUTY)
    running = asyncio.create_task(leases.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await others.hold(DUTY)


async def test_clock_set_back_holds_no_duty_up(
    leases: Leases, others: Leases, clock: MovableClock
) -> None:
    assert await leases.hold(DUTY)
    clock.step(LEASE_MS - CLOCK_BACK_MS)
    assert not await others.hold(DUTY)
    clock.step(-1)
    assert await others.hold(DUTY)


async def test_what_is_held_costs_no_question(leases: Leases, db: Database) -> None:
    assert await leases.hold(DUTY)
    db.close()
    assert await leases.hold(DUTY)


async def test_gateway_knows_what_it_holds(
    leases: Leases, others: Leases, clock: MovableClock
) -> None:
    assert not leases.holds(DUTY)
    assert await leases.hold(DUTY)
    assert not await others.hold(DUTY)
    assert (leases.holds(DUTY), others.holds(DUTY)) == (True, False)
    clock.advance(LEASE_MS)
    assert not leases.holds(DUTY)


@pytest.fixture
def one(db: Database, clock: MovableClock) -> LeaderLease:
    return LeaderLease(db=db, machine="a", name="one", clock=clock)


@pytest.fixture
def two(other_db: Database, clock: MovableClock) -> LeaderLease:
    return LeaderLease(db=other_db, machine="b", name="two", clock=clock)


def in_no_time(monkeypatch: pytest.MonkeyPatch, clock: MovableClock) -> None:
    """Waits advance the clock and take no time."""
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        clock.advance(math.ceil(seconds * 1000))
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)


async def test_one_of_two_leads_until_it_gives_the_lease_back(
    one: LeaderLease, two: LeaderLease
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
    one: LeaderLease, two: LeaderLease, clock: MovableClock
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
    one: LeaderLease, two: LeaderLease, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
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


async def test_leader_that_stood_still_learns_that_another_leads(
    one: LeaderLease, two: LeaderLease, clock: MovableClock
) -> None:
    assert await one.take()
    assert not await two.take()
    clock.advance(round(LEFT_SECONDS * 1000))
    assert await two.take()
    await asyncio.wait_for(one.until_lost(), 60)
    assert not one.holds
    assert two.holds


async def test_clocks_that_differ_make_no_second_leader(
    one: LeaderLease, other_db: Database, clock: MovableClock
) -> None:
    ahead = MovableClock(clock.now_ms() + 86_400_000)
    two = LeaderLease(db=other_db, machine="b", name="two", clock=ahead)
    assert await one.take()
    assert not await two.take()
    ahead.advance(round((LEFT_SECONDS - 1) * 1000))
    assert not await two.take()


async def test_restarted_gateway_has_its_lease_at_once(
    one: LeaderLease, other_db: Database, clock: MovableClock
) -> None:
    assert await one.take()
    assert await LeaderLease(db=other_db, machine="a", name="one", clock=clock).take()


async def test_database_that_is_away_ends_the_lease_in_time(
    db: FaultyDatabase, one: LeaderLease, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
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
    db: FaultyDatabase, one: LeaderLease, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a gateway that is cut off acts on beside the next leader."""
    monkeypatch.setattr(lease_rules, "HELD_SECONDS", 0.1)
    assert await one.take()
    monkeypatch.setattr(lease_rules, "RENEW_LEADER_SECONDS", 0.01)
    db.answer_no_writes()
    in_no_time(monkeypatch, clock)
    async with asyncio.timeout(60):
        await one.until_lost()
    assert not one.holds
    db.answer_writes()


def test_lease_outlasts_a_gateway_that_is_cut_off_while_it_writes() -> None:
    """It holds up the others' renewals; else a leader would stop that nobody follows."""
    held_up_seconds = 1.5 * postgres.IDLE_SECONDS
    assert lease_rules.RENEW_LEADER_SECONDS + held_up_seconds < HELD_SECONDS
    assert lease_rules.RENEW_SECONDS + held_up_seconds < LEASE_MS / 1000


def fenced(
    db: Database, directory: Path, clock: MovableClock, *, machine: str, name: str = ""
) -> LeaderLease:
    """The lease of a gateway whose apps are on its machine, which has a directory."""
    lock = FileLock(directory / machine)
    return LeaderLease(db=db, machine=machine, name=name, clock=clock, fence=lock)


async def test_gateway_follows_at_once_when_the_leader_of_its_machine_has_ended(
    db: Database, other_db: Database, tmp_path: Path, clock: MovableClock
) -> None:
    lock = FileLock(tmp_path / "a")
    first = LeaderLease(db=db, machine="a", name="one", clock=clock, fence=lock)
    second = fenced(other_db, tmp_path, clock, machine="a", name="two")
    assert await first.take()
    await second.enter()
    assert not await second.take()
    lock.close()  # as the kernel does when a process ends
    assert await second.take()


async def test_leader_of_a_machine_remains_while_the_database_is_away(
    db: FaultyDatabase, tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = fenced(db, tmp_path, clock, machine="a")
    assert await lease.take()
    db.refuse_writes()
    in_no_time(monkeypatch, clock)
    begun = clock.monotonic_seconds()
    renewing = asyncio.create_task(lease.until_lost())
    while clock.monotonic_seconds() < begun + 5 * HELD_SECONDS:
        await asyncio.sleep(0)
        assert lease.holds
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    db.allow_writes()


async def test_gateway_of_a_second_machine_is_refused_while_the_first_renews(
    db: Database,
    other_db: Database,
    tmp_path: Path,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = fenced(db, tmp_path, clock, machine="a")
    second = fenced(other_db, tmp_path, clock, machine="b")
    assert await first.take()
    in_no_time(monkeypatch, clock)
    renewing = asyncio.create_task(first.until_lost())
    with pytest.raises(AlreadyRunning, match="another machine"):
        await second.enter()

    async def until_taken() -> None:
        while not await second.take():
            await asyncio.sleep(1)

    with pytest.raises(AlreadyRunning, match="another machine"):
        await until_taken()
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_machine_that_was_left_keeps_another_waiting_and_ends_when_it_was_not_dead(
    db: Database,
    other_db: Database,
    tmp_path: Path,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = fenced(db, tmp_path, clock, machine="a")
    second = fenced(other_db, tmp_path, clock, machine="b")
    assert await first.take()
    in_no_time(monkeypatch, clock)
    begun = clock.monotonic_seconds()
    await second.enter()
    assert clock.monotonic_seconds() - begun >= LEFT_BY_MACHINE_SECONDS
    assert await second.take()
    with pytest.raises(AlreadyRunning):
        await first.until_lost()
    assert not first.holds


async def test_machine_whose_gateway_stopped_may_start_it_again_before_another_takes_its_apps(
    db: Database, other_db: Database, tmp_path: Path, clock: MovableClock
) -> None:
    first = fenced(db, tmp_path, clock, machine="a")
    assert await first.take()
    await first.give_back()
    assert not await fenced(other_db, tmp_path, clock, machine="b").take()
    assert await first.take()

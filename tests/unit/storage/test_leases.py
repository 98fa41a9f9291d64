import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from moorage.errors import AlreadyRunning
from moorage.storage.database import Database
from moorage.storage.opening import open_database
from moorage.storage.several.leases import (
    CLOCK_BACK_MS,
    LEASE_MS,
    MACHINE_SECONDS,
    Leases,
    MachineLease,
)
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
def machine(db: Database, clock: MovableClock) -> MachineLease:
    return MachineLease(db=db, holder="one", clock=clock)


@pytest.fixture
def other_machine(other_db: Database, clock: MovableClock) -> MachineLease:
    return MachineLease(db=other_db, holder="two", clock=clock)


def while_waiting(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]]
) -> None:
    """Something happens during each wait for another machine, which takes no time."""
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        if seconds == MACHINE_SECONDS:
            await happens()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)


async def test_second_machine_is_refused_while_the_first_renews(
    machine: MachineLease, other_machine: MachineLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await machine.renew()
    while_waiting(monkeypatch, machine.renew)
    for _ in range(2):
        with pytest.raises(AlreadyRunning, match="another machine"):
            await other_machine.enter()
    assert not await other_machine.renew()
    assert await machine.renew()


async def test_dead_machine_holds_nobody_up_and_ends_when_it_was_not_dead(
    machine: MachineLease, other_machine: MachineLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await machine.renew()
    while_waiting(monkeypatch, lambda: asyncio.sleep(0))
    await other_machine.enter()
    await other_machine.close()

    assert not await machine.renew()
    while_waiting(monkeypatch, other_machine.renew)
    with pytest.raises(AlreadyRunning):
        await machine.enter()


async def test_gateway_ends_when_another_machine_has_its_database(
    machine: MachineLease, other_machine: MachineLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_still = asyncio.Event()

    async def wait(seconds: float) -> None:
        if 1 < seconds < MACHINE_SECONDS:  # between renewals
            await stands_still.wait()

    monkeypatch.setattr(asyncio, "sleep", wait)
    await machine.enter()
    await other_machine.enter()
    await other_machine.close()
    stands_still.set()
    with pytest.raises(AlreadyRunning):
        await machine.run()
    await machine.close()


async def test_gateways_of_one_machine_hold_it_together(
    machine: MachineLease, other_db: Database, clock: MovableClock
) -> None:
    sibling = MachineLease(db=other_db, holder="one", clock=clock)
    for _ in range(2):
        assert await machine.renew()
        assert await sibling.renew()

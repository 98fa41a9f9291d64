import asyncio
import math
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from moorage.errors import DatabaseUnavailable
from moorage.gateway.vital_signs import Samples
from moorage.ledger import metering as metering_module
from moorage.ledger.ledger import EARNED
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import MONTH_MS, charge_up_to
from moorage.ledger.services import CreditWarnings
from moorage.money import MicroUsd
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.database import Database, Statement
from moorage.storage.money import accounts, billing
from moorage.storage.schema import events
from support.books.faulty_database import FaultyDatabase
from support.books.overtaken import OvertakenDatabase
from support.books.records_fixture import ALICE, BOB, GATEWAY, OTHER_GATEWAY, add_project, fund
from support.gateway.clock import HOUR_MS, MovableClock

EVENTS = Statement(select(events.c.kind, events.c.data).order_by(events.c.sequence))


async def told(db: Database) -> list[int | str]:
    """Hours that were warned of, and other kinds of events but payments, in their order."""
    rows = [(kind, msgspec.json.decode(data)) for kind, data in await db.all(EVENTS)]
    return [
        data["hours"] if kind == EventKind.CREDITS_LOW else kind
        for kind, data in rows
        if kind != EventKind.PAYMENT_CREDITED
    ]


async def hours(count: int, metering: Metering, clock: MovableClock) -> None:
    for _ in range(count):
        clock.advance(HOUR_MS)
        await metering.tick()


async def test_each_threshold_is_warned_of_once_then_the_project_is_suspended(
    db: Database, clock: MovableClock
) -> None:
    metering = Metering(db=db, clock=clock)
    await fund(db, ALICE, 200 * HOURLY)
    project = await add_project(db, monthly_price_micro_usd=MicroUsd(730 * HOURLY))
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    await hours(30, metering, clock)
    assert await told(db) == []
    await hours(2, metering, clock)
    assert await told(db) == [7 * 24]
    await hours(96, metering, clock)
    assert await told(db) == [7 * 24, 72]
    await hours(48, metering, clock)
    assert await told(db) == [7 * 24, 72, 24]
    await hours(23, metering, clock)
    assert await told(db) == [7 * 24, 72, 24, 1]
    await hours(1, metering, clock)
    assert await told(db) == [7 * 24, 72, 24, 1, EventKind.PROJECT_SUSPENDED]


async def test_after_a_top_up_every_threshold_is_warned_of_again(
    db: Database, clock: MovableClock
) -> None:
    metering = Metering(db=db, clock=clock)
    await fund(db, ALICE, 24 * HOURLY)
    project = await add_project(db, monthly_price_micro_usd=MicroUsd(730 * HOURLY))
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    await hours(3, metering, clock)
    assert await told(db) == [24]
    await fund(db, ALICE, 60 * HOURLY)
    await hours(3, metering, clock)
    assert await told(db) == [24]  # who has just paid is not warned of 7 days
    await fund(db, ALICE, 100 * HOURLY)
    await hours(110, metering, clock)
    assert await told(db) == [24, 7 * 24, 72]


async def test_project_that_two_gateways_suspend_at_once_is_told_of_once(
    db: Database, db_path: Path, clock: MovableClock
) -> None:
    project = await add_project(db, monthly_price_micro_usd=MicroUsd(730 * HOURLY))
    async with db.transaction(durable=True) as tx:
        await Metering(db=db, clock=clock).begin(tx, project.id)

    async def suspend(at: Database) -> None:
        async with at.transaction(durable=True) as tx:
            await Metering(db=at, clock=clock).suspend_unpaid(tx, ALICE)

    with closing(OvertakenDatabase(db_path, lambda: suspend(db))) as overtaken:
        await suspend(overtaken)
    assert await told(db) == [EventKind.PROJECT_SUSPENDED]


HOURLY = 1_000
MONTHLY = MicroUsd(730 * HOURLY)


@pytest.fixture
def metering(db: Database, clock: MovableClock) -> Metering:
    return Metering(db=db, clock=clock)


async def running(
    db: Database, metering: Metering, name: str = "hello", wallet: str = ALICE
) -> Project:
    """A project that costs 1,000 micro-USD an hour and is billed from now on."""
    project = await add_project(db, wallet, name, monthly_price_micro_usd=MONTHLY)
    await begin(db, metering, project)
    return project


async def begin(db: Database, metering: Metering, project: Project) -> None:
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)


async def end(db: Database, metering: Metering, project: Project) -> None:
    async with db.transaction(durable=True) as tx:
        await metering.end(tx, project.id)


async def serve(db: Database, project: Project, deployment_id: str) -> None:
    async with db.transaction(durable=True) as tx:
        await projects.set_serving(tx, project.id, deployment_id)


async def burned(db: Database) -> int:
    assert await accounts.sum_of_entries(db) == 0
    return await accounts.sum_of_account(db, EARNED)


async def status_of(db: Database, project: Project) -> ProjectStatus:
    found = await projects.by_id(db, project.id)
    assert found is not None
    return found.status


@given(elapsed=st.integers(-(10**9), 10**12), price=st.integers(0, 10**10))
def test_charge_is_the_price_times_the_time_rounded_up(elapsed: int, price: int) -> None:
    month_ms = Fraction(365 * 24 * 3_600_000, 12)
    exact = Fraction(price) * max(elapsed, 0) / month_ms
    assert charge_up_to(elapsed, monthly_price=MicroUsd(price)) == math.ceil(exact)


def test_a_month_of_running_costs_the_monthly_price() -> None:
    assert charge_up_to(MONTH_MS, monthly_price=MicroUsd(499_999)) == 499_999


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.integers(1, 10**9))
def test_charges_never_shrink_as_time_goes_on(times: list[int], price: int) -> None:
    charges = [charge_up_to(t, monthly_price=MicroUsd(price)) for t in sorted(times)]
    assert charges == sorted(charges)


async def test_nothing_is_charged_before_the_first_full_hour(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    await running(db, metering)
    clock.advance(HOUR_MS - 1)
    assert await metering.tick() == []
    assert await burned(db) == 0
    clock.advance(1)
    await metering.tick()
    assert await burned(db) == HOURLY


async def test_hours_missed_are_caught_up_and_none_is_charged_twice(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    await running(db, metering)
    clock.advance(5 * HOUR_MS + 7)
    for _ in range(3):
        await metering.tick()
    assert await burned(db) == 5 * HOURLY


async def test_end_charges_to_the_millisecond(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    project = await running(db, metering)
    clock.advance(2 * HOUR_MS)
    await metering.tick()
    clock.advance(HOUR_MS // 4 + 1)
    await end(db, metering, project)
    assert await burned(db) == 2 * HOURLY + 251  # 250 and a little, rounded up
    clock.advance(10 * HOUR_MS)
    await metering.tick()
    await end(db, metering, project)
    assert await burned(db) == 2 * HOURLY + 251


async def test_project_that_never_began_is_never_charged(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    project = await add_project(db)
    clock.advance(10 * HOUR_MS)
    await metering.tick()
    await end(db, metering, project)
    assert await burned(db) == 0


async def test_beginning_again_goes_on_with_the_same_interval(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    project = await running(db, metering)
    clock.advance(HOUR_MS // 2)
    await begin(db, metering, project)
    clock.advance(HOUR_MS // 2)
    await metering.tick()
    assert await burned(db) == HOURLY


async def test_restart_neither_bills_twice_nor_skips(db: Database, clock: MovableClock) -> None:
    await fund(db, ALICE, 100_000)
    await running(db, Metering(db=db, clock=clock))
    for _ in range(6):
        clock.advance(HOUR_MS // 2)
        await Metering(db=db, clock=clock).tick()
    assert await burned(db) == 3 * HOURLY


@pytest.mark.parametrize("hours", [-1000, -2, 2, 1000])
async def test_clock_that_is_set_neither_bills_nor_skips(
    db: Database, metering: Metering, clock: MovableClock, hours: int
) -> None:
    await fund(db, ALICE, 100_000)
    project = await running(db, metering)
    clock.advance(3 * HOUR_MS)
    await metering.tick()
    clock.step(hours * HOUR_MS)
    await metering.tick()
    assert await burned(db) == 3 * HOURLY
    clock.advance(HOUR_MS)
    await metering.tick()
    assert await burned(db) == 4 * HOURLY
    clock.step(-hours * HOUR_MS)
    clock.advance(HOUR_MS // 2)
    await end(db, metering, project)
    assert await burned(db) == 4 * HOURLY + HOURLY // 2


async def test_time_the_gateway_was_down_is_billed_where_the_app_went_on(
    db: Database, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    before = Metering(db=db, clock=clock, boot_id="one")
    alive = await running(db, before, "alive")
    dead = await running(db, before, "dead")
    await serve(db, alive, "alive's")
    await serve(db, dead, "dead's")
    clock.advance(HOUR_MS // 2)
    await before.tick()
    clock.step(77 * HOUR_MS)
    clock.advance(5 * HOUR_MS)

    after = Metering(db=db, clock=clock, boot_id="one")
    await after.resume({"alive's"})

    await after.tick()
    assert await burned(db) == 5 * HOURLY
    clock.advance(HOUR_MS // 2)
    await after.tick()
    assert await burned(db) == 6 * HOURLY + HOURLY


async def test_time_the_machine_was_down_is_not_billed(db: Database, clock: MovableClock) -> None:
    await fund(db, ALICE, 100_000)
    before = Metering(db=db, clock=clock, boot_id="one")
    project = await running(db, before)
    clock.advance(HOUR_MS // 2)
    await before.tick()
    clock.reboot(100 * HOUR_MS)

    after = Metering(db=db, clock=clock, boot_id="two")
    await after.resume(set())

    clock.advance(HOUR_MS // 2 - 1)
    await after.tick()
    assert await burned(db) == 0
    clock.advance(1)
    await after.tick()
    assert await burned(db) == HOURLY
    await end(db, after, project)
    assert await burned(db) == HOURLY


async def test_each_gateway_goes_on_from_its_own_reading(db: Database, clock: MovableClock) -> None:
    """The machine of one stands still for an hour; its billed time has too, when it is back."""
    first = Metering(db=db, clock=clock, boot_id="one", gateway=GATEWAY)
    await first.tick()
    noted_ms = first.time.now_ms()
    clock.advance(HOUR_MS)
    second = Metering(db=db, clock=clock, boot_id="another machine's", gateway=OTHER_GATEWAY)
    await second.resume(set())
    assert second.time.now_ms() == noted_ms  # new here, it goes on from what is known
    clock.advance(HOUR_MS)
    await second.tick()

    back = Metering(db=db, clock=clock, boot_id="two", gateway=GATEWAY)
    await back.resume(set())
    assert back.time.now_ms() == noted_ms
    again = Metering(db=db, clock=clock, boot_id="another machine's", gateway=OTHER_GATEWAY)
    await again.resume(set())
    assert again.time.now_ms() == second.time.now_ms() == noted_ms + HOUR_MS


async def test_interval_begun_after_the_last_tick_before_a_crash_is_billed_no_earlier(
    db: Database, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    before = Metering(db=db, clock=clock, boot_id="one")
    await before.tick()
    clock.advance(50_000)
    project = await running(db, before)
    clock.reboot(HOUR_MS)
    after = Metering(db=db, clock=clock, boot_id="two")
    await after.resume(set())
    await end(db, after, project)
    assert await burned(db) == 0


async def test_at_zero_the_project_is_suspended_and_billing_ends(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 2 * HOURLY)
    project = await running(db, metering)
    clock.advance(HOUR_MS)
    assert await metering.tick() == []
    assert await status_of(db, project) is ProjectStatus.ACTIVE
    clock.advance(HOUR_MS)
    assert await metering.tick() == [project.id]
    assert await status_of(db, project) is ProjectStatus.SUSPENDED
    assert await billing.open_of(db, project.id) is None
    await fund(db, ALICE, 100_000)
    clock.advance(10 * HOUR_MS)
    assert await metering.tick() == []
    assert await burned(db) == 2 * HOURLY


async def test_what_credits_do_not_cover_is_not_owed_afterwards(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, HOURLY // 2)
    project = await running(db, metering)
    clock.advance(10 * HOUR_MS)
    assert await metering.tick() == [project.id]
    await fund(db, ALICE, 100_000)
    await begin(db, metering, project)
    clock.advance(HOUR_MS)
    await metering.tick()
    assert await burned(db) == HOURLY // 2 + HOURLY


async def test_projects_share_their_wallets_credits_and_nobody_elses(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 3 * HOURLY)
    await fund(db, BOB, 100 * HOURLY)
    mine = {(await running(db, metering, name)).id for name in ("one", "two")}
    await running(db, metering, "theirs", BOB)
    clock.advance(HOUR_MS)
    assert await metering.tick() == []
    assert await accounts.balance(db, ALICE) == HOURLY
    clock.advance(HOUR_MS)
    assert set(await metering.tick()) == mine
    assert await accounts.balance(db, ALICE) == 0
    assert await accounts.balance(db, BOB) == 98 * HOURLY


async def test_interval_that_ends_while_a_tick_waits_is_charged_once(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    project = await running(db, metering)
    clock.advance(HOUR_MS + HOUR_MS // 2)
    async with db.transaction(durable=True) as tx:
        ticking = asyncio.create_task(metering.tick())
        await asyncio.sleep(0)  # it has read what is due and waits for its turn
        await metering.end(tx, project.id)
    await ticking
    assert await burned(db) == HOURLY + HOURLY // 2


async def test_ticks_at_once_charge_once(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100_000)
    await running(db, metering)
    clock.advance(3 * HOUR_MS)
    others = [Metering(db=db, clock=clock) for _ in range(10)]
    await asyncio.gather(*(other.tick() for other in others))
    assert await burned(db) == 3 * HOURLY


async def test_tick_does_not_suspend_a_project_that_is_being_deleted(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 1)
    project = await running(db, metering)
    async with db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    clock.advance(HOUR_MS)
    await metering.tick()
    assert await status_of(db, project) is ProjectStatus.DELETING


async def make_unbookable(db: Database, project: Project, *, until_ms: int) -> None:
    """A posting with the id of the project's next booking, as of a row changed by hand."""
    interval = await billing.open_of(db, project.id)
    assert interval is not None
    async with db.transaction(durable=True) as tx:
        await accounts.add_posting(
            tx,
            posting_id=f"burn:{interval.id}:{until_ms}",
            kind="burn",
            amounts={EARNED: MicroUsd(0)},
            now_ms=until_ms,
        )


async def test_interval_that_cannot_be_booked_keeps_nobody_elses_from_it(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 10 * HOURLY)
    await fund(db, BOB, 10 * HOURLY)
    bad = await running(db, metering)
    await make_unbookable(db, bad, until_ms=metering.time.now_ms() + HOUR_MS)
    for name in ("one", "two", "three"):
        await running(db, metering, name, BOB)
    for hour in (1, 2):
        clock.advance(milliseconds=HOUR_MS)
        assert await metering.tick() == []
        assert await accounts.balance(db, BOB) == (10 - 3 * hour) * HOURLY
        assert Samples()("moorage_unbooked_intervals") == (1 if hour == 1 else 0)
    # By the second hour it could be booked again, with what was left out.
    assert await accounts.balance(db, ALICE) == 8 * HOURLY


async def test_more_that_cannot_be_booked_than_is_charged_at_once_stops_nobody(
    db: Database, metering: Metering, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering_module, "AT_ONCE", 2)
    await fund(db, ALICE, 100 * HOURLY)
    await fund(db, BOB, 10 * HOURLY)
    until_ms = metering.time.now_ms() + HOUR_MS
    for name in ("one", "two", "three", "four", "five"):
        await make_unbookable(db, await running(db, metering, name), until_ms=until_ms)
    await running(db, metering, "good", BOB)
    clock.advance(milliseconds=HOUR_MS)
    for _ in range(2):
        await metering.tick()
        assert await accounts.balance(db, BOB) == 9 * HOURLY
        assert Samples()("moorage_unbooked_intervals") == 5
    assert await accounts.balance(db, ALICE) == 100 * HOURLY


async def test_database_that_fails_is_not_taken_for_rows_that_do(
    db_path: Path, clock: MovableClock
) -> None:
    faulty = FaultyDatabase(db_path)
    metering = Metering(db=faulty, clock=clock)
    await fund(faulty, ALICE, 10 * HOURLY)
    await running(faulty, metering)
    clock.advance(milliseconds=HOUR_MS)
    faulty.refuse_writes()
    with pytest.raises(DatabaseUnavailable):
        await metering.tick()
    faulty.allow_writes()
    await metering.tick()
    assert await accounts.balance(faulty, ALICE) == 9 * HOURLY
    faulty.close()


async def test_wallet_that_was_warned_learns_what_is_left_until_it_has_paid(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    warnings = CreditWarnings(db=db, metering=metering, clock=clock)
    await fund(db, ALICE, 171 * HOURLY)
    await running(db, metering)
    assert await warnings.hours_left(ALICE) is None
    await hours(4, metering, clock)
    assert await warnings.hours_left(ALICE) == 166  # the last micro-USD lasts 3.6 s
    clock.advance(HOUR_MS)
    assert await warnings.hours_left(ALICE) == 165
    await fund(db, ALICE, 100 * HOURLY)
    clock.advance(60_000)
    assert await warnings.hours_left(ALICE) is None

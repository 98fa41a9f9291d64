"""New prices of projects that there are: each counts once, from the moment that was told."""

import asyncio

import pytest

from moorage.ledger.ledger import EARNED
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import MONTH_MS
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.operate.audit.states import audit_states
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.records.size import Size
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import accounts, billing
from moorage.storage.operation import price_changes
from moorage.storage.operation.price_changes import PriceChange
from support.books.records_fixture import ALICE, ARBITRUM, add_deployment, add_project, fund
from support.gateway.clock import HOUR_MS, MovableClock

HOURLY = 1_000
OLD, CHEAPER, DEARER = (MicroUsd(730 * HOURLY * part // 2) for part in (2, 1, 4))


@pytest.fixture
def metering(db: Database, clock: MovableClock) -> Metering:
    return Metering(db=db, clock=clock)


async def running(
    db: Database, metering: Metering, *, months: int = 1, credit: int = 40 * OLD
) -> Project:
    """A project that serves, at 1,000 micro-USD an hour, and is billed from now on."""
    await fund(db, ALICE, credit)
    project = await add_project(db, ALICE, "hello", monthly_price_micro_usd=OLD, months=months)
    deployment = await add_deployment(db, project)
    async with db.transaction(durable=True) as tx:
        await projects.set_serving(tx, project.id, deployment.id)
        await metering.begin(tx, project.id)
    return project


async def order(db: Database, project: Project, price: MicroUsd, *, from_ms: int) -> None:
    change = PriceChange(
        project_id=project.id,
        wallet=project.wallet,
        months=project.months,
        ordered_at_ms=1,
        before_micro_usd=OLD,
        after_micro_usd=price,
        from_ms=from_ms,
    )
    async with db.transaction(durable=True) as tx:
        await price_changes.replace_ordered(tx, [change])


async def price_of(db: Database, project: Project) -> int:
    found = await projects.by_id(db, project.id)
    assert found is not None
    return found.monthly_price_micro_usd


async def burned(db: Database) -> int:
    return await accounts.sum_of_account(db, EARNED)


async def findings(db: Database, clock: MovableClock) -> list[str]:
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
        found = [*found, *await audit_states(snapshot, now_ms=clock.now_ms())]
    return [f"{each.row}: {each.problem}" for each in found]


async def test_lower_price_counts_from_its_date_to_the_millisecond(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering)
    clock.advance(2 * HOUR_MS)
    await metering.tick()
    assert await findings(db, clock) == []
    await order(db, project, CHEAPER, from_ms=clock.now_ms() + HOUR_MS // 2)

    clock.advance(HOUR_MS // 2 - 1)
    await metering.tick()
    assert await price_of(db, project) == OLD

    clock.advance(1 + 7 * HOUR_MS)  # nobody looked for seven hours
    await metering.tick()
    assert await price_of(db, project) == CHEAPER
    assert await burned(db) == 2 * HOURLY + HOURLY // 2 + 7 * HOURLY // 2
    assert await findings(db, clock) == []


async def test_higher_price_counts_once_what_was_promised_has_run(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering, months=2)
    await order(db, project, DEARER, from_ms=clock.now_ms())
    clock.advance(MONTH_MS)
    await metering.tick()
    async with db.transaction(durable=True) as tx:
        await metering.end(tx, project.id)
    clock.advance(3 * MONTH_MS)  # it does not run, so nothing of the promise is used up
    await metering.tick()
    assert await price_of(db, project) == OLD
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)

    clock.advance(MONTH_MS - HOUR_MS // 4)
    await metering.tick()
    assert await price_of(db, project) == OLD
    clock.advance(HOUR_MS // 4 + HOUR_MS)
    await metering.tick()
    assert await price_of(db, project) == DEARER
    assert await burned(db) == 2 * OLD + 2 * HOURLY
    assert await findings(db, clock) == []


async def test_ticks_at_once_put_a_price_in_force_once(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering)
    await order(db, project, CHEAPER, from_ms=clock.now_ms() + HOUR_MS)
    clock.advance(3 * HOUR_MS)
    others = [Metering(db=db, clock=clock) for _ in range(5)]
    await asyncio.gather(*(each.tick() for each in others))
    assert await burned(db) == HOURLY + 2 * HOURLY // 2
    told = await events.of_wallet(db, ALICE, after=0, limit=100)
    changed = [each.data for each in told if each.kind is EventKind.PRICE_CHANGED]
    assert changed == [{"project_id": project.id, "before_usd_month": 0.73, "usd_month": 0.365}]
    assert await findings(db, clock) == []


async def test_project_that_does_not_run_gets_its_price_for_the_next_time(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering)
    async with db.transaction(durable=True) as tx:
        await metering.end(tx, project.id)
    await order(db, project, CHEAPER, from_ms=clock.now_ms())
    clock.advance(1)
    await metering.tick()
    assert await price_of(db, project) == CHEAPER
    assert await billing.open_of(db, project.id) is None


async def test_credits_that_end_at_the_date_suspend_the_project(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering, credit=HOURLY)
    await order(db, project, CHEAPER, from_ms=clock.now_ms() + HOUR_MS)
    clock.advance(HOUR_MS)
    assert await metering.tick() == [project.id]
    found = await projects.by_id(db, project.id)
    assert found is not None
    assert (found.status, found.monthly_price_micro_usd) == (ProjectStatus.SUSPENDED, CHEAPER)
    assert await billing.open_of(db, project.id) is None


async def test_date_that_passed_while_the_machine_was_down_bills_nothing_twice(
    db: Database, clock: MovableClock
) -> None:
    before = Metering(db=db, clock=clock, boot_id="one")
    project = await running(db, before)
    await order(db, project, CHEAPER, from_ms=clock.now_ms() + 3 * HOUR_MS)
    clock.advance(2 * HOUR_MS)
    await before.tick()
    clock.reboot(5 * HOUR_MS)
    after = Metering(db=db, clock=clock, boot_id="two")
    await after.resume(set())
    clock.advance(2 * HOUR_MS)
    await after.tick()
    assert await burned(db) == 2 * HOURLY + 2 * HOURLY // 2
    assert await findings(db, clock) == []


LARGE = Size(name="large", month=MicroUsd(4 * OLD), asleep_month=CHEAPER)
STANDARD_NOW = Size(month=DEARER, asleep_month=CHEAPER)  # the list has gone up meanwhile


async def resized(db: Database, metering: Metering, project: Project, size: Size) -> None:
    async with db.transaction(durable=True) as tx:
        present = await projects.living(tx, project)
        await metering.resize(tx, present, size)
        await metering.follow(tx, await projects.living(tx, project))


async def test_each_size_is_burned_at_its_own_price_to_the_millisecond(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering)
    clock.advance(HOUR_MS)
    await resized(db, metering, project, LARGE)
    clock.advance(HOUR_MS // 2)
    await resized(db, metering, project, STANDARD_NOW)
    clock.advance(HOUR_MS)
    await metering.tick()
    assert await burned(db) == HOURLY + 4 * HOURLY // 2 + HOURLY
    assert await findings(db, clock) == []


async def test_size_that_is_come_back_to_costs_what_it_did_while_its_first_months_last(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering, months=2)
    await resized(db, metering, project, LARGE)
    assert await price_of(db, project) == 4 * OLD
    clock.advance(2 * MONTH_MS - 1)
    await resized(db, metering, project, STANDARD_NOW)
    assert await price_of(db, project) == OLD
    clock.advance(1)
    await resized(db, metering, project, LARGE)
    await resized(db, metering, project, STANDARD_NOW)
    assert await price_of(db, project) == DEARER


async def test_cheaper_list_counts_for_a_size_that_is_come_back_to(
    db: Database, metering: Metering
) -> None:
    project = await running(db, metering, months=2)
    await resized(db, metering, project, LARGE)
    await resized(db, metering, project, Size(month=CHEAPER, asleep_month=CHEAPER))
    assert await price_of(db, project) == CHEAPER


async def test_new_price_of_a_size_that_was_left_is_cancelled(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await running(db, metering)
    await order(db, project, CHEAPER, from_ms=clock.now_ms() + HOUR_MS)
    await resized(db, metering, project, LARGE)
    clock.advance(2 * HOUR_MS)
    await metering.tick()
    assert await price_of(db, project) == 4 * OLD

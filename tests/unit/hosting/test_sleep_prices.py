"""What a project burns asleep and awake: each state its own price, by the row that says so."""

import asyncio
from math import ceil

import pytest
from yard import HOST, Yard

from moorage.engines.engine import AppExit
from moorage.ledger.metering import PurseChange
from moorage.ledger.running_costs import runs_out_at
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.operate.audit.states import audit_states
from moorage.records.deployment import Deployment
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.money import accounts, billing
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ARBITRUM, add_project, fund
from support.gateway.clock import HOUR_MS

MONTH_MS = 730 * HOUR_MS
MONTH, MONTH_ASLEEP = 500_000, 100_000


@pytest.fixture
async def project(db: FaultyDatabase) -> Project:
    return await add_project(
        db,
        status=ProjectStatus.QUEUED,
        monthly_price_micro_usd=MicroUsd(MONTH),
        asleep_price_micro_usd=MicroUsd(MONTH_ASLEEP),
        sleep_after_seconds=HOUR_MS // 1000,
    )


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """It has just begun to serve; its wallet paid a month awake."""
    serving = await yard.active(project, micro_usd=MONTH)
    await yard.reconcile()
    return serving


async def put_to_sleep(yard: Yard, project: Project) -> None:
    yard.clock.advance(HOUR_MS)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is not None


async def expect_sound(yard: Yard) -> None:
    async with yard.db.snapshot() as rows:
        assert await audit_states(rows, now_ms=yard.clock.now_ms()) == []
        _, found = await audit_books(rows, [ARBITRUM])
    assert found == []


async def test_each_state_burns_its_own_price_to_the_millisecond(
    yard: Yard, project: Project, app: Deployment
) -> None:
    """It is put to sleep after an hour and sleeps for two; then it is used for half an hour."""
    began = yard.clock.now_ms()
    await put_to_sleep(yard, project)
    yard.clock.advance(2 * HOUR_MS + 1)
    assert await yard.wake.host(HOST)
    yard.clock.advance(HOUR_MS // 2)
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.settle(tx, project.wallet)
    burned = [
        ceil(MONTH * HOUR_MS / MONTH_MS),
        ceil(MONTH_ASLEEP * (2 * HOUR_MS + 1) / MONTH_MS),
        ceil(MONTH * (HOUR_MS // 2) / MONTH_MS),
    ]
    assert await accounts.balance(yard.db, project.wallet) == MONTH - sum(burned)
    spent = await yard.metering.spent(
        yard.db, project.id, start_ms=began, end_ms=yard.clock.now_ms()
    )
    assert spent == {
        False: (HOUR_MS + HOUR_MS // 2, burned[0] + burned[2]),
        True: (2 * HOUR_MS + 1, burned[1]),
    }
    await expect_sound(yard)


async def test_open_state_is_told_as_it_stands_and_one_that_ended_by_its_part(
    yard: Yard, project: Project, app: Deployment
) -> None:
    began = yard.clock.now_ms()
    await put_to_sleep(yard, project)
    yard.clock.advance(10_000)
    half_an_hour = {"start_ms": began + HOUR_MS // 2, "end_ms": yard.clock.now_ms() + HOUR_MS}
    spent = await yard.metering.spent(yard.db, project.id, **half_an_hour)
    half = HOUR_MS // 2
    in_its_second_half = ceil(MONTH * HOUR_MS / MONTH_MS) - ceil(MONTH * half / MONTH_MS)
    assert spent[False] == (half, in_its_second_half)
    assert spent[True] == (10_000, ceil(MONTH_ASLEEP * 10_000 / MONTH_MS))


async def test_app_that_runs_on_while_its_row_says_it_sleeps_burns_as_the_row_says(
    yard: Yard, project: Project, app: Deployment
) -> None:
    """The gateway crashed between the row and the stop."""
    async with yard.db.transaction(durable=True) as tx:
        assert await yard.metering.fall_asleep(tx, project, serving=app.id)
    assert app.id in yard.runtime.apps
    burning = await billing.open_of(yard.db, project.id)
    assert burning is not None
    assert (burning.asleep, burning.monthly_price_micro_usd) == (True, MONTH_ASLEEP)


async def test_runway_is_that_of_the_present_state(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async def hours_left() -> int:
        burning = await billing.open_of_wallet(yard.db, project.wallet)
        balance = await accounts.balance(yard.db, project.wallet)
        until_ms = runs_out_at(balance, burning, now_ms=yard.clock.now_ms())
        assert until_ms is not None
        return round((until_ms - yard.clock.now_ms()) / HOUR_MS)

    assert await hours_left() == 730
    await put_to_sleep(yard, project)
    assert await hours_left() == 729 * 5
    assert (await billing.of_holder(yard.db, project.wallet)).sharing == [MONTH_ASLEEP]
    assert await yard.wake.host(HOST)
    assert await hours_left() == 729


async def test_project_whose_credits_run_out_asleep_is_suspended(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    yard.clock.advance(729 * 5 * HOUR_MS)
    assert await yard.metering.tick() == [project.id]
    suspended = await yard.project(project)
    assert (suspended.status, suspended.asleep_since_ms) == (ProjectStatus.SUSPENDED, None)
    await expect_sound(yard)


async def test_visit_suspends_what_sleeps_without_credits_for_an_hour_awake(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    yard.clock.advance((729 * 5 - 4) * HOUR_MS)  # four hours asleep are paid, not one awake
    assert not await yard.wake.host(HOST)
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.runtime.called("start") == []
    told = await events.of_wallet(yard.db, project.wallet, after=0, limit=100)
    assert told[-1].kind is EventKind.PROJECT_SUSPENDED
    await fund(yard.db, project.wallet, 1_000)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert yard.runtime.called("start") == [app.id]
    await expect_sound(yard)


async def test_asleep_it_reaches_its_limit_of_the_month_later(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        change = PurseChange(limit=MicroUsd(2_000))
        await yard.metering.change_purse(tx, project, change)
    await put_to_sleep(yard, project)
    yard.clock.advance(6 * HOUR_MS)  # about 685 awake, 822 asleep: less than an hour awake is left
    await yard.metering.tick()
    assert not await yard.wake.host(HOST)
    suspended = await yard.project(project)
    assert suspended.status is ProjectStatus.SUSPENDED
    assert await yard.metering.is_at_limit(yard.db, suspended)
    await expect_sound(yard)


async def test_who_wakes_an_app_again_and_again_costs_its_owner_no_more_than_if_it_never_slept(
    yard: Yard, project: Project, app: Deployment
) -> None:
    """But for rounding: each stretch is rounded up to the micro-USD."""
    began, times = yard.clock.now_ms(), 20
    for _ in range(times):
        await put_to_sleep(yard, project)
        assert await yard.wake.host(HOST)
    ran_ms = yard.clock.now_ms() - began
    left = await accounts.balance(yard.db, project.wallet)
    assert MONTH - left <= ceil(MONTH * ran_ms / MONTH_MS) + 2 * times
    assert len(yard.runtime.called("start")) == times


async def test_app_that_was_lost_and_falls_asleep_gets_back_what_it_burned_while_it_was_lost(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    yard.runtime.exits[app.id] = AppExit(exit_code=None, out_of_memory=False)
    await yard.reconciler.reconcile()
    assert (await yard.project(project)).lost_since_ms is not None
    yard.clock.advance(HOUR_MS)
    async with yard.db.transaction(durable=True) as tx:
        lost = await yard.project(project)
        assert await yard.metering.fall_asleep(tx, lost, serving=app.id)
    asleep = await yard.project(project)
    assert asleep.asleep_since_ms is not None
    assert asleep.lost_since_ms is None
    assert await accounts.balance(yard.db, project.wallet) == MONTH
    await expect_sound(yard)

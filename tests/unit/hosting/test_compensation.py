"""What an app burns while the machine has lost it comes back; what its own fault cost does not.

It costs $0.50 a month of 730 hours: 685 micro-USD after an hour, 1,028 after an hour and a half,
1,713 after two and a half (⌈500,000 × hours ÷ 730⌉).
"""

import asyncio
from typing import Any

import pytest
from yard import HOST, Yard

from moorage.engines.engine import AppExit
from moorage.errors import DeployFailed, FailureCause
from moorage.ledger import ledger
from moorage.ledger.metering import Metering, PurseChange
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.operate.reports.revenue import Period, movements, revenue, source_of_postings
from moorage.records.deployment import Deployment
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.money import accounts
from support.books.records_fixture import ALICE, ARBITRUM, transfer
from support.gateway.waiting import until

HOUR_MS = 3_600_000
CREDITS = 500_000
LOST = AppExit(exit_code=None, out_of_memory=False)
AN_HOUR, HALF_AN_HOUR_MORE, TWO_AND_A_HALF_HOURS = 685, 343, 1_713


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """An app that has served for an hour, of a wallet that paid half a dollar."""
    async with yard.db.transaction(durable=True) as tx:
        paid = transfer(ALICE, CREDITS)
        await ledger.credit_transfers(tx, [paid], now_ms=yard.clock.now_ms())
    served = await yard.active(project, billed=False)
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.begin(tx, project.id)
    yard.clock.advance(HOUR_MS)
    return served


async def end(yard: Yard, app: Deployment, how: AppExit) -> None:
    """An app ends, and that is found; its start, which begins, is not over."""
    yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    yard.runtime.exits[app.id] = how
    await yard.reconciler.reconcile()


async def start(yard: Yard) -> None:
    yard.runtime.gates.pop("start").set()
    await yard.tasks_done()
    await yard.reconcile()


async def balance(yard: Yard) -> int:
    """What is left once all is booked."""
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.settle(tx, ALICE)
    return await accounts.balance(yard.db, ALICE)


async def given_back(yard: Yard) -> list[Any]:
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=100)
    return [each.data for each in found if each.kind is EventKind.CREDITS_COMPENSATED]


async def audited(yard: Yard) -> list[str]:
    async with yard.db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    return [f"{each.row}: {each.problem}" for each in found]


async def test_what_a_lost_app_burned_until_it_is_back_comes_back(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await end(yard, app, LOST)
    yard.clock.advance(HOUR_MS // 2)
    await start(yard)
    yard.clock.advance(HOUR_MS)
    assert await balance(yard) == CREDITS - TWO_AND_A_HALF_HOURS + HALF_AN_HOUR_MORE
    assert await given_back(yard) == [{"project_id": project.id, "amount_usd": 0.000343}]
    assert await audited(yard) == []


@pytest.mark.parametrize(
    "how",
    [AppExit(exit_code=1, out_of_memory=False), AppExit(exit_code=None, out_of_memory=True)],
    ids=["it ended", "out of memory"],
)
async def test_what_an_app_burned_after_it_ended_by_itself_stays_burned(
    yard: Yard, app: Deployment, how: AppExit
) -> None:
    await end(yard, app, how)
    yard.clock.advance(HOUR_MS // 2)
    await start(yard)
    yard.clock.advance(HOUR_MS)
    assert await balance(yard) == CREDITS - TWO_AND_A_HALF_HOURS
    assert await given_back(yard) == []


async def test_it_is_given_back_once_however_often_it_is_looked_at(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await end(yard, app, LOST)
    yard.clock.advance(HOUR_MS // 2)
    lost = await yard.project(project)

    async def regain() -> None:
        async with yard.db.transaction(durable=True) as tx:
            await yard.metering.regain(tx, lost)

    await asyncio.gather(*(regain() for _ in range(8)), start(yard))
    await yard.metering.tick()
    assert len(await given_back(yard)) == 1
    assert await balance(yard) == CREDITS - AN_HOUR - HALF_AN_HOUR_MORE + HALF_AN_HOUR_MORE


async def test_hours_that_are_booked_meanwhile_come_back_too(yard: Yard, app: Deployment) -> None:
    await end(yard, app, LOST)
    for _ in range(5):
        yard.clock.advance(HOUR_MS)
        await yard.metering.tick()
        await yard.reconciler.reconcile()
    await start(yard)
    assert await balance(yard) == CREDITS - AN_HOUR
    assert await audited(yard) == []


async def test_from_the_moment_it_fails_to_start_by_its_own_fault_it_burns_for_itself(
    yard: Yard, app: Deployment
) -> None:
    yard.runtime.faults["start"] = [DeployFailed(FailureCause.CRASHED, "it crashed")]
    await end(yard, app, LOST)
    yard.clock.advance(HOUR_MS // 2)
    yard.runtime.exits.pop(app.id)  # as of an app that does not listen
    yard.runtime.gates.pop("start").set()
    await yard.tasks_done()
    yard.clock.advance(HOUR_MS)
    await yard.reconcile()
    assert await balance(yard) == CREDITS - TWO_AND_A_HALF_HOURS + HALF_AN_HOUR_MORE
    assert len(await given_back(yard)) == 1


async def test_app_that_is_being_woken_is_not_lost(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.die(app.id)
    yard.runtime.exits[app.id] = LOST  # as of a pod that was scaled away
    async with yard.db.transaction(durable=False) as tx:
        await projects.fall_asleep(tx, project.id, serving=app.id, at_ms=1)
    yard.runtime.gates["start"] = asyncio.Event()
    asked = asyncio.create_task(yard.wake.host(HOST))
    await until(lambda: yard.runtime.called("start") == [app.id])
    await yard.reconciler.reconcile()
    assert (await yard.project(project)).lost_since_ms is None
    yard.runtime.gates.pop("start").set()
    assert await asked


@pytest.mark.parametrize("status", [ProjectStatus.SUSPENDED, ProjectStatus.DELETING])
async def test_project_that_is_stopped_while_it_is_lost_gets_back_what_it_burned_until_then(
    yard: Yard, project: Project, app: Deployment, status: ProjectStatus
) -> None:
    await end(yard, app, LOST)
    yard.clock.advance(HOUR_MS // 2)
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.end(tx, project.id)
        await projects.set_status(tx, project.id, status)
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await accounts.balance(yard.db, ALICE) == CREDITS - AN_HOUR
    await yard.metering.tick()
    assert len(await given_back(yard)) == 1
    yard.runtime.gates.pop("start").set()
    await yard.tasks_done()


async def test_it_comes_back_to_purse_and_wallet_as_it_burned_from_them(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.change_purse(tx, project, PurseChange(add=MicroUsd(100)))
    yard.runtime.exits[app.id] = LOST
    await end(yard, app, LOST)
    before = await accounts.balance(yard.db, ALICE)
    yard.clock.advance(HOUR_MS // 2)
    await start(yard)
    purse = accounts.purse_of(project.id)
    assert (await accounts.balance(yard.db, purse), await accounts.balance(yard.db, ALICE)) == (
        100,
        before,
    )
    assert await audited(yard) == []


async def test_no_more_comes_back_than_there_was_to_burn(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.settle(tx, ALICE)
        rest = await accounts.balance(tx, ALICE) - 10
        await accounts.add_posting(
            tx,
            posting_id="refund:x",
            kind="refund",
            amounts={ledger.wallet_account(ALICE): -rest, ledger.REFUNDED: rest},
            now_ms=0,
        )
        await accounts.change_balance(tx, ALICE, -rest)
    await end(yard, app, LOST)
    yard.clock.advance(100 * HOUR_MS)
    await yard.metering.tick()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert await accounts.balance(yard.db, ALICE) == 10
    yard.runtime.gates.pop("start").set()
    await yard.tasks_done()


async def test_operator_may_turn_it_off(yard: Yard, project: Project, app: Deployment) -> None:
    metering = Metering(db=yard.db, clock=yard.clock, compensates=False)
    async with yard.db.transaction(durable=True) as tx:
        await metering.lose(tx, project.id)
    assert (await yard.project(project)).lost_since_ms is None


async def test_reports_of_money_have_it_as_credits_that_nobody_paid(
    yard: Yard, app: Deployment
) -> None:
    await end(yard, app, LOST)
    yard.clock.advance(HOUR_MS // 2)
    await start(yard)
    async with yard.db.snapshot() as snapshot:
        source_of = await source_of_postings(snapshot)
        lines = await revenue(movements(snapshot), source_of, by=Period.MONTH)
    assert [(line.source.token, line.received, line.owed) for line in lines] == [
        ("compensated", HALF_AN_HOUR_MORE, HALF_AN_HOUR_MORE),
        ("usdc", CREDITS, CREDITS - AN_HOUR - HALF_AN_HOUR_MORE),
    ]


async def test_audit_finds_that_more_came_back_than_was_burned(
    yard: Yard, project: Project, app: Deployment
) -> None:
    burned = {ledger.wallet_account(ALICE): 10_000}
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.settle(tx, ALICE)
        await ledger.compensate(tx, project, burned, since_ms=1, now_ms=1)
    assert await audited(yard) == [
        f"posting compensated:{project.id}:1: is not what was burned from then on",
        f"project {project.id}: got back {10_000 - AN_HOUR} more than wallet:{ALICE} burned",
    ]

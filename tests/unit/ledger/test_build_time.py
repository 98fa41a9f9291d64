"""Build time: free within what was paid, by the second beyond, and ended without credits."""

import asyncio
import math
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from moorage.acting import ACTING, Acting
from moorage.errors import DeployFailed, FailureCause
from moorage.ledger.build_time import Allowance, BuildTime
from moorage.ledger.ledger import EARNED
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.access import Recovery
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.storage import delegations, recoveries
from moorage.storage.apps import deployments
from moorage.storage.database import Database, Statement
from moorage.storage.money import accounts
from moorage.storage.work_schema import work
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    CAROL,
    add_deployment,
    add_project,
    delegation,
    fund,
)
from support.gateway.clock import MINUTE_MS, MovableClock
from support.gateway.waiting import until

A_MONTH = 2_000_000  # micro-USD: of a build of 2 GiB and two cores at the usual prices
MONTH_MS = Fraction(365 * 24 * 60 * MINUTE_MS, 12)
CHARGED = Statement(select(work.c.ran_ms, work.c.charged_micro_usd))


def price_of(milliseconds: int) -> int:
    return math.ceil(A_MONTH * milliseconds / MONTH_MS)


class Builder:
    """Builds that take as long as a test says."""

    def __init__(self, db: Database, clock: MovableClock, deployment: Deployment) -> None:
        self.db = db
        self.clock = clock
        self.deployment = deployment
        self.time = BuildTime(
            db=db,
            minutes_per_usd=60,
            monthly_price=MicroUsd(A_MONTH),
            clock=clock,
            book_seconds=0.001,
        )

    async def build(self, work: Callable[[], Awaitable[None]]) -> None:
        await self.time.spend(
            work,
            wallet=ALICE,
            project_id=self.deployment.project_id,
            deployment_id=self.deployment.id,
        )

    async def take(self, minutes: int) -> None:
        async def work() -> None:
            self.clock.advance(minutes * MINUTE_MS)

        await self.build(work)

    async def allowance(self) -> Allowance:
        return await self.time.allowance(self.db, ALICE)


@pytest.fixture
async def builder(db: Database, clock: MovableClock) -> Builder:
    return Builder(db, clock, await add_deployment(db, await add_project(db)))


async def audited(db: Database) -> list[str]:
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    return [f"{each.row} {each.problem}" for each in found]


async def test_each_dollar_paid_allows_an_hour_of_building(builder: Builder) -> None:
    await fund(builder.db, ALICE, 1_500_000)
    assert (await builder.allowance()).left_ms == 90 * MINUTE_MS
    to_come = await builder.time.allowance(builder.db, ALICE, to_come=MicroUsd(500_000))
    assert to_come.left_ms == 120 * MINUTE_MS

    await builder.take(30)
    assert (await builder.allowance()).left_ms == 60 * MINUTE_MS
    assert await accounts.balance(builder.db, ALICE) == 1_500_000


async def test_what_a_build_takes_beyond_is_burned_at_its_price(builder: Builder) -> None:
    await fund(builder.db, ALICE, 500_000)  # 30 minutes
    await builder.take(20)
    await builder.take(20)
    await builder.take(20)

    assert await accounts.balance(builder.db, ALICE) == 500_000 - price_of(10 * MINUTE_MS) - (
        price_of(20 * MINUTE_MS)
    )
    assert (await builder.allowance()).left_ms == 0
    assert await audited(builder.db) == []


async def test_later_payment_allows_more_and_takes_nothing_back(builder: Builder) -> None:
    await fund(builder.db, ALICE, 500_000)
    await builder.take(40)
    burned = price_of(10 * MINUTE_MS)
    await fund(builder.db, ALICE, 500_000)
    assert (await builder.allowance()).left_ms == 30 * MINUTE_MS
    assert await accounts.balance(builder.db, ALICE) == 1_000_000 - burned


async def test_build_that_fails_is_booked_like_one_that_succeeds(builder: Builder) -> None:
    await fund(builder.db, ALICE, 500_000)

    async def fails() -> None:
        builder.clock.advance(40 * MINUTE_MS)
        raise DeployFailed(FailureCause.BUILD_FAILED, "It did not build.")

    with pytest.raises(DeployFailed, match="did not build"):
        await builder.build(fails)
    assert await accounts.balance(builder.db, ALICE) == 500_000 - price_of(10 * MINUTE_MS)


async def test_build_that_is_cancelled_is_booked_too(builder: Builder) -> None:
    await fund(builder.db, ALICE, 500_000)
    started = asyncio.Event()

    async def hangs() -> None:
        builder.clock.advance(40 * MINUTE_MS)
        started.set()
        await asyncio.Event().wait()

    building = asyncio.create_task(builder.build(hangs))
    await started.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert await accounts.balance(builder.db, ALICE) == 500_000 - price_of(10 * MINUTE_MS)


@pytest.mark.parametrize("answered", [True, False])
async def test_long_build_is_booked_while_it_goes_on_and_never_twice(
    builder: Builder, db: FaultyDatabase, answered: bool
) -> None:
    """Also where nobody tells whether what was booked is recorded."""
    await fund(builder.db, ALICE, 500_000)
    begun, over = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        begun.set()
        await over.wait()

    async def booked(minutes: int) -> bool:
        row = await builder.db.one(CHARGED)
        return row is not None and row[0] == minutes * MINUTE_MS

    building = asyncio.create_task(builder.build(waits))
    await begun.wait()
    db.forgets_answers = not answered
    for minutes in (10, 20, 30, 40, 50):
        builder.clock.advance(10 * MINUTE_MS)
        await until(partial(booked, minutes))
    db.forgets_answers = False
    over.set()
    await building
    burned = price_of(20 * MINUTE_MS)
    assert await builder.db.one(CHARGED) == (50 * MINUTE_MS, burned)
    assert await accounts.balance(builder.db, ALICE) == 500_000 - burned
    assert await accounts.sum_of_account(builder.db, EARNED) == burned
    assert await audited(builder.db) == []


async def test_wallet_without_credits_builds_nothing(builder: Builder) -> None:
    begun = False

    async def work() -> None:
        nonlocal begun
        begun = True

    with pytest.raises(DeployFailed) as refused:
        await builder.build(work)
    assert refused.value.cause is FailureCause.OUT_OF_CREDITS
    assert not begun
    assert await builder.db.one(CHARGED) is None


async def test_build_ends_when_the_credits_do(builder: Builder) -> None:
    await fund(builder.db, ALICE, 10)  # no second of building is allowed for that
    ended = asyncio.Event()

    async def goes_on() -> None:
        builder.clock.advance(60 * MINUTE_MS)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(DeployFailed) as failed:
        await builder.build(goes_on)
    assert failed.value.cause is FailureCause.OUT_OF_CREDITS
    assert ended.is_set()
    assert await accounts.balance(builder.db, ALICE) == 0
    assert await audited(builder.db) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("charged_micro_usd = charged_micro_usd + 1", "charged"),
        ("billed_ms = billed_ms - 60000", "was charged"),
        ("monthly_price_micro_usd = 1", "was charged"),
        ("wallet = '0x' || hex(zeroblob(20))", "are not those of"),
        ("id = '00000000-0000-0000-0000-000000000000'", "burns for no build"),
    ],
)
async def test_build_run_that_is_changed_by_hand_is_found(
    builder: Builder, db_path: Path, change: str, finding: str
) -> None:
    await fund(builder.db, ALICE, 500_000)
    await builder.take(60)
    assert await audited(builder.db) == []
    with closing(sqlite3.connect(db_path)) as connection, connection:
        connection.execute(f"UPDATE work SET {change}")
    assert any(finding in each for each in await audited(builder.db))


async def test_build_of_a_delegate_burns_its_limit_to_the_micro_dollar_and_is_ended_there(
    builder: Builder, db: FaultyDatabase
) -> None:
    await fund(builder.db, ALICE, 5_000_000)  # 300 minutes
    ACTING.set(Acting(ALICE, CAROL))
    async with db.transaction(durable=True) as tx:
        await delegations.add(tx, delegation(limit_usd_month=1))
        by_carol = msgspec.structs.replace(builder.deployment, id="by-carol", acted_by=CAROL)
        await deployments.move(tx, builder.deployment.id, DeploymentStatus.FAILED, at_ms=1)
        await deployments.add(tx, by_carol)
    builder.deployment = by_carol
    await builder.take(300)
    days = 24 * 60
    await builder.take(10 * days)  # of the owner's credits, from here on
    spent = price_of(10 * days * MINUTE_MS)
    assert await accounts.balance(builder.db, ALICE) == 5_000_000 - spent
    await builder.take(10 * days)  # beyond the limit: the rest is not charged
    assert await accounts.balance(builder.db, ALICE) == 5_000_000 - 1_000_000
    with pytest.raises(DeployFailed, match="may commit in this month") as ended:
        await builder.take(1)
    assert ended.value.cause is FailureCause.AT_LIMIT
    assert await accounts.balance(builder.db, ALICE) == 4_000_000
    unsigned = ["delegation d1 is not what " + ALICE + " has signed"]
    assert await audited(builder.db) == unsigned  # and all else is right


async def test_build_of_a_delegate_without_power_any_more_burns_none_of_its_owners_credits(
    builder: Builder, db: FaultyDatabase
) -> None:
    await fund(builder.db, ALICE, 500_000)
    async with db.transaction(durable=True) as tx:
        by_carol = msgspec.structs.replace(builder.deployment, id="by-carol", acted_by=CAROL)
        await deployments.move(tx, builder.deployment.id, DeploymentStatus.FAILED, at_ms=1)
        await deployments.add(tx, by_carol)
    builder.deployment = by_carol
    await builder.take(60)  # 30 minutes are free
    assert await accounts.balance(builder.db, ALICE) == 500_000
    with pytest.raises(DeployFailed):
        await builder.take(1)


async def test_build_of_who_took_the_wallet_over_has_no_delegates_limit(
    builder: Builder, db: FaultyDatabase
) -> None:
    await fund(builder.db, ALICE, 500_000)
    taken_over = Recovery(wallet=ALICE, address=CAROL, wait_days=7, taken_over_at_ms=1)
    async with db.transaction(durable=True) as tx:
        await recoveries.put(tx, taken_over)
        by_carol = msgspec.structs.replace(builder.deployment, id="by-carol", acted_by=CAROL)
        await deployments.move(tx, builder.deployment.id, DeploymentStatus.FAILED, at_ms=1)
        await deployments.add(tx, by_carol)
    builder.deployment = by_carol
    await builder.take(60)  # 30 minutes are free
    assert await accounts.balance(builder.db, ALICE) == 500_000 - price_of(30 * MINUTE_MS)

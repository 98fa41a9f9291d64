"""What must be settled before a gateway is retired."""

import pytest

from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.operate.stopping import Owed, left_to_settle
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, CAROL, add_project, fund, transfer
from support.gateway.clock import HOUR_MS, START_MS, MovableClock

ON_ITS_WAY = ["1 payments whose block is not safe yet"]


@pytest.fixture
def metering(db: Database, clock: MovableClock) -> Metering:
    return Metering(db=db, clock=clock)


def owed(wallet: str, amount: int = 0, *, held: int = 0, projects: tuple[str, ...] = ()) -> Owed:
    return Owed(
        wallet=wallet,
        credits_micro_usd=MicroUsd(amount),
        held_micro_usd=MicroUsd(held),
        projects=list(projects),
    )


async def test_new_gateway_has_nothing_to_settle(db: Database, metering: Metering) -> None:
    assert (await left_to_settle(db, metering)).is_nothing


async def test_credits_held_payments_and_projects_are_owed_the_largest_sum_first(
    db: Database, metering: Metering
) -> None:
    await fund(db, ALICE, 500_000)
    async with db.transaction(durable=True) as tx:
        held = [transfer(BOB, 700_000)]
        await ledger.credit_transfers(tx, held, held={BOB: "on a list"}, now_ms=START_MS)
    await add_project(db, CAROL, "idle")

    left = await left_to_settle(db, metering)

    assert left.owed == [
        owed(BOB, held=700_000),
        owed(ALICE, 500_000),
        owed(CAROL, projects=("idle",)),
    ]


async def test_what_apps_have_burned_is_owed_to_nobody(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 500_000)
    project = await add_project(db, ALICE, monthly_price_micro_usd=MicroUsd(730_000))
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    clock.advance(3 * HOUR_MS)
    before = (await left_to_settle(db, metering)).owed
    async with db.transaction(durable=True) as tx:
        await metering.end(tx, project.id)

    assert before == [owed(ALICE, 497_000, projects=("hello",))]
    assert (await left_to_settle(db, metering)).owed == before


async def test_payment_that_may_still_vanish_is_left_to_settle_though_its_credits_are_used(
    db: Database, metering: Metering
) -> None:
    await fund(db, ALICE, 500_000)
    async with db.transaction(durable=True) as tx:
        burn = [ledger.Burn("p", ALICE, MicroUsd(500_000), "burn:all", START_MS)]
        await ledger.burn(tx, burn, now_ms=START_MS)

    left = await left_to_settle(db, metering)

    assert (left.owed, left.on_its_way, left.is_nothing) == ([], ON_ITS_WAY, False)

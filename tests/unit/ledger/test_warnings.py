"""Warnings of credits that run out, through whole histories of hourly bookings."""

from contextlib import closing
from pathlib import Path

import msgspec
from sqlalchemy import select

from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.records.event import EventKind
from moorage.storage.database import Database, Statement
from moorage.storage.schema import events
from support.books.overtaken import OvertakenDatabase
from support.books.records_fixture import ALICE, add_project, fund
from support.gateway.clock import HOUR_MS, MovableClock

HOURLY = 1_000
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
    await fund(db, ALICE, 100 * HOURLY)
    project = await add_project(db, monthly_price_micro_usd=MicroUsd(730 * HOURLY))
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    await hours(26, metering, clock)
    assert await told(db) == []
    await hours(2, metering, clock)
    assert await told(db) == [72]
    await hours(48, metering, clock)
    assert await told(db) == [72, 24]
    await hours(23, metering, clock)
    assert await told(db) == [72, 24, 1]
    await hours(1, metering, clock)
    assert await told(db) == [72, 24, 1, EventKind.PROJECT_SUSPENDED]


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
    assert await told(db) == [24]  # who has just paid is not warned of 72 hours
    await fund(db, ALICE, 100 * HOURLY)
    await hours(110, metering, clock)
    assert await told(db) == [24, 72]


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

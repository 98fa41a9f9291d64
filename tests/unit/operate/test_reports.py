"""Money reports are made of the ledger, and agree with the audit of the same books."""

import msgspec
import pytest

from moorage.errors import BooksWrong
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.operate.reports.payments import payment_lines
from moorage.operate.reports.revenue import (
    Period,
    RevenueLine,
    Source,
    movements,
    revenue,
    source_of_postings,
)
from moorage.records.event import EventKind
from moorage.records.project import Transfer
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments, refunds
from moorage.storage.money.grants import Grant
from support.books.busy_books import keep_busy
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    CAROL,
    add_project,
    fresh_hash,
    transfer,
)
from support.gateway.clock import HOUR_MS, START_MS, MovableClock

DAY_MS = 24 * HOUR_MS
DAN = "0x" + "d" * 40
ON_ARBITRUM, ON_BASE = Source(42161, "usdc"), Source(8453, "usdc")


async def lines_of(db: Database, *, by: Period = Period.DAY) -> list[RevenueLine]:
    async with db.snapshot() as snapshot:
        source_of = await source_of_postings(snapshot)
        return await revenue(movements(snapshot), source_of, by=by)


async def pay(db: Database, amount: int, *, at_ms: int, chain_id: int = 42161) -> None:
    async with db.transaction(durable=True) as tx:
        sent = transfer(ALICE, amount, chain_id=chain_id)
        await ledger.credit_transfers(tx, [sent], now_ms=at_ms)


async def burn(db: Database, amount: int, *, at_ms: int) -> None:
    async with db.transaction(durable=True) as tx:
        owed = ledger.Burn("p", ALICE, MicroUsd(amount), f"burn:{at_ms}", at_ms)
        await ledger.burn(tx, [owed], now_ms=at_ms)


async def test_each_day_tells_what_came_was_earned_and_is_owed_on_each_chain(db: Database) -> None:
    await pay(db, 300, at_ms=START_MS)
    await burn(db, 100, at_ms=START_MS + 1)
    await pay(db, 50, at_ms=START_MS + DAY_MS, chain_id=8453)
    await burn(db, 220, at_ms=START_MS + 2 * DAY_MS)
    assert await lines_of(db) == [
        RevenueLine("2026-04-07", ON_ARBITRUM, 300, 0, 0, 100, 200),
        RevenueLine("2026-04-08", ON_BASE, 50, 0, 0, 0, 50),
        RevenueLine("2026-04-08", ON_ARBITRUM, 0, 0, 0, 0, 200),
        RevenueLine("2026-04-09", ON_BASE, 0, 0, 0, 20, 30),
        RevenueLine("2026-04-09", ON_ARBITRUM, 0, 0, 0, 200, 0),
    ]
    assert await lines_of(db, by=Period.MONTH) == [
        RevenueLine("2026-04", ON_BASE, 50, 0, 0, 20, 30),
        RevenueLine("2026-04", ON_ARBITRUM, 300, 0, 0, 300, 0),
    ]


async def test_no_books_no_lines(db: Database) -> None:
    assert await lines_of(db) == []


@pytest.fixture
async def busy(db: Database, clock: MovableClock) -> Database:
    payers = [ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL]
    transfers = [transfer(payer, 500_000) for payer in payers]
    await keep_busy(db, clock, [*transfers, transfer(DAN, 2_500)], [fresh_hash(), fresh_hash()])
    return db


async def test_revenue_agrees_with_the_audit(busy: Database) -> None:
    async with busy.snapshot() as snapshot:
        books, found = await audit_books(snapshot, [ARBITRUM])
    assert found == []
    lines = await lines_of(busy)
    assert sum(line.earned for line in lines) == books.accounts["earned"] > 0
    assert sum(line.refunded for line in lines) == books.accounts["refunded"] > 0
    received = sum(line.received - line.reversed for line in lines)
    assert received == -books.accounts["received:42161:usdc"] - books.accounts["granted"]
    held = sum(total for name, total in books.accounts.items() if name.startswith("held:"))
    owed = sum(line.owed for line in lines if line.period == lines[-1].period)
    assert owed == sum(books.balances.values()) + held


def given(amount: int, grant_id: str = "a grant") -> Grant:
    return Grant(grant_id, ALICE, MicroUsd(amount), "a lost hour", START_MS)


async def test_what_goes_to_another_wallet_keeps_its_source(db: Database) -> None:
    await pay(db, 300, at_ms=START_MS)
    await pay(db, 50, at_ms=START_MS, chain_id=8453)
    project = await add_project(db)
    offer = Transfer("offer", project.id, ALICE, BOB, True, True, START_MS, START_MS)
    async with db.transaction(durable=True) as tx:
        [bought] = [each for each in await payments.every(tx) if each.chain_id == 8453]
        assert await ledger.give(tx, bought, BOB, now_ms=START_MS)
        await accounts.open_purse(tx, project.id, wallet=ALICE, adopted=True, now_ms=START_MS)
        holder = accounts.purse_of(project.id)
        await ledger.move(tx, ALICE, holder, MicroUsd(120), now_ms=START_MS)
        purse = await accounts.purse(tx, project.id)
        assert purse is not None
        assert await ledger.hand_over(tx, purse, offer, now_ms=START_MS)
    assert [await accounts.balance(db, each) for each in (ALICE, BOB, holder)] == [180, 50, 120]
    await burn(db, 180, at_ms=START_MS)
    assert await lines_of(db) == [
        RevenueLine("2026-04-07", ON_BASE, 50, 0, 0, 0, 50),
        RevenueLine("2026-04-07", ON_ARBITRUM, 300, 0, 0, 180, 120),
    ]


async def test_credits_given_by_hand_are_a_source_of_their_own(db: Database) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.grant(tx, given(700), now_ms=START_MS)
    await burn(db, 200, at_ms=START_MS + 1)
    by_hand = Source(0, "by hand")
    assert await lines_of(db) == [RevenueLine("2026-04-07", by_hand, 700, 0, 0, 200, 500)]
    assert await accounts.balance(db, ALICE) == 500


async def test_a_grant_is_taken_back_whole_or_not_at_all(db: Database) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.grant(tx, given(700), now_ms=START_MS)
        await ledger.grant(tx, given(300, "another"), now_ms=START_MS)
    await burn(db, 400, at_ms=START_MS + 1)
    async with db.transaction(durable=True) as tx:
        assert not await ledger.undo_grant(tx, given(700), now_ms=START_MS + 2)
        assert await ledger.undo_grant(tx, given(300, "another"), now_ms=START_MS + 2)
    (told,) = [
        event.data
        for event in await events.of_wallet(db, ALICE, after=0, limit=100)
        if event.kind is EventKind.CREDITS_TAKEN_BACK
    ]
    assert told["amount_usd"] == 0.0003
    assert await accounts.balance(db, ALICE) == 300
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    # The burn is made up: only its interval is missing.
    assert [each.row for each in found if "grant" in each.row] == []
    assert sum(line.received - line.reversed for line in await lines_of(db)) == 700


async def test_a_ledger_that_no_rule_explains_makes_no_report(db: Database) -> None:
    async with db.transaction(durable=True) as tx:
        await accounts.ensure_wallet(tx, ALICE, now_ms=START_MS)
        await accounts.add_posting(
            tx, posting_id="odd", kind="odd", amounts={"one": 1, "other": -1}, now_ms=START_MS
        )
    with pytest.raises(BooksWrong):
        await lines_of(db)


async def test_payments_are_sorted_by_the_time_of_their_block(busy: Database) -> None:
    async with busy.snapshot() as snapshot:
        every, gone_back = await payments.every(snapshot), await refunds.every(snapshot)
    first, second = every[:2]
    dates = {(42161, first.block_hash): START_MS}
    second = msgspec.structs.replace(second, block_hash="0x" + "c2" * 32)
    dates[42161, second.block_hash] = START_MS - 5
    lines = payment_lines([first, second], gone_back, dates)
    assert [(line.payment, line.value_ms) for line in lines] == [
        (second, START_MS - 5),
        (first, START_MS),
    ]
    assert sum(line.refunded_micro_usd for line in payment_lines(every, gone_back, {})) == 700_000

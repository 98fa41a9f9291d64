"""An invoice is made of the ledger, and its sums agree with the balances of the same books."""

import uuid
from datetime import datetime

import pytest

from moorage.ledger import ledger
from moorage.ledger.invoice import invoice
from moorage.money import MicroUsd
from moorage.storage.database import Database
from moorage.storage.money import accounts, billing
from moorage.wire.receipts import Invoice
from support.books.busy_books import keep_busy
from support.books.records_fixture import ALICE, BOB, CAROL, add_project, fresh_hash, transfer
from support.gateway.clock import HOUR_MS, START_MS, MovableClock

DAY_MS = 24 * HOUR_MS
MONTHS = {
    month: int(datetime.fromisoformat(f"{month}-01T00:00:00Z").timestamp() * 1000)
    for month in ("2026-04", "2026-05", "2026-06", "2026-07")
}


async def made(
    db: Database, *, months: tuple[str, ...], until_ms: int, wallet: str = ALICE
) -> Invoice:
    async with db.snapshot() as snapshot:
        return await invoice(
            snapshot,
            wallet,
            months={month: MONTHS[month] for month in months},
            until_ms=until_ms,
            issuer=("Example Ltd", "1 Quay Street"),
            now_ms=START_MS,
        )


def adds_up(found: Invoice) -> bool:
    came = found.paid_micro_usd + found.given_micro_usd + found.other_micro_usd
    went = found.refunded_micro_usd + found.used_micro_usd
    assert found.used_micro_usd == sum(line.amount_micro_usd for line in found.lines)
    return found.opening_micro_usd + came - went == found.closing_micro_usd


async def everything_of(db: Database, wallet: str) -> int:
    purses = await accounts.purses_of_wallet(db, wallet)
    return await accounts.balance(db, wallet) + sum(each.balance for each in purses)


@pytest.fixture
async def busy(db: Database, clock: MovableClock) -> Database:
    payers = [ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL]
    transfers = [transfer(payer, 500_000) for payer in payers]
    dan = transfer("0x" + "d" * 40, 2_500)
    await keep_busy(db, clock, [*transfers, dan], [fresh_hash(), fresh_hash()])
    return db


@pytest.mark.parametrize("wallet", [ALICE, BOB, CAROL])
async def test_invoice_ends_with_what_the_wallet_has(busy: Database, wallet: str) -> None:
    found = await made(busy, months=("2026-04",), until_ms=MONTHS["2026-05"], wallet=wallet)
    assert adds_up(found)
    assert found.closing_micro_usd == await everything_of(busy, wallet)
    assert found.other_micro_usd == 0


async def test_invoice_names_what_was_used(busy: Database) -> None:
    found = await made(busy, months=("2026-04",), until_ms=MONTHS["2026-05"])
    assert found.refunded_micro_usd == 200_000  # the one that failed came back
    # 1,000 micro-USD an hour each: one ended after five and a half hours, five are booked of both.
    assert [(line.project, line.amount_micro_usd) for line in found.lines] == [
        ("ended", 5_500),
        ("runs", 5_000),
    ]
    later = await made(busy, months=("2026-05",), until_ms=MONTHS["2026-06"])
    assert later.opening_micro_usd == later.closing_micro_usd == found.closing_micro_usd
    assert later.lines == []


async def begin(db: Database, name: str) -> tuple[str, str]:
    """A project that is billed; returns its id and its interval's."""
    project, interval = await add_project(db, ALICE, name), str(uuid.uuid4())
    async with db.transaction(durable=True) as tx:
        await billing.open_interval(tx, interval_id=interval, project_id=project.id, at_ms=START_MS)
    return project.id, interval


async def burn(db: Database, holder: str, amount: int, *, of: str, at_ms: int) -> None:
    async with db.transaction(durable=True) as tx:
        project_id = accounts.purse_in(holder) or "one without a purse"
        owed = ledger.Burn(project_id, ALICE, MicroUsd(amount), f"burn:{of}:{at_ms}", at_ms)
        await ledger.burn(tx, [owed], now_ms=at_ms)


async def test_months_are_apart_and_follow_each_other(db: Database) -> None:
    _, interval = await begin(db, "hello")
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [transfer(ALICE, 900)], now_ms=START_MS)
    for month, amount in (("2026-05", 10), ("2026-06", 200)):
        for at_ms in (MONTHS[month], MONTHS[month] + DAY_MS):
            await burn(db, ALICE, amount, of=interval, at_ms=at_ms)
    await burn(db, ALICE, 1, of=interval, at_ms=MONTHS["2026-07"])  # is not in it
    found = await made(db, months=("2026-05", "2026-06"), until_ms=MONTHS["2026-07"])
    assert adds_up(found)
    assert [(line.month, line.what, line.amount_micro_usd) for line in found.lines] == [
        ("2026-05", "running", 20),
        ("2026-06", "running", 400),
    ]
    assert (found.opening_micro_usd, found.closing_micro_usd) == (900, 480)
    assert (found.since, found.until) == ("2026-05-01T00:00:00.000Z", "2026-07-01T00:00:00.000Z")


async def test_what_purses_hold_and_burn_is_in_the_invoice(db: Database) -> None:
    project_id, interval = await begin(db, "alone")
    filled = transfer(ALICE, 700)
    async with db.transaction(durable=True) as tx:
        filling = ledger.Filling(ALICE, filled.token_address, filled.amount, project_id)
        await ledger.credit_transfers(tx, [filled], filling=filling, now_ms=MONTHS["2026-05"])
    await burn(
        db, accounts.purse_of(project_id), 300, of=interval, at_ms=MONTHS["2026-05"] + HOUR_MS
    )
    found = await made(db, months=("2026-05",), until_ms=MONTHS["2026-06"])
    assert adds_up(found)
    assert (found.paid_micro_usd, found.used_micro_usd, found.closing_micro_usd) == (700, 300, 400)
    assert await accounts.balance(db, ALICE) == 0

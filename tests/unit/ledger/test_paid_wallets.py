"""Which wallets have paid, by what was credited to them."""

from moorage.ledger import ledger
from moorage.ledger.services import PaidWallets
from moorage.money import MicroUsd
from moorage.storage.database import Database
from moorage.storage.money import payments
from support.books.records_fixture import ALICE, BOB, fund, transfer
from support.gateway.clock import MINUTE_MS, START_MS, MovableClock

HALF_A_DOLLAR = MicroUsd(500_000)


def paid_wallets(db: Database, clock: MovableClock | None = None) -> PaidWallets:
    return PaidWallets(db=db, minimum_charge=HALF_A_DOLLAR, clock=clock or MovableClock())


async def test_wallet_has_paid_once_its_credits_come_to_the_minimum_charge(db: Database) -> None:
    wallets = paid_wallets(db)
    assert not await wallets.has_paid(ALICE)
    await fund(db, ALICE, MicroUsd(499_999))
    assert not await wallets.has_paid(ALICE)
    await fund(db, ALICE, MicroUsd(1))
    assert await wallets.has_paid(ALICE)
    assert not await wallets.has_paid(BOB)


async def test_wallet_whose_payment_was_taken_back_has_not_paid(db: Database) -> None:
    clock, sent = MovableClock(), transfer(ALICE, HALF_A_DOLLAR)
    wallets = paid_wallets(db, clock)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], held={}, now_ms=START_MS)
    assert await wallets.has_paid(ALICE)
    async with db.transaction(durable=True) as tx:
        (payment,) = await payments.of_transaction(tx, chain_id=sent.chain_id, tx_hash=sent.tx_hash)
        await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    clock.advance(5 * MINUTE_MS)  # a yes is remembered for that long
    assert not await wallets.has_paid(ALICE)


async def test_held_payment_is_none(db: Database) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(
            tx, [transfer(ALICE, HALF_A_DOLLAR)], held={ALICE: "listed"}, now_ms=START_MS
        )
    assert not await paid_wallets(db).has_paid(ALICE)

"""Numbers of real chains are larger than 32 bits, in columns, parameters and addresses of pages."""

import pytest

from moorage.ledger import ledger
from moorage.money import AtomicUnits
from moorage.records.payments import Payment
from moorage.storage.database import Database
from moorage.storage.money import payments
from moorage.storage.operation import payment_list
from moorage.storage.operation.payment_list import PaymentFilter
from support.books.records_fixture import ALICE, transfer
from support.gateway.clock import START_MS, MovableClock
from support.gateway.operator_pages import OperatorPages

LARGE = 2**31 + 7
"""More than 32 bits hold."""

WHOLE = 10**18
"""One of a token with 18 decimals, in its units."""


@pytest.fixture
async def payment(db: Database) -> Payment:
    """A thousand of a token with 18 decimals, on a chain and in a block with large numbers."""
    sent = transfer(
        chain_id=LARGE, amount=AtomicUnits(1_000 * WHOLE), decimals=18, block_number=LARGE * 2
    )
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=START_MS)
        (found,) = await payments.of_transaction(tx, chain_id=LARGE, tx_hash=sent.tx_hash)
    return found


@pytest.mark.parametrize("which", list(PaymentFilter))
async def test_payments_of_a_chain_are_listed(
    db: Database, payment: Payment, which: PaymentFilter
) -> None:
    found = await payment_list.page(db, which, now_ms=START_MS, limit=10, chain_id=LARGE)
    expected = [payment] if which in ("all", "unusual", "unclaimed", "provisional") else []
    assert [each.payment for each in found] == expected


async def test_payer_sees_what_was_paid_on_it(db: Database, payment: Payment) -> None:
    (found,) = await payments.page_of_payer(db, ALICE, before=None, limit=10)
    assert found.payment == payment
    assert (payment.credited_micro_usd, payment.block_number) == (1_000_000_000, LARGE * 2)
    place = (payment.claimed_at_ms + 1, (LARGE, payment.tx_hash, LARGE))
    assert len(await payments.page_of_payer(db, ALICE, before=place, limit=10)) == 1


async def test_operator_opens_its_page(db: Database, clock: MovableClock, payment: Payment) -> None:
    pages = OperatorPages(db, clock)
    assert payment.tx_hash in await pages.shown("/operator/payments")
    path = f"/operator/payments/{LARGE}/{payment.tx_hash}/0"
    assert payment.tx_hash in await pages.shown(path)


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5_000, "x", "-1", "²"])
async def test_number_that_no_payment_has_is_not_recorded(
    db: Database, clock: MovableClock, number: str
) -> None:
    pages = OperatorPages(db, clock)
    for path in (f"{number}/0x{'0' * 64}/0", f"{LARGE}/0x{'0' * 64}/{number}"):
        answer = await pages.get(f"/operator/payments/{path}")
        assert answer.status == 400
        assert "is not recorded here" in answer.text

"""Every payment as a line of a table, for taxes; and what one wallet used, as an invoice."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from moorage.chains.chain import Chain
from moorage.clock import SystemClock, iso_utc
from moorage.ledger.invoice import invoice
from moorage.money import decimal_text
from moorage.operate.books import open_books
from moorage.operate.export import spreadsheet_text
from moorage.operate.reports.revenue import ValueDates, value_dates
from moorage.records.payments import Payment, PaymentStatus, Refund, RefundStatus
from moorage.settings import Settings
from moorage.storage.money import payments as paid
from moorage.storage.money import refunds
from moorage.wire.receipts import Invoice


async def run_invoice(settings: Settings, wallet: str, *, since_ms: int, until_ms: int) -> Invoice:
    """Returns a wallet's invoice of a period; see `invoice`."""
    async with open_books(settings) as books, books.db.snapshot() as snapshot:
        return await invoice(
            snapshot,
            wallet,
            months={"": since_ms},
            until_ms=until_ms,
            issuer=settings.issuer,
            now_ms=SystemClock().now_ms(),
        )


COLUMNS = (
    "value_date",
    "booked_at",
    "chain",
    "chain_id",
    "token",
    "amount",
    "credited_usd",
    "refunded_usd",
    "status",
    "payer",
    "recipient",
    "tx_hash",
    "log_index",
    "block",
)


class PaymentLine(msgspec.Struct, frozen=True):
    """A payment, and what of it went back."""

    payment: Payment
    value_ms: int | None  # the time of its block; None if the chain could not be asked
    refunded_micro_usd: int  # what is on its way back included

    @property
    def at_ms(self) -> int:
        """Its value date; without one, when it was booked."""
        return self.payment.claimed_at_ms if self.value_ms is None else self.value_ms


async def run_payments(settings: Settings) -> tuple[list[PaymentLine], Mapping[int, Chain]]:
    """Returns a line for each payment, by value date, and the chains that are configured."""
    async with open_books(settings) as books:
        async with books.db.snapshot() as snapshot:
            every, gone_back = await paid.every(snapshot), await refunds.every(snapshot)
        dates = await value_dates(books.clients.values(), every)
        lines = payment_lines(every, gone_back, dates)
        return lines, {chain.chain_id: chain for chain in books.chains.values()}


def payment_lines(
    payments: Iterable[Payment], refunds: Iterable[Refund], dates: ValueDates
) -> list[PaymentLine]:
    """Returns a line for each payment, by value date; those that a chain took back too."""
    gone_back: dict[tuple[int, str, int], int] = {}
    for refund in refunds:
        if refund.status is not RefundStatus.FAILED:
            key = refund.chain_id, refund.tx_hash, refund.log_index
            gone_back[key] = gone_back.get(key, 0) + refund.debited_micro_usd
    lines = [
        PaymentLine(
            each,
            dates.get((each.chain_id, each.block_hash)),
            gone_back.get((each.chain_id, each.tx_hash, each.log_index), 0),
        )
        for each in payments
    ]
    return sorted(
        lines, key=lambda line: (line.at_ms, line.payment.tx_hash, line.payment.log_index)
    )


def cells(lines: Iterable[PaymentLine], chains: Mapping[int, Chain]) -> Iterator[tuple[str, ...]]:
    """Yields the table's cells; an amount of a token that is not configured any more is atomic."""
    for line in lines:
        payment = line.payment
        chain = chains.get(payment.chain_id)
        token = chain.token_at(payment.token_address) if chain else None
        amount = (
            decimal_text(payment.amount, decimals=token.decimals)
            if token
            else f"{payment.amount_atomic} atomic units of {payment.token_address}"
        )
        # What is held, or was taken back by the chain, never became credits.
        credited = payment.credited_micro_usd
        yield (
            "" if line.value_ms is None else iso_utc(line.value_ms),
            iso_utc(payment.claimed_at_ms),
            chain.name if chain else "",
            str(payment.chain_id),
            spreadsheet_text(payment.token),
            amount,
            decimal_text(0 if payment.status is PaymentStatus.REVERSED else credited, decimals=6),
            decimal_text(line.refunded_micro_usd, decimals=6),
            payment.status,
            payment.payer,
            payment.recipient,
            payment.tx_hash,
            str(payment.log_index),
            str(payment.block_number),
        )

"""What screening or the operator decided on a chain transaction's payers.

A decision stays when a reorganisation moves the transaction to another block.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from moorage.ledger.transfer import Transfer
from moorage.records.payments import Payment, PaymentStatus

Verdicts = Mapping[str, str | None]
"""By payer: why the money is held, or None if it may be credited. Others were not screened."""


def verdicts_before(booked: Iterable[Payment], transfers: Iterable[Transfer]) -> Verdicts:
    """Returns the earlier verdicts on the payers of `transfers`.

    `booked` are all payments of the same chain transaction that were ever claimed. A payer's last
    claims decide: what was held stays held, and what was allowed or released stays allowed up to
    the same amounts. So a payer of more in another block has no verdict.
    """
    before = _last_claims_by_payer(booked)
    now: dict[str, Counter[str]] = {}
    for transfer in transfers:
        now.setdefault(transfer.payer, Counter())[transfer.token_address] += transfer.amount
    verdicts: dict[str, str | None] = {}
    for payer, amounts in now.items():
        known = before.get(payer, [])
        reasons = [one.held_reason for one in known if one.held_reason is not None]
        judged: Counter[str] = Counter()
        for payment in known:
            judged[payment.token_address] += payment.amount
        if reasons:
            verdicts[payer] = reasons[0]
        elif amounts <= judged:
            verdicts[payer] = None
    return verdicts


def _last_claims_by_payer(booked: Iterable[Payment]) -> dict[str, list[Payment]]:
    """Returns each payer's payments as last claimed: only those not reversed, if there are any."""
    by_payer: dict[str, list[Payment]] = {}
    for payment in booked:
        by_payer.setdefault(payment.payer, []).append(payment)
    return {payer: _last_claims(theirs) for payer, theirs in by_payer.items()}


def _last_claims(payments: list[Payment]) -> list[Payment]:
    standing = [one for one in payments if one.status is not PaymentStatus.REVERSED] or payments
    last = max(standing, key=lambda one: one.claimed_at_ms)
    return [
        one
        for one in standing
        if one.block_hash == last.block_hash or one.claimed_at_ms == last.claimed_at_ms
    ]

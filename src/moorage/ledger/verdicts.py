"""What screening or the operator said of a transaction's payers: it survives every move of it."""

from collections import Counter
from collections.abc import Iterable, Mapping

from moorage.ledger.transfer import Transfer
from moorage.records.payment import Payment, PaymentStatus

Verdicts = Mapping[str, str | None]
"""Why a payer's money is held, or None where it may be credited; who is absent was not judged."""


def verdicts_before(booked: Iterable[Payment], transfers: Iterable[Transfer]) -> Verdicts:
    """What was said before of who pays by `transfers`, by payer.

    `booked` are all payments of the same transaction that were ever claimed. Where a payer's money
    lay last decides: held stays held, and what was allowed, or released, stays allowed as long as
    it is no more than it was. So who brings more in another block has no verdict.
    """
    before = _last_places(booked)
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


def _last_places(booked: Iterable[Payment]) -> dict[str, list[Payment]]:
    """Each payer's payments where its money was claimed last; what stands counts alone, if any."""
    by_payer: dict[str, list[Payment]] = {}
    for payment in booked:
        by_payer.setdefault(payment.payer, []).append(payment)
    return {payer: _last_place(theirs) for payer, theirs in by_payer.items()}


def _last_place(payments: list[Payment]) -> list[Payment]:
    standing = [one for one in payments if one.status is not PaymentStatus.REVERSED] or payments
    last = max(standing, key=lambda one: one.claimed_at_ms)
    return [
        one
        for one in standing
        if one.block_hash == last.block_hash or one.claimed_at_ms == last.claimed_at_ms
    ]

"""The state of a payment in a word, and its life as steps: pure functions over rows."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from moorage.records.event import Event
from moorage.records.payments import (
    Finality,
    Payment,
    PaymentStatus,
    Refund,
    RefundStatus,
    Settlement,
    SettlementStatus,
)
from moorage.storage.operation.payment_list import LATE_MS, ListedPayment

WORDS = {
    "settled": "Credited, claimed by a request, and on the chain for good as far as it counts.",
    "provisional": "Credited; its block may still leave the chain, and is checked again.",
    "unclaimed": "It arrived and was credited, but no request has named it: to the payer it is "
    "credit that the next deploy uses.",
    "partial": "It is a part of a price; the payer owes the rest, and the name is held until then.",
    "late": "Its deploy came more than half an hour after it, when its quote had ended.",
    "held": "Screening holds it: nothing is credited until you release it or send it back.",
    "reversed": "Its block left the chain, so its credit was taken back.",
    "refunded": "It was held, and was sent back.",
    "refunding": "A refund of it is on its way.",
}
"""What a state means."""

_REFUND_STEPS = {
    RefundStatus.INTENDED: ("busy", "A refund is signed"),
    RefundStatus.SENT: ("busy", "A refund is on its way"),
    RefundStatus.REFUNDED: ("done", "Sent back"),
    RefundStatus.FAILED: ("failed", "A refund failed; what it took was given back"),
}
_SETTLEMENT_STEPS = {
    SettlementStatus.INTENDED: ("busy", "The authorization is signed into a transaction"),
    SettlementStatus.SENT: ("busy", "The authorization's transaction is sent"),
    SettlementStatus.SETTLED: ("done", "The authorization is settled"),
    SettlementStatus.FAILED: ("failed", "The authorization failed"),
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a payment, or is still to come."""

    title: str
    state: str  # done, busy, failed or waiting
    at_ms: int | None = None
    text: str = ""


def state_of(listed: ListedPayment) -> str:
    """Returns what a payment is called: one of WORDS."""
    payment = listed.payment
    if listed.refunding:
        return "refunding"
    if payment.status is not PaymentStatus.CREDITED:
        return payment.status.value
    if not listed.used:
        return "unclaimed" if listed.part_of is None else "partial"
    if listed.used_at_ms is not None and listed.used_at_ms - payment.claimed_at_ms > LATE_MS:
        return "late"
    return "provisional" if payment.finality is Finality.PROVISIONAL else "settled"


def life_of(
    listed: ListedPayment,
    *,
    settlements: Iterable[Settlement],
    refunds: Sequence[Refund],
    events: Iterable[Event],
) -> list[Step]:
    """Returns the steps of a payment's life, the oldest first, and then what is to come."""
    payment = listed.payment
    known = [
        *_authorized(settlements),
        Step(
            title="It arrived" if payment.round == 1 else f"It arrived again ({payment.round})",
            state="done",
            at_ms=payment.claimed_at_ms,
            text=f"In block {payment.block_number}, as log {payment.log_index}.",
        ),
        *_told(events),
        *_used(listed),
        *_sent_back(refunds),
    ]
    known.sort(key=lambda step: step.at_ms or 0)
    return [*known, *_to_come(payment)]


def _authorized(settlements: Iterable[Settlement]) -> Iterator[Step]:
    for each in settlements:
        yield Step(title="The payer's authorization came", state="done", at_ms=each.created_at_ms)
        state, title = _SETTLEMENT_STEPS[each.status]
        at_ms = each.ended_at_ms or each.created_at_ms
        yield Step(title=title, state=state, at_ms=at_ms, text=each.failure or "")


def _told(events: Iterable[Event]) -> Iterator[Step]:
    for each in events:
        yield Step(
            title=f"The payer was told: {each.kind.value}",
            state="done",
            at_ms=each.created_at_ms,
            text=f"Event {each.sequence}.",
        )


def _used(listed: ListedPayment) -> Iterator[Step]:
    if listed.deployment_id is None:
        return
    yield Step(
        title=f"It paid for a deploy of {listed.project or 'a deleted project'}",
        state="done",
        at_ms=listed.used_at_ms,
        text=f"Deployment {listed.deployment_id}.",
    )


def _sent_back(refunds: Iterable[Refund]) -> Iterator[Step]:
    for each in refunds:
        yield Step(
            title="A refund was ordered",
            state="done",
            at_ms=each.created_at_ms,
            text=each.reason,
        )
        state, title = _REFUND_STEPS[each.status]
        text = f"Transaction {each.refund_tx_hash}." if each.refund_tx_hash else ""
        yield Step(
            title=title, state=state, at_ms=each.ended_at_ms or each.created_at_ms, text=text
        )


def _to_come(payment: Payment) -> Iterator[Step]:
    match payment.status:
        case PaymentStatus.HELD:
            yield Step(title="Waits for you: release it, or send it back", state="waiting")
        case PaymentStatus.CREDITED if payment.finality is not Finality.FINALIZED:
            reached = "safe" if payment.finality is Finality.SAFE else "mined"
            yield Step(
                title="Its block is to become final",
                state="busy",
                text=f"So far it is {reached}; it is read again at each step.",
            )
        case PaymentStatus.CREDITED:
            yield Step(title="Its block is final", state="done")

"""A refund: tokens of a payment that are sent back to the payer."""

from enum import StrEnum

import msgspec

from moorage.money import AtomicUnits, MicroUsd
from moorage.records.money.payment import Finality


class RefundStatus(StrEnum):
    """The states of a refund."""

    INTENDED = "intended"  # debited; its transaction may be signed, but is not known to be sent
    SENT = "sent"  # on its way
    REFUNDED = "refunded"  # mined; final once its block is safe, sent again if it is dropped
    FAILED = "failed"  # it can no longer be paid; the debit is undone


UNFINISHED = (RefundStatus.INTENDED, RefundStatus.SENT)
"""The states in which it is not known yet whether the refund will be paid."""


class Refund(msgspec.Struct, frozen=True):
    """One row of `refunds`. (chain_id, tx_hash, log_index) is the refunded payment."""

    id: str
    chain_id: int
    tx_hash: str
    log_index: int
    recipient: str  # the payer
    token_address: str
    amount_atomic: str  # decimal
    debited_micro_usd: MicroUsd
    reason: str
    status: RefundStatus
    refund_tx_hash: str | None
    created_at_ms: int
    ended_at_ms: int | None
    finality: Finality

    @property
    def amount(self) -> AtomicUnits:
        """What is sent back, in the token's atomic units."""
        return AtomicUnits(int(self.amount_atomic))

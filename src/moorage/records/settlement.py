"""An authorization on its way to becoming a transaction."""

from enum import StrEnum

import msgspec


class SettlementStatus(StrEnum):
    """How far it has come."""

    INTENDED = "intended"  # its transaction is signed and stored, but perhaps not sent
    SENT = "sent"  # a node took it, or it was found to be used by somebody else's
    SETTLED = "settled"  # mined, verified and credited
    FAILED = "failed"  # it can't be settled any more, and moved no money


UNRESOLVED = (SettlementStatus.INTENDED, SettlementStatus.SENT)
"""What became of the money is not known yet."""


class Settlement(msgspec.Struct, frozen=True):
    """One row of `settlements`. (chain_id, token_address, payer, nonce) is unique."""

    id: str
    chain_id: int
    token: str  # as clients name it: "usdc"
    token_address: str
    payer: str
    recipient: str
    amount_atomic: str  # decimal
    valid_after: str  # Unix seconds, decimal, as the next
    valid_before: str
    nonce: str
    signature: str  # hex with 0x
    from_block: int  # unused up to here
    unique_name: str | None  # the deploy it pays for; None for a top-up
    status: SettlementStatus
    tx_hash: str | None  # that settled it, ours or another's; of a failed one, that spent its nonce
    failure: str | None  # why it failed
    created_at_ms: int
    ended_at_ms: int | None

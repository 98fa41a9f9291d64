"""A settlement: a payer's authorization that the gateway turns into a transaction."""

from enum import StrEnum

import msgspec


class SettlementStatus(StrEnum):
    """The states of a settlement."""

    INTENDED = "intended"  # its transaction is signed and stored, but perhaps not sent
    SENT = "sent"  # a node accepted it, or another's transaction has used the authorization
    SETTLED = "settled"  # mined, verified and credited
    FAILED = "failed"  # it can no longer be settled, and moved no money


UNRESOLVED = (SettlementStatus.INTENDED, SettlementStatus.SENT)
"""The states in which it is not known yet whether the money moved."""


class Settlement(msgspec.Struct, frozen=True):
    """One row of `settlements`. (chain_id, token_address, payer, nonce) is unique."""

    id: str
    chain_id: int
    token: str  # as clients name it: "usdc"
    token_address: str
    payer: str
    recipient: str
    amount_atomic: str  # decimal
    valid_after: str  # Unix seconds, decimal
    valid_before: str  # Unix seconds, decimal
    nonce: str
    signature: str  # hex with 0x
    from_block: int  # the authorization was unused at this block
    unique_name: str | None  # the deploy it pays for; None for a top-up
    status: SettlementStatus
    tx_hash: str | None  # the transaction that settled it, or that used the nonce of a failed one
    failure: str | None  # why it failed
    created_at_ms: int
    ended_at_ms: int | None
    open_body: str | None = None  # the body of the open request that it pays; None: a signed one
    purse: str | None = None  # the project whose purse it fills; None: its payer's credits

"""Rows about money: quotes, payments, and what the gateway itself sends."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from moorage.money import AtomicUnits, MicroUsd
from moorage.records.size import STANDARD


class Quote(msgspec.Struct, frozen=True):
    """One row of `quotes`."""

    id: str
    wallet: str
    unique_name: str
    months: int
    price_micro_usd: MicroUsd
    received_micro_usd: MicroUsd
    created_at_ms: int
    expires_at_ms: int
    promised_at_ms: int  # when this price was first promised; limits how long it is prolonged
    counted_micro_usd: MicroUsd  # what had been received when the quote was made
    size: str = STANDARD


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


class RelayStatus(StrEnum):
    """The states of a signed transaction."""

    SIGNED = "signed"  # may still be mined
    MINED = "mined"
    REVERTED = "reverted"  # mined, but it did nothing
    REPLACED = "replaced"  # another transaction has its nonce


class RelayTransaction(msgspec.Struct, frozen=True):
    """One row of `relay_transactions`. Hex is lower case, with 0x.

    Rows of the same nonce are versions of one transaction; any of them may be mined.
    """

    chain_id: int
    tx_hash: str
    sender: str
    nonce: int
    subject_id: str  # the settlement or refund that it is for
    recipient: str  # the contract called
    data: str
    gas_limit: int
    max_fee_per_gas: str  # wei, decimal
    max_priority_fee_per_gas: str  # wei, decimal
    raw: str
    status: RelayStatus
    block_number: int | None
    signed_at_ms: int


class Search(StrEnum):
    """The two searches that each block gets."""

    CONFIRMED = "confirmed"  # when it is deep enough, for payments that may be credited at once
    SAFE = "safe"  # when it is safe, for the others, and for those that the first search missed


class Cursor(msgspec.Struct, frozen=True):
    """The last block that was searched. (chain_id, search) is unique.

    The block's hash tells whether it is still part of the chain.
    """

    chain_id: int
    search: Search
    block_number: int
    block_hash: str


class PaymentStatus(StrEnum):
    """Where the money is."""

    CREDITED = "credited"  # to its payer's balance
    HELD = "held"  # screening refused it: not credited until it is released or refunded
    REVERSED = "reversed"  # its block is no longer part of the chain
    REFUNDED = "refunded"  # held, and sent back


class Finality(StrEnum):
    """How certain it is that the transfer stays on the chain."""

    PROVISIONAL = "provisional"  # as deep as the chain's `confirmations`
    SAFE = "safe"  # seen again when its block was `safe`
    FINALIZED = "finalized"  # seen again when its block was `finalized`; never checked again


class Place(NamedTuple):
    """A transaction, and the block that it lies in for a node or the books."""

    chain_id: int
    tx_hash: str
    block_number: int
    block_hash: str


class Payment(msgspec.Struct, frozen=True):
    """One row of `payments`. (chain_id, tx_hash, log_index) is unique."""

    chain_id: int
    tx_hash: str
    log_index: int
    payer: str
    token: str
    token_address: str
    amount_atomic: str  # decimal
    credited_micro_usd: MicroUsd
    block_number: int
    block_hash: str
    claimed_at_ms: int
    status: PaymentStatus
    finality: Finality
    round: int  # how often it was credited: once more after each reversal
    posting_id: str  # of its last credit
    held_reason: str | None
    recipient: str  # an address that is or was `pay_to`
    purse: str | None = None  # the project whose purse it filled; None: its payer's credits
    given_to: str | None = None  # the wallet that its payer has bought them for; None: itself

    @property
    def amount(self) -> AtomicUnits:
        """What arrived, in the token's atomic units."""
        return AtomicUnits(int(self.amount_atomic))

    @property
    def place(self) -> Place:
        """Where it was credited from."""
        return Place(self.chain_id, self.tx_hash, self.block_number, self.block_hash)


class RefundStatus(StrEnum):
    """The states of a refund."""

    QUEUED = "queued"  # debited; nothing of it is signed
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
    request_id: str = ""  # of its customer's request; "" of one that the operator began
    gas_micro_usd: MicroUsd = MicroUsd(0)  # what its payer pays for its gas, besides the debit
    decided_by: str = ""  # who lets a queued one be sent; "" is nobody yet
    waits_because: str | None = None  # why a queued one is not sent

    @property
    def amount(self) -> AtomicUnits:
        """What is sent back, in the token's atomic units."""
        return AtomicUnits(int(self.amount_atomic))

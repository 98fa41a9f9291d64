"""A payment: a transfer to an address of ours, how it was credited, and its status."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from moorage.money import AtomicUnits, MicroUsd


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
    recipient: str | None  # an address that was `pay_to`; None for rows older than this column
    purse: str | None = None  # the project whose purse it filled; None: its payer's credits

    @property
    def amount(self) -> AtomicUnits:
        """What arrived, in the token's atomic units."""
        return AtomicUnits(int(self.amount_atomic))

    @property
    def place(self) -> Place:
        """Where it was credited from."""
        return Place(self.chain_id, self.tx_hash, self.block_number, self.block_hash)

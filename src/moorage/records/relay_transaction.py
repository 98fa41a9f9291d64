"""A transaction that the gateway signed, as it is remembered from before it is sent."""

from enum import StrEnum

import msgspec


class RelayStatus(StrEnum):
    """What became of it."""

    SIGNED = "signed"  # may be mined yet
    MINED = "mined"
    REVERTED = "reverted"  # mined, but it did nothing
    REPLACED = "replaced"  # another transaction has its nonce


class RelayTransaction(msgspec.Struct, frozen=True):
    """One row of `relay_transactions`. Those of one nonce are versions of each other.

    Any version may be the one that is mined. Hex is lower case, with 0x.
    """

    chain_id: int
    tx_hash: str
    sender: str
    nonce: int
    subject_id: str  # of a settlement or a refund: what it is for
    recipient: str  # the contract called
    data: str
    gas_limit: int
    max_fee_per_gas: str  # wei, decimal, as the next
    max_priority_fee_per_gas: str
    raw: str
    status: RelayStatus
    block_number: int | None
    signed_at_ms: int

"""A transaction that the gateway signed; it is stored before it is sent."""

from enum import StrEnum

import msgspec


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

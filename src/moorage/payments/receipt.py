"""What a payment that came with a request did."""

import msgspec

from moorage.money import MicroUsd
from moorage.payments.evidence import Evidence


class Receipt(msgspec.Struct, frozen=True):
    """A payment on chain, verified and claimed: `credited` is zero when it was claimed before."""

    chain_id: int
    tx_hash: str
    payer: str
    credited: MicroUsd
    evidence: Evidence
    at_ms: int

"""What a payment that came with a request did."""

import msgspec

from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import Evidence


class PaymentReceipt(msgspec.Struct, frozen=True):
    """A payment on chain, verified and claimed.

    `credited` is what it brought its payer in all, also when it was claimed before.
    """

    chain_id: int
    tx_hash: str
    payer: str
    credited: MicroUsd
    evidence: Evidence
    at_ms: int

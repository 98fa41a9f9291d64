"""What a payment that came with a request did."""

import msgspec

from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.protocols.evidence import PaymentWay


class PaymentReceipt(msgspec.Struct, frozen=True):
    """A payment on chain, verified and claimed.

    `credited` is what it brought its payer in all, also when it was claimed before.
    """

    chain_id: int
    tx_hash: str
    payer: str
    credited: MicroUsd
    at_ms: int
    way: PaymentWay
    challenge_id: str | None = None
    """Of the MPP challenge that it answers."""
    authorized: AtomicUnits | None = None
    """What the payer signed an authorization of, if it was one."""

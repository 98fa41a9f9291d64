"""The receipt of a payment that came with a request."""

import msgspec

from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.protocols.evidence import PaymentWay


class PaymentReceipt(msgspec.Struct, frozen=True):
    """A payment on chain that was verified and claimed.

    `credited` is what it brought its payer in all, even if it was claimed before.
    """

    chain_id: int
    tx_hash: str
    payer: str
    credited: MicroUsd
    at_ms: int
    way: PaymentWay
    challenge_id: str | None = None
    """The id of the MPP challenge that it answers."""
    reference: str = ""
    """The `externalId` of that challenge."""
    authorized: AtomicUnits | None = None
    """The amount of the authorization, if it was paid by one."""
    chain: str = ""  # names; receipts that were stored before these two lack them
    token: str = ""
    purse: str | None = None
    """The project whose purse it fills, if it was sent for that."""

"""A payment option: an amount of one token on one chain that pays a demand."""

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.money import AtomicUnits


class PaymentOption(msgspec.Struct, frozen=True):
    """One of the ways to pay a demand."""

    chain: Chain
    token: Token
    amount: AtomicUnits

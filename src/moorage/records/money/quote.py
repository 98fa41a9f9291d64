"""A quote: the price of one deploy, promised to one wallet for a while; it holds the name too."""

import msgspec

from moorage.money import MicroUsd


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

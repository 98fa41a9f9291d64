"""An offer for tests: hello, $0.50 for a month, 0.50 USDC on Arbitrum."""

from typing import Any

import msgspec

from moorage.chains.chain import KNOWN_CHAINS
from moorage.money import AtomicUnits, MicroUsd
from moorage.sdk.payment import Offer

PAY_TO = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"


def an_offer(**changes: Any) -> Offer:
    chain = KNOWN_CHAINS["arbitrum"]
    token = chain.token("usdc")
    assert token is not None
    offer = Offer(
        name="hello",
        months=1,
        chain=chain,
        token=token,
        amount=AtomicUnits(500_000),
        price=MicroUsd(500_000),
        pay_to=PAY_TO,
        balance=AtomicUnits(1_000_000_000),
    )
    return msgspec.structs.replace(offer, **changes)

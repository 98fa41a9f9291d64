"""The gateway as a seller: where it is paid, what it takes, and on which terms."""

from collections.abc import Callable

import msgspec

from moorage.chains.chain import Chain, Token


class Seller(msgspec.Struct, frozen=True):
    """What every demand says of who is paid."""

    pay_to: str
    chains: tuple[Chain, ...]
    settles: Callable[[Chain, Token], bool]
    """Tells whether an authorization of a token would be settled right now."""
    terms_url: str = ""
    contact: str = ""

    @property
    def refunds(self) -> str:
        """Returns the rule of refunds, in one sentence."""
        ask = f"ask {self.contact}" if self.contact else "ask the gateway's operator"
        return (
            "Credits that you do not use stay in your wallet's balance; "
            f"to have them sent back to the wallet that paid, {ask}."
        )

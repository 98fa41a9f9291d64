"""The gateway as a seller: where it is paid, what it takes, and on which terms."""

from collections.abc import Callable

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.errors import AuthorizationRefused
from moorage.money import charge_to_atomic_units
from moorage.payments.price.option import PaymentOption
from moorage.payments.protocols.demand import PaymentRequired


class Seller(msgspec.Struct):
    """What every demand says of who is paid; terms and contact may change while it runs."""

    pay_to: str
    chains: tuple[Chain, ...]
    settles: Callable[[Chain, Token], bool]
    """Tells whether an authorization of a token would be settled right now."""
    terms_url: str = ""
    contact: str = ""

    def options(self, demand: PaymentRequired) -> list[PaymentOption]:
        """Returns every chain and token with the amount to pay, the best for the client first.

        What the request named comes first. Then a chain that has just refused an authorization goes
        last, what the wallet can pay with comes first, and the demand's own means before others.
        """
        options = [
            PaymentOption(
                chain=chain,
                token=token,
                amount=charge_to_atomic_units(demand.amount, decimals=token.decimals),
            )
            for chain in self.chains
            for token in chain.tokens
        ]
        return sorted(options, key=lambda option: _rank(option, demand))

    @property
    def refunds(self) -> str:
        """Returns the rule of refunds, in one sentence."""
        ask = f"ask {self.contact}" if self.contact else "ask the gateway's operator"
        return (
            "Credits that you do not use stay in your wallet's balance; "
            f"to have them sent back to the wallet that paid, {ask}."
        )


def _rank(option: PaymentOption, demand: PaymentRequired) -> tuple[bool, ...]:
    """Returns what an option is sorted by; False comes first."""
    preference, because = demand.preference, demand.because
    other_chain = option.chain.name != demand.means.chain.name
    other_token = option.token.name != demand.means.token.name
    refused = isinstance(because, AuthorizationRefused) and because.by_chain
    held = preference.held.get((option.chain.name, option.token.name))
    return (
        preference.chain_named and other_chain,
        preference.token_named and other_token,
        refused and not other_chain,
        held is None or held < option.amount,
        other_chain,
        other_token,
    )

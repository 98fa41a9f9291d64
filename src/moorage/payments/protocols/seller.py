"""The gateway as a seller: where it is paid, what it takes, and on which terms."""

from collections.abc import Callable

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.errors import AuthorizationRefused
from moorage.money import charge_to_atomic_units
from moorage.payments.price.option import PaymentOption
from moorage.payments.protocols.demand import PaymentRequired

USUAL_CHAIN = "base"
"""The chain that the tables of all clients know; some read the first offer alone."""


class Seller(msgspec.Struct):
    """What every demand says of who is paid; terms and contact may change while it runs."""

    pay_to: str
    chains: tuple[Chain, ...]
    settles: Callable[[Chain, Token], bool]
    """Tells whether an authorization of a token would be settled right now."""
    terms_url: str = ""
    contact: str = ""
    preferred_chain: str = USUAL_CHAIN
    """The chain that is offered first to clients that sign, where nothing says otherwise."""

    def transfer(self, demand: PaymentRequired) -> PaymentOption:
        """Returns the chain and token that the body of a 402 names, with the amount to pay.

        They are the contract's defaults (1.2) unless the request or the wallet's tokens say else.
        """
        return self._ordered(demand, first=demand.means.chain.name)[0]

    def options(self, demand: PaymentRequired) -> list[PaymentOption]:
        """Returns every chain and token with the amount to pay, the best for the client first.

        What the request named comes first. Then a chain that has just refused an authorization goes
        last, what the wallet can pay with comes first, and the preferred chain before others, or
        after a payment the chain of that one.
        """
        has_chosen = demand.preference.chain_named or demand.credited is not None or demand.because
        means = demand.means.chain.name
        return self._ordered(demand, first=means if has_chosen else self.preferred_chain)

    def protocols(self, chain: Chain) -> list[str]:
        """Returns the ways to pay on a chain right now: `tx` and `mpp` (by a hash) everywhere."""
        signed = any(self.settles(chain, token) for token in chain.tokens)
        return ["tx", "mpp", "x402"] if signed else ["tx", "mpp"]

    def _ordered(self, demand: PaymentRequired, *, first: str) -> list[PaymentOption]:
        options = [
            PaymentOption(
                chain=chain,
                token=token,
                amount=charge_to_atomic_units(demand.amount, decimals=token.decimals),
            )
            for chain in self.chains
            for token in chain.tokens
        ]
        return sorted(options, key=lambda option: _rank(option, demand, first))

    @property
    def refunds(self) -> str:
        """Returns the rule of refunds, in one sentence."""
        ask = f"ask {self.contact}" if self.contact else "ask the gateway's operator"
        return (
            "Credits that you do not use stay in your wallet's balance; "
            f"to have them sent back to the wallet that paid, {ask}."
        )


def _rank(option: PaymentOption, demand: PaymentRequired, first: str) -> tuple[bool, ...]:
    """Returns what an option is sorted by; False comes first. `first` names a chain."""
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
        option.chain.name != first,
        other_chain,
        other_token,
    )

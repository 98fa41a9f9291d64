"""A demand for payment: the error behind a 402, and the contract's body for it."""

import math
from collections.abc import Iterable
from typing import Any

from moorage.chains.chain import Chain
from moorage.errors import MoorageError, PaymentError
from moorage.money import MicroUsd, charge_to_atomic_units, usd_number
from moorage.payments.protocols.evidence import PaymentMeans


class PaymentRequired(MoorageError):
    """Payment required"""

    def __init__(
        self,
        *,
        amount: MicroUsd,
        balance: MicroUsd,
        active_projects: int,
        means: PaymentMeans,
        expires_at_ms: int,
        wallet: str,
        body_digest: str,
        warn_of_sharing: bool = False,
        credited: MicroUsd | None = None,
        because: PaymentError | None = None,
    ) -> None:
        super().__init__(because.message if because else "")
        self.amount = amount
        self.balance = balance
        self.active_projects = active_projects
        self.means = means
        self.expires_at_ms = expires_at_ms
        self.wallet = wallet
        """The wallet that must pay; authorizations of others are refused."""
        self.body_digest = body_digest
        """SHA-256 of the request's body, in hex; the payment is bound to it."""
        self.warn_of_sharing = warn_of_sharing
        self.credited = credited
        """The credits of the payment that came with the request; it was too little."""
        self.because = because
        """What was wrong with the payment that came with the request."""

    @property
    def warning(self) -> str | None:
        """The contract's warning (1.2), if credits suffice but are shared with other projects."""
        return sharing_warning(self.active_projects) if self.warn_of_sharing else None


def sharing_warning(active_projects: int) -> str:
    """Returns the warning of 1.2 in the contract's words."""
    return (
        f"You have {active_projects} active project(s) sharing credits. "
        "Paying extends total runtime. To deploy using existing credits (will reduce other "
        "projects' runtime), retry with header X-Use-Existing-Credits: true"
    )


def demand_body(demand: PaymentRequired, *, pay_to: str, chains: Iterable[Chain]) -> dict[str, Any]:
    """Returns the 402 body of 1.2; `amount_token` is in the token's atomic units."""
    token = demand.means.token
    body: dict[str, Any] = {
        "error": demand.message,
        "amount_usd": usd_number(demand.amount),
        "amount_token": str(charge_to_atomic_units(demand.amount, decimals=token.decimals)),
        "current_credit_balance_usd": usd_number(demand.balance),
        "active_projects": demand.active_projects,
        "pay_to": pay_to,
        "payment_chain": demand.means.chain.name,
        "token": token.name,
        "decimals": token.decimals,
        "supported_chains": [chain_body(chain) for chain in chains],
        "token_address": token.address,
        "chain_id": demand.means.chain.chain_id,
        "expires_at": math.floor(demand.expires_at_ms / 1000),
    }
    if demand.warning:
        body["warning"] = demand.warning
    if demand.credited is not None:
        body["credited_usd"] = usd_number(demand.credited)
    return body


def chain_body(chain: Chain) -> dict[str, Any]:
    """Returns a chain as `supported_chains` and `GET /agent/chains` show it."""
    return {
        "chain": chain.name,
        "chain_id": chain.chain_id,
        "tokens": [token.name for token in chain.tokens],
    }

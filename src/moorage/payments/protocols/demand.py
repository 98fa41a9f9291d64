"""A demand for payment: the error behind a 402."""

from collections.abc import Sequence

import msgspec

from moorage.errors import MoorageError, PaymentError, PaymentMalformed
from moorage.ledger.burn import HOUR_MS, MONTH_MS
from moorage.money import MicroUsd, usd_text
from moorage.payments.price.holdings import NOTHING_KNOWN, Held
from moorage.payments.price.pricing import Size
from moorage.payments.protocols.evidence import PaymentMeans
from moorage.wire.warnings import WarningItem


class Preference(msgspec.Struct, frozen=True):
    """What decides which chain and token a demand offers first."""

    chain_named: bool = False
    """Whether the request named the chain of the demand's means."""
    token_named: bool = False
    held: Held = NOTHING_KNOWN


class Purchase(msgspec.Struct, frozen=True):
    """What the amount of a demand buys, together with the credits on hand."""

    hours: int | None
    """How long all that will run then lasts; None if nothing runs."""
    until_ms: int | None
    """When that ends, if it begins now."""
    size: Size | None
    """The size of the app; None for a top-up."""


def purchase(
    credits_left: MicroUsd,
    monthly_prices: Sequence[MicroUsd],
    *,
    now_ms: int,
    size: Size | None = None,
) -> Purchase:
    """Returns how long `credits_left` lasts for projects at these prices, in whole hours."""
    a_month = sum(monthly_prices)
    if a_month <= 0:
        return Purchase(hours=None, until_ms=None, size=size)
    hours = max(0, credits_left) * MONTH_MS // (a_month * HOUR_MS)
    return Purchase(hours=hours, until_ms=now_ms + hours * HOUR_MS, size=size)


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
        wallet: str | None,
        body_digest: str,
        purpose: str = "Credits",
        reference: str = "",
        buys: Purchase | None = None,
        warn_of_sharing: bool = False,
        credited: MicroUsd | None = None,
        because: PaymentError | PaymentMalformed | None = None,
        warnings: tuple[WarningItem, ...] = (),
    ) -> None:
        super().__init__(because.message if because else "")
        self.amount = amount
        self.balance = balance
        self.active_projects = active_projects
        self.means = means
        self.preference = Preference()
        self.expires_at_ms = expires_at_ms
        self.wallet = wallet
        """The wallet that must pay; authorizations of others are refused. None: any may pay."""
        self.body_digest = body_digest
        """SHA-256 of the request's body, in hex; the payment is bound to it."""
        self.purpose = purpose
        """What the payment is for, in ASCII."""
        self.reference = reference
        """The quote's id, if there is a quote."""
        self.buys = buys
        self.warn_of_sharing = warn_of_sharing
        self.credited = credited
        """The credits of the payment that came with the request; it was too little."""
        self.because = because
        """What was wrong with the payment that came with the request."""
        self.warnings = warnings
        """What to know of the files before they are deployed."""
        self.reason = ""
        """Why credits on hand don't suffice, if that needs to be said."""

    @property
    def warning(self) -> str | None:
        """The contract's warning (1.2), if credits suffice but are shared with other projects."""
        return sharing_warning(self.active_projects) if self.warn_of_sharing else None


def credits_fall_short(balance: MicroUsd, *, price: MicroUsd) -> str:
    """Returns why the whole price is asked for beside credits that are less; "" without any."""
    if not 0 < balance < price:
        return ""
    return (
        f"Your credits, {usd_text(balance)}, are less than the price. Payments have a minimum: the "
        f"whole price is asked for, {usd_text(price)}; all of it is added to your credits."
    )


def sharing_warning(active_projects: int) -> str:
    """Returns the warning of 1.2 in the contract's words."""
    return (
        f"You have {active_projects} active project(s) sharing credits. "
        "Paying extends total runtime. To deploy using existing credits (will reduce other "
        "projects' runtime), retry with header X-Use-Existing-Credits: true"
    )

"""The price of a deploy, and its demand: whether it must be paid first (contract 1.2)."""

import msgspec

from moorage.deploy.entrance.attempt import (
    DeployAttempt,
    DryRun,
    Situation,
    of_attempt,
    of_request,
    open_risks,
    with_risks,
)
from moorage.errors import (
    DatabaseUnavailable,
    MoorageError,
    PaymentError,
    PaymentMalformed,
    PaymentPending,
    PaymentShort,
)
from moorage.ledger.burn import hour_of
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.quotes import (
    QUOTE_LIFETIME_MS,
    PriceList,
    QuoteRequest,
    Quotes,
    Size,
    honoured,
)
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.payment_required import (
    Demand,
    Purchase,
    credits_fall_short,
    purchase,
)
from moorage.payments.taking.paywall import Paywall
from moorage.records.payments import Quote
from moorage.records.project import SHARING_STATUSES
from moorage.storage.apps import names
from moorage.storage.database import Transaction


class Shortfall(msgspec.Struct, frozen=True):
    """Why a payment is demanded."""

    shares: bool = False
    """Whether only because the existing credits would be shared."""
    lacking: MicroUsd = NOTHING
    """What credits that pay the price lack for an hour of all projects that would share them."""


class Pricing(msgspec.Struct, frozen=True):
    """Decides by the price list and the size of apps."""

    prices: PriceList
    size: Size

    def by_list(self, attempt: DeployAttempt) -> MicroUsd:
        """Returns today's price."""
        return self.prices.deploy(self.size, months=attempt.request.months)

    def price(self, attempt: DeployAttempt, situation: Situation) -> MicroUsd:
        """Returns today's price, or the lower one that a valid quote promises."""
        return honoured(
            situation.living, months=attempt.request.months, price=self.by_list(attempt)
        )

    def month(self, attempt: DeployAttempt, price: MicroUsd) -> MicroUsd:
        """Returns what a month burns: at most what was promised, so that `price` lasts."""
        promised = -(-price // attempt.request.months)
        return MicroUsd(min(self.prices.month(self.size), promised))

    def shortfall(
        self, attempt: DeployAttempt, situation: Situation, price: MicroUsd, *, paid: bool
    ) -> Shortfall | None:
        """Returns why a payment is demanded, or None; `paid`: the request brought one.

        One that speaks alone is settled only if it is for the whole price.
        """
        if attempt.is_open:
            return None if paid else Shortfall()
        if situation.own is not None:
            return None if situation.balance > 0 else Shortfall()
        if situation.balance < price:
            return Shortfall()
        if lacking := self.lacking(attempt, situation, price):
            return Shortfall(lacking=lacking)
        if situation.active and not (paid or attempt.use_existing_credits):
            return Shortfall(shares=True)
        return None

    def lacking(self, attempt: DeployAttempt, situation: Situation, price: MicroUsd) -> MicroUsd:
        """Returns what the credits lack for an hour of a new app and of all that share them."""
        if situation.own is not None:
            return NOTHING
        hour = hour_of(*situation.sharing, self.month(attempt, price))
        return MicroUsd(max(0, hour + situation.owes - situation.balance))

    def buys(
        self, attempt: DeployAttempt, situation: Situation, amount: MicroUsd, *, now_ms: int
    ) -> Purchase:
        """Returns what paying `amount` buys: how long the new app and all others run then."""
        left = MicroUsd(situation.balance + amount - situation.owes)
        monthly = list(situation.sharing)
        if situation.own is None or situation.own.status not in SHARING_STATUSES:
            monthly.append(self.month(attempt, self.price(attempt, situation)))
        return purchase(left, monthly, now_ms=now_ms, size=self.size)

    def dry_run(self, attempt: DeployAttempt, situation: Situation, *, now_ms: int) -> DryRun:
        """Returns what this deploy would cost, and whether a payment would be demanded."""
        price = self.price(attempt, situation)
        short = self.shortfall(attempt, situation, price, paid=False)
        amount = price if situation.own is None else NOTHING
        if short is not None:
            rest = due(price, received=situation.received, balance=situation.balance)
            amount = max(rest, short.lacking)
        told = situation.told(attempt)
        return DryRun(
            amount=amount,
            balance=told.balance,
            active_projects=told.active,
            payment_required=short is not None,
            shares=short is not None and short.shares,
            warnings=of_attempt(attempt, situation),
            risks=open_risks(attempt, situation),
            variables=situation.now.with_settings(attempt.request.settings),
            volume=situation.will_have_volume(attempt),
            health_path=attempt.request.settings.health_path or situation.now.health_path,
            buys=self.buys(attempt, told, amount if short else NOTHING, now_ms=now_ms),
            redeploys=situation.own is not None,
            is_price=amount == price,
        )


def due(price: MicroUsd, *, received: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """Returns what to pay: the price, or the rest of it after a part payment, plus any debt."""
    return price if received <= 0 <= balance else missing(price, balance)


def missing(price: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """Returns what the balance lacks for the price; the whole price if it lacks nothing."""
    return MicroUsd(price - balance) if balance < price else price


async def demand(
    tx: Transaction,
    attempt: DeployAttempt,
    situation: Situation,
    short: Shortfall,
    *,
    pricing: Pricing,
    paywall: Paywall,
    quotes: Quotes,
    now_ms: int,
    receipt: PaymentReceipt | None = None,
    because: PaymentError | PaymentMalformed | None = None,
) -> Demand:
    """Returns the demand for the quote's price, or for the rest of it, plus any debt.

    The quote is stored in `tx`. `receipt` is that of a payment that was too small; `because` says
    why a payment was refused. Raises NameUnavailable, RateLimited, and PaymentPending while another
    payment is being settled.

    An attempt of which a payment alone speaks holds no name, and no price: a name costs nothing
    here that somebody takes before it is paid, as the payment is settled only after all checks. So
    strangers can hold none for free. Its demand tells nothing of any wallet.
    """
    price, told = pricing.by_list(attempt), situation.told(attempt)
    if attempt.is_open:
        await names.release(tx, wallet=attempt.wallet, unique_name=attempt.request.unique_name)
        amount, quote, reason = price, None, ""
    else:
        await paywall.refuse_while_unsettled(attempt.wallet, source=tx)
        asked = QuoteRequest(
            wallet=attempt.wallet,
            unique_name=attempt.request.unique_name,
            months=attempt.request.months,
            price=price,
            received=NOTHING if receipt is None else situation.balance,
            stranger_at=attempt.stranger_at,
        )
        quote = await quotes.offer(tx, situation.living, asked)
        amount = _amount(quote, short, balance=situation.balance)
        is_price = because is None and receipt is None and amount == quote.price_micro_usd
        reason = credits_fall_short(situation.balance, price=amount) if is_price else ""
    return Demand(
        amount=amount,
        buys=pricing.buys(attempt, told, amount, now_ms=now_ms),
        purpose=_purpose(attempt),
        reference="" if quote is None else quote.id,
        balance=told.balance,
        active_projects=told.active,
        means=attempt.means,
        expires_at_ms=now_ms + QUOTE_LIFETIME_MS if quote is None else quote.expires_at_ms,
        wallet=None if quote is None else attempt.wallet,
        body_digest=attempt.request_digest,
        warn_of_sharing=quote is not None and short.shares,
        credited=None if receipt is None else receipt.credited,
        because=because if receipt is None else PaymentShort(),
        warnings=of_request(attempt) if quote is None else with_risks(attempt, situation),
        reason=reason,
    )


def _amount(quote: Quote, short: Shortfall, *, balance: MicroUsd) -> MicroUsd:
    rest = due(quote.price_micro_usd, received=quote.received_micro_usd, balance=balance)
    return max(short.lacking, rest)


def _purpose(attempt: DeployAttempt) -> str:
    months = attempt.request.months
    return f"Deploy {attempt.request.unique_name}, {months} month{'s' * (months != 1)}"


def after_payment(error: MoorageError, receipt: PaymentReceipt) -> MoorageError:
    """Returns the error for a client whose payment has just been credited."""
    if isinstance(error, DatabaseUnavailable):
        error = PaymentPending(
            "Your payment is credited; the deployment could not be recorded yet. "
            "Do not pay again: send the same payment again."
        )
    error.receipt = receipt
    return error

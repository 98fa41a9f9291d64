"""The demand for a deploy's payment, and errors after the payment."""

from collections.abc import Callable

from moorage.deploy.entrance.attempt import DeployAttempt
from moorage.deploy.entrance.price import Shortfall, due
from moorage.deploy.entrance.situation import Situation
from moorage.deploy.entrance.warnings import of_attempt, of_request
from moorage.errors import (
    DatabaseUnavailable,
    MoorageError,
    PaymentError,
    PaymentMalformed,
    PaymentPending,
    PaymentShort,
)
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS, QuoteRequest, Quotes
from moorage.payments.protocols.demand import PaymentRequired, Purchase, credits_fall_short
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.paywall import Paywall
from moorage.storage.apps import names
from moorage.storage.database import Transaction


async def demand(
    tx: Transaction,
    attempt: DeployAttempt,
    situation: Situation,
    short: Shortfall,
    *,
    price: MicroUsd,
    buys: Callable[[MicroUsd], Purchase],
    paywall: Paywall,
    quotes: Quotes,
    receipt: PaymentReceipt | None = None,
    because: PaymentError | PaymentMalformed | None = None,
) -> PaymentRequired:
    """Returns the demand for the quote's price, or for the rest of it, plus any debt.

    `price` is today's; `buys` tells what an amount buys. The quote is stored in `tx`. `receipt` is
    that of a payment that was too small; `because` says why a payment was refused. Raises
    NameUnavailable, RateLimited, and PaymentPending while another payment is being settled.
    """
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
    rest = due(quote.price_micro_usd, received=quote.received_micro_usd, balance=situation.balance)
    amount = max(short.lacking, rest)
    demanded = PaymentRequired(
        amount=amount,
        buys=buys(amount),
        purpose=_purpose(attempt),
        reference=quote.id,
        balance=situation.told(attempt).balance,
        active_projects=situation.told(attempt).active,
        means=attempt.means,
        expires_at_ms=quote.expires_at_ms,
        wallet=attempt.wallet,
        body_digest=attempt.request_digest,
        warn_of_sharing=short.shares,
        credited=None if receipt is None else receipt.credited,
        because=because if receipt is None else PaymentShort(),
        warnings=of_attempt(attempt, situation),
    )
    if demanded.because is None and amount == quote.price_micro_usd:
        demanded.reason = credits_fall_short(situation.balance, price=amount)
    return demanded


async def open_demand(
    tx: Transaction,
    attempt: DeployAttempt,
    *,
    price: MicroUsd,
    buys: Callable[[MicroUsd], Purchase],
    now_ms: int,
    because: PaymentError | PaymentMalformed | None = None,
) -> PaymentRequired:
    """Returns the demand of today's price from whoever pays it; holds no name, and no price.

    A name costs nothing here that somebody takes before it is paid: the payment is settled only
    after all checks. So strangers can hold none for free. It tells nothing of any wallet.
    """
    await names.release(tx, wallet=attempt.wallet, unique_name=attempt.request.unique_name)
    return PaymentRequired(
        amount=price,
        buys=buys(price),
        purpose=_purpose(attempt),
        balance=NOTHING,
        active_projects=0,
        means=attempt.means,
        expires_at_ms=now_ms + QUOTE_LIFETIME_MS,
        wallet=None,
        body_digest=attempt.request_digest,
        because=because,
        warnings=of_request(attempt),
    )


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

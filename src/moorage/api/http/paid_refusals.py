"""Refusals of requests that carried a payment: the payment is credited before the answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moorage.api.http.problems import problem_of
from moorage.errors import MoorageError, PaymentPending
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.protocols.evidence import Evidence
from moorage.payments.taking.paywall import Paywall
from moorage.wire.problems import PaymentState

_FIRST_OF_THE_5XX = 500


@asynccontextmanager
async def accounted(
    paywall: Paywall, evidence: Evidence | None, *, wallet: str
) -> AsyncIterator[None]:
    """Makes every error that leaves this block say what became of `evidence`.

    A transaction with a valid transfer is credited first. After a credit, an error that would be a
    5xx becomes PaymentPending.
    """
    try:
        yield
    except MoorageError as error:
        if evidence is None:
            raise
        refusal = (error.because or error) if isinstance(error, PaymentRequired) else error
        outcome = await paywall.outcome(evidence, wallet=wallet, refusal=refusal)
        told = _after_credit(error) if outcome.state is PaymentState.CREDITED else error
        told.payment = outcome
        if told is error:
            raise
        raise told from error


def _after_credit(error: MoorageError) -> MoorageError:
    """Returns the error to raise when the payment is credited."""
    if problem_of(error).status < _FIRST_OF_THE_5XX:
        return error
    pending = PaymentPending(
        f"Your payment is credited; what it is for can't be done right now: {error.message} "
        "Do not pay again: send the same payment again."
    )
    pending.receipt = error.receipt
    return pending

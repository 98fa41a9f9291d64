"""Answers to requests that carried a payment: each says what became of it, refusals included."""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import CALLER, OPEN, Caller
from moorage.api.http.payment.payment_headers import read_payment
from moorage.api.http.problems import json_response, problem_of
from moorage.chains.address import parse_address
from moorage.chains.chain import Chain
from moorage.errors import FieldError, MoorageError, PaymentMalformed, PaymentPending
from moorage.money import json_of
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.protocols.evidence import (
    AuthorizationEvidence,
    Evidence,
    TransactionEvidence,
    default_means,
    may_have_paid,
    shown_transaction,
)
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.outcomes import Outcomes
from moorage.wire.problems import PaymentState

_FIRST_OF_THE_5XX = 500
_OF_THE_BODY = (b"content-length", b"content-type")


async def accounted(
    outcomes: Outcomes, chains: Mapping[str, Chain], request: Request, error: MoorageError
) -> MoorageError:
    """Returns the error to answer with: `error`, with what became of the request's payment.

    When the request was authenticated, a transaction with a valid transfer is credited first. After
    a credit, an error that would be a 5xx becomes PaymentPending.
    """
    if error.payment is not None:
        return error
    caller: Caller | None = request.scope.get(CALLER)
    evidence = _evidence(request, chains, caller) or _misplaced(error, chains, caller)
    if evidence is None:
        error.payment = _unreadable(request, chains, error)
        return error
    refusal = (error.because or error) if isinstance(error, PaymentRequired) else error
    if caller is not None:
        outcome = await outcomes.after_refusal(evidence, wallet=caller.wallet, refusal=refusal)
    else:
        wallet = _claimed_wallet(request, evidence)
        outcome = await outcomes.known(evidence, wallet=wallet, refusal=refusal)
    told = _after_credit(error) if outcome.state is PaymentState.CREDITED else error
    if isinstance(told, PaymentPending) and outcome.state is PaymentState.UNUSED:
        # It is to be sent again as it is: whoever signs another pays twice when both come.
        outcome = msgspec.structs.replace(outcome, state=PaymentState.PENDING)
    told.payment = msgspec.structs.replace(outcome, openly=OPEN in request.scope)
    return told


async def repeated(
    outcomes: Outcomes,
    answer: Response,
    evidence: Evidence | None,
    *,
    wallet: str,
    unique_name: str | None = None,
) -> Response:
    """Returns the first answer to a repeated request, with what became of this one's payment."""
    if evidence is None:
        return answer
    outcome = await outcomes.of_repeated(evidence, wallet=wallet, unique_name=unique_name)
    body = msgspec.json.decode(bytes(answer.body), type=dict[str, msgspec.Raw])
    body["payment"] = msgspec.Raw(json_of(outcome.told))
    again = json_response(body, status=answer.status_code)
    kept = [each for each in answer.raw_headers if each[0] not in _OF_THE_BODY]
    again.raw_headers += kept
    return again


def _evidence(
    request: Request, chains: Mapping[str, Chain], caller: Caller | None
) -> Evidence | None:
    """Returns the payment of the request: of one that is malformed, the transaction that it shows.

    None when there is none to be read.
    """
    stranger_at = None if caller is None else caller.stranger_at
    try:
        return read_payment(request, chains, stranger_at=stranger_at).evidence
    except FieldError:
        shown = shown_transaction(request.headers, chains)
        return shown and msgspec.structs.replace(shown, stranger_at=stranger_at)


def shows_payment(error: MoorageError) -> bool:
    """Whether an error is about a payment's hash that stands where none is read."""
    return isinstance(error, PaymentMalformed) and error.tx_hash is not None


def _misplaced(
    error: MoorageError, chains: Mapping[str, Chain], caller: Caller | None
) -> Evidence | None:
    """Returns the payment whose hash stands where none is read; which chain has it is found out."""
    if not isinstance(error, PaymentMalformed) or error.tx_hash is None:
        return None
    stranger_at = None if caller is None else caller.stranger_at
    return TransactionEvidence(default_means(chains), error.tx_hash, stranger_at=stranger_at)


def _unreadable(
    request: Request, chains: Mapping[str, Chain], error: MoorageError
) -> PaymentOutcome:
    """Returns the outcome of a payment that can't be read: a hash may stand for money that moved.

    An authorization that nobody can read is not spent. While another payment is open, none may be
    made in its place.
    """
    may_be_paid = may_have_paid(request.headers) or isinstance(error, PaymentPending)
    means = default_means(chains)
    return PaymentOutcome(
        tx_hash=None,
        chain=means.chain.name,
        token=means.token.name,
        state=PaymentState.PENDING if may_be_paid else PaymentState.UNUSED,
    )


def _claimed_wallet(request: Request, evidence: Evidence) -> str:
    """Returns the wallet that a request names which is not authenticated; "" for none."""
    if isinstance(evidence, AuthorizationEvidence):
        return evidence.authorization.payer
    try:
        return parse_address(request.headers.get("x-wallet-address", ""))
    except ValueError:
        return ""


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

"""The payment that a request brings: reads it, and says in the answer what became of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import parse_address
from moorage.api.http.problems import problem_of, with_body
from moorage.api.http.request_context import CALLER, OPEN
from moorage.chains.chain import Chain
from moorage.errors import (
    AuthorizationRefused,
    FieldError,
    InvalidField,
    MoorageError,
    PaymentMalformed,
    PaymentPending,
)
from moorage.money import json_of
from moorage.payments.protocols.evidence import (
    TX_HEADER,
    AuthorizationEvidence,
    Evidence,
    PaymentMeans,
    TransactionEvidence,
    default_means,
    may_have_paid,
    near_miss,
    offered_payment,
    payment_means,
    shown_transaction,
)
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.payment_required import PaymentRequired
from moorage.payments.taking.paywall import Outcomes
from moorage.unknown_keys import MisplacedHash, misplaced_hash
from moorage.wire.problems import PaymentState

if TYPE_CHECKING:
    from moorage.api.http.caller import Caller

_FIRST_OF_THE_5XX = 500

_MISPLACED = (
    f"looks like the hash of a payment, which is read from the header {TX_HEADER} alone. Send it "
    "there; if it is no payment, leave it out"
)

_SINGLE_HEADERS = {
    name.lower().encode(): name
    for name in (
        "X-Payment-Tx",
        "X-Payment-Chain",
        "X-Payment-Token",
        "X-Use-Existing-Credits",
        "Payment-Signature",
        "X-Payment",
        "Authorization",
    )
}


class OfferedPayment(NamedTuple):
    """The chain and token that the request names, and its payment, if it carries one."""

    means: PaymentMeans
    evidence: Evidence | None
    refused: AuthorizationRefused | PaymentMalformed | None = None
    """Why the payment that came along counts for nothing, if so, and no money can have moved."""


def read_payment(
    request: Request, chains: Mapping[str, Chain], *, stranger_at: str | None = None
) -> OfferedPayment:
    """Reads the payment headers of a request.

    The look-up counts for the client address `stranger_at`, if the wallet never paid.

    A credential of MPP that can't be read is answered by a demand (draft-httpauth-payment-00, Error
    Codes), unless it may stand for a transaction. Raises PaymentMalformed for all other payments
    that can't be read; InvalidField for a header that came twice, because which one counts would be
    undefined.
    """
    came = [name for name, _ in request.scope["headers"] if name in _SINGLE_HEADERS]
    for name in came:
        if came.count(name) > 1:
            raise InvalidField(_SINGLE_HEADERS[name], "must be sent once")
    means = payment_means(request.headers, chains)
    try:
        evidence = offered_payment(request.headers, means, chains)
    except PaymentMalformed as error:
        if error.field != "Authorization" or may_have_paid(request.headers):
            raise
        return OfferedPayment(means, None, refused=error)
    if evidence is None:
        _refuse_near_miss(request, means)
        refuse_misplaced(_misplaced(request))
        return OfferedPayment(means, None)
    evidence = msgspec.structs.replace(evidence, stranger_at=stranger_at)
    return OfferedPayment(evidence.means, evidence)


def _refuse_near_miss(request: Request, means: PaymentMeans) -> None:
    """Raises PaymentMalformed for a payment in a header that is not read (contract 1.5)."""
    missed = near_miss(request.headers)
    if missed is None:
        return
    name, right, tx_hash = missed
    error = PaymentMalformed(name.title(), f"is not read here: send it as {right}", tx_hash=tx_hash)
    if tx_hash is not None:
        raise error
    error.payment = PaymentOutcome(
        tx_hash=None,
        chain=means.chain.name,
        token=means.token.name,
        state=PaymentState.PENDING if right == TX_HEADER else PaymentState.UNUSED,
    )
    raise error


def _misplaced(request: Request) -> MisplacedHash | None:
    """Returns a payment's hash in a header or query where it does not belong.

    It is looked for here, where it is known who asks, as it may be credited.
    """
    headers = {
        name.title(): value
        for name, value in request.headers.items()
        if len(value) in (64, 66)
        and name.encode() not in _SINGLE_HEADERS
        and not name.endswith("-id")
    }
    query = request.query_params if request.scope.get("query_string") else {}
    return misplaced_hash({**headers, **query})


def refuse_misplaced(found: MisplacedHash | None) -> None:
    """Raises PaymentMalformed for a payment's hash where none is read (contract 2.6)."""
    if found is not None:
        raise PaymentMalformed(found.field, _MISPLACED, tx_hash=found.tx_hash)


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
    evidence = _evidence(request, chains, caller) or _misplaced_payment(error, chains, caller)
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
        # It is to be sent again as it is: who signs another one pays twice when both come.
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
    return with_body(answer, body)


def _evidence(
    request: Request, chains: Mapping[str, Chain], caller: "Caller | None"
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


def _misplaced_payment(
    error: MoorageError, chains: Mapping[str, Chain], caller: "Caller | None"
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

    An unreadable authorization is not spent. While another payment is open, the payer must not pay
    again.
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

"""Turns errors into answers: one table has status, code and whether a retry may help.

Every body is `{"error", "code", "retryable"}` plus details (contract 1.5).
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from moorage import errors
from moorage.auth.wallet import RECIPE
from moorage.errors import (
    MoorageError,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentHeld,
    PaymentMalformed,
    PaymentPending,
    PaymentShort,
)
from moorage.money import json_of
from moorage.payments.protocols.demand import Challenges, PaymentRequired
from moorage.payments.protocols.mpp import problem_type
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.wire.problems import PaymentState

_SAME_AGAIN = "Send the same request with the same payment again. Do not pay again."
_MEND = "Fix the request as `error` says and send it with the same payment. Do not pay again."
_RELEASE = "Ask the operator to release or refund it. Do not pay again."
_AS_THE_PAYER = "Sign the request with the wallet that paid: the payment is credited to that one."
_AS_ITS_WALLET = (
    "Sign the request with the wallet that paid, and send it without this payment: the credits "
    "that it brought count. Do not pay again."
)
_WITHOUT_IT = "If that wallet is not yours, send the request without this payment."
_REMAINDER = (
    "Your payment is credited. Pay the rest only, amount_token, from the same wallet before "
    "expires_at, and send the same body with that payment."
)
_OWN_AUTHORIZATION = "Nothing was spent: sign authorization and request with the same wallet."
_UNREADABLE = (
    "Nothing of this payment was used. If you have transferred tokens already, do not pay again: "
    "send the same request with X-Payment-Tx, the hash of your transaction."
)
_BEFORE_PAYING: dict[type[MoorageError], tuple[str]] = {
    PayerMismatch: (_OWN_AUTHORIZATION,),
    PaymentMalformed: (_UNREADABLE,),
}
_BRINGS_NOTHING = "Compare looked_for with what you sent: this transaction brings nothing here."
_AS_A_HEADER = "Send the same request with the header X-Payment-Tx: {tx_hash}. Do not pay again."
_NO_PAYMENT = "Leave the hash out: its transaction brings nothing here."
_UNSEEN = (
    (
        "If it stays unknown for minutes, look the hash up in your wallet: a transaction that was "
        "replaced has another hash, so send that one; one that is confirmed is found without you."
    ),
    "Only if your wallet never sent it: send the request without X-Payment-Tx.",
)
_FOR_ANOTHER = (
    "Send the request without this payment: credits that are left count, and the answer says what "
    "is due for this project, if anything. Do not pay again before that."
)
_CREDITS_PAY = (
    "Send the request without this payment: the credits that it brought count. Do not pay again."
)
_SENT_BACK = "Send the request without this payment: the answer says what is due."


def payment_actions(error: MoorageError, ways: Iterable[str] = ()) -> list[str]:
    """Returns what to do next; `ways` are those to pay what a 402 asks for. May be empty."""
    outcome = error.payment if isinstance(error.payment, PaymentOutcome) else None
    cause = (error.because or error) if isinstance(error, PaymentRequired) else error
    state = _state(cause, outcome)
    if isinstance(cause, PaymentShort):
        return [_REMAINDER, *ways]
    if state is PaymentState.NOT_FOUND and isinstance(cause, PaymentMalformed):
        return [_NO_PAYMENT]
    if state is PaymentState.NOT_FOUND:
        return [_SENT_BACK] if isinstance(cause, PaymentAlreadyUsed) else [_BRINGS_NOTHING, *ways]
    if state is PaymentState.UNUSED:
        return [*_BEFORE_PAYING.get(type(cause), ()), *ways]
    if state is None:
        return list(ways)
    openly = outcome is not None and outcome.openly
    return _while_money_is_there(cause, state, openly=openly)


def _state(cause: MoorageError, outcome: PaymentOutcome | None) -> PaymentState | None:
    if outcome is not None:
        return outcome.state
    if isinstance(cause, PaymentHeld):
        return PaymentState.HELD
    return PaymentState.PENDING if isinstance(cause, PaymentPending) else None


def _while_money_is_there(cause: MoorageError, state: PaymentState, *, openly: bool) -> list[str]:
    match state:
        case PaymentState.FOREIGN:
            return [_AS_THE_PAYER, _WITHOUT_IT]
        case PaymentState.HELD:
            return [_RELEASE]
    if openly and not isinstance(cause, PaymentPending):
        return [_AS_ITS_WALLET]
    match cause:
        case PaymentAlreadyUsed():
            return [_once_used(cause)]
        case PaymentPending():
            return [_SAME_AGAIN, *(() if cause.seen else _UNSEEN)]
        case PaymentMalformed(tx_hash=str()):
            return [_AS_A_HEADER.format(tx_hash=cause.tx_hash)]
    return [_MEND]


def _once_used(used: PaymentAlreadyUsed) -> str:
    if used.for_another:
        return _FOR_ANOTHER
    if used.project_id is None:
        return _CREDITS_PAY
    status = f"/agent/deploy/{used.project_id}/{used.deployment_id}/status"
    return f"Follow what it paid for: GET {status}. Do not pay again."


class Problem(NamedTuple):
    """How one kind of error is answered."""

    status: int
    code: str
    retryable: bool


PROBLEMS: dict[type[errors.MoorageError], Problem] = {
    errors.InvalidRequest: Problem(400, "invalid_request", False),
    errors.InvalidField: Problem(400, "invalid_field", False),
    errors.UploadInvalid: Problem(400, "upload_invalid", False),
    errors.UploadNotFound: Problem(400, "upload_not_found", False),
    errors.NameUnavailable: Problem(400, "name_unavailable", False),
    errors.PlanNotFound: Problem(400, "plan_not_found", False),
    errors.PlanTooCostly: Problem(400, "plan_too_costly", False),
    errors.RuntimeUnsupported: Problem(400, "runtime_unsupported", False),
    errors.PaymentMalformed: Problem(400, "payment_malformed", False),
    errors.AuthMissing: Problem(401, "auth_missing", True),
    errors.TimestampExpired: Problem(401, "timestamp_expired", True),
    errors.SignatureInvalid: Problem(401, "signature_invalid", False),
    errors.SignatureUnbound: Problem(401, "signature_unbound", False),
    errors.NonceReused: Problem(401, "nonce_reused", True),
    errors.TokenInvalid: Problem(401, "token_invalid", False),
    PaymentRequired: Problem(402, "payment_required", False),
    errors.PaymentPending: Problem(402, "payment_pending", True),
    errors.PaymentNotFound: Problem(402, "payment_not_found", False),
    errors.PayerMismatch: Problem(402, "payer_mismatch", False),
    errors.PaymentShort: Problem(402, "payment_short", False),
    errors.ChallengeInvalid: Problem(402, "challenge_invalid", False),
    errors.ChallengeExpired: Problem(402, "challenge_expired", False),
    errors.AuthorizationRefused: Problem(402, "authorization_refused", False),
    errors.PaymentHeld: Problem(402, "payment_held", False),
    errors.OutOfCredits: Problem(402, "out_of_credits", False),
    errors.WrongWallet: Problem(403, "wrong_wallet", False),
    errors.TokenScope: Problem(403, "token_scope", False),
    errors.LinkScope: Problem(403, "link_scope", False),
    errors.ConfirmationMissing: Problem(403, "confirmation_missing", False),
    errors.ProjectBlocked: Problem(403, "project_blocked", False),
    errors.WalletNotListed: Problem(403, "wallet_not_listed", False),
    errors.SignatureNeeded: Problem(403, "signature_needed", False),
    errors.TooManyProjects: Problem(403, "too_many_projects", False),
    errors.ProjectNotFound: Problem(404, "project_not_found", False),
    errors.DeploymentNotFound: Problem(404, "deployment_not_found", False),
    errors.ExportNotFound: Problem(404, "export_not_found", False),
    errors.ExportFailed: Problem(409, "export_failed", True),
    errors.DomainNotFound: Problem(404, "domain_not_found", False),
    errors.WebhookNotFound: Problem(404, "webhook_not_found", False),
    errors.EventNotFound: Problem(404, "event_not_found", False),
    errors.LinkNotFound: Problem(404, "link_not_found", False),
    errors.BodyStalled: Problem(408, "body_stalled", True),
    errors.IdempotencyKeyReused: Problem(409, "idempotency_key_reused", False),
    errors.IdempotencyInProgress: Problem(409, "idempotency_in_progress", True),
    errors.PaymentAlreadyUsed: Problem(409, "payment_already_used", False),
    errors.ProjectPaused: Problem(409, "project_paused", False),
    errors.ReleaseServing: Problem(409, "release_serving", False),
    errors.ReleaseNeverServed: Problem(409, "release_never_served", False),
    errors.ReleaseGone: Problem(409, "release_gone", False),
    errors.NoEarlierRelease: Problem(409, "no_earlier_release", False),
    errors.FilesWouldBeLost: Problem(409, "files_would_be_lost", False),
    errors.DeploymentOver: Problem(409, "deployment_over", False),
    errors.TooManyLinks: Problem(409, "too_many_links", False),
    errors.BodyTooLarge: Problem(413, "body_too_large", False),
    errors.RateLimited: Problem(429, "rate_limited", True),
    errors.TooManyStreams: Problem(429, "too_many_streams", True),
    errors.TooManyUploads: Problem(429, "too_many_uploads", True),
    errors.ChainUnavailable: Problem(502, "chain_unavailable", True),
    errors.VariablesUnreadable: Problem(503, "variables_unreadable", False),
    errors.DatabaseUnavailable: Problem(503, "balance_unknown", True),
    errors.NoCapacity: Problem(503, "no_capacity", True),
    errors.Maintenance: Problem(503, "maintenance", True),
    errors.KeeperAway: Problem(503, "keeper_away", True),
    errors.ClusterUnavailable: Problem(503, "cluster_unavailable", True),
    errors.ContentUnavailable: Problem(503, "content_unavailable", True),
    errors.PlannersBusy: Problem(503, "planners_busy", True),
    errors.UploadDisplaced: Problem(503, "upload_displaced", True),
    errors.AuthUnavailable: Problem(503, "auth_unavailable", True),
}

BAD_HTTP = Problem(400, "invalid_request", False)
BAD_ORIGIN = Problem(403, "origin_refused", False)
NOT_FOUND = Problem(404, "not_found", False)
MISDIRECTED = Problem(421, "misdirected_request", False)
METHOD_NOT_ALLOWED = Problem(405, "method_not_allowed", False)
HEADERS_TOO_LARGE = Problem(431, "headers_too_large", False)
INTERNAL = Problem(500, "internal_error", True)

PAYMENT_REQUIRED = HTTPStatus.PAYMENT_REQUIRED.value

Header = tuple[str, str]

_UNCACHED: Header = ("Cache-Control", "no-store")
_RETRY_SECONDS = 5
_SIGN = "Sign the request as `recipe` says, and send it again."
_PAY_WITHOUT_ACCOUNT = (
    "Or send it to POST {path} without wallet headers: any client of x402 or MPP can pay its 402, "
    "and the signer of the payment is the wallet."
)
_IF_YOURS = (
    "If the name is yours: sign the request with its wallet (POST /agent/deploy), or send its "
    "manage_token as Authorization: Bearer."
)
_TAKEN = [_IF_YOURS, "Else choose another uniqueName."]
_NEXT_ACTIONS: dict[type[errors.MoorageError], tuple[str, ...]] = {
    errors.UploadNotFound: (
        "PUT the upload to /agent/uploads/{sha256} again, then send the same request again.",
    ),
    errors.OutOfCredits: ("Top up with POST /agent/credits, then send the same request again.",),
    errors.BodyTooLarge: (
        (
            "Leave out what a build makes or fetches (node_modules, .venv, .git, dist), and large "
            "data. `moorage deploy` leaves out what .gitignore and .moorageignore name, and names "
            "the largest files."
        ),
        'Send one zip (upload.type "zip"): it is compressed, files are not.',
        (
            "Let the app or its build fetch large data, or keep it in a volume (settings.volume). "
            "PUT /agent/uploads/{sha256} sends an upload once for quote and deploy."
        ),
    ),
    errors.FilesWouldBeLost: (
        "Fetch the files, or keep them as `error` says.",
        "To deploy without them, send the same request with discard_written: true.",
    ),
}


def json_response(body: object, *, status: int = 200, headers: Iterable[Header] = ()) -> Response:
    """Returns a JSON answer."""
    return _JsonResponse(json_of(body), status, headers)


def with_body(answer: Response, body: object, *, uncached: bool = False) -> Response:
    """Returns the answer with another body; `uncached` is one for its receiver alone."""
    dropped = {b"content-length", b"content-type"} | ({b"cache-control"} if uncached else set())
    again = json_response(body, status=answer.status_code, headers=[_UNCACHED] if uncached else [])
    again.raw_headers += [each for each in answer.raw_headers if each[0] not in dropped]
    return again


class _JsonResponse(Response):
    """A Starlette response with ready-made headers, to save its own handling of them."""

    def __init__(self, body: bytes, status: int, headers: Iterable[Header]) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in headers),
        ]


def problem_response(
    problem: Problem, message: str, *, headers: Iterable[Header] = (), **extra: object
) -> Response:
    """Returns the answer for a problem."""
    body = {"error": message, "code": problem.code, "retryable": problem.retryable, **extra}
    return json_response(body, status=problem.status, headers=headers)


def error_response(
    error: errors.MoorageError,
    *,
    challenges: Challenges,
    url: str,
    headers: Iterable[Header] = (),
    by_hash: bool = True,
) -> Response:
    """Returns the answer to an error of ours, at `url`; `headers` tell of a payment that came.

    `by_hash` tells that the request pays by X-Payment-Tx: it may get a 402 that asks for nothing.
    """
    if isinstance(error, PaymentRequired):
        return _demand_response(error, challenges=challenges, url=url, headers=headers)
    problem = problem_of(error)
    if _asks_for_nothing(error) and not by_hash:  # MPP and x402 clients throw on such a 402
        problem = problem._replace(status=HTTPStatus.SERVICE_UNAVAILABLE.value, retryable=True)
    message = error.message
    if isinstance(error.payment, PaymentOutcome) and not isinstance(error, errors.PaymentError):
        message = " ".join(_ended(said) for said in (message, error.payment.sentence) if said)
    return problem_response(
        problem, message, headers=[*headers, *_headers(error, problem)], **_extra(error, problem)
    )


def _ended(said: str) -> str:
    """Returns a sentence with its full stop, which messages about a field lack."""
    return said if said.endswith((".", "!", "?", ")")) else f"{said}."


def _asks_for_nothing(error: errors.MoorageError) -> bool:
    """Whether the answer must not be a 402 but to the hash flow (contract 2.1).

    After a credit nothing is a 5xx (contract 1.5).
    """
    outcome = error.payment
    credited = isinstance(outcome, PaymentOutcome) and outcome.state is PaymentState.CREDITED
    return isinstance(error, errors.PaymentPending | errors.PaymentHeld) and not credited


def problem_of(error: errors.MoorageError) -> Problem:
    """Returns the table's row for an error, or for its nearest base class."""
    rows = (PROBLEMS.get(kind) for kind in type(error).__mro__ if kind is not errors.MoorageError)
    return next((row for row in rows if row is not None), INTERNAL)


def _headers(error: errors.MoorageError, problem: Problem) -> Iterator[Header]:
    if isinstance(error, errors.RateLimited | errors.PaymentPending):
        yield "Retry-After", str(error.retry_after_seconds)
    elif problem.status >= 502 or isinstance(error, errors.IdempotencyInProgress):
        yield "Retry-After", str(_RETRY_SECONDS)
    if problem.status == PAYMENT_REQUIRED:
        yield _UNCACHED


def _extra(error: errors.MoorageError, problem: Problem) -> dict[str, Any]:
    details = {**_details(error), **_payment(error)}
    if actions := [*details.get("next_actions", ()), *payment_actions(error)]:
        details["next_actions"] = actions
    if isinstance(error, errors.AuthError):
        details |= {"recipe": RECIPE} | ({"field": error.header} if error.header else {})
        if isinstance(error, errors.AuthMissing) and error.open_path:
            details["next_actions"] = [_SIGN, _PAY_WITHOUT_ACCOUNT.format(path=error.open_path)]
    if isinstance(error, errors.PaymentError) and problem.status == PAYMENT_REQUIRED:
        details.update(_problem_members(error, error.message))
    return details


def _payment(error: errors.MoorageError) -> dict[str, Any]:
    """Returns what became of the payment that came with the request (contract 1.5).

    One that was short counts, and its payer is to pay again: the rest.
    """
    outcome = error.payment
    if not isinstance(outcome, PaymentOutcome):
        return {}
    is_short = isinstance(error, PaymentRequired) and isinstance(error.because, errors.PaymentShort)
    told = outcome.told
    return {"payment": msgspec.structs.replace(told, do_not_pay_again=False) if is_short else told}


def _problem_members(because: errors.MoorageError | None, detail: str) -> dict[str, str | int]:
    """Returns the members of RFC 9457 that a 402 has besides ours."""
    kind = problem_type(because)
    return {
        "type": kind.type,
        "title": kind.title,
        "status": PAYMENT_REQUIRED,
        "detail": detail,
    }


def _details(error: errors.MoorageError) -> dict[str, Any]:
    match error:
        case errors.FieldError():
            actions = _NEXT_ACTIONS.get(type(error))
            return {"field": error.field} | ({"next_actions": [*actions]} if actions else {})
        case errors.UploadInvalid() | errors.PlanTooCostly():
            return {"field": "upload", "path": error.path}
        case errors.NameUnavailable(held_until_ms=until_ms):
            held = {} if until_ms is None else {"held_until": until_ms // 1000}
            advice = {"next_actions": _TAKEN} if error.openly else {}
            return {"field": "uniqueName"} | held | advice
        case errors.PlanNotFound():
            return {"field": "upload", "looked_for": error.looked_for}
        case errors.PaymentNotFound():
            return {"looked_for": error.looked_for}
        case (
            errors.OutOfCredits() | errors.FilesWouldBeLost() | errors.BodyTooLarge(of_upload=True)
        ):
            lost = {"paths": error.paths} if isinstance(error, errors.FilesWouldBeLost) else {}
            return {**lost, "next_actions": [*_NEXT_ACTIONS[type(error)]]}
        case errors.PaymentAlreadyUsed(project_id=str()):
            return {"projectId": error.project_id, "deploymentId": error.deployment_id}
    return {}


def _demand_response(
    error: PaymentRequired, *, challenges: Challenges, url: str, headers: Iterable[Header]
) -> Response:
    demand = error.demand
    body = challenges.body(demand, resource_url=url)
    problem = PROBLEMS[PaymentRequired if demand.because is None else type(demand.because)]
    body["code"], body["retryable"] = problem.code, problem.retryable
    body.update(_problem_members(demand.because, demand.message))
    if demand.because is not None:
        body.update(_details(demand.because))
    body.update(_payment(error))
    body["next_actions"] = payment_actions(error, body["next_actions"])
    asks = challenges.headers(demand, resource_url=url, paid=headers)
    return json_response(body, status=PAYMENT_REQUIRED, headers=[_UNCACHED, *asks])

"""Turns errors into answers: one table has status, code and whether a retry may help.

Every body is `{"error", "code", "retryable"}` plus details (contract 1.5).
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from starlette.responses import Response

from moorage import errors
from moorage.auth.wallet import BOUND_RECIPE, RECIPE
from moorage.money import json_of
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.payment_required import (
    STATUS,
    UNCACHED,
    Challenges,
    Header,
    PaymentRequired,
    payment_actions,
    payment_member,
    problem_members,
)
from moorage.wire.problems import PaymentState


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
    errors.DelegateScope: Problem(403, "delegate_scope", False),
    errors.DelegateLimit: Problem(403, "delegate_limit", False),
    errors.LinkScope: Problem(403, "link_scope", False),
    errors.ConfirmationMissing: Problem(403, "confirmation_missing", False),
    errors.ProjectBlocked: Problem(403, "project_blocked", False),
    errors.WalletNotListed: Problem(403, "wallet_not_listed", False),
    errors.SignatureNeeded: Problem(403, "signature_needed", False),
    errors.TooManyProjects: Problem(403, "too_many_projects", False),
    errors.ProjectNotFound: Problem(404, "project_not_found", False),
    errors.DeploymentNotFound: Problem(404, "deployment_not_found", False),
    errors.ExportNotFound: Problem(404, "export_not_found", False),
    errors.RunNotFound: Problem(404, "run_not_found", False),
    errors.ExportFailed: Problem(409, "export_failed", True),
    errors.DomainNotFound: Problem(404, "domain_not_found", False),
    errors.WebhookNotFound: Problem(404, "webhook_not_found", False),
    errors.EventNotFound: Problem(404, "event_not_found", False),
    errors.LinkNotFound: Problem(404, "link_not_found", False),
    errors.DelegateNotFound: Problem(404, "delegate_not_found", False),
    errors.ReceiptNotFound: Problem(404, "receipt_not_found", False),
    errors.WalletRecovered: Problem(403, "wallet_recovered", False),
    errors.RecoveryNotFound: Problem(404, "recovery_not_found", False),
    errors.RecoveryPending: Problem(409, "recovery_pending", False),
    errors.RecoveryRefused: Problem(409, "recovery_refused", False),
    errors.TransferNotFound: Problem(404, "transfer_not_found", False),
    errors.RefundNotFound: Problem(404, "refund_not_found", False),
    errors.TermsChanged: Problem(409, "terms_changed", False),
    errors.RefundInProgress: Problem(409, "refund_in_progress", True),
    errors.BodyStalled: Problem(408, "body_stalled", True),
    errors.IdempotencyKeyReused: Problem(409, "idempotency_key_reused", False),
    errors.IdempotencyInProgress: Problem(409, "idempotency_in_progress", True),
    errors.PaymentAlreadyUsed: Problem(409, "payment_already_used", False),
    errors.CreditsShort: Problem(409, "credits_short", False),
    errors.ProjectPaused: Problem(409, "project_paused", False),
    errors.ReleaseServing: Problem(409, "release_serving", False),
    errors.ReleaseNeverServed: Problem(409, "release_never_served", False),
    errors.ReleaseGone: Problem(409, "release_gone", False),
    errors.NoEarlierRelease: Problem(409, "no_earlier_release", False),
    errors.NothingServes: Problem(409, "nothing_serves", False),
    errors.FilesWouldBeLost: Problem(409, "files_would_be_lost", False),
    errors.DeploymentOver: Problem(409, "deployment_over", False),
    errors.TooManyDelegates: Problem(409, "too_many_delegates", False),
    errors.TooManyLinks: Problem(409, "too_many_links", False),
    errors.TransferRefused: Problem(409, "transfer_refused", False),
    errors.BodyTooLarge: Problem(413, "body_too_large", False),
    errors.RateLimited: Problem(429, "rate_limited", True),
    errors.TooManyStreams: Problem(429, "too_many_streams", True),
    errors.TooManyUploads: Problem(429, "too_many_uploads", True),
    errors.TooManyRuns: Problem(429, "too_many_runs", True),
    errors.ChainUnavailable: Problem(502, "chain_unavailable", True),
    errors.VariablesUnreadable: Problem(503, "variables_unreadable", False),
    errors.DatabaseUnavailable: Problem(503, "balance_unknown", True),
    errors.NoCapacity: Problem(503, "no_capacity", True),
    errors.Maintenance: Problem(503, "maintenance", True),
    errors.LeaderAway: Problem(503, "leader_away", True),
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
    again = json_response(body, status=answer.status_code, headers=[UNCACHED] if uncached else [])
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
    message = f"{error.message} {error.advice}".rstrip()
    if isinstance(error.payment, PaymentOutcome) and not isinstance(error, errors.PaymentError):
        message = " ".join(_ended(said) for said in (message, error.payment.sentence) if said)
    return problem_response(
        problem, message, headers=[*headers, *_headers(error, problem)], **_extra(error, problem)
    )


def _ended(said: str) -> str:
    """Returns a sentence with its full stop, which messages about a field lack."""
    return said if said.endswith((".", "!", "?", ")")) else f"{said}."


def _asks_for_nothing(error: errors.MoorageError) -> bool:
    """Whether only a request of the hash flow may get this answer as a 402 (contract 2.1).

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
    if problem.status == STATUS:
        yield UNCACHED


def _extra(error: errors.MoorageError, problem: Problem) -> dict[str, Any]:
    details = {**_details(error), **payment_member(error)}
    if actions := [*details.get("next_actions", ()), *payment_actions(error)]:
        details["next_actions"] = actions
    if isinstance(error, errors.AuthError):
        recipe = BOUND_RECIPE if isinstance(error, errors.SignatureUnbound) else RECIPE
        details |= {"recipe": recipe} | ({"field": error.header} if error.header else {})
        if isinstance(error, errors.AuthMissing) and error.open_path:
            details["next_actions"] = [_SIGN, _PAY_WITHOUT_ACCOUNT.format(path=error.open_path)]
    if isinstance(error, errors.PaymentError) and problem.status == STATUS:
        details.update(problem_members(error, error.message))
    return details


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
    because = error.because
    problem = PROBLEMS[PaymentRequired if because is None else type(because)]
    asks, body = challenges.answer(
        error,
        code=problem.code,
        retryable=problem.retryable,
        details={} if because is None else _details(because),
        resource_url=url,
        came=headers,
    )
    return json_response(body, status=STATUS, headers=asks)

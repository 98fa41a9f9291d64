import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from moorage import errors
from moorage.api.http.problems import PROBLEMS, error_response, problem_of
from moorage.chains.rpc import RpcError
from moorage.errors import MoorageError
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import PaymentMeans
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.payment_required import Demand, PaymentRequired
from moorage.wire.problems import PaymentState
from support.books.records_fixture import ALICE, ARBITRUM, USDC
from support.gateway.clock import MovableClock
from support.gateway.fakes import PAY_TO, challenges_of

CHALLENGES = challenges_of(MovableClock(), ARBITRUM, settles=False)
URL = "https://gateway.example/agent/deploy"

NEVER_ANSWERED: set[type[MoorageError]] = {
    errors.AlreadyRunning,  # these stop the start
    errors.ConfigurationInvalid,
    errors.IsolationMissing,
    errors.LocalChainFailed,
    errors.ProxyFailed,
    errors.SchemaUnknown,
    errors.BackupFailed,  # these are of an operator's command
    errors.BackupInvalid,
    errors.BooksWrong,
    errors.RefundRefused,  # so does this, of the operator's command
    errors.DeployFailed,  # told by the deployment's status
}
"""Errors that no request raises."""

CONTRACT_STATUSES = {400, 401, 402, 403, 404, 408, 409, 413, 429, 502, 503}


def demand(**changed: Any) -> PaymentRequired:
    given: dict[str, Any] = {
        "amount": MicroUsd(500_000),
        "balance": MicroUsd(0),
        "active_projects": 0,
        "means": PaymentMeans(chain=ARBITRUM, token=USDC),
        "expires_at_ms": 0,
        "wallet": ALICE,
        "body_digest": "00" * 32,
    }
    return PaymentRequired(Demand(**given | changed))


EXAMPLES: dict[type[MoorageError], MoorageError] = {
    errors.InvalidField: errors.InvalidField("months", "must be a number"),
    errors.UploadInvalid: errors.UploadInvalid("is a link", path="a/b"),
    errors.UploadNotFound: errors.UploadNotFound("upload.sha256", "is not stored"),
    errors.PlanNotFound: errors.PlanNotFound("Nothing found.", looked_for=("package.json",)),
    errors.PlanTooCostly: errors.PlanTooCostly("2 s of processor time", path="a/Cargo.toml"),
    errors.RuntimeUnsupported: errors.RuntimeUnsupported("settings.hasDockerfile", "no"),
    errors.PaymentMalformed: errors.PaymentMalformed("X-Payment-Tx", "is no hash"),
    errors.ProjectBlocked: errors.ProjectBlocked("phishing"),
    errors.TooManyProjects: errors.TooManyProjects(3),
    errors.Maintenance: errors.Maintenance("back at noon"),
    errors.TooManyLinks: errors.TooManyLinks(100),
    errors.RateLimited: errors.RateLimited(7),
    errors.TooManyStreams: errors.TooManyStreams(7, "Too many streams."),
    errors.TooManyRuns: errors.TooManyRuns(7, "Too many runs."),
    errors.TooManyUploads: errors.TooManyUploads(7, "Too many uploads."),
    errors.PaymentNotFound: errors.PaymentNotFound("Nothing.", looked_for={"token": "usdc"}),
    errors.AuthorizationRefused: errors.AuthorizationRefused("the payer has no money"),
    PaymentRequired: demand(),
}
"""One of each that needs arguments."""


def leaves(kind: type[MoorageError] = MoorageError) -> Iterator[type[MoorageError]]:
    """The ends of the tree of `moorage.errors`; a kind refined elsewhere is answered as itself."""
    below = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    if not below:
        yield kind
    for child in below:
        yield from leaves(child)


def name_of(kind: type[MoorageError]) -> str:
    return kind.__name__


TOLD_AS_THEIR_KIND: set[type[MoorageError]] = {errors.CommitUnknown, errors.UniqueViolation}
"""Those with no code of their own: for who asked they are a database that cannot tell."""

ENDS: set[type[MoorageError]] = {*leaves(), PaymentRequired}
ANSWERED = sorted(ENDS - NEVER_ANSWERED - TOLD_AS_THEIR_KIND, key=name_of)
KINDS = sorted(TOLD_AS_THEIR_KIND, key=name_of)
INTERNAL = sorted(NEVER_ANSWERED, key=name_of)


def answer(error: MoorageError) -> tuple[int, dict[str, Any], dict[str, str]]:
    response = error_response(error, challenges=CHALLENGES, url=URL)
    headers = {name: value for name, value in response.headers.items() if name[0] in "rxc"}
    return response.status_code, msgspec.json.decode(bytes(response.body)), headers


@pytest.mark.parametrize("kind", ANSWERED)
def test_every_error_that_a_request_meets_has_a_row_of_its_own(kind: type[MoorageError]) -> None:
    assert kind in PROBLEMS


@pytest.mark.parametrize("kind", INTERNAL)
def test_errors_that_no_request_meets_have_none(kind: type[MoorageError]) -> None:
    assert kind not in PROBLEMS
    error = kind(errors.FailureCause.CRASHED, "x") if kind is errors.DeployFailed else None
    assert error is None or problem_of(error).status == 500


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_an_unavailable_database_share_its_code(kind: type[MoorageError]) -> None:
    assert kind not in PROBLEMS
    assert problem_of(kind()) == PROBLEMS[errors.DatabaseUnavailable]


def test_codes_tell_errors_apart() -> None:
    codes = [problem.code for problem in PROBLEMS.values()]
    assert len(set(codes)) == len(codes)
    assert {problem.status for problem in PROBLEMS.values()} == CONTRACT_STATUSES


@pytest.mark.parametrize("kind", ANSWERED)
def test_every_body_has_a_sentence_a_code_and_whether_to_retry(kind: type[MoorageError]) -> None:
    error = EXAMPLES[kind] if kind in EXAMPLES else kind()
    status, body, headers = answer(error)
    assert status == PROBLEMS[kind].status
    assert body["code"] == PROBLEMS[kind].code
    assert body["retryable"] is PROBLEMS[kind].retryable
    assert body["error"] == f"{error.message} {kind.advice}".rstrip()
    assert len(body["error"]) > 3
    assert "\n" not in body["error"]
    if status in {429, 502, 503}:
        assert int(headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("error", "extra"),
    [
        (EXAMPLES[errors.InvalidField], {"field": "months"}),
        (EXAMPLES[errors.UploadInvalid], {"field": "upload", "path": "a/b"}),
        (errors.UploadInvalid("is empty"), {"field": "upload", "path": None}),
        (errors.NameUnavailable(), {"field": "uniqueName"}),
        (
            EXAMPLES[errors.PlanNotFound],
            {"field": "upload", "looked_for": ["package.json"]},
        ),
        (EXAMPLES[errors.RuntimeUnsupported], {"field": "settings.hasDockerfile"}),
        (EXAMPLES[errors.PaymentMalformed], {"field": "X-Payment-Tx"}),
        (EXAMPLES[errors.PaymentNotFound], {"looked_for": {"token": "usdc"}}),
        (
            errors.PaymentAlreadyUsed(project_id="p", deployment_id="d"),
            {"projectId": "p", "deploymentId": "d"},
        ),
        (errors.PaymentAlreadyUsed(), {}),
        (errors.WrongWallet(), {}),
    ],
)
def test_what_helps_is_in_the_body(error: MoorageError, extra: dict[str, Any]) -> None:
    _, body, _ = answer(error)
    said_always = {"error", "code", "retryable", "type", "title", "status", "detail"}
    assert {key: body[key] for key in body if key not in said_always} == extra


@pytest.mark.parametrize(
    ("because", "name"),
    [
        (None, "payment-required"),
        (errors.ChallengeInvalid(), "invalid-challenge"),
        (errors.ChallengeExpired(), "payment-expired"),
        (errors.PaymentShort(), "payment-insufficient"),
        (errors.PayerMismatch(), "verification-failed"),
    ],
)
def test_every_demand_is_a_problem_of_a_type_that_the_protocol_names(
    because: errors.PaymentError | None, name: str
) -> None:
    """Sources: RFC 9457 §3.1; draft-httpauth-payment-00, Error Codes."""
    _, body, _ = answer(demand(because=because))
    assert body["type"] == f"https://paymentauth.org/problems/{name}"
    assert (body["status"], body["detail"]) == (402, body["error"])
    assert body["title"]


def test_pending_payment_is_a_problem_without_a_type_of_its_own() -> None:
    _, body, headers = answer(errors.PaymentPending())
    assert (body["type"], body["status"]) == ("about:blank", 402)
    assert headers["cache-control"] == "no-store"


def test_messages_that_operators_read_too_leave_what_a_sender_does_to_the_advice() -> None:
    assert {errors.ChainUnavailable, errors.LeaderAway} < {each for each in ANSWERED if each.advice}
    uploads = {errors.PlannersBusy, errors.BodyStalled, errors.UploadDisplaced}
    of_senders = {*uploads, errors.IdempotencyInProgress}
    for kind in {*ANSWERED, *KINDS} - set(EXAMPLES) - of_senders:
        assert not re.search(r"[Ss]end (it|the (same )?request) again", kind().message), kind


def test_waiting_is_told_in_a_header() -> None:
    assert answer(errors.RateLimited(7))[2]["retry-after"] == "7"
    assert answer(errors.PaymentPending(retry_after_seconds=9))[2]["retry-after"] == "9"
    assert "retry-after" not in answer(errors.WrongWallet())[2]


def test_pending_payment_never_asks_to_pay() -> None:
    status, body, _ = answer(errors.PaymentPending())
    assert (status, body["retryable"]) == (402, True)
    assert not {"amount_token", "amount_usd", "pay_to"} & body.keys()
    assert "again" in body["next_actions"][0]


@pytest.mark.parametrize(
    ("because", "code"),
    [
        (None, "payment_required"),
        (errors.PaymentShort(), "payment_short"),
        (errors.PayerMismatch(), "payer_mismatch"),
        (EXAMPLES[errors.PaymentNotFound], "payment_not_found"),
    ],
)
def test_demand_says_how_to_pay_whatever_was_wrong_before(
    because: errors.PaymentError | None, code: str
) -> None:
    status, body, headers = answer(demand(because=because))
    assert (status, body["code"], body["retryable"]) == (402, code, False)
    assert (body["amount_token"], body["pay_to"]) == ("500000", PAY_TO)
    assert PAY_TO in body["next_actions"][code == "payment_short"]
    assert headers["cache-control"] == "no-store"
    assert "x-createos-credit-warning" not in headers


CREDITED = PaymentOutcome(
    tx_hash="0x" + "ab" * 32, chain="base", token="usdc", state=PaymentState.CREDITED
)


def test_who_has_paid_too_little_is_asked_for_the_rest_only() -> None:
    short = demand(because=errors.PaymentShort())
    short.payment = CREDITED
    _, body, _ = answer(short)
    assert "pay the rest only" in body["error"]
    assert "Pay the rest only" in body["next_actions"][0]
    assert (body["payment"]["state"], body["payment"]["do_not_pay_again"]) == ("credited", False)


def test_payment_of_another_project_leads_to_the_answer_for_this_one() -> None:
    used = errors.PaymentAlreadyUsed(project_id="p", deployment_id="d", for_another=True)
    used.payment = CREDITED
    (told,) = answer(used)[1]["next_actions"]
    assert told.startswith("Send the request without this payment: credits that are left count")
    same = errors.PaymentAlreadyUsed(project_id="p", deployment_id="d")
    same.payment = CREDITED
    assert "GET /agent/deploy/p/d/status" in answer(same)[1]["next_actions"][0]


def test_body_that_is_too_large_says_how_it_gets_smaller() -> None:
    large = errors.BodyTooLarge()
    assert "next_actions" not in answer(large)[1]
    large.of_upload = True
    told = " ".join(answer(large)[1]["next_actions"])
    for way in ("node_modules", ".moorageignore", "zip", "PUT /agent/uploads/{sha256}"):
        assert way in told


@pytest.mark.parametrize("seen", [True, False])
def test_transaction_that_no_node_knows_is_to_be_looked_up_in_the_wallet(seen: bool) -> None:
    pending = errors.PaymentPending()
    pending.seen = seen
    told = " ".join(answer(pending)[1]["next_actions"])
    assert "Do not pay again." in told
    assert ("replaced" in told, "Only if your wallet never sent it" in told) == (not seen, not seen)


def test_demand_over_shared_credits_warns_in_body_and_header() -> None:
    _, body, headers = answer(demand(active_projects=2, warn_of_sharing=True))
    assert body["warning"].startswith("You have 2 active project(s) sharing credits.")
    assert headers["x-createos-credit-warning"] == body["warning"]
    assert "X-Use-Existing-Credits: true" in body["next_actions"][1]


def test_error_refined_elsewhere_is_answered_as_what_it_refines() -> None:
    refused = RpcError(method="eth_call", code=-32000, detail="no")
    assert problem_of(refused) == PROBLEMS[errors.ChainUnavailable]


def test_error_of_no_kind_is_an_internal_one() -> None:
    assert problem_of(MoorageError()).status == 500

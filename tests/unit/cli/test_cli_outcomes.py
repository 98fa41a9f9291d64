"""Exit codes, documents and lines: what scripts branch on and people read."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage import __version__
from moorage.cli.account import topup_document, topup_text, why_waiting
from moorage.cli.deploy import deploy_document, deploy_lines
from moorage.cli.main import CLIENT_COMMANDS, Exit, error_document, exit_code, hint, overview, run
from moorage.cli.progress import approver, offer_text, step_teller
from moorage.cli.projects import project_lines, status_text
from moorage.cli.screen import Screen, counted, printable, table_lines
from moorage.errors import ConfigurationInvalid, MoorageError, PlanNotFound
from moorage.sdk import errors
from moorage.sdk.budget import read_dollars
from moorage.sdk.journal import Payment
from moorage.sdk.payer import Bought, PayStep
from moorage.sdk.transport import read_answer
from moorage.wire.credits import ToppedUp
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import DeploymentList, DeploymentProgress
from moorage.wire.problems import Bought as Demanded
from moorage.wire.projects import ProjectChanged, ProjectShown
from moorage.wire.refunds import RefundShown
from support.clients.offers import an_offer


def gateway_error(
    family: type[errors.GatewayError], *, retryable: bool = False, **body: Any
) -> Any:
    return family(status=400, code="a_word", error="no", retryable=retryable, body=body)


def kept(family: type[errors.PaymentKept]) -> errors.PaymentKept:
    cause = gateway_error(errors.GatewayUnavailable, retryable=True)
    return family("uncertain", chain="base", tx_hash="0x01", cause=cause)


EXITS: tuple[tuple[MoorageError, int], ...] = (
    (MoorageError(), 1),
    (PlanNotFound("no plan"), 2),
    (ConfigurationInvalid(), 2),
    (gateway_error(errors.RequestRefused), 2),
    (gateway_error(errors.FilesWouldBeLost), 2),
    (errors.DirectoryInvalid(), 2),
    (errors.ClientMisconfigured(), 2),
    (errors.JournalUnwritable(), 2),
    (errors.AnswerUnreadable(), 2),
    (errors.ReceiptInvalid(), 2),
    (kept(errors.PaymentUncertain), 3),
    (kept(errors.PaymentShort), 3),
    (errors.PaymentRefused(), 3),
    (errors.BudgetExceeded(), 3),
    (errors.AuthorizationUnspent(), 3),
    (errors.QuoteInconsistent(), 3),
    (errors.GatewayUnreachable("http://127.0.0.1:8402"), 4),
    (errors.AnswerLost(), 4),
    (errors.FollowTimedOut(), 4),
    (errors.AppFailed(DeploymentProgress(status="failed", deployment_id="1")), 1),
    (errors.NodeUnreachable(), 4),
    (errors.NodeRefused(), 4),
    (errors.PaymentReverted("no", tx_hash="0x01"), 4),
    (errors.PaymentReplaced("no", tx_hash="0x01"), 4),
    (gateway_error(errors.GatewayUnavailable, retryable=True), 4),
    (gateway_error(errors.TooManyRequests, retryable=True), 4),
    (gateway_error(errors.NotAuthenticated, retryable=True), 4),
    (gateway_error(errors.NotAuthenticated), 5),
    (gateway_error(errors.Forbidden), 5),
    (gateway_error(errors.NotFound), 5),
    (errors.BalanceShort(), 6),
    (errors.GasShort(), 6),
    (gateway_error(errors.GatewayError), 1),
    (gateway_error(errors.PaymentRequired), 1),
    (gateway_error(errors.HashAlreadyUsed), 1),
)


@pytest.mark.parametrize(("error", "code"), EXITS, ids=lambda value: type(value).__name__)
def test_exit_code_of_each_error(error: MoorageError, code: int) -> None:
    assert exit_code(error) == code


def test_every_client_error_has_an_exit_code_above() -> None:
    leaves = {
        family
        for _, family in inspect.getmembers(errors, inspect.isclass)
        if issubclass(family, errors.ClientError) and not family.__subclasses__()
    }
    assert leaves <= {type(error) for error, _ in EXITS}


def test_error_document_carries_body_payment_and_cause() -> None:
    document = error_document(kept(errors.PaymentUncertain), Exit.DO_NOT_PAY_AGAIN)
    assert document == {
        "error": "uncertain",
        "code": "payment_uncertain",
        "retryable": False,
        "exit_code": 3,
        "payment": {"chain": "base", "tx_hash": "0x01"},
        "cause": {
            "error": "no",
            "code": "a_word",
            "retryable": True,
            "exit_code": 3,
            "http_status": 400,
            "body": {},
        },
    }


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.GatewayUnreachable("http://127.0.0.1:8402"), "Start it with `make dev`."),
        (errors.GatewayUnreachable("https://example.com"), None),
        (gateway_error(errors.RequestRefused, next_actions=["a", "b"]), "Next: a · b"),
        (gateway_error(errors.RequestRefused), None),
    ],
)
def test_next_step(error: MoorageError, expected: str | None) -> None:
    assert hint(error) == expected


DEPLOYING = Bought(
    Deployed(project_id="p1", deployment_id="d1", message="Deployment started."), None
)
PAYMENT = Payment(
    gateway="http://127.0.0.1:8402",
    wallet="0xab",
    name="hello",
    chain="arbitrum",
    chain_id=42161,
    token="usdc",
    decimals=6,
    amount=500_000,
    pay_to="0xcd",
    nonce=7,
    tx_hash="0x01",
    raw_transaction="0x02",
    signed_at_ms=1,
)


def test_deploy_document_holds_ids_outcome_and_payment_but_no_signed_transaction() -> None:
    ready = DeploymentProgress(
        status="ready", deployment_id="d1", endpoint="http://hello.localhost:8080"
    )
    assert deploy_document("hello", Bought[Deployed](DEPLOYING.answer, PAYMENT), ready) == {
        "status": "ready",
        "name": "hello",
        "projectId": "p1",
        "deploymentId": "d1",
        "endpoint": "http://hello.localhost:8080",
        "reason": None,
        "reason_code": None,
        "message": "Deployment started.",
        "log_tail": None,
        "next_actions": None,
        "next_settings": None,
        "payment": {
            "chain": "arbitrum",
            "token": "usdc",
            "amount_token": "500000",
            "tx_hash": "0x01",
        },
    }


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (
            DeploymentProgress(
                status="ready", deployment_id="d1", endpoint="http://h", message="port 80"
            ),
            [
                "hello is live after 1.3 s: http://h",
                "port 80",
                "Next: moorage status hello · moorage projects · moorage delete hello",
            ],
        ),
        (
            DeploymentProgress(
                status="failed",
                deployment_id="d1",
                reason="it crashed",
                log_tail="Error: x\n",
                next_actions=[
                    'Install. Send settings.installCommand: "npm install --legacy-peer-deps".',
                    "Deploy again.",
                ],
            ),
            [
                "hello failed: it crashed",
                "Error: x",
                'Next: Install. Send --install: "npm install --legacy-peer-deps".',
                "Unspent credits stay with your wallet. Fix it and run the same command again.",
            ],
        ),
        (
            DeploymentProgress(status="deploying", deployment_id="d1"),
            ["hello is deploying. Deployment started.", "Next: moorage status p1 d1"],
        ),
    ],
)
def test_deploy_lines(status: DeploymentProgress, lines: list[str]) -> None:
    assert list(deploy_lines("hello", DEPLOYING, status, 1.26)) == lines


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            DeploymentProgress(status="ready", deployment_id="d", endpoint="http://h"),
            "x: ready at http://h",
        ),
        (DeploymentProgress(status="failed", deployment_id="d", reason="no"), "x: failed: no"),
        (
            DeploymentProgress(
                status="failed", deployment_id="d", reason="POST /agent/credits wakes it."
            ),
            "x: failed: `moorage topup` wakes it.",
        ),
        (
            DeploymentProgress(
                status="failed",
                deployment_id="d",
                reason="no",
                log_tail="Error\n",
                next_actions=["Top up with POST /agent/credits.", "Or wait."],
            ),
            "x: failed: no\nError\nNext: Top up with `moorage topup`. · Or wait.",
        ),
        (
            DeploymentProgress(status="deploying", deployment_id="d", deployment_status="building"),
            "x: deploying (building)",
        ),
    ],
)
def test_status_text(answer: DeploymentProgress, text: str) -> None:
    assert status_text("x", answer) == text


@pytest.mark.parametrize(
    ("why", "line"),
    [
        (
            {"suspendedBecause": "out_of_credits"},
            "out of credits: `moorage topup AMOUNT` resumes it",
        ),
        (
            {"suspendedBecause": "project_blocked", "blockedReason": "phishing"},
            "by the operator: phishing",
        ),
        (
            {"suspendedBecause": "project_paused"},
            "you have paused it: `moorage unpause PROJECT` starts it again",
        ),
    ],
)
def test_suspended_project_is_shown_with_why_and_what_resumes_it(
    why: dict[str, str], line: str
) -> None:
    answer = {"id": "p", "name": "x", "status": "suspended"} | why
    found = read_answer(json.dumps(answer), ProjectShown)
    assert list(project_lines(found))[:2] == ["x: suspended", f"suspended:   {line}"]


def test_price_is_one_sentence() -> None:
    assert offer_text(an_offer()) == (
        "hello: $0.50 for 1 month on arbitrum (0.50 USDC), your wallet holds 1000.00"
    )
    buys = Demanded(hours=730, until="2026-05-07T10:00:00Z", memory_mib=512, cpu_millis=250)
    assert offer_text(an_offer(buys=buys)).endswith(
        "; it buys 0.25 CPU, 512 MiB of memory, until 2026-05-07 10:00 UTC"
    )
    assert "$0.50 for 3 months" in offer_text(an_offer(months=3))
    assert offer_text(an_offer(name="credits", months=None)).startswith(
        "credits: $0.50 on arbitrum"
    )


def test_flags_approve_without_asking() -> None:
    assert approver(Screen(json=False), allowed=True, allow="--yes")(an_offer())


def test_document_of_a_project_has_every_member(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read `suspendedBecause` of any project, and `reason` of any deployment."""
    release = {"id": "d1", "status": "ready", "createdAt": "", "endedAt": None}
    answer = {"projectId": "p1", "deployments": [release], "next": None}
    Screen(json=True).document(read_answer(json.dumps(answer), DeploymentList))
    (shown,) = json.loads(capsys.readouterr().out)["deployments"]
    assert (shown["copyOf"], shown["reason"], shown["reasonCode"]) == (None, None, None)

    Screen(json=True).document(
        read_answer('{"id": "p", "name": "x", "status": "active"}', ProjectShown)
    )
    project = json.loads(capsys.readouterr().out)
    assert (project["suspendedBecause"], project["blockedReason"]) == (None, None)

    Screen(json=True).document(
        read_answer('{"projectId": "p", "status": "changed"}', ProjectChanged)
    )
    assert json.loads(capsys.readouterr().out)["deploymentId"] is None

    Screen(json=True).document(DeploymentProgress(status="deploying", deployment_id="d1"))
    assert "endpoint" not in json.loads(capsys.readouterr().out)


def test_warning_of_shared_credits_names_the_flag_that_shares_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    offer = an_offer(warnings=("To share them, retry with header X-Use-Existing-Credits: true",))
    approver(Screen(json=False), allowed=True, allow="--yes")(offer)
    assert "warning: To share them, retry with --use-existing-credits\n" in capsys.readouterr().err


class Asked(Screen):
    """A screen with a person before it, who says `answer`."""

    def __init__(self, *, answer: bool | None) -> None:
        super().__init__(json=False)
        self.answer = answer

    def can_ask(self) -> bool:
        return self.answer is not None

    def confirm(self, question: str) -> bool:
        assert question == "Pay 0.50 USDC?"
        return bool(self.answer)


def test_person_decides_without_flags() -> None:
    assert approver(Asked(answer=True), allowed=False, allow="--yes")(an_offer())
    assert not approver(Asked(answer=False), allowed=False, allow="--yes")(an_offer())


def test_nobody_to_ask_pays_nothing() -> None:
    with pytest.raises(errors.PaymentRefused, match=r"pass --yes\. Nothing was paid"):
        approver(Asked(answer=None), allowed=False, allow="--yes")(an_offer())


@pytest.mark.parametrize(
    ("text", "micro"), [("0.50", 500_000), ("$2", 2_000_000), ("1e1", 10_000_000)]
)
def test_dollars(text: str, micro: int) -> None:
    assert read_dollars(text, of="AMOUNT") == micro


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1e99", "1,5"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(errors.ClientMisconfigured, match="--max-usd"):
        read_dollars(text, of="--max-usd")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x07b\u202ec\n\td", "abc\n\td"),
        ("\x1b[0mGET / \x1b[32m200 \x1b[0m5.4 ms", "GET / 200 5.4 ms"),
        ("\x1b[38;5;196mred\x1b(B\x1b[m \x9b1mbold\x1b[?25l", "red bold"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1bPq#0;2~\x1b\\sixel\x1bc", "sixel"),
        ("\x1b]0;endless\nnext", "0;endless\nnext"),
        ("\x1b\x1b[31m[2Jleft", "[2Jleft"),
        ("cut \x1b[3", "cut 3"),
    ],
)
def test_text_from_elsewhere_leaves_no_sequence_of_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_table_is_aligned_and_a_row_is_a_line() -> None:
    assert table_lines(("A", "B"), [("long", "x"), ("y", "")]) == ["A     B", "long  x", "y"]
    assert table_lines(("A",), [("x\ty\nz",)]) == ["A", "x y z"]


def test_payment_that_waits_says_why_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    tell = step_teller(Screen(json=False), then="credit it")
    for why in ("It is not safe yet.", "It is not safe yet.", "Send POST /agent/credits again."):
        tell(PayStep.WAITING, PAYMENT, why)
    assert capsys.readouterr().err.splitlines() == [
        "paid; the gateway does not count it yet: It is not safe yet.",
        "paid; the gateway does not count it yet: Send `moorage topup` again.",
    ]


def test_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=False).table(("A", "B"), [], none="Nothing yet.")
    assert capsys.readouterr().out == "Nothing yet.\n"


def test_overview_names_every_command_and_exit_code() -> None:
    text = overview()
    assert all(f"  {command.name} " in text for command in CLIENT_COMMANDS)
    assert all(f"\n  {int(code)}  " in text for code in Exit if code < 128)
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory without dev.json, and an environment without Moorage's variables."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MOORAGE_GATEWAY", "MOORAGE_PRIVATE_KEY", "MOORAGE_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["deploy", "--json"], 2, "usage"),
        (["deploy", ".", "--name", "x", "--private-key", "0x", "--json"], 2, "usage"),
        (["nosuch", "--json"], 2, "usage"),
        (["projects", "--json"], 2, "configuration_invalid"),
        (["delete", "x", "--json", "--gateway", "http://g"], 2, "configuration_invalid"),
        (["chains", "--json", "--gateway", "ftp://g"], 2, "configuration_invalid"),
        (["deploy", ".", "--name", "x", "--max-usd", "x", "--json"], 2, "configuration_invalid"),
    ],
)
def test_failure_is_one_json_document(
    arguments: list[str], code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["code"], document["exit_code"]) == (word, code)


@pytest.mark.usefixtures("nowhere")
def test_change_of_nothing_is_refused_with_the_flags_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["configure", "shop"]) == 2
    assert "--health-path, --volume or --sleep" in capsys.readouterr().err


@pytest.mark.usefixtures("nowhere")
def test_failure_is_a_sentence_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["projects"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: no gateway is named")


def test_top_up_is_told_whether_or_not_the_gateway_says_the_balance() -> None:
    silent = ToppedUp(credited_usd=5.0, chain_id=8453, tx_hash="0x01")
    told = ToppedUp(credited_usd=5.0, balance_usd=5.5, chain_id=8453, tx_hash="0x01")
    assert topup_text(silent) == "$5.000000 credited."
    assert topup_text(told) == "$5.000000 credited; $5.500000 in credits now."
    printed = json.dumps([topup_document(Bought(each, None)) for each in (silent, told)])
    assert [each["balance_usd"] for each in json.loads(printed)] == [None, 5.5]


def test_help_is_no_failure_and_no_command_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert capsys.readouterr() == (f"{overview()}\n", "")
    assert run([]) == 2
    assert capsys.readouterr() == ("", f"{overview()}\n")
    for asked in ("--version", "version"):
        assert run([asked]) == 0
        assert capsys.readouterr() == (f"{__version__}\n", "")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "See: moorage --help"),
        (["projects", "what"], "See: moorage projects --help"),
        (["logs", "x", "--tail", "0", "--json"], "See: moorage logs --help"),
    ],
)
def test_wrong_usage_is_a_sentence_on_stderr_and_names_the_help(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    error, see = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert see == said


@pytest.mark.usefixtures("nowhere")
def test_argument_that_no_parameter_takes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["projects", "what"]) == 2
    assert capsys.readouterr().err.startswith("error: too many arguments: what\n")


def test_one_thing_is_told_in_the_singular() -> None:
    told = [counted(number, "wallet") for number in (0, 1, 2, 1200)]
    assert told == ["0 wallets", "1 wallet", "2 wallets", "1,200 wallets"]


def test_refund_that_waits_says_why() -> None:
    part = {"chain": "base", "token": "usdc", "payment": "0x01", "log_index": 0, "to": "0x02"}
    part |= {"gross": "1.00", "gas": "0.01", "net": "0.99", "state": "held"}
    shown = {"id": "r", "state": "held", "refundable_usd": 0.99, "decided_by": "gateway"}
    shown |= {"created_at": "2026-04-07T10:00:00.000Z"}
    for reason in ({"because": "gas costs more"}, {}):
        found = msgspec.convert(shown | {"items": [part | reason]}, RefundShown)
        assert why_waiting(found) == reason.get("because", "")

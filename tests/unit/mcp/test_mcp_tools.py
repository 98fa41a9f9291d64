"""The tools as they are listed: small, and speaking of nothing that is not there."""

import json
import re
from typing import Any

import jsonschema
import msgspec
import pytest

from moorage.api.http.problems import error_response
from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import PaymentMalformed, PaymentPending, PaymentShort
from moorage.mcp.local import local_tools, with_limits
from moorage.mcp.remote import DeployUpload, deploy_body, remote_tools, upload_of
from moorage.mcp.tools import (
    INSTRUCTIONS,
    NEVER_ANEW,
    ArgumentsInvalid,
    Tool,
    deletion_preview,
    in_tool_words,
    read_arguments,
    status_of,
)
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import default_means
from moorage.payments.taking.payment_required import Demand, PaymentRequired, payment_actions
from moorage.sdk.budget import Budget
from support.gateway.clock import MovableClock
from support.gateway.fakes import challenges_of

URL = "https://gateway.example/agent/deploy"

NAMES = (
    *("deploy", "quote", "wait_for_deployment", "list_projects", "get_project", "get_logs"),
    *("run", "set_variables", "rollback", "restart", "pause", "set_purse", "quote_refund"),
    *("refund", "adopt"),
    *("export_project", "cancel", "delete_project"),
    *("domains", "credits", "top_up", "usage", "events"),
)
LISTS = {"local": local_tools(), "remote": remote_tools()}
CODES = {"payment_uncertain", "payment_pending"}
CHARACTERS_OF_A_TOKEN = 3.5  # of JSON; prose has more

a_list = pytest.mark.parametrize("tools", LISTS.values(), ids=LISTS)


@a_list
def test_tools_have_their_names_in_a_stable_order(tools: tuple[Tool, ...]) -> None:
    assert tuple(tool.name for tool in tools) == NAMES


@a_list
def test_all_schemas_together_are_below_seven_thousand_tokens(tools: tuple[Tool, ...]) -> None:
    listed = json.dumps([tool.listed() for tool in tools], separators=(",", ":"))
    assert len(listed + INSTRUCTIONS) / CHARACTERS_OF_A_TOKEN < 7_000


@a_list
def test_schemas_are_json_schema_of_objects_in_one_piece(tools: tuple[Tool, ...]) -> None:
    for tool in tools:
        listed = tool.listed()
        for schema in (listed["inputSchema"], listed["outputSchema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert "$ref" not in json.dumps(schema)
        assert listed["inputSchema"]["additionalProperties"] is False


@a_list
def test_texts_name_only_tools_and_fields_that_exist(tools: tuple[Tool, ...]) -> None:
    listed = [tool.listed() for tool in tools]
    known = {*NAMES, *CODES, *(name for schema in listed for name in properties(schema))}
    preview = deletion_preview({"id": "1", "name": "hello", "volume": True}, confirmed="other")
    said = [
        INSTRUCTIONS,
        NEVER_ANEW,
        *(tool.description for tool in tools),
        *re.findall(r'"description": "([^"]+)"', json.dumps(listed)),
        *(str(status_of({"status": each}).body.get("next")) for each in ("deploying", "failed")),
        str(preview.body["next"]),
    ]
    words = {word for text in said for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)}
    assert words - known == set()


def properties(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = list(schema.get("properties", {})) if isinstance(schema, dict) else []
        return own + [name for each in schema.values() for name in properties(each)]
    return []


def test_what_only_reads_says_so_and_what_deletes_warns() -> None:
    hints = {tool.name: tool.listed()["annotations"] for tool in local_tools()}
    reading = {name for name, hint in hints.items() if hint["readOnlyHint"]}
    assert reading == {
        *("quote", "wait_for_deployment", "list_projects", "get_project", "get_logs", "credits"),
        "quote_refund",
        *("usage", "events"),
    }
    destroying = {name for name, hint in hints.items() if hint["destructiveHint"]}
    assert destroying == {"cancel", "delete_project", "domains"}


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("deploy", {"directory": "/app", "name": "hello"}),
        ("deploy", {"directory": "/app", "name": "hello", "settings": {"volume": True}}),
        ("deploy", {"directory": "/app"}),
        ("deploy", {"directory": "/app", "name": "-hello"}),
        ("deploy", {"directory": "/app", "name": "hello", "months": 25}),
        ("deploy", {"directory": "/app", "name": "hello", "settings": {"env": {}}}),
        ("deploy", {"directory": "/app", "name": "hello", "month": 2}),
        ("wait_for_deployment", {"project": "hello", "timeout_seconds": 46}),
        ("get_logs", {"project": "hello", "kind": "access"}),
        ("set_variables", {"project": "hello", "variables": {"A": None, "B": "b"}}),
        ("set_variables", {"project": "hello", "variables": {"A": 1}}),
        ("top_up", {"amount_usd": 0}),
        ("top_up", {"amount_usd": "5"}),
        ("list_projects", {}),
        ("list_projects", {"all": True}),
    ],
)
def test_arguments_are_taken_exactly_if_the_schema_takes_them(
    tool: str, given: dict[str, Any]
) -> None:
    found = next(each for each in local_tools() if each.name == tool)
    schema = found.listed()["inputSchema"]
    assert is_taken(found, given) is jsonschema.Draft202012Validator(schema).is_valid(given)


def is_taken(tool: Tool, given: dict[str, Any]) -> bool:
    try:
        read_arguments(given, tool.takes)
    except ArgumentsInvalid:
        return False
    return True


def test_an_answer_is_put_into_the_words_of_tools() -> None:
    body = {
        "projectId": "1",
        "next_actions": ["Top up with POST /agent/credits, then send it again."],
        "logs": [{"deploymentId": "2", "text": None}],
    }
    assert in_tool_words(body) == {
        "project_id": "1",
        "next_actions": ["Top up with top_up, then send it again."],
        "logs": [{"deployment_id": "2", "text": None}],
    }


HEADERS = re.compile(r"\b(X-[A-Z]|[A-Z]+-(REQUIRED|SIGNATURE|Authenticate)|Authorization\b|header)")
MEANS = default_means({"arbitrum": KNOWN_CHAINS["arbitrum"]})


@pytest.mark.parametrize("warns", [True, False])
@pytest.mark.parametrize("wallet", ["0x" + "a1" * 20, None])
@pytest.mark.parametrize("because", [PaymentShort(), PaymentMalformed("payment", "it"), None])
def test_what_a_tool_is_asked_to_pay_names_no_header(
    wallet: str | None, warns: bool, because: PaymentShort | PaymentMalformed | None
) -> None:
    demand = Demand(
        amount=MicroUsd(500_000),
        balance=MicroUsd(0),
        active_projects=2,
        means=MEANS,
        expires_at_ms=0,
        wallet=wallet,
        body_digest="00" * 32,
        warn_of_sharing=warns,
        because=because,
    )
    asked = PaymentRequired(demand)
    challenges = challenges_of(MovableClock(), *KNOWN_CHAINS.values())
    response = error_response(asked, challenges=challenges, url=URL)
    told = in_tool_words(msgspec.json.decode(bytes(response.body)))
    texts = [told["error"], told.get("warning", ""), *told["next_actions"]]
    assert [text for text in texts if HEADERS.search(text)] == []
    assert ("retry with use_existing_credits: true" in told.get("warning", "")) == warns


def test_a_payment_that_no_node_knows_is_told_to_a_tool_without_a_header() -> None:
    unseen = PaymentPending()
    unseen.seen = False
    assert not HEADERS.search(" ".join(in_tool_words(payment_actions(unseen))))


@pytest.mark.parametrize("named", ["content", "base64"])
def test_files_are_taken_as_the_api_takes_them_or_as_text(named: str) -> None:
    """`base64` was the first name of `content`; the schema has one."""
    deploy = next(tool for tool in remote_tools() if tool.name == "deploy")
    listed = deploy.listed()["inputSchema"]["properties"]["files"]["items"]["properties"]
    assert listed.keys() == {"path", "text", "content"}
    written = {"path": "a", "content": "aGk="}
    for file in ({"path": "a", named: "aGk="}, {"path": "a", "text": "hi"}):
        read = read_arguments({"name": "hello", "files": [file]}, DeployUpload)
        assert upload_of(read) == {"type": "files", "files": [written]}
    for file in ({"path": "a"}, {"path": "a", "text": "hi", named: "aGk="}):
        read = read_arguments({"name": "hello", "files": [file]}, DeployUpload)
        with pytest.raises(ArgumentsInvalid, match="needs text, or content in base64"):
            upload_of(read)


def test_a_path_that_only_begins_like_one_is_left_alone() -> None:
    assert in_tool_words("POST /agent/credits/x") == "POST /agent/credits/x"


def test_what_the_app_wrote_is_told_as_it_is() -> None:
    line = {"stream": "stderr", "text": "POST /agent/deploy: Idempotency-Key and uniqueName"}
    plan = {"buildEnv": {"GOFLAGS": "-x"}, "run_env": {"nodeEnv": "uniqueName"}}
    assert in_tool_words({"lines": [line], "plan": plan}) == {
        "lines": [line],
        "plan": {"build_env": {"GOFLAGS": "-x"}, "run_env": {"nodeEnv": "uniqueName"}},
    }


def test_a_model_pays_within_the_usual_limits_unless_others_are_set() -> None:
    usual = Budget(per_call=MicroUsd(5_000_000), per_day=MicroUsd(20_000_000))
    assert with_limits(Budget()) == usual
    none = Budget(per_call=MicroUsd(0), per_day=MicroUsd(0))
    assert with_limits(none) == none


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        ({}, None),
        ({"purse_usd": 0.1}, {"usd": "0.1"}),
        ({"limit_usd_month": 10}, {"usd": "0", "limit_usd_month": "10"}),
    ],
)
def test_purse_and_limit_of_a_deploy_are_in_its_body(
    asked: dict[str, Any], body: dict[str, Any] | None
) -> None:
    deploy = DeployUpload(name="hello", upload_sha256="0" * 64, **asked)
    assert deploy_body(deploy, {}).get("purse") == body

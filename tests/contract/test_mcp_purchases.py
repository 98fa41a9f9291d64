"""What the local server pays, at a gateway that misbehaves: within its limits, and at most once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sdk_stubs import (
    DEPLOYMENT,
    PROJECT,
    CutShort,
    StubGateway,
    StubNode,
    answers,
    demand,
    problem,
    serving,
    settles,
)
from starlette.responses import JSONResponse, Response

from moorage.chains.chain import KNOWN_CHAINS
from moorage.mcp.local import LocalCalls, Wallet, local_tools
from moorage.mcp.server import ToolCall
from moorage.mcp.tools import Outcome, read_arguments
from moorage.money import MicroUsd
from moorage.sdk.budget import Budget
from moorage.sdk.client import Client
from moorage.sdk.journal import Journal
from moorage.sdk.signer import Signer

SIGNER = Signer("0x" + "11" * 32)
TAKES = {tool.name: tool.takes for tool in local_tools()}


class Machine:
    """An agent's machine with one app on it; each call is that of a new server on it."""

    def __init__(self, directory: Path) -> None:
        self.gateway = StubGateway()
        self.node = StubNode()
        self.state = directory / "state"
        self.app = directory / "app"
        self.app.mkdir()
        (self.app / "index.html").write_text("<h1>hello</h1>")

    async def call(
        self, tool: str, *, budget: Budget | None = None, paying_seconds: float = 60, **given: Any
    ) -> Outcome:
        arbitrum = msgspec.structs.replace(KNOWN_CHAINS["arbitrum"], rpc_urls=(self.node.url,))
        wallet = Wallet(
            signer=SIGNER,
            chains={"arbitrum": arbitrum},
            journal=Journal(self.state),
            budget=budget or Budget(),
            paying_seconds=paying_seconds,
        )
        async with Client(self.gateway.url, SIGNER) as client:
            arguments = read_arguments(given, TAKES[tool])
            return await LocalCalls(client, wallet).call(ToolCall(tool, arguments, {}))

    async def deploy(self, **more: Any) -> Outcome:
        return await self.call("deploy", directory=str(self.app), name="hello", **more)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    found = Machine(tmp_path)
    async with serving(found.gateway, found.node):
        yield found


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"budget": Budget(per_call=MicroUsd(499_999))}, "budget_exceeded"),
        ({"budget": Budget(per_day=MicroUsd(499_999))}, "budget_exceeded"),
        ({"max_usd": 0.49}, "payment_refused"),
    ],
)
async def test_beyond_a_limit_nothing_is_signed_and_the_refusal_says_so(
    machine: Machine, limits: dict[str, Any], code: str
) -> None:
    refused = await machine.deploy(**limits)
    assert (refused.is_error, refused.body["code"]) == (True, code)
    assert "Nothing was paid" in refused.body["error"]
    assert (machine.node.sent, Journal(machine.state).signed_since(0)) == ([], [])


async def test_a_top_up_is_held_to_the_budget_too(machine: Machine) -> None:
    none = Budget(per_day=MicroUsd(0))
    refused = await machine.call("top_up", amount_usd=0.5, budget=none)
    assert (refused.is_error, refused.body["code"]) == (True, "budget_exceeded")
    assert machine.node.sent == []


@pytest.mark.parametrize(
    "lie", [CutShort(), problem(502, "internal_error"), demand()], ids=["lost", "502", "402"]
)
async def test_call_again_with_its_key_goes_on_with_the_payment_that_a_server_does_not_own_up_to(
    machine: Machine, lie: Response | CutShort
) -> None:
    machine.gateway.paid = [settles(machine.gateway, lie) for _ in range(1000)]
    uncertain = await machine.deploy(paying_seconds=0.2)
    assert (uncertain.is_error, uncertain.body["code"]) == (True, "payment_uncertain")
    key = uncertain.body["idempotency_key"]
    assert f'Call deploy again with the same arguments and idempotency_key "{key}"' in str(
        uncertain.body["error"]
    )

    machine.gateway.paid = []
    deployed = await machine.deploy(idempotency_key=key)
    assert not deployed.is_error
    assert (deployed.body["project_id"], deployed.body["deployment_id"]) == (PROJECT, DEPLOYMENT)
    assert len(machine.node.payments) == 1
    assert {each["idempotency-key"] for each in machine.gateway.deploys} == {key}


async def test_a_call_that_ends_as_its_payment_is_signed_is_gone_on_with(machine: Machine) -> None:
    uncertain = await machine.deploy(paying_seconds=0)
    assert uncertain.body["code"] == "payment_uncertain"
    (signed,) = Journal(machine.state).signed_since(0)
    assert uncertain.body["payment"]["tx_hash"] == signed.tx_hash
    deployed = await machine.deploy(idempotency_key=uncertain.body["idempotency_key"])
    assert deployed.body["paid"]["tx_hash"] == signed.tx_hash
    assert machine.node.payments == {signed.tx_hash}


async def test_what_the_gateway_does_not_find_is_uncertain_and_not_paid_anew(
    machine: Machine,
) -> None:
    machine.gateway.paid = [answers(problem(402, "payment_not_found"))]
    uncertain = await machine.deploy()
    assert uncertain.body["code"] == "payment_uncertain"
    assert "Do not pay again" in str(uncertain.body["error"])
    assert len(machine.node.payments) == 1


async def test_a_refusal_of_the_gateway_is_told_whole_in_the_words_of_tools(
    machine: Machine,
) -> None:
    machine.gateway.unpaid = lambda _: problem(
        400, "name_unavailable", field="uniqueName", next_actions=["Change uniqueName."]
    )
    refused = await machine.deploy()
    assert refused.is_error
    assert refused.body["next_actions"] == ["Change name."]
    assert (refused.body["code"], refused.body["retryable"]) == ("name_unavailable", False)


async def test_quote_stores_the_files_for_the_deploy_that_follows(machine: Machine) -> None:
    machine.gateway.other["POST", "/agent/quote"] = [JSONResponse({"amount_usd": 0.5})]
    quoted = await machine.call("quote", directory=str(machine.app), name="hello")
    assert quoted.body["amount_usd"] == 0.5
    (digest,) = machine.gateway.uploads
    asked = msgspec.json.decode(machine.gateway.bodies[-1])
    assert asked["upload"] == {"type": "digest", "sha256": digest}


async def test_a_directory_that_is_none_is_refused_before_anything_is_sent(
    machine: Machine,
) -> None:
    refused = await machine.call("deploy", directory="nowhere", name="hello")
    assert (refused.is_error, refused.body["code"]) == (True, "directory_invalid")
    assert machine.gateway.bodies == []

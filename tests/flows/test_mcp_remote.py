"""The gateway's own server: an agent with tools alone, which pays by what it sends with a call."""

import base64
import json
from typing import Any

import aiohttp
import pytest

from support.clients.mcp_client import Tools, remote_tools
from support.clients.protocols import payment_signature
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

APP = (
    "console.log('said ' + process.env.WORD);"
    "require('http').createServer((_, res) => res.end(process.env.WORD)).listen(process.env.PORT)"
)
FILES = [{"path": "index.js", "text": APP}]


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


def x402(wallet: Wallet, demand: dict[str, Any]) -> dict[str, Any]:
    """What pays the first of a demand's `accepts`, for `_meta`."""
    header = payment_signature(wallet, demand["accepts"][0])["PAYMENT-SIGNATURE"]
    return {"x402/payment": json.loads(base64.b64decode(header))}


async def test_an_agent_does_all_of_it_by_tools_and_pays_by_meta(
    dev_gateway: DevGateway, wallet: Wallet
) -> None:
    name = fresh_name()
    asked = {"name": name, "files": FILES, "settings": {"runEnvs": {"WORD": "first"}}}
    async with remote_tools(dev_gateway.url, sign=wallet.signed) as tools:
        priced = await tools.ok("quote", **asked)
        assert (priced["amount_usd"], priced["payment_required"]) == (0.5, True)

        demand = await tools.refused("deploy", **asked)
        assert (demand["code"], demand["x402Version"]) == ("payment_required", 2)
        paid = await tools.result("deploy", meta=x402(wallet, demand), **asked)
        deployed = paid.structured_content
        assert not paid.is_error, deployed
        assert (paid.meta or {})["x402/payment-response"]["success"] is True
        project, first = deployed["project_id"], deployed["deployment_id"]
        ready = await tools.until_settled(project, first)
        assert (ready["status"], await wallet.visit(name)) == ("ready", (200, "first"))

        changed = await tools.ok("set_variables", project=name, variables={"WORD": "second"})
        second = changed["deployment_id"]
        await tools.until_settled(project, second)
        assert await wallet.visit(name) == (200, "second")
        assert await said(tools, name) == "said second"

        back = await tools.ok("rollback", project=name, deployment=first)
        await tools.until_settled(project, back["deployment_id"])
        assert await wallet.visit(name) == (200, "first")

        left = await tools.ok("credits")
        assert left["balance_usd"] == pytest.approx(0.5, abs=0.01)
        preview = await tools.ok("delete_project", project=name)
        assert (preview["status"], preview["name"]) == ("not deleted", name)
        gone = await tools.ok("delete_project", project=name, confirm_name=name)
        assert gone["status"] == "deleted"
        assert (await tools.ok("list_projects"))["projects"] == []


async def said(tools: Tools, project: str) -> str:
    """The first line that the app wrote."""
    while True:
        page = await tools.ok("get_logs", project=project, after="0")
        if page["lines"]:
            return str(page["lines"][0]["text"])


async def test_who_names_nobody_pays_and_has_a_token_for_what_was_paid_for(
    dev_gateway: DevGateway, wallet: Wallet
) -> None:
    name = fresh_name()
    asked = {"name": name, "files": FILES, "settings": {"runEnvs": {"WORD": "paid"}}}
    async with remote_tools(dev_gateway.url) as tools:
        assert (await tools.ok("quote", **asked))["amount_usd"] == 0.5
        meta = x402(wallet, await tools.refused("deploy", **asked))
        deployed = (await tools.result("deploy", meta=meta, **asked)).structured_content
        assert deployed["wallet"] == wallet.address, deployed

        tools.common = {"manage_token": deployed["manage_token"]}
        ready = await tools.until_settled(name, deployed["deployment_id"])
        assert (ready["status"], await wallet.visit(name)) == ("ready", (200, "paid"))
        assert (await tools.refused("credits"))["code"] == "arguments_invalid"
        gone = await tools.ok("delete_project", project=name, confirm_name=name)
        assert gone["status"] == "deleted"


async def test_who_names_nobody_is_told_how_and_nothing_is_shown(dev_gateway: DevGateway) -> None:
    async with remote_tools(dev_gateway.url) as tools:
        assert (await tools.refused("list_projects"))["code"] == "auth_missing"


HOSTILE = (
    b"[" * 200_000,
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":' + b'{"a":' * 150_000,
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"credits","arguments":'
    + b'{"a":' * 900
    + b"1"
    + b"}" * 900
    + b"}}",
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"credits","_meta":'
    + b'{"a":' * 900
    + b"1"
    + b"}" * 900
    + b"}}",
    b'{"jsonrpc":"2.0","id":' + b"9" * 10_000 + b',"method":"ping"}',
    b'{"jsonrpc":"2.0","id":1,"method":"' + b"m" * 500_000 + b'"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\u0000"}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
)


@pytest.mark.parametrize("era", [None, "2025-11-25", "2026-07-28", "9999-01-01"])
async def test_no_body_brings_the_server_down_or_to_a_5xx(
    dev_gateway: DevGateway, era: str | None
) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if era is not None:
        headers |= {"MCP-Protocol-Version": era, "Mcp-Method": "tools/call", "Mcp-Name": "credits"}
    async with aiohttp.ClientSession() as session:
        for body in HOSTILE:
            url = f"{dev_gateway.url}/mcp"
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status < 500, (body[:100], await answer.text())
        async with session.get(f"{dev_gateway.url}/mcp") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        async with session.get(f"{dev_gateway.url}/health") as answer:
            assert answer.status == 200


async def test_what_moves_power_is_signed_as_the_tool_says_and_is_no_good_for_another(
    dev_gateway: DevGateway, wallet: Wallet
) -> None:
    name, other = fresh_name(), fresh_name()
    for each in (name, other):
        await wallet.deploy_paid(each)
    async with remote_tools(dev_gateway.url) as tools:
        asked = await tools.refused("adopt", project=name)
        assert asked["code"] == "auth_missing"
        signed = wallet.bound(asked["sign"]["method"], asked["sign"]["path"])
        parts = ("X-Wallet-Address", "X-Timestamp", "X-Nonce", "X-Signature")
        handed = ":".join(signed[part] for part in parts)
        relayed = await tools.refused("adopt", project=other, signed=handed)
        assert relayed["code"] == "signature_invalid"
        adopted = await tools.ok("adopt", project=name, signed=handed)
        assert adopted["status"] == "adopted"
        again = await tools.refused("adopt", project=name, signed=handed)
        assert again["code"] == "nonce_reused"

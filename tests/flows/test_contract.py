"""The contract's part 1 read row by row: headers, body, answers, codes."""

import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest

from support.clients.openapi_schema import Described
from support.clients.raw_http import connected, request
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ACTIVE_STATUSES = {"active", "building", "deploying", "pending", "queued", "promoting"}


@pytest.fixture
def wallet(dev_gateway: DevGateway) -> Wallet:
    return Wallet(dev_gateway)


# 1.1 Wallet authentication


async def test_operations_on_a_project_are_its_owners_alone(
    wallet: Wallet, described: Described
) -> None:
    deployed = await (await wallet.fund()).deploy_paid(fresh_name())
    stranger = Wallet(wallet.gateway)
    for path, operations in described.document["paths"].items():
        if "{projectId}" not in path:
            continue
        here = re.sub(r"\{(\w+)\}", lambda name: deployed.body.get(name[1], "none"), path)
        for method in operations:
            unsigned = await call(wallet.gateway, method.upper(), here, json={})
            assert (unsigned.status, unsigned.body["code"]) == (401, "auth_missing"), here
            foreign = await stranger.call_bound(method.upper(), here, json={})
            assert (foreign.status, foreign.body["code"]) == (403, "wrong_wallet"), here


# 1.2 The body of a deploy


async def test_two_different_payments_at_once_are_a_400(wallet: Wallet) -> None:
    body = msgspec.json.encode(deploy_body(fresh_name(), HELLO))
    for header, values in {
        "X-Payment-Tx": ("0x" + "1" * 64, "0x" + "2" * 64),
        "X-Payment-Chain": ("arbitrum", "base"),
        "X-Payment-Token": ("usdc", "usdt"),
        "X-Use-Existing-Credits": ("true", "false"),
    }.items():
        twice = [(header, value) for value in values]
        headers = [*wallet.signed().items(), *twice]
        async with connected(wallet.gateway.url) as connection:
            await connection.send(request("POST", "/agent/deploy", headers, body))
            answer = await connection.answer()

        assert (answer.status, answer.json["field"]) == (400, header)


# 1.2 Answers


async def test_402_has_the_contracts_fields_and_types(wallet: Wallet) -> None:
    answer = await wallet.deploy(fresh_name())

    body = answer.body
    assert answer.status == 402
    assert answer.headers["Content-Type"] == "application/json"
    assert (body["error"], body["amount_usd"], body["amount_token"]) == (
        "Payment required",
        0.5,
        "500000",
    )
    assert type(body["amount_usd"]) is float
    assert type(body["current_credit_balance_usd"]) is int
    assert (body["active_projects"], body["decimals"]) == (0, 6)
    assert body["pay_to"] == wallet.gateway.info["pay_to"]
    assert re.fullmatch("0x[0-9a-fA-F]{40}", body["pay_to"])
    assert "X-CreateOS-Credit-Warning" not in answer.headers
    assert list(body)[:10] == [
        *("error", "amount_usd", "amount_token", "current_credit_balance_usd"),
        *("active_projects", "pay_to", "payment_chain", "token", "decimals", "supported_chains"),
    ]
    assert 29 * 60 < body["expires_at"] - time.time() <= 30 * 60


async def test_status_bodies_have_the_promised_shapes(wallet: Wallet) -> None:
    await wallet.fund()
    slow = {"package.json": '{"scripts": {"build": "sleep 30", "start": "node index.js"}}'}
    deployed = await wallet.deploy_paid(fresh_name(), HELLO | slow)
    assert set(deployed.body) == {"projectId", "deploymentId", "status", "message", "payment"}
    assert deployed.body["message"] == "Deployment started. Poll status for updates."
    for field in ("projectId", "deploymentId"):
        assert UUID.fullmatch(deployed.body[field])

    under_way = await wallet.status(deployed)

    assert set(under_way.body) == {"status", "deployment_id", "deployment_status"}
    assert under_way.body["status"] == "deploying"
    assert under_way.body["deployment_status"] in {"queued", "building", "deploying"}
    listed = await wallet.call("GET", "/agent/projects")
    (project,) = listed.body["projects"]
    assert project["status"] in ACTIVE_STATUSES
    assert project["url"] is None
    created = project["createdAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", created)
    assert abs(datetime.fromisoformat(created).timestamp() - time.time()) < 60
    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")


async def test_chains_and_health_are_public(dev_gateway: DevGateway) -> None:
    chains = await call(dev_gateway, "GET", "/agent/chains")
    taken = {"tokens": ["usdc", "usdt"], "payment_protocols": ["tx", "mpp", "x402"]}
    assert chains.body == {
        "chains": [
            {"chain": "arbitrum", "chain_id": 42161} | taken,
            {"chain": "base", "chain_id": 8453} | taken,
        ]
    }
    assert (await call(dev_gateway, "GET", "/health")).body == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("0x12", "address"),
        ("0x" + "g" * 40, "address"),
        ("1" * 40, "address"),
        ("%00", "address"),
        ("0x" + "1" * 40 + "?chain=doge", "chain"),
        ("0x" + "1" * 40 + "?chain=", "chain"),
    ],
)
async def test_balances_of_nobody_are_a_400(dev_gateway: DevGateway, path: str, field: str) -> None:
    answer = await call(dev_gateway, "GET", f"/agent/balance/{path}")

    assert (answer.status, answer.body["field"]) == (400, field)


# 1.5 Codes, and what describes them


@pytest.fixture
async def described(dev_gateway: DevGateway) -> Described:
    return Described((await call(dev_gateway, "GET", "/openapi.json")).body)


async def test_openapi_holds_together(described: Described) -> None:
    document = described.document
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    for ref in references(document):
        described.resolve(ref)
    identities = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            identities.append(operation["operationId"])
            taken = described.parameters(operation)
            parameters = [(each["in"], each["name"]) for each in taken]
            assert len(parameters) == len(set(parameters))
            in_path = {name for place, name in parameters if place == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path))
            assert all(each["required"] for each in taken if each["in"] == "path")
            assert operation["summary"].endswith(".")
            assert "`" not in operation["summary"]
            assert set(operation["responses"]) & {"200", "202"}
            has_body = method in ("post", "put", "patch") or path == "/agent/projects/{projectId}"
            assert has_body or "requestBody" not in operation  # a deletion may name a refund
    assert len(identities) == len(set(identities))


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if "$ref" in document:
            yield document["$ref"]
        yield from (ref for value in document.values() for ref in references(value))
    elif isinstance(document, list):
        yield from (ref for value in document for ref in references(value))


async def test_contracts_endpoints_are_all_described(described: Described) -> None:
    found = {
        (method.upper(), path)
        for path, operations in described.document["paths"].items()
        for method in operations
    }
    assert found >= {
        ("POST", "/agent/deploy"),
        ("GET", "/agent/deploy/{projectId}/{deploymentId}/status"),
        ("GET", "/agent/projects"),
        ("DELETE", "/agent/projects/{projectId}"),
        ("GET", "/agent/balance/{address}"),
        ("GET", "/agent/chains"),
        ("GET", "/health"),
    }


DEPLOY, PROJECTS = "/agent/deploy", "/agent/projects"
STATUS = "/agent/deploy/{projectId}/{deploymentId}/status"
PROJECT = "/agent/projects/{projectId}"


async def test_every_kind_of_answer_is_as_openapi_describes_it(
    wallet: Wallet, described: Described
) -> None:
    answers = [each async for each in every_kind_of_answer(await wallet.fund())]

    assert {(answer.status, answer.body.get("code")) for _, _, answer in answers} == {
        (200, None),
        (400, "invalid_field"),
        (400, "invalid_request"),
        (400, "name_unavailable"),
        (400, "payment_malformed"),
        (400, "plan_not_found"),
        (400, "upload_invalid"),
        (401, "auth_missing"),
        (402, "payer_mismatch"),
        (402, "payment_not_found"),
        (402, "payment_pending"),
        (402, "payment_required"),
        (402, "payment_short"),
        (403, "wrong_wallet"),
        (404, "deployment_not_found"),
        (404, "project_not_found"),
        (409, "payment_already_used"),
        (413, "body_too_large"),
    }
    problems = []
    for method, path, answer in answers:
        problems += described.answer_problems(method, path, answer.status, answer.body)
        assert answer.headers["Content-Type"] == "application/json"
        if answer.status >= 400:
            assert answer.body["error"]
            assert {"code", "retryable"} <= set(answer.body)
    assert problems == []


async def every_kind_of_answer(wallet: Wallet) -> AsyncIterator[tuple[str, str, Answer]]:
    stranger, name = await Wallet(wallet.gateway).fund(), fresh_name()
    yield "POST", DEPLOY, await wallet.deploy(name)
    yield "POST", DEPLOY, await stranger.deploy(name)
    yield "POST", DEPLOY, await wallet.deploy(name, headers={"X-Dry-Run": "true"})
    yield "POST", DEPLOY, await wallet.deploy(name, tx="0x12")
    yield "POST", DEPLOY, await wallet.deploy(name, tx="0x" + secrets.token_hex(32))
    yield "POST", DEPLOY, await wallet.deploy(name, tx=await wallet.pay(1, to=stranger.address))
    yield "POST", DEPLOY, await wallet.deploy(name, tx=await stranger.pay(100_000))
    yield "POST", DEPLOY, await wallet.deploy(name, tx=await wallet.pay(100_000))
    tx = await wallet.pay(2_000_000)
    deployed = await wallet.deploy(name, tx=tx)
    yield "POST", DEPLOY, deployed
    yield "POST", DEPLOY, await wallet.deploy(name, tx=tx)
    yield "POST", DEPLOY, await wallet.deploy(fresh_name())  # with the warning
    yield "POST", DEPLOY, await wallet.deploy(name, {"a.txt": "nothing to run"})
    yield "POST", DEPLOY, await wallet.deploy(name, {"../a.js": ""})
    yield "POST", DEPLOY, await wallet.deploy(name, months=25)
    yield "POST", DEPLOY, await declaring(wallet, "60000000")
    yield "POST", DEPLOY, await wallet.call("POST", DEPLOY, json=[])
    yield "POST", DEPLOY, await call(wallet.gateway, "POST", DEPLOY)
    yield "POST", DEPLOY, await declaring(wallet, "1" * 30)
    body = deploy_body(fresh_name(), HELLO)
    yield "POST", "/agent/quote", await wallet.call("POST", "/agent/quote", json=body)
    yield "GET", STATUS, await wallet.status(deployed)
    await wallet.settled(deployed)
    yield "GET", STATUS, await wallet.status(deployed)
    yield "GET", STATUS, await stranger.status(deployed)
    failing = await wallet.deploy(
        fresh_name(), {"index.js": "process.exit(3)"}, headers={"X-Use-Existing-Credits": "true"}
    )
    yield "POST", DEPLOY, failing
    await wallet.settled(failing)
    yield "GET", STATUS, await wallet.status(failing)
    yield "GET", STATUS, await wallet.call("GET", f"{DEPLOY}/x/y/status")
    yield "GET", PROJECTS, await wallet.call("GET", PROJECTS)
    project = deployed.body["projectId"]
    yield "DELETE", PROJECT, await stranger.call("DELETE", f"{PROJECTS}/{project}")
    yield "DELETE", PROJECT, await wallet.call("DELETE", f"{PROJECTS}/{project}")
    yield "DELETE", PROJECT, await wallet.call("DELETE", f"{PROJECTS}/{project}")
    path = f"/agent/balance/{wallet.address}"
    yield "GET", "/agent/balance/{address}", await call(wallet.gateway, "GET", path)
    yield "GET", "/agent/chains", await call(wallet.gateway, "GET", "/agent/chains")
    yield "GET", "/health", await call(wallet.gateway, "GET", "/health")


async def declaring(wallet: Wallet, length: str) -> Answer:
    headers = [*wallet.signed().items(), ("Content-Length", length)]
    async with connected(wallet.gateway.url) as connection:
        await connection.send(request("POST", DEPLOY, headers, b""))
        answer = await connection.answer()
    return Answer(answer.status, answer.json, {"Content-Type": "application/json"})

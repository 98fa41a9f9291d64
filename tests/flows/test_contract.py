"""The contract's part 1 read row by row: headers, body, answers, codes."""

import asyncio
import base64
import io
import re
import secrets
import time
import uuid
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from support.clients.openapi_schema import Described
from support.clients.raw_http import connected, request
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ACTIVE_STATUSES = {"active", "building", "deploying", "pending", "queued", "promoting"}
MISSING: Any = object()


@pytest.fixture
def wallet(dev_gateway: DevGateway) -> Wallet:
    return Wallet(dev_gateway)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def signed(
    wallet: Wallet, *, address: str | None = None, stamp: int | None = None, nonce: str = ""
) -> dict[str, str]:
    """Headers over literal texts, so that each can be spelled as a test wants."""
    text = address or wallet.address
    moment, once = str(now_ms() if stamp is None else stamp), nonce or str(uuid.uuid4())
    message = encode_defunct(text=f"{text}:{moment}:{once}")
    signature = Account.sign_message(message, wallet.key).signature.to_0x_hex()
    return {
        "X-Wallet-Address": text,
        "X-Signature": signature,
        "X-Timestamp": moment,
        "X-Nonce": once,
    }


async def ask(wallet: Wallet, headers: dict[str, str]) -> Answer:
    return await call(wallet.gateway, "GET", "/agent/projects", headers=headers)


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.body.get("code")) == (status, code), answer.body
    assert answer.body["error"]
    assert isinstance(answer.body["retryable"], bool)


# 1.1 Wallet authentication


@pytest.mark.parametrize("spelled", [str.lower, str, lambda text: "0x" + text[2:].upper()])
async def test_wallet_is_signed_as_it_is_written_and_compared_by_its_bytes(
    wallet: Wallet, spelled: Any
) -> None:
    answer = await ask(wallet, signed(wallet, address=spelled(wallet.address)))

    assert (answer.status, answer.body["wallet"]) == (200, wallet.address)


async def test_signed_text_may_spell_the_wallet_in_lower_case_or_with_its_checksum(
    wallet: Wallet,
) -> None:
    """Whatever the header says; any other spelling is another text."""
    lower, checksum = wallet.address.lower(), wallet.address
    for text, header in ((lower, checksum), (checksum, lower)):
        passed = await ask(wallet, signed(wallet, address=text) | {"X-Wallet-Address": header})
        assert passed.status == 200, passed.body

    upper = "0x" + wallet.address[2:].upper()
    refused = await ask(wallet, signed(wallet, address=upper) | {"X-Wallet-Address": checksum})
    assert_refused(refused, 401, "signature_invalid")


@pytest.mark.parametrize("prefix", ["0x", "", "0X"])
async def test_signature_needs_no_prefix(wallet: Wallet, prefix: str) -> None:
    headers = signed(wallet)
    headers["X-Signature"] = prefix + headers["X-Signature"][2:]

    assert (await ask(wallet, headers)).status == 200


@pytest.mark.parametrize(
    # A request may take its time on a busy machine, while the clock goes on.
    ("ahead_ms", "status"),
    [(-40_000, 200), (59_999, 200), (-60_001, 401), (80_000, 401)],
)
async def test_timestamp_lies_within_a_minute_on_either_side(
    wallet: Wallet, ahead_ms: int, status: int
) -> None:
    answer = await ask(wallet, signed(wallet, stamp=now_ms() + ahead_ms))

    assert answer.status == status
    if status == 401:
        assert_refused(answer, 401, "timestamp_expired")


async def test_timestamp_in_seconds_is_expired(wallet: Wallet) -> None:
    assert_refused(
        await ask(wallet, signed(wallet, stamp=now_ms() // 1000)), 401, "timestamp_expired"
    )


async def test_nonce_is_one_uuid_in_any_letter_case(wallet: Wallet) -> None:
    nonce = str(uuid.uuid4())
    assert (await ask(wallet, signed(wallet, nonce=nonce.upper()))).status == 200

    assert_refused(await ask(wallet, signed(wallet, nonce=nonce)), 401, "nonce_reused")


NOT_YET_USED = "7d444840-9dc0-41d1-b245-5ffdce74fad2"


@pytest.mark.parametrize(
    "nonce", ["1", "x" * 36, NOT_YET_USED.replace("-", ""), "{" + NOT_YET_USED + "}"]
)
async def test_nonce_that_is_no_uuid_is_refused(wallet: Wallet, nonce: str) -> None:
    assert_refused(await ask(wallet, signed(wallet, nonce=nonce)), 401, "signature_invalid")


async def test_two_wallets_may_use_one_nonce(wallet: Wallet) -> None:
    nonce = str(uuid.uuid4())

    for each in (wallet, Wallet(wallet.gateway)):
        assert (await ask(each, signed(each, nonce=nonce))).status == 200


async def test_forged_request_burns_no_nonce_and_forty_at_once_pass_once(wallet: Wallet) -> None:
    headers = signed(wallet)
    forged = headers | {"X-Signature": signed(Wallet(wallet.gateway))["X-Signature"]}
    assert_refused(await ask(wallet, forged), 401, "signature_invalid")

    answers = await asyncio.gather(*(ask(wallet, headers) for _ in range(40)))

    assert sorted(answer.status for answer in answers) == [200] + [401] * 39
    assert {a.body["code"] for a in answers if a.status == 401} == {"nonce_reused"}


@pytest.mark.parametrize("header", ["X-Wallet-Address", "X-Signature", "X-Timestamp", "X-Nonce"])
@pytest.mark.parametrize("value", [None, ""])
async def test_each_header_is_needed(wallet: Wallet, header: str, value: str | None) -> None:
    headers = signed(wallet)
    del headers[header]
    if value is not None:
        headers[header] = value

    assert_refused(await ask(wallet, headers), 401, "auth_missing")


ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def with_high_s(signature: str) -> str:
    s, v = int(signature[66:130], 16), int(signature[130:], 16)
    return f"{signature[:66]}{ORDER - s:064x}{55 - v:02x}"


@pytest.mark.parametrize(
    "change",
    [
        with_high_s,
        lambda text: text[:-2],
        lambda text: text + "00",
        lambda text: text[:-2] + "1d",
        lambda text: text[:-2] + "ff",
        lambda text: text[:-1] + "g",
        lambda _: "0x" + "00" * 65,
        lambda _: "0x" + "ff" * 65,
        lambda _: "0x",
        lambda _: "\u00e9",
    ],
)
async def test_signatures_that_are_none_are_a_401(wallet: Wallet, change: Any) -> None:
    headers = signed(wallet)
    headers["X-Signature"] = change(headers["X-Signature"])

    assert_refused(await ask(wallet, headers), 401, "signature_invalid")


@pytest.mark.parametrize("last_byte", ["1b", "1c", "00", "01"])
async def test_recovery_ids_of_either_style_are_taken(wallet: Wallet, last_byte: str) -> None:
    headers = signed(wallet)
    while int(headers["X-Signature"][-2:], 16) % 27 != int(last_byte, 16) % 27:
        headers = signed(wallet)
    headers["X-Signature"] = headers["X-Signature"][:-2] + last_byte

    assert (await ask(wallet, headers)).status == 200


# 1.2 The body of a deploy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uniqueName", "abcd"),
        ("uniqueName", "a" * 32),
        ("uniqueName", "A-9Z"),
        ("uniqueName", "0--0"),
        ("displayName", "x"),
        ("displayName", "é" * 100),
        ("displayName", "🚀" * 100),
        ("description", MISSING),
        ("description", None),
        ("description", ""),
        ("description", "d" * 2048),
        ("months", MISSING),
        ("months", None),
        ("months", 1),
        ("months", 1.0),
        ("months", 24),
        ("settings", MISSING),
        ("settings", None),
        ("settings", {}),
        ("settings", {"port": 1}),
        ("settings", {"port": 65_535}),
        ("settings", {"port": None, "runtime": None, "runEnvs": None, "useBuildAI": None}),
        (
            "settings",
            {
                "port": 3000,
                "runtime": "build-ai",
                "useBuildAI": True,
                "buildCommand": None,
                "runCommand": None,
                "installCommand": None,
                "framework": None,
                "hasDockerfile": False,
            },
        ),
        (
            "settings",
            {"directoryPath": ".", "buildDir": "dist", "runEnvs": {"A": ""}, "buildVars": {}},
        ),
        ("extra", {"any": ["thing"]}),
        ("projectId", None),
    ],
)
async def test_bodies_that_the_contract_allows(wallet: Wallet, field: str, value: Any) -> None:
    answer = await dry_run(wallet, {field: value})

    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("uniqueName", MISSING, "uniqueName"),
        ("uniqueName", None, "uniqueName"),
        ("uniqueName", 1234, "uniqueName"),
        ("uniqueName", "", "uniqueName"),
        ("uniqueName", "abc", "uniqueName"),
        ("uniqueName", "mail", "uniqueName"),
        ("uniqueName", "WPAD", "uniqueName"),
        ("uniqueName", "a" * 33, "uniqueName"),
        ("uniqueName", "-abc", "uniqueName"),
        ("uniqueName", "abc-", "uniqueName"),
        ("uniqueName", "a_bc", "uniqueName"),
        ("uniqueName", "a.bc", "uniqueName"),
        ("uniqueName", "abcd\n", "uniqueName"),
        ("uniqueName", " abcd", "uniqueName"),
        ("uniqueName", "ａｂｃｄ", "uniqueName"),
        ("uniqueName", "\u212aelvin", "uniqueName"),  # KELVIN SIGN folds to k
        ("uniqueName", "a/../b", "uniqueName"),
        ("displayName", MISSING, "displayName"),
        ("displayName", None, "displayName"),
        ("displayName", "", "displayName"),
        ("displayName", "x" * 101, "displayName"),
        ("displayName", ["x"], "displayName"),
        ("displayName", "a\u0000b", "displayName"),
        ("description", 5, "description"),
        ("description", "d" * 2049, "description"),
        ("months", 0, "months"),
        ("months", 25, "months"),
        ("months", -1, "months"),
        ("months", 1.5, "months"),
        ("months", "1", "months"),
        ("months", True, "months"),
        ("months", [1], "months"),
        ("months", 10**30, "months"),
        ("months", 1e300, "months"),
        ("settings", [], "settings"),
        ("settings", "x", "settings"),
        ("settings", {"prot": 3000}, "settings.prot"),
        ("settings", {"port": 0}, "settings.port"),
        ("settings", {"port": 65_536}, "settings.port"),
        ("settings", {"port": "3000"}, "settings.port"),
        ("settings", {"port": 3000.5}, "settings.port"),
        ("settings", {"port": True}, "settings.port"),
        ("settings", {"runtime": 1}, "settings.runtime"),
        ("settings", {"useBuildAI": "yes"}, "settings.useBuildAI"),
        ("settings", {"runCommand": ["node"]}, "settings.runCommand"),
        ("settings", {"runEnvs": {"A": 1}}, "settings.runEnvs"),
        ("settings", {"runEnvs": {"A": None}}, "settings.runEnvs"),
        ("settings", {"runEnvs": {"A=B": "x"}}, "settings.runEnvs"),
        ("settings", {"runEnvs": [["A", "x"]]}, "settings.runEnvs"),
        ("settings", {"buildVars": {"": "x"}}, "settings.buildVars"),
        ("settings", {"directoryPath": "../.."}, "settings.directoryPath"),
        ("settings", {"directoryPath": "nowhere"}, "settings.directoryPath"),
        ("upload", MISSING, "upload"),
        ("upload", None, "upload"),
        ("upload", [], "upload"),
        ("upload", {}, "upload.type"),
        ("upload", {"type": "tar", "data": ""}, "upload.type"),
        ("upload", {"type": "files"}, "upload.files"),
        ("upload", {"type": "files", "files": []}, "upload.files"),
        ("upload", {"type": "files", "files": {}}, "upload.files"),
        ("upload", {"type": "files", "files": [1]}, "upload.files[0]"),
        ("upload", {"type": "files", "files": [{"path": "a"}]}, "upload.files[0].content"),
        ("upload", {"type": "files", "files": [{"content": ""}]}, "upload.files[0].path"),
        ("upload", {"type": "zip"}, "upload.data"),
        ("upload", {"type": "zip", "data": 1}, "upload.data"),
        ("upload", {"type": "zip", "data": "AAAA", "filename": 1}, "upload.filename"),
    ],
)
async def test_what_the_contract_forbids_is_a_400_that_names_it(
    wallet: Wallet, field: str, value: Any, named: str
) -> None:
    answer = await dry_run(wallet, {field: value})

    assert answer.status == 400, answer.body
    assert answer.body["field"] == named
    assert named in answer.body["error"]
    assert answer.body["retryable"] is False


async def dry_run(wallet: Wallet, fields: dict[str, Any]) -> Answer:
    body = {
        name: value
        for name, value in (deploy_body(fresh_name(), HELLO) | fields).items()
        if value is not MISSING
    }
    return await wallet.call("POST", "/agent/deploy", json=body, headers={"X-Dry-Run": "true"})


async def test_upper_case_in_a_name_is_folded(wallet: Wallet) -> None:
    await wallet.fund()
    name = fresh_name()
    deployed = await wallet.deploy_paid(name.upper())
    await wallet.settled(deployed)

    listed = await wallet.call("GET", "/agent/projects")

    assert [project["name"] for project in listed.body["projects"]] == [name]
    assert (await wallet.visit(name))[0] == 200


@pytest.mark.parametrize("filename", [MISSING, None, "app.zip", "../../etc/passwd"])
async def test_zip_is_taken_with_any_file_name(wallet: Wallet, filename: Any) -> None:
    upload = {"type": "zip", "data": zip_of(HELLO), "filename": filename}
    if filename is MISSING:
        del upload["filename"]

    answer = await dry_run(wallet, {"upload": upload})

    assert (answer.status, answer.body.get("plan", {}).get("stack")) == (200, "node"), answer.body


def zip_of(files: dict[str, str]) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return base64.b64encode(packed.getvalue()).decode()


@pytest.mark.parametrize(
    ("headers", "status", "means"),
    [
        ({}, 402, ("arbitrum", "usdc")),
        ({"X-Payment-Chain": "BASE", "X-Payment-Token": "USDT"}, 402, ("base", "usdt")),
        ({"X-Payment-Chain": ""}, 400, "X-Payment-Chain"),
        ({"X-Payment-Token": ""}, 400, "X-Payment-Token"),
        ({"X-Payment-Chain": "42161"}, 400, "X-Payment-Chain"),
        ({"X-Payment-Chain": "arbitrum-sepolia"}, 400, "X-Payment-Chain"),
        ({"X-Payment-Tx": ""}, 400, "X-Payment-Tx"),
        ({"X-Payment-Tx": "0x"}, 400, "X-Payment-Tx"),
        ({"X-Payment-Tx": "0x" + "0" * 63}, 400, "X-Payment-Tx"),
        ({"X-Payment-Tx": "0x" + "0" * 65}, 400, "X-Payment-Tx"),
        ({"X-Payment-Tx": "0x" + "g" * 64}, 400, "X-Payment-Tx"),
        ({"X-Payment-Tx": "0x" + "1" * 64 + ", 0x" + "2" * 64}, 400, "X-Payment-Tx"),
        ({"X-Use-Existing-Credits": "TRUE"}, 402, ("arbitrum", "usdc")),
        ({"X-Use-Existing-Credits": "1"}, 400, "X-Use-Existing-Credits"),
        ({"X-Dry-Run": "yes"}, 400, "X-Dry-Run"),
        ({"X-Dryrun": "true"}, 400, "X-Dryrun"),  # it would deploy
        ({"X-Use-Credits": "true"}, 400, "X-Use-Credits"),
    ],
)
async def test_payment_headers_have_defaults_and_no_other_spellings(
    wallet: Wallet, headers: dict[str, str], status: int, means: Any
) -> None:
    answer = await wallet.deploy(fresh_name(), headers=headers)

    assert answer.status == status, answer.body
    if status == 402:
        assert (answer.body["payment_chain"], answer.body["token"]) == means
    else:
        assert answer.body["field"] == means


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


@pytest.mark.parametrize("months", [1, 2, 24])
async def test_price_is_the_months_but_at_least_the_minimum(wallet: Wallet, months: int) -> None:
    answer = await wallet.deploy(fresh_name(), months=months)

    # The default size is half a GiB and half a core, at $0.50 each a month.
    assert answer.body["amount_token"] == str(500_000 * months)
    assert answer.body["amount_usd"] == 0.5 * months


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


@pytest.mark.parametrize("chain", ["arbitrum", "base"])
async def test_balances_take_any_spelling_of_an_address(wallet: Wallet, chain: str) -> None:
    await wallet.fund(chain=chain, amount=18_000_000)

    for address in (wallet.address, wallet.address.lower(), "0x" + wallet.address[2:].upper()):
        answer = await call(wallet.gateway, "GET", f"/agent/balance/{address}?chain={chain}")

        assert (answer.body["address"], answer.body["chain"]) == (wallet.address, chain)
        usdc = answer.body["balances"][0]
        assert (usdc["balance"], usdc["balance_raw"]) == ("18.000000", "18000000")


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
            assert method in ("post", "put", "patch") or "requestBody" not in operation
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


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/index.html", 404, "not_found"),
        ("GET", "/health/", 404, "not_found"),
        ("GET", "//health", 404, "not_found"),
        ("GET", "/agent/deploy/a%2Fb/c/status", 404, "not_found"),
        ("GET", "/agent/deploy", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("POST", "/openapi.json", 405, "method_not_allowed"),
        ("PUT", "/agent/projects/x", 405, "method_not_allowed"),
        ("OPTIONS", "/agent/deploy", 405, "method_not_allowed"),
        ("DELETE", "/agent/projects/%00", 401, "auth_missing"),
    ],
)
async def test_paths_and_methods_that_there_are_not(
    dev_gateway: DevGateway, method: str, path: str, status: int, code: str
) -> None:
    async with connected(dev_gateway.url) as connection:
        await connection.send(request(method, path))
        answer = await connection.answer()

    assert (answer.status, answer.json["code"]) == (status, code)
    if status == 405:
        assert answer.header("allow")

"""The gateway's own server, driven without a socket, in front of an API that answers as told."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from typing import Any, cast

import msgspec
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from moorage.api.http.caller import bearer_token, is_covered
from moorage.api.http.connections import Arrivals
from moorage.api.http.request import IN_LOOP_BYTES
from moorage.auth.rate_limit import MemoryRateLimiter, TrustedProxies
from moorage.mcp.remote import (
    MAX_BODY_BYTES,
    MAX_CALLS_OF_AN_ADDRESS,
    McpEndpoint,
    remote_tools,
)
from moorage.parsers.job import Answer, JsonRead, ReadJson
from moorage.parsers.pool import ParserPool
from moorage.payments.protocols.mpp import parse_credential
from moorage.uploads.room import Uploader
from support.gateway.clock import MovableClock
from support.gateway.waiting import until

URL = "https://gateway.example.com"
FILES = [{"path": "index.html", "text": "<h1>hello</h1>"}]
HASH = "0x" + "ab" * 32
TOKEN = "0xaf88d065e77c8cc2239327c5edb3a432268e5831"
CHARGE = {
    "amount": "500000",
    "currency": TOKEN,
    "methodDetails": {"chainId": 42161, "credentialTypes": ["hash"], "decimals": 6},
    "recipient": "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf",
}
REQUIRED = {"x402Version": 2, "error": "Payment required", "accepts": [{"amount": "500000"}]}


def encoded(value: Any, *, url: bool = False) -> str:
    text = b64encode(json.dumps(value, separators=(",", ":"), sort_keys=True).encode()).decode()
    return text.translate(str.maketrans("+/", "-_", "=")) if url else text


DEMAND = (
    402,
    {"error": "Payment required", "code": "payment_required", "retryable": False},
    {
        "www-authenticate": f'Payment id="c1", realm="gateway.example.com", method="evm", '
        f'intent="charge", request="{encoded(CHARGE, url=True)}", expires="2030-01-01T00:00:00Z", '
        'digest="sha-256=:AA==:", opaque="e30"',
        "payment-required": encoded(REQUIRED),
    },
)


class Api:
    """Notes requests, and gives the same answer to each."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.answer: tuple[int, dict[str, Any], dict[str, str]] = (200, {"projectId": "1"}, {})
        self.holds: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["raw_path"].decode() + ("?" + scope["query_string"].decode()).rstrip("?")
        self.tokens.append(bearer_token(Request(scope)) if "authorization" in headers else None)
        self.seen.append((scope["method"], path, headers, json.loads(body) if body else None))
        if self.holds is not None:
            await self.holds.wait()
        status, answer, told = self.answer
        raw = [(name.encode(), value.encode()) for name, value in told.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


class Elsewhere:
    """Decodes what a parser process would, and notes for whom."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Uploader]] = []

    async def do(self, job: ReadJson, _descriptors: object, uploader: Uploader) -> Answer:
        self.asked.append((len(job.body), uploader))
        return Answer(JsonRead(msgspec.msgpack.encode(json.loads(job.body))), 0.0)


class Desk:
    """The endpoint, asked by plain requests."""

    def __init__(self, *, limit: int = 1000) -> None:
        self.api = Api()
        self.parsers = Elsewhere()
        self.query = b""
        clock = MovableClock()
        self.endpoint = McpEndpoint(
            self.api,
            public_url=URL,
            address_of=lambda request: request.headers.get("x-from", "192.0.2.1"),
            arrivals=Arrivals(TrustedProxies(())),
            limiter=MemoryRateLimiter(clock=clock, limit=limit),
            parsers=cast("ParserPool", self.parsers),
            clock=clock,
        )

    async def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One HTTP request; status, headers and body of its answer."""
        told = {
            "host": "gateway.example.com",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        arriving: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        started: Message = {}
        content = bytearray()

        async def receive() -> Message:
            if arriving:
                return arriving.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            content.extend(message.get("body", b""))

        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "query_string": self.query,
            "client": ("192.0.2.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        }
        await self.endpoint(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in started.get("headers", ())}
        return started["status"], answered, bytes(content)

    async def listed(self) -> list[dict[str, Any]]:
        """What `tools/list` shows."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        _, _, content = await self.post(json.dumps(message).encode())
        tools: list[dict[str, Any]] = json.loads(content)["result"]["tools"]
        return tools

    async def call(
        self, tool: str, *, meta: dict[str, Any] | None = None, headers: Any = None, **given: Any
    ) -> dict[str, Any]:
        """A tool's call; the whole JSON-RPC answer."""
        params = {"name": tool, "arguments": given} | ({"_meta": meta} if meta else {})
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        status, _, content = await self.post(json.dumps(message).encode(), **(headers or {}))
        assert status == 200, content
        answer: dict[str, Any] = json.loads(content)
        return answer


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    found = Desk()
    async with served(found):
        yield found


class served:  # noqa: N801 - reads as a function
    """A desk whose endpoint runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __aenter__(self) -> Desk:
        self._running = asyncio.create_task(self._desk.endpoint.run())
        return self._desk

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running


async def test_a_call_is_one_request_of_its_caller_from_where_that_is(desk: Desk) -> None:
    signed = {
        "x_wallet_address": "0xAb",
        "x_signature": "0x01",
        "x_timestamp": "2",
        "x_nonce": "3",
        "x_forwarded_for": "198.51.100.7",
    }
    answer = await desk.call("get_project", project="a b", headers={**signed, "cookie": "no"})
    assert answer["result"]["structuredContent"] == {"project_id": "1"}
    ((method, path, headers, body),) = desk.api.seen
    assert (method, path, body) == ("GET", "/agent/projects/a%20b", None)
    assert {name.replace("_", "-"): value for name, value in signed.items()}.items() <= set(
        headers.items()
    )
    assert "cookie" not in headers


@pytest.mark.parametrize("odd", ["p1/tokens", "..", ".", "p1/../p2"])
async def test_an_id_that_is_no_one_part_of_a_path_is_refused_and_nothing_is_sent(
    desk: Desk, odd: str
) -> None:
    calls = [
        await desk.call("get_project", project=odd),
        await desk.call("get_logs", project="p1", deployment=odd),
        await desk.call("delete_project", project=odd, confirm_name=odd),
    ]
    codes = {answer["result"]["structuredContent"]["code"] for answer in calls}
    assert (codes, desk.api.seen) == ({"arguments_invalid"}, [])


async def test_headers_of_payments_do_not_pass_but_by_meta(desk: Desk) -> None:
    headers = {
        "x_payment_tx": HASH,
        "payment_signature": "x",
        "authorization": "Payment x",
        "idempotency_key": "k",
    }
    await desk.call("get_project", project="hello", headers=headers)
    _, _, passed, _ = desk.api.seen[0]
    assert not {"x-payment-tx", "payment-signature", "authorization"} & set(passed)


async def test_a_manage_token_takes_the_place_of_all_that_names_a_caller(desk: Desk) -> None:
    headers = {"x_wallet_address": "0xAb", "x_signature": "0x01"}
    await desk.call("restart", project="hello", manage_token="secret", headers=headers)
    method, path, passed, body = desk.api.seen[0]
    assert (method, path, body) == ("PATCH", "/agent/projects/hello", {"restart": True})
    assert passed["authorization"] == "Bearer secret"
    assert "x-wallet-address" not in passed


async def test_characters_that_headers_lack_are_for_the_api_to_refuse(desk: Desk) -> None:
    desk.api.answer = (401, {"error": "no", "code": "auth_missing", "retryable": False}, {})
    answer = await desk.call("get_project", project="hello", manage_token="€")
    assert answer["result"]["structuredContent"]["code"] == "auth_missing"
    assert desk.api.seen[0][2]["authorization"] == "Bearer \\u20ac"


BEARER = {"authorization": "Bearer token"}


@pytest.mark.parametrize(
    ("headers", "given", "path", "token"),
    [
        ({}, {}, "/deploy", None),
        ({"x_wallet_address": "0xAb"}, {}, "/agent/deploy", None),
        (BEARER, {}, "/agent/deploy", "token"),
        ({}, {"manage_token": "token"}, "/agent/deploy", "token"),
    ],
)
async def test_a_credential_of_mpp_goes_as_its_header_and_a_token_beside_it(
    desk: Desk, headers: dict[str, str], given: dict[str, str], path: str, token: str | None
) -> None:
    challenge = {"id": "c1", "realm": "r", "method": "evm", "intent": "charge", "request": CHARGE}
    credential = {"challenge": challenge, "payload": {"type": "hash", "hash": HASH}}
    meta = {"org.paymentauth/credential": credential}
    await desk.call("deploy", name="hello", files=FILES, headers=headers, meta=meta, **given)
    _, asked, passed, _ = desk.api.seen[0]
    assert asked == path
    assert desk.api.tokens == [token]
    sent = parse_credential(passed["authorization"])
    assert (sent.challenge.id, sent.challenge.request) == ("c1", encoded(CHARGE, url=True))
    assert sent.request.amount == 500_000


GIVEN = {"project": "hello", "deployment": "latest", "name": "hello", "amount_usd": 1, "quote": "q"}
GIVEN |= {"command": "ls"}


@pytest.mark.parametrize("tool", [tool.name for tool in remote_tools()])
async def test_a_tool_offers_a_manage_token_where_the_api_takes_one(desk: Desk, tool: str) -> None:
    (listed,) = [each for each in remote_tools() if each.name == tool]
    offered = "manage_token" in listed.listed()["inputSchema"]["properties"]
    needed = listed.listed()["inputSchema"].get("required", [])
    given: dict[str, Any] = {name: GIVEN.get(name, {}) for name in needed}
    if tool in ("deploy", "quote"):
        given["files"] = FILES
    desk.api.answer = (404, {"error": "no", "code": "not_found", "retryable": False}, {})
    await desk.call(tool, **given)
    method, path, _, _ = desk.api.seen[0]
    assert offered is is_covered(method, path.partition("?")[0])


@pytest.mark.parametrize(
    "meta",
    [
        {"x402/payment": {}, "org.paymentauth/credential": {}},
        {"x402/payment": "text"},
        {"org.paymentauth/credential": ["list"]},
    ],
)
async def test_two_payments_or_a_shapeless_one_are_refused_and_nothing_is_sent(
    desk: Desk, meta: dict[str, Any]
) -> None:
    result = (await desk.call("deploy", name="hello", files=FILES, meta=meta))["result"]
    assert (result["isError"], desk.api.seen) == (True, [])
    assert result["structuredContent"]["code"] == "arguments_invalid"


async def test_a_refusal_of_the_api_is_told_whole(desk: Desk) -> None:
    desk.api.answer = (429, {"error": "slow", "code": "rate_limited", "retryable": True}, {})
    result = (await desk.call("credits"))["result"]
    assert result["isError"] is True
    assert result["structuredContent"]["code"] == "rate_limited"


async def test_without_files_a_call_says_how_to_upload_and_sends_nothing(desk: Desk) -> None:
    result = (await desk.call("deploy", name="hello"))["result"]
    assert result["structuredContent"]["code"] == "files_missing"
    assert f"{URL}/agent/uploads/" in result["structuredContent"]["shell"]
    assert desk.api.seen == []


async def test_whose_headers_are_good_for_one_request_is_told_the_status_at_once(
    desk: Desk,
) -> None:
    desk.api.answer = (200, {"status": "deploying", "deployment_id": "2"}, {})
    headers = {"x_wallet_address": "0xAb"}
    result = (await desk.call("wait_for_deployment", project="hello", headers=headers))["result"]
    assert result["structuredContent"]["status"] == "deploying"
    assert "wait_for_deployment" in result["structuredContent"]["next"]
    assert len(desk.api.seen) == 1


async def test_a_project_is_deleted_only_when_it_is_named_twice(desk: Desk) -> None:
    desk.api.answer = (200, {"id": "1", "name": "hello", "volume": True}, {})
    preview = (await desk.call("delete_project", project="hello"))["result"]["structuredContent"]
    assert (preview["status"], preview["volume_deleted"]) == ("not deleted", True)
    await desk.call("delete_project", project="hello", confirm_name="other")
    await desk.call("delete_project", project="hello", confirm_name="hello")
    assert [method for method, *_ in desk.api.seen] == ["GET", "GET", "DELETE"]


async def test_an_id_given_twice_confirms_nothing(desk: Desk) -> None:
    project = "0b6e0d5e-9d4c-4b5e-8a39-6e1f4a8a0001"
    desk.api.answer = (200, {"id": project, "name": "hello", "volume": True}, {})
    asked: dict[str, Any] = {"project": project, "confirm_name": project}
    for headers in ({}, {"x_wallet_address": "0xAb"}):
        result = (await desk.call("delete_project", headers=headers, **asked))["result"]
        assert result["structuredContent"]["status"] == "not deleted"
        assert 'project and confirm_name "hello"' in result["structuredContent"]["next"]
    assert [method for method, *_ in desk.api.seen] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (URL, 200),
        ("http://localhost:6274", 200),
        ("http://127.0.0.1:1", 200),
        ("https://evil.example", 403),
        ("https://gateway.example.com.evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
async def test_pages_of_other_sites_may_not_call(desk: Desk, origin: str, status: int) -> None:
    listing = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    assert (await desk.post(listing, origin=origin))[0] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
    ids=["empty", "torn", "utf8", "null", "list", "batch", "big"],
)
@pytest.mark.parametrize("era", ["", "2026-07-28"])
async def test_bodies_that_are_no_request_are_refused_and_reach_nothing(
    desk: Desk, body: bytes, status: int, era: str
) -> None:
    headers = {"mcp_protocol_version": era, "mcp_method": "tools/list"} if era else {}
    assert (await desk.post(body, **headers))[0] == status
    assert desk.api.seen == []


async def test_files_of_a_large_call_are_read_elsewhere_and_make_the_same_request(
    desk: Desk,
) -> None:
    """A payment is bound to the request's body: it must not depend on where it was read."""
    text = "<p>" + "word " * 20_000
    await desk.call("quote", name="shop", files=[{"path": "index.html", "text": text}])
    assert [size > IN_LOOP_BYTES for size, _ in desk.parsers.asked] == [True]
    assert {uploader for _, uploader in desk.parsers.asked} == {Uploader("192.0.2.1", False)}
    ((*_, body),) = desk.api.seen
    assert body["upload"]["files"] == [
        {"path": "index.html", "content": b64encode(text.encode()).decode()}
    ]
    await desk.call("quote", name="shop", files=[{"path": "index.html", "text": text[:10_000]}])
    small = desk.api.seen[1][3]
    assert len(desk.parsers.asked) == 1
    small["upload"]["files"][0]["content"] = body["upload"]["files"][0]["content"]
    assert small == body


@pytest.mark.parametrize(
    "params",
    [
        {"arguments": {f"k{number}": 1 for number in range(2_001)}},
        {"_meta": {f"k{number}": 1 for number in range(2_001)}},
        {"arguments": {"x": [[]] * 2_001}},
        {"arguments": {"x": json.loads("[" * 40 + "]" * 40)}},
        {"_meta": {"x": "y" * IN_LOOP_BYTES}},
    ],
    ids=["keys", "meta", "arrays", "depth", "text"],
)
async def test_message_that_takes_long_to_check_is_refused_before_the_protocols_server_has_it(
    desk: Desk, params: dict[str, Any]
) -> None:
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "quote"} | params,
    }
    status, _, content = await desk.post(json.dumps(message).encode())
    assert (status, json.loads(content)["code"]) == (413, "body_too_large")
    assert desk.api.seen == []


async def test_an_unknown_tool_is_an_error_that_names_those_there_are(desk: Desk) -> None:
    error = (await desk.call("destroy"))["error"]
    assert error["code"] == -32602
    assert "wait_for_deployment" in error["message"]


async def test_calls_of_one_address_are_bounded_while_others_go_on(desk: Desk) -> None:
    desk.api.holds = asyncio.Event()
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "credits"}}
    body = json.dumps(message).encode()
    held = [asyncio.create_task(desk.post(body)) for _ in range(MAX_CALLS_OF_AN_ADDRESS)]
    await until(lambda: len(desk.api.seen) == MAX_CALLS_OF_AN_ADDRESS)
    status, headers, _ = await desk.post(body)
    assert (status, int(headers["retry-after"]) > 0) == (429, True)
    other = asyncio.create_task(desk.post(body, x_from="192.0.2.2"))
    await until(lambda: len(desk.api.seen) == MAX_CALLS_OF_AN_ADDRESS + 1)
    desk.api.holds.set()
    assert {(await each)[0] for each in (*held, other)} == {200}
    assert (await desk.post(body))[0] == 200


async def test_requests_of_an_address_have_a_rate() -> None:
    async with served(Desk(limit=1)) as desk:
        listing = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        assert (await desk.post(listing))[0] == 200
        assert (await desk.post(listing))[0] == 429


UNBOUND: tuple[int, dict[str, Any], dict[str, str]] = (
    401,
    {"error": "no", "code": "signature_unbound", "retryable": False},
    {},
)
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of it


async def test_what_moves_power_says_which_request_to_sign(desk: Desk) -> None:
    desk.api.answer = UNBOUND
    answer = await desk.call("adopt", project="my app")
    told = answer["result"]["structuredContent"]
    assert (told["code"], answer["result"]["isError"]) == ("signature_unbound", True)
    assert told["sign"] == {
        "host": "gateway.example.com",
        "method": "POST",
        "path": "/agent/projects/my%20app/adopt",
        "bodyDigest": f"0x{NOTHING}",
        "body": "",
    }


async def test_signature_among_the_arguments_is_sent_as_headers_of_version_2(desk: Desk) -> None:
    await desk.call("adopt", project="p", signed="0xAb:17:nonce:0x01", headers=BEARER)
    ((_, path, headers, body),) = desk.api.seen
    assert (path, body) == ("/agent/projects/p/adopt", None)
    assert {name: headers[name] for name in headers if name[:2] in ("x-", "id", "au")} == {
        "x-wallet-address": "0xAb",
        "x-timestamp": "17",
        "x-nonce": "nonce",
        "x-signature": "0x01",
        "x-signature-version": "2",
        "idempotency-key": "nonce",
    }
    assert headers["content-digest"] == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    await desk.call("adopt", project="p", signed="0xAb:17:n2:0x01", idempotency_key="k")
    assert desk.api.seen[1][2]["idempotency-key"] == "k"


async def test_deploy_that_fills_a_purse_is_signed_as_what_moves_money_is(desk: Desk) -> None:
    app: dict[str, Any] = {
        "name": "shop",
        "files": [{"path": "index.html", "text": "hi"}],
        "purse_usd": 5,
    }
    desk.api.answer = UNBOUND
    answer = await desk.call("deploy", **app)
    asked = answer["result"]["structuredContent"]["sign"]
    assert (asked["method"], asked["path"]) == ("POST", "/agent/deploy")
    await desk.call("deploy", **app, signed="0xAb:17:nonce:0x01")
    (_, path, headers, sent) = desk.api.seen[1]
    digest = sha256(asked["body"].encode()).hexdigest()
    assert json.loads(asked["body"]) == sent
    assert (path, asked["bodyDigest"]) == ("/agent/deploy", f"0x{digest}")
    assert (headers["x-signature-version"], headers["idempotency-key"]) == ("2", "nonce")
    assert headers["content-digest"].startswith("sha-256=:")


async def test_shapeless_signature_is_refused_and_nothing_is_sent(desk: Desk) -> None:
    answer = await desk.call("adopt", project="p", signed="0xAb:17:0x01")
    assert answer["result"]["structuredContent"]["code"] == "arguments_invalid"
    assert desk.api.seen == []


@pytest.mark.parametrize("query", [b"read_only=true", b"read_only=1", b"read_only"])
async def test_reading_profile_lists_and_carries_out_what_changes_nothing(
    desk: Desk, query: bytes
) -> None:
    """However it is written: all tools for another word would protect nobody."""
    desk.query = query
    listed = await desk.listed()
    assert {each["name"] for each in listed} == {t.name for t in remote_tools() if t.hints.reads}
    assert "quote" in {each["name"] for each in listed}
    refused = await desk.call("restart", project="p", manage_token="t")
    assert (refused["error"]["code"], desk.api.seen) == (-32602, [])
    await desk.call("get_project", project="p", manage_token="t")
    assert len(desk.api.seen) == 1
    desk.query = b""
    assert len(await desk.listed()) == len(remote_tools())

"""What a visitor sees where no app answers."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from starlette.types import Message, Scope

from moorage.errors import DatabaseUnavailable
from moorage.routing.pages import PAGES, Absence, HostState, fallback_app

GATEWAY = "https://gateway.example.com"
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


def nobody(_request: object) -> None:
    """A visitor whose address is not known."""


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def ask(
    state: HostState,
    *,
    host: str = "my-app.localhost",
    accept: str = "*/*",
    method: str = "GET",
    path: str = "/",
    query: str = "",
    body: tuple[bytes, ...] = (b"",),
    headers: Mapping[str, str] | None = None,
    retry_after_seconds: int | None = None,
) -> Reply:
    """One request straight into the ASGI app; no socket is opened."""

    async def lookup(asked: str) -> Absence:
        assert asked == asked.lower()
        if asked == "broken.localhost":
            raise DatabaseUnavailable
        return Absence(state, retry_after_seconds)

    app = fallback_app(lookup, base_domain="localhost", gateway_url=GATEWAY + "/", visitor=nobody)
    all_headers = {"host": host, "accept": accept} | dict(headers or {})
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in all_headers.items()],
    }
    chunks = [
        {"type": "http.request", "body": part, "more_body": index < len(body) - 1}
        for index, part in enumerate(body)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return chunks.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert chunks == []  # the body was read
    names = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], names, b"".join(part["body"] for part in sent[1:]))


EXPECTED = {
    HostState.UNKNOWN: (404, "app_not_found", False),
    HostState.DEPLOYING: (503, "app_deploying", True),
    HostState.FAILED: (502, "app_failed", False),
    HostState.SUSPENDED: (402, "app_suspended", False),
    HostState.AT_LIMIT: (503, "app_at_limit", False),
    HostState.BLOCKED: (403, "app_blocked", False),
    HostState.PAUSED: (503, "app_paused", False),
    HostState.NO_SPACE: (503, "app_without_space", True),
    HostState.STOPPED: (502, "app_stopped", True),
    HostState.CRASH_LOOPING: (502, "app_crash_looping", True),
    HostState.MOVING: (503, "app_moving", True),
    HostState.UNHEALTHY: (502, "app_not_answering", True),
    HostState.ASLEEP: (503, "app_waking", True),
    HostState.NO_ROOM: (503, "app_no_room", True),
}


@pytest.mark.parametrize("state", HostState)
async def test_programs_get_json_with_code_and_retryable(state: HostState) -> None:
    reply = await ask(state)
    body = reply.json()
    assert (reply.status, body["code"], body["retryable"]) == EXPECTED[state]
    assert body["error"]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-moorage-fallback"] == body["code"]
    assert ("retry-after" in reply.headers) is body["retryable"]


@pytest.mark.parametrize("state", HostState)
async def test_browsers_get_a_page_without_outside_parts(state: HostState) -> None:
    reply = await ask(state, accept=BROWSER)
    text = reply.body.decode()
    assert reply.status == EXPECTED[state][0]
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert PAGES[state].title in text
    assert "my-app.localhost" in text
    assert "$" not in text
    assert not re.findall(r"(?:src|@import|url\()", text)
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert len(reply.body) < 6_000


async def test_page_of_a_deploying_app_looks_again_by_itself() -> None:
    text = (await ask(HostState.DEPLOYING, accept=BROWSER)).body.decode()
    assert '<meta http-equiv="refresh" content="2">' in text
    assert "reloads by itself" in text
    assert "page" not in (await ask(HostState.DEPLOYING)).json()["error"]
    assert "refresh" not in (await ask(HostState.FAILED, accept=BROWSER)).body.decode()


async def test_suspended_app_says_how_to_top_up() -> None:
    body = (await ask(HostState.SUSPENDED)).json()
    assert f"POST {GATEWAY}/agent/credits" in body["next_actions"][0]
    page = (await ask(HostState.SUSPENDED, accept=BROWSER)).body.decode()
    assert f'<a href="{GATEWAY}">{GATEWAY}</a>' in page


@pytest.mark.parametrize("host", ["<script>alert(1)</script>", '"><img onerror=x>', "a&b", ""])
async def test_host_is_escaped_and_never_looked_up_when_it_is_none(host: str) -> None:
    reply = await ask(HostState.UNHEALTHY, host=host, accept=BROWSER)
    assert reply.status == 404
    assert "<script" not in reply.body.decode()
    assert "<img" not in reply.body.decode()


async def test_host_with_port_and_trailing_dot_is_the_host() -> None:
    assert (await ask(HostState.SUSPENDED, host="my-app.localhost.:8080")).status == 402


async def test_apex_says_what_this_is() -> None:
    page = await ask(HostState.UNKNOWN, host="localhost:8080", accept=BROWSER)
    assert page.status == 200
    assert f'<a href="{GATEWAY}">' in page.body.decode()
    assert GATEWAY in (await ask(HostState.UNKNOWN, host="localhost")).json()["next_actions"][0]


@pytest.mark.parametrize("state", [HostState.STOPPED, HostState.CRASH_LOOPING])
async def test_page_tells_when_the_next_try_is(state: HostState) -> None:
    reply = await ask(state, retry_after_seconds=287)
    assert reply.headers["retry-after"] == "287"
    page = (await ask(state, retry_after_seconds=287, accept=BROWSER)).body.decode()
    assert '<meta http-equiv="refresh" content="287">' in page


async def test_unreadable_state_is_503_and_retryable() -> None:
    reply = await ask(HostState.UNKNOWN, host="broken.localhost")
    assert (reply.status, reply.json()["retryable"]) == (503, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
async def test_every_method_and_path_is_answered(method: str) -> None:
    reply = await ask(HostState.UNKNOWN, method=method, path="/a/../b", body=(b"x", b"y", b"z"))
    assert reply.status == 404


async def test_websocket_is_closed_before_it_opens() -> None:
    async def lookup(host: str) -> Absence:
        return Absence(HostState.UNKNOWN)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    app = fallback_app(lookup, base_domain="localhost", gateway_url=GATEWAY, visitor=nobody)
    scope = {"type": "websocket", "path": "/", "headers": [], "subprotocols": []}
    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_what_the_operator_suspended_asks_nobody_to_pay() -> None:
    told = json.dumps((await ask(HostState.BLOCKED)).json()).lower()
    told += (await ask(HostState.BLOCKED, accept=BROWSER)).body.decode().lower()
    for word in ("credit", "top up", "topping", "pay "):
        assert word not in told

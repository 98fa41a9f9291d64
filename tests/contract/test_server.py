"""What a connection may take, over real sockets: `Bounds`, and what is answered at each."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from moorage.api.http.connections import Bounds, HttpServer, listen_tcp
from moorage.auth.rate_limit import TrustedProxies
from support.clients.raw_http import chunked, connected, request

SOON = 0.5  # yet time enough for a request that is sent at once
GET = request("GET", "/")
LARGE = 8 * 1024 * 1024

gone: "asyncio.Queue[str]" = asyncio.Queue()
"""The paths of requests whose body broke off."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """`/read` says how much of a body came, `/large` is large, `/later` begins its answer before
    it reads, all else reads nothing."""
    body = b"unread"
    if scope["path"] == "/read":
        try:
            body = b"%d" % len(await Request(scope, receive).body())
        except ClientDisconnect:
            gone.put_nowait("/read")
            return
    elif scope["path"] == "/large":
        body = b"x" * LARGE
    elif scope["path"] == "/later":
        head = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await Request(scope, receive).body()
        await send({"type": "http.response.body", "body": b"later"})
        return
    elif scope["path"] == "/trailers":
        await Request(scope, receive).body()
        body = b"%d" % sum(name.startswith(b"x-") for name, _ in scope["headers"])
    await Response(body, media_type="application/json")(scope, receive, send)


@contextlib.asynccontextmanager
async def serving(bounds: Bounds, *, proxies: TrustedProxies | None = None) -> AsyncIterator[str]:
    listener = listen_tcp("127.0.0.1", 0)
    server = HttpServer(app, listener, bounds=bounds, proxies=proxies)
    serving = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    "beginning", [b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "]
)
async def test_request_that_does_not_come_ends_the_connection(
    beginning: bytes, is_first: bool
) -> None:
    async with serving(Bounds(head_seconds=SOON)) as url, connected(url) as connection:
        if not is_first:
            await connection.send(GET)
            assert (await connection.answer()).status == 200
        await connection.send(beginning)

        assert await connection.closed() == b""


async def test_connection_that_says_nothing_ends() -> None:
    async with serving(Bounds(head_seconds=SOON)) as url, connected(url) as connection:
        assert await connection.closed() == b""


async def test_slow_headers_do_not_win_time_by_each_byte() -> None:
    async with serving(Bounds(head_seconds=SOON)) as url, connected(url) as connection:
        await connection.send(b"GET / HTTP/1.1\r\nX-Slow: ")
        closed = asyncio.create_task(connection.closed())
        while not closed.done():
            await connection.send(b"a")
            await asyncio.wait([closed], timeout=SOON / 10)

        assert await closed == b""


async def test_request_under_way_is_not_hurried() -> None:
    async with (
        serving(Bounds(head_seconds=SOON)) as url,
        connected(url) as busy,
        connected(url) as idle,
    ):
        upload = request("POST", "/read", body=b"x" * 100)
        await busy.send(upload[:-1])
        await idle.closed()
        await busy.send(upload[-1:])

        assert (await busy.answer()).body == b"100"


async def test_head_of_an_answer_does_not_wait_for_its_body() -> None:
    upload = request("POST", "/later", body=b"x")
    async with serving(Bounds()) as url, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(upload[:-1])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(upload[-1:])
        assert await reader.readexactly(5) == b"later"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("connection_header", ["keep-alive", "close"])
async def test_refused_upload_gets_its_answer_before_it_is_over(connection_header: str) -> None:
    upload = request("POST", "/", [("Connection", connection_header)], body=b"x" * LARGE) + request(
        "GET", "/after"
    )
    async with serving(Bounds()) as url, connected(url) as connection:
        await connection.send(upload)

        assert (await connection.answer()).body == b"unread"
        if connection_header == "keep-alive":
            assert (await connection.answer()).body == b"unread"
        else:
            assert await connection.closed() == b""


async def test_rest_of_a_refused_upload_has_its_time_too() -> None:
    upload = request("POST", "/", [("Content-Length", "1000")], body=b"x")
    async with serving(Bounds(head_seconds=SOON)) as url, connected(url) as connection:
        await connection.send(upload)
        assert (await connection.answer()).status == 200

        assert await connection.closed() == b""


@pytest.mark.parametrize(
    "head",
    [
        request("GET", "/", [("X-Long", "a" * 9000)]),
        request("GET", "/" + "a" * 9000),
        request("GET", "/", [(f"X-{n}", "a") for n in range(21)]),
        b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * 9000,
    ],
)
async def test_large_heads_are_refused_in_json(head: bytes) -> None:
    async with (
        serving(Bounds(head_bytes=8192, headers=20)) as url,
        connected(url) as connection,
    ):
        await connection.send(head)

        answer = await connection.answer()
        assert (answer.status, answer.json["code"]) == (431, "headers_too_large")
        assert answer.json["retryable"] is False
        assert await connection.closed() == b""


async def test_trailers_are_bounded_and_no_headers() -> None:
    upload = request("POST", "/trailers", [("Transfer-Encoding", "chunked")])
    body = chunked(b"x" * 100_000)
    async with serving(Bounds(head_bytes=8192)) as url, connected(url) as connection:
        await connection.send(upload, body[:-2], b"X-Payment-Tx: 1\r\n\r\n")
        assert (await connection.answer()).body == b"0"

        await connection.send(upload, body[:-2], b"X-Endless: ", b"a" * 300_000)
        assert (await connection.answer()).status == 431


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        request("GET", b"/\xff"),
        request("GET", "/", [("X", b"a\0b")]),
        request("CONNECT", "example.com:443"),
        request("POST", "/", [("Content-Length", "5"), ("Content-Length", "6")], b"hello"),
        request("POST", "/", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")], b"0"),
        request("POST", "/", [("Content-Length", "-1")], b"hello"),
        request("POST", "/", [("Transfer-Encoding", "gzip")], b"hello"),
        request("POST", "/read", [("Transfer-Encoding", "chunked")], b"3\r\nabc\r\nNO\r\n"),
    ],
)
async def test_what_is_no_http_is_refused_in_json(broken: bytes) -> None:
    async with serving(Bounds()) as url, connected(url) as connection:
        await connection.send(broken)

        answer = await connection.answer()
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert answer.header("connection") == "close"
        assert await connection.closed() == b""


async def test_body_that_breaks_off_ends_the_request_at_once() -> None:
    upload = request("POST", "/read", [("Transfer-Encoding", "chunked")], b"3\r\nabc\r\nNO\r\n")
    async with serving(Bounds()) as url, connected(url) as connection:
        while not gone.empty():
            gone.get_nowait()
        await connection.send(upload)

        async with asyncio.timeout(60):
            assert await gone.get() == "/read"
        assert (await connection.answer()).status == 400


async def test_requests_before_garbage_are_answered() -> None:
    async with serving(Bounds()) as url, connected(url) as connection:
        await connection.send(GET, GET, b"\0garbage\r\n\r\n", GET)

        assert [(await connection.answer()).status for _ in range(2)] == [200, 200]
        assert b"HTTP/1.1 200" not in await connection.closed()


async def test_body_after_an_upgrade_is_never_the_next_request() -> None:
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Content-Length", "1000")]
    async with serving(Bounds()) as url, connected(url) as connection:
        await connection.send(request("POST", "/", upgrade))
        assert (await connection.answer()).body == b"unread"
        await connection.send(request("GET", "/smuggled"))

        assert await connection.closed() == b""


async def test_answer_that_is_not_read_ends_the_connection() -> None:
    async with serving(Bounds(unread_seconds=SOON)) as url, connected(url) as connection:
        await connection.send(request("GET", "/large") * 20)
        await connection.until_reset()


async def test_one_connection_too_many_costs_the_one_that_waits_longest() -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(Bounds(connections=3)))
        busy, oldest, newer = [await stack.enter_async_context(connected(url)) for _ in range(3)]
        upload = request("POST", "/read", body=b"x" * 100)
        await busy.send(upload[:-1])
        for connection in (newer, oldest, newer):  # newer is the last that was answered
            await connection.send(GET)
            assert (await connection.answer()).status == 200

        last = await stack.enter_async_context(connected(url))
        await last.send(GET)

        assert (await last.answer()).status == 200
        assert await oldest.closed() == b""
        await busy.send(upload[-1:])
        assert (await busy.answer()).body == b"100"
        await newer.send(GET)
        assert (await newer.answer()).status == 200


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(Bounds(connections_by_address=2)))
        oldest = await stack.enter_async_context(connected(url, source="127.0.1.1"))
        newer = await stack.enter_async_context(connected(url, source="127.0.1.1"))
        for connection in (oldest, newer):
            await connection.send(GET)
            assert (await connection.answer()).status == 200
        other = await stack.enter_async_context(connected(url, source="127.0.1.2"))
        third = await stack.enter_async_context(connected(url, source="127.0.1.1"))

        assert await oldest.closed() == b""
        for connection in (newer, other, third):
            await connection.send(GET)
            assert (await connection.answer()).status == 200


async def test_connections_of_a_proxy_are_not_one_clients() -> None:
    async with contextlib.AsyncExitStack() as stack:
        proxies = TrustedProxies(["127.0.0.1"])
        bounds = Bounds(connections_by_address=2)
        url = await stack.enter_async_context(serving(bounds, proxies=proxies))
        proxied = [await stack.enter_async_context(connected(url)) for _ in range(4)]

        for connection in proxied:
            await connection.send(GET)
            assert (await connection.answer()).status == 200


async def test_pipelined_requests_cost_their_bytes_until_it_is_their_turn() -> None:
    count = 8000
    async with serving(Bounds()) as url, connected(url) as connection:
        await connection.send(request("POST", "/read", body=b"x" * 100)[:-1])
        await connection.send(b"x", GET * count)
        answered = [await connection.answer()]

        requests = sum(isinstance(item, RequestResponseCycle) for item in gc.get_objects())
        assert requests < count / 10
        answered += [await connection.answer() for _ in range(count)]
        assert {answer.status for answer in answered} == {200}

"""Requests for an app that has just ended, through a real proxy: held or refused, never repeated.

An app's door takes connections until it is known that the app is gone, and then hangs up.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from harbour import App, Harbour, get, listening, serve_fallback

from moorage.address import Address
from moorage.routing.access_log import AccessLog
from moorage.routing.haproxy import ACCESS_LOGS
from support.gateway.waiting import until

HOST = "mortal.localhost"
BODY = os.urandom(1 << 20) * 20


@pytest.fixture
def harbour(lone_harbour: Harbour) -> Harbour:
    """A proxy that asks the gateway of a test for apps."""
    return lone_harbour


class Mortal:
    """An app that has ended, behind a door that may not know it yet; the first question starts it.

    What comes in meanwhile is read by the door when `reads` is set, and answered by `says`.
    """

    def __init__(self, address: Address) -> None:
        self.app = App("mortal", address)
        self.asked: list[str] = []
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.stays_dead = False
        self.reads = True
        self.says = b""
        self.delivered: list[bytes] = []  # to the dying app
        self._door: asyncio.Server | None = None

    @property
    def is_to_be_had(self) -> bool:
        return self.app.runner is not None

    async def open_door(self) -> None:
        """Take connections that lead nowhere, as a door does."""
        listener = listening(self.app.address)
        self._door = await asyncio.start_server(self._take, sock=listener, limit=1 << 20)

    async def close_door(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

    async def wake(self, host: str) -> bool:
        self.asked.append(host)
        await self.may_start.wait()
        if self.stays_dead:
            return self._door is not None
        await self.close_door()
        if not self.is_to_be_had:
            await self.app.start()
        return True

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.reads:
            self.delivered.append(await reader.readuntil(b"\r\n\r\n"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.read(1 << 20)
        writer.write(self.says)
        writer.close()


@pytest_asyncio.fixture
async def mortal(harbour: Harbour, address: Address) -> AsyncIterator[Mortal]:
    """Its door is closed at first."""
    ended = Mortal(address)
    await harbour.router.point(HOST, ended.app.address)
    harbour.fallback = await serve_fallback(harbour.settings.run_dir, ended.wake)
    try:
        yield ended
    finally:
        ended.may_start.set()
        await ended.close_door()
        await ended.app.stop()
        await harbour.fallback.stop()


async def send(
    client: aiohttp.ClientSession, harbour: Harbour, method: str, **options: object
) -> tuple[int, str]:
    """Status and text of one answer."""
    async with client.request(
        method,
        harbour.url("/digest"),
        headers={"Host": HOST},
        **options,  # type: ignore[arg-type]
    ) as response:
        return response.status, await response.text()


async def test_request_is_held_while_a_gone_app_is_started_again(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    mortal.may_start.clear()
    held = asyncio.create_task(get(client, harbour, HOST, "/path?query"))
    await until(lambda: mortal.asked == [HOST])
    assert not held.done()
    mortal.may_start.set()
    assert await held == (200, "mortal")
    (seen,) = mortal.app.requests
    assert (seen.path_qs, seen.headers["Host"]) == ("/path?query", HOST)
    assert not [name for name in seen.headers if name.startswith(("X-Moorage", "Moorage"))]


async def test_socket_that_nobody_listens_on_is_a_gone_app(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    if (path := mortal.app.address.path) is not None:
        with socket.socket(socket.AF_UNIX) as abandoned:
            descriptor = os.open(path.parent, os.O_PATH)
            abandoned.bind(f"/proc/self/fd/{descriptor}/{path.name}")
            os.close(descriptor)
    assert await get(client, harbour, HOST) == (200, "mortal")


@pytest.mark.parametrize("expect", [False, True])
async def test_upload_for_a_gone_app_is_held_and_arrives_whole_and_once(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession, *, expect: bool
) -> None:
    status, text = await send(client, harbour, "POST", data=io.BytesIO(BODY), expect100=expect)
    seen = json.loads(text)
    assert status == 200
    assert seen == {"size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    assert mortal.asked == [HOST]


async def test_body_of_a_get_for_a_gone_app_arrives(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    status, text = await send(client, harbour, "GET", data=b"asked so")
    assert (status, json.loads(text)["size"]) == (200, len(b"asked so"))


async def test_websocket_for_a_gone_app_is_held_and_opened(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(harbour.url("/socket"), headers={"Host": HOST}) as opened:
        await opened.send_str("good morning")
        assert await opened.receive_str() == "mortal: good morning"
    assert mortal.asked == [HOST]


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_request_that_a_dying_app_took_is_held_and_answered(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession, method: str, *, reads: bool
) -> None:
    mortal.reads = reads
    await mortal.open_door()
    async with client.request(method, harbour.url(), headers={"Host": HOST}) as response:
        assert response.status == 200
    assert [seen.method for seen in mortal.app.requests] == [method]
    assert mortal.asked == [HOST]


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("body", [b"", b"x" * 100_000])
async def test_unsafe_request_that_may_have_reached_a_dying_app_gets_the_page(
    harbour: Harbour,
    mortal: Mortal,
    client: aiohttp.ClientSession,
    method: str,
    body: bytes,
    *,
    reads: bool,
) -> None:
    mortal.reads = reads
    await mortal.open_door()
    status, text = await send(client, harbour, method, data=body)
    assert (status, json.loads(text)["code"]) == (502, "app_not_answering")
    assert mortal.asked == []
    assert mortal.app.requests == []
    assert len(mortal.delivered) == reads


async def pieces() -> AsyncIterator[bytes]:
    yield b"in pieces"


@pytest.mark.parametrize("chunked", [False, True])
async def test_get_with_a_body_that_may_have_reached_a_dying_app_gets_the_page(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession, *, chunked: bool
) -> None:
    await mortal.open_door()
    data = pieces() if chunked else b"whole"
    assert (await send(client, harbour, "GET", data=data))[0] == 502
    assert mortal.asked == []


async def test_request_is_sent_again_once_and_no_oftener(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    mortal.stays_dead = True
    await mortal.open_door()
    status, text = await send(client, harbour, "GET")
    assert (status, json.loads(text)["code"]) == (404, "app_not_found")
    assert mortal.asked == [HOST]
    assert len(mortal.delivered) == 2


async def test_app_that_is_not_to_be_waited_for_has_its_page_at_once(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    mortal.stays_dead = True
    status, text = await send(client, harbour, "POST", data=io.BytesIO(BODY))
    assert (status, json.loads(text)["code"]) == (404, "app_not_found")
    assert mortal.asked == [HOST]


async def test_answer_that_breaks_off_is_not_asked_for_again(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    mortal.says = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart of it"
    await mortal.open_door()
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(client, harbour, HOST)
    assert mortal.asked == []


async def test_without_the_gateway_the_proxy_says_so(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    assert harbour.fallback is not None
    await harbour.fallback.stop()
    for method in ("GET", "POST"):
        status, text = await send(client, harbour, method, data=b"")
        assert (status, json.loads(text)["code"]) == (503, "gateway_unavailable")


async def test_request_that_was_held_is_counted_once_as_the_apps(
    harbour: Harbour, mortal: Mortal, client: aiohttp.ClientSession
) -> None:
    await mortal.open_door()
    assert (await get(client, harbour, HOST))[0] == 200
    log = AccessLog(harbour.settings.state_dir / ACCESS_LOGS, probe_token="")
    found: list[tuple[int, int, int]] = []

    def is_counted() -> bool:
        batch = log.read(None)
        if batch is not None:
            found.extend(
                (traffic.requests, sum(traffic.latency), traffic.held)
                for traffic in batch.traffic.values()
            )
        return bool(found)

    await until(is_counted)
    assert found == [(1, 1, 1)]

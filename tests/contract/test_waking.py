"""Requests for an app that sleeps, through a real proxy: held while it starts, answered whole."""

import asyncio
import hashlib
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import uvloop
from harbour import DEADLINE_SECONDS, App, Harbour, get, raw, serve_fallback

from moorage.address import Address
from moorage.routing.haproxy import ACCESS_LOGS
from moorage.routing.haproxy_config import FALLBACK_SOCKET, WAKE_SOCKET
from moorage.routing.router import Router
from support.gateway.waiting import until

HOST = "dreamer.localhost"
MIB = 1024 * 1024


@pytest.fixture
def harbour(lone_harbour: Harbour) -> Harbour:
    """A proxy that asks the gateway of a test for apps."""
    return lone_harbour


class Dreamer:
    """An app that is started by the first question for it, once `may_wake` is set."""

    def __init__(self, address: Address, router: Router) -> None:
        self.app = App("dreamer", address)
        self.may_wake = asyncio.Event()
        self.asked: list[str] = []
        self.left = asyncio.Event()  # set when who asked has hung up
        self._router = router
        self._starting: asyncio.Task[None] | None = None

    async def wake(self, host: str) -> bool:
        self.asked.append(host)
        if host != HOST:
            return False
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            self.left.set()
            raise
        return True

    async def _start(self) -> None:
        await self.may_wake.wait()
        await self.app.start()
        await self._router.point(HOST, self.app.address)


@pytest_asyncio.fixture
async def dreamer(harbour: Harbour, address: Address) -> AsyncIterator[Dreamer]:
    sleeping = Dreamer(address, harbour.router)
    harbour.fallback = await serve_fallback(harbour.settings.run_dir, sleeping.wake)
    try:
        yield sleeping
    finally:
        sleeping.may_wake.set()
        await sleeping.app.stop()
        await harbour.fallback.stop()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_pages_and_questions_are_served_on_either_event_loop(
    directory: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """On each Python as well: since 3.13 some ways to serve look for the socket's path."""
    question = struct.pack("!BH", 0xE0, len(HOST)) + HOST.encode()  # a field of our own
    head = struct.pack("!12sBBH", b"\r\n\r\n\0\r\nQUIT\n", 0x21, 0, len(question))  # version 2

    async def ask(socket: str, words: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{opened}/{socket}")
        writer.write(words)
        async with asyncio.timeout(DEADLINE_SECONDS):
            answer = await reader.read()
        writer.close()
        return answer

    async def serve() -> None:
        asked: list[str] = []

        async def wake(host: str) -> bool:
            asked.append(host)
            return True

        fallback = await serve_fallback(directory, wake)
        try:
            page = b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n"
            assert (await ask(FALLBACK_SOCKET, page)).startswith(b"HTTP/1.1 404 ")
            assert (await ask(WAKE_SOCKET, head + question), asked) == (b"", [HOST])
        finally:
            await fallback.stop()

    opened = os.open(directory, os.O_PATH)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())
    finally:
        os.close(opened)


async def test_request_is_held_until_its_app_runs(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession
) -> None:
    held = asyncio.create_task(get(client, harbour, HOST, "/path?query"))
    await until(lambda: dreamer.asked == [HOST])
    assert not held.done()
    dreamer.may_wake.set()
    assert await held == (200, "dreamer")
    (seen,) = dreamer.app.requests
    assert (seen.path_qs, seen.headers["Host"]) == ("/path?query", HOST)
    assert not [name for name in seen.headers if name.startswith("X-Moorage")]
    assert await get(client, harbour, HOST) == (200, "dreamer")
    assert dreamer.asked == [HOST]  # awake, it is not asked for


async def test_time_for_which_a_request_is_held_is_told_apart_from_its_apps_latency(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession
) -> None:
    begun = time.monotonic()
    held = asyncio.create_task(get(client, harbour, HOST))
    await until(lambda: dreamer.asked == [HOST])
    asked = time.monotonic()
    await until(lambda: time.monotonic() >= asked + 0.1)  # long enough to be seen
    woken = time.monotonic()
    dreamer.may_wake.set()
    await held
    ended = time.monotonic()
    await get(client, harbour, HOST)
    (log,) = (harbour.settings.state_dir / ACCESS_LOGS).iterdir()
    await until(lambda: log.read_text().count(HOST) == 2)
    first, second = (line.split(" ") for line in log.read_text().splitlines())
    whole_ms = (ended - begun) * 1000 + 1  # the log's are rounded
    waited_ms, _, latency_ms = first[6].partition("/")
    assert (woken - asked) * 1000 - 1 <= int(waited_ms) - int(latency_ms)
    assert int(waited_ms) <= whole_ms
    assert second[6] == "-"


async def test_50_requests_at_once_are_all_held_and_answered(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession
) -> None:
    held = [asyncio.create_task(get(client, harbour, HOST, f"/{n}")) for n in range(50)]
    await until(lambda: len(dreamer.asked) == 50)
    dreamer.may_wake.set()
    assert await asyncio.gather(*held) == [(200, "dreamer")] * 50
    assert {seen.path for seen in dreamer.app.requests} == {f"/{n}" for n in range(50)}


@pytest.mark.parametrize("expect", [False, True])
async def test_100_mb_upload_wakes_and_arrives_whole(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession, *, expect: bool
) -> None:
    piece = os.urandom(MIB)
    digest = hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            digest.update(piece)
            yield piece

    async def send() -> object:
        async with client.post(
            harbour.url("/digest"), data=body(), headers={"Host": HOST}, expect100=expect
        ) as response:
            return await response.json()

    held = asyncio.create_task(send())
    await until(lambda: dreamer.asked == [HOST])
    dreamer.may_wake.set()
    assert await held == {"size": 100 * MIB, "sha256": digest.hexdigest()}


async def test_websocket_wakes_and_is_answered(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession
) -> None:
    dreamer.may_wake.set()
    async with client.ws_connect(harbour.url("/socket"), headers={"Host": HOST}) as socket:
        await socket.send_str("good morning")
        assert await socket.receive_str() == "dreamer: good morning"
    assert dreamer.asked == [HOST]


async def test_stream_of_events_wakes_and_is_not_buffered(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession
) -> None:
    dreamer.may_wake.set()
    async with client.get(harbour.url("/stream"), headers={"Host": HOST}) as response:
        assert await response.content.readline() == b"data: first\n"
        response.close()
    await until(lambda: dreamer.app.open_streams == 0)


async def test_visitor_that_leaves_is_held_no_longer(harbour: Harbour, dreamer: Dreamer) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", harbour.port)
    writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    await until(lambda: dreamer.asked == [HOST])
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(60):
        await dreamer.left.wait()
    dreamer.may_wake.set()
    await until(lambda: HOST in harbour.router.routes())
    assert dreamer.app.requests == []


async def test_host_without_an_app_gets_its_page_after_the_question(
    harbour: Harbour, dreamer: Dreamer, client: aiohttp.ClientSession
) -> None:
    async with client.post(
        harbour.url(), data=os.urandom(MIB), headers={"Host": "nobody.localhost"}
    ) as response:
        assert response.status == 404
        assert (await response.json())["code"] == "app_not_found"
    assert dreamer.asked == ["nobody.localhost"]


async def test_visitors_cannot_ask_the_question_themselves(
    harbour: Harbour, dreamer: Dreamer
) -> None:
    """To an address that the proxy never asks about, as it is no well-formed host."""
    head = await raw(harbour, b"HEAD / HTTP/1.1\r\nHost: a_b.localhost\r\n\r\n")
    assert head.split()[1] == b"404"
    assert dreamer.asked == []

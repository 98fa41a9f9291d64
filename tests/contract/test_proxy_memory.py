"""What the proxy's memory is bounded by: headers, and what it does when it is ended."""

import asyncio
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from harbour import App, Harbour, get, running_proxies

from moorage.address import Address
from moorage.gateway.platform import find_tool
from moorage.routing.haproxy import HAProxy
from moorage.routing.pages import listen_unix
from moorage.routing.probe import answers
from moorage.routing.router import Router
from support.gateway.ports import quiet_port
from support.gateway.self_signed import self_signed
from support.gateway.waiting import until

MIB = 1024 * 1024
DEADLINE_SECONDS = 60.0
BOMB = "bomb.localhost"


@pytest.fixture
def address(directory: Path) -> Address:
    """One: to what is shown here it makes no difference."""
    return Address.unix(directory / "one.sock")


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def fields(size: int) -> bytes:
    """Header fields of so many bytes, as small as fields can be and each of another name."""
    made = bytearray()
    while len(made) < size:
        made += b"a%x:\r\n" % len(made)
    return bytes(made[: made.rindex(b"\r\n", 0, size) + 2])


@asynccontextmanager
async def answering(router: Router, directory: Path, answer: bytes) -> AsyncIterator[None]:
    """An app at BOMB that answers each request with these bytes, and does not hang up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()
        writer.close()

    path = directory / "bomb.sock"
    async with await asyncio.start_server(handle, sock=listen_unix(path)):
        await router.point(BOMB, Address.unix(path))
        yield


async def test_six_answers_of_10_mb_of_headers_leave_the_proxy_as_it_was(
    harbour: Harbour, app: App, client: aiohttp.ClientSession, directory: Path
) -> None:
    (pid,) = running_proxies(harbour.settings)
    assert await get(client, harbour, "my-app.localhost") == (200, "one")
    before = resident_bytes(pid)
    bomb = b"HTTP/1.1 200 OK\r\n" + fields(9_900_000) + b"Content-Length: 0\r\n\r\n"
    async with answering(harbour.router, directory, bomb):
        for _ in range(6):
            assert (await get(client, harbour, BOMB))[0] == 502
    assert resident_bytes(pid) - before < 20 * MIB
    assert await get(client, harbour, "my-app.localhost") == (200, "one")


@pytest.mark.parametrize(("size", "status"), [(30_000, 200), (50_000, 502)])
async def test_app_may_answer_with_31_kib_of_headers(
    harbour: Harbour, client: aiohttp.ClientSession, directory: Path, size: int, status: int
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX: " + b"x" * size + b"\r\nContent-Length: 0\r\n\r\n"
    async with (
        answering(harbour.router, directory, answer),
        client.get(harbour.url(), headers={"Host": BOMB}, max_field_size=100_000) as response,
    ):
        assert response.status == status


async def test_endless_informational_answers_leave_the_proxy_as_it_was(
    harbour: Harbour, app: App, client: aiohttp.ClientSession, directory: Path
) -> None:
    """20 MB of them to somebody who reads them."""
    (pid,) = running_proxies(harbour.settings)
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 10_000 + b"\r\n\r\n"
    async with answering(harbour.router, directory, hints * 2_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", harbour.port)
        writer.write(f"GET / HTTP/1.1\r\nHost: {BOMB}\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await reader.readexactly(20_000_000)
        assert resident_bytes(pid) < 150 * MIB
        writer.close()
        await writer.wait_closed()
    assert await get(client, harbour, "my-app.localhost") == (200, "one")


def streams(host: str, count: int) -> bytes:
    """So many requests at once on a connection of HTTP/2 (RFC 9113, RFC 7541)."""

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        length = len(payload).to_bytes(3, "big")
        return length + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    asked = b"\x82\x87\x84\x41" + bytes([len(host)]) + host.encode()  # GET https / host
    begun = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    return begun + b"".join(frame(1, 5, 2 * number + 1, asked) for number in range(count))


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_requests_under_way_are_counted_by_host(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    limited = replace(harbour.settings, visitor_connections=50)
    await HAProxy(find_tool("haproxy"), limited).start()
    await until(lambda: len(running_proxies(limited)) == 1)
    assert await harbour.router.requests("my-app.localhost") == 0
    streaming = client.get(harbour.url("/stream"), headers={"Host": "my-app.localhost"})
    async with streaming as response:
        await response.content.readline()
        assert await harbour.router.requests("my-app.localhost") == 1
        assert await harbour.router.requests("another.localhost") == 0


async def test_streams_of_one_address_leave_the_proxy_its_memory(
    harbour: Harbour, app: App, directory: Path
) -> None:
    """110 connections that carry 250 requests each, if the proxy lets them, and one if not."""
    async with AsyncExitStack() as stack:
        port = quiet_port()
        settings = replace(
            harbour.settings,
            run_dir=directory / "secure",
            state_dir=directory / "tls",
            http_port=quiet_port(),
            https_port=port,
            memory_bytes=400 * MIB,
            visitor_connections=512,
        )
        proxy = HAProxy(find_tool("haproxy"), settings)
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        pem, root = self_signed(BOMB, "my-app.localhost")
        for host in (BOMB, "my-app.localhost"):
            await proxy.certificates.install(host, pem)
        router = Router(settings.run_dir, "localhost")
        await router.point("my-app.localhost", app.address)
        await stack.enter_async_context(answering(router, directory, b""))
        trust = ssl.create_default_context(cadata=root)
        both = ssl.create_default_context(cadata=root)
        both.set_alpn_protocols(["h2", "http/1.1"])
        (pid,) = running_proxies(settings)
        before = resident_bytes(pid)
        for number in range(1, 111):
            _, writer = await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=both,
                server_hostname=BOMB,
                local_addr=("127.0.0.2", 0),
            )
            stack.push_async_callback(hang_up, writer)
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
                writer.write(streams(BOMB, 250))
            else:
                writer.write(f"GET / HTTP/1.1\r\nHost: {BOMB}\r\n\r\n".encode())
            if number % 10 == 0:
                assert await answers(
                    port,
                    "my-app.localhost",
                    timeout_seconds=DEADLINE_SECONDS,
                    tls=trust,
                )
                assert resident_bytes(pid) - before < 100 * MIB


async def test_one_address_has_no_more_connections_and_requests_than_it_may(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    limited = replace(harbour.settings, visitor_connections=50, trusted_proxies=("127.0.0.9/32",))
    await HAProxy(find_tool("haproxy"), limited).start()
    await until(lambda: len(running_proxies(limited)) == 1)

    async def held(address: str) -> int:
        """How many of 60 connections from there are answered, all held."""
        async with AsyncExitStack() as stack:
            answered = 0
            for _ in range(60):
                with suppress(ConnectionError):
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", harbour.port, local_addr=(address, 0)
                    )
                    stack.push_async_callback(hang_up, writer)
                    writer.write(b"GET / HTTP/1.1\r\nHost: my-app.localhost\r\n\r\n")
                    answered += (await reader.read(12)) == b"HTTP/1.1 200"
            if address != "127.0.0.9":
                assert await get(client, harbour, "my-app.localhost") == (200, "one")
            return answered

    assert await held("127.0.0.8") == 50
    assert await held("127.0.0.9") == 60


async def test_process_is_bounded_when_it_is_started_and_when_it_is_adopted(
    harbour: Harbour,
) -> None:
    confined: list[int] = []

    async def confine(pid: int) -> None:
        confined.append(pid)

    await harbour.proxy.stop()
    await HAProxy(find_tool("haproxy"), harbour.settings, confine=confine).start()
    adopting = HAProxy(find_tool("haproxy"), harbour.settings, confine=confine)
    await adopting.start()
    (pid,) = running_proxies(harbour.settings)
    assert confined == [pid, pid]
    await adopting.stop()


async def test_killed_proxy_comes_back_by_itself_and_again(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    keeping = asyncio.create_task(harbour.proxy.keep_running())
    seen: list[int] = []
    for _ in range(3):
        await until(lambda: running_proxies(harbour.settings) not in ([], seen[-1:]))
        (pid,) = running_proxies(harbour.settings)
        seen.append(pid)
        os.kill(pid, signal.SIGKILL)
    await until(lambda: running_proxies(harbour.settings) not in ([], seen[-1:]))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                assert await get(client, harbour, "my-app.localhost") == (200, "one")
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)
            else:
                break
    keeping.cancel()
    await asyncio.wait([keeping])

"""A real HAProxy with a router, fallback pages, and small apps on sockets behind it."""

import asyncio
import contextlib
import hashlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web

from moorage.address import Address
from moorage.gateway.platform import find_tool
from moorage.process import find_running
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import FALLBACK_SOCKET, WAKE_SOCKET, ProxySettings
from moorage.routing.pages import Absence, HostState, fallback_app, listen_unix
from moorage.routing.router import Router
from moorage.routing.waking import QuestionServer, Wake, Waking
from support.gateway.ports import quiet_port
from support.gateway.waiting import until

DEADLINE_SECONDS = 60.0
STATES = {
    "arriving.localhost": HostState.DEPLOYING,
    "paused.localhost": HostState.SUSPENDED,
    "sick.localhost": HostState.UNHEALTHY,
}


@dataclass
class Harbour:
    """A proxy with its router and the gateway's fallback pages."""

    settings: ProxySettings
    router: Router
    proxy: HAProxy
    port: int = 0
    fallback: "Fallback | None" = None

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Server(uvicorn.Server):
    """Leaves signals to the tests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Fallback:
    """The gateway's part, served on its two sockets."""

    pages: Server
    serving: asyncio.Task[None]
    asked: asyncio.Task[None]

    async def stop(self) -> None:
        self.pages.should_exit = True
        self.asked.cancel()
        await asyncio.wait([self.serving, self.asked])


async def nobody_sleeps(host: str) -> bool:
    return False


async def serve_fallback(run_dir: Path, wake: Wake = nobody_sleeps) -> Fallback:
    async def lookup(host: str) -> Absence:
        return Absence(STATES.get(host, HostState.UNKNOWN))

    async def owner(host: str) -> str:
        return host

    def visitor(address: str) -> str:
        return address

    pages = fallback_app(
        lookup, base_domain="localhost", gateway_url="http://127.0.0.1:8402", visitor=visitor
    )
    server = Server(uvicorn.Config(pages, log_level="warning", lifespan="off", ws="none"))
    waking = Waking(wake, owner=owner, visitor=visitor)
    asked = QuestionServer(waking, listen_unix(run_dir / WAKE_SOCKET))
    serving = server.serve([listen_unix(run_dir / FALLBACK_SOCKET)])
    tasks = asyncio.create_task(serving), asyncio.create_task(asked.run())
    await until(lambda: server.started)
    return Fallback(server, *tasks)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Long on purpose: no socket's path may depend on where the data directory lies."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / ("a-rather-long-name-for-a-data-directory/" * 3)
        path.mkdir(parents=True)
        yield path


@pytest_asyncio.fixture
async def lone_harbour(directory: Path) -> AsyncIterator[Harbour]:
    """Without a gateway behind it; a test gives it one, or none."""
    settings = ProxySettings(
        run_dir=directory / "run",
        state_dir=directory / "proxy",
        base_domain="localhost",
        http_port=quiet_port(),  # it is started again there, and nobody came in between
    )
    router = Router(settings.run_dir, "localhost")
    proxy = HAProxy(find_tool("haproxy"), settings)
    try:
        yield Harbour(settings, router, proxy, await proxy.start())
    finally:
        await proxy.stop()


@pytest_asyncio.fixture
async def harbour(lone_harbour: Harbour) -> AsyncIterator[Harbour]:
    lone_harbour.fallback = await serve_fallback(lone_harbour.settings.run_dir)
    try:
        yield lone_harbour
    finally:
        await lone_harbour.fallback.stop()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


@dataclass
class App:
    """A small app that says its name, and what it saw."""

    name: str
    address: Address
    runner: web.AppRunner | None = None
    open_streams: int = 0
    requests: list[web.Request] = field(default_factory=list)

    async def start(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/socket", self._socket)
        app.router.add_route("*", "/digest", self._digest)
        app.router.add_get("/broken", self._broken)
        app.router.add_route("*", "/{path:.*}", self._hello)
        self.runner = web.AppRunner(
            app, shutdown_timeout=0.1, handler_cancellation=True, max_line_size=65_536
        )
        await self.runner.setup()
        await web.SockSite(self.runner, listening(self.address)).start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _hello(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        return web.Response(text=self.name, headers={"X-Moorage-Fallback": "forged"})

    async def _broken(self, request: web.Request) -> web.Response:
        return web.Response(status=503, text="the app's own error")

    async def _digest(self, request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"size": size, "sha256": digest.hexdigest()})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.open_streams += 1
        try:
            await response.write(b"data: first\n\n")
            await asyncio.Event().wait()  # nothing more ever comes
        finally:
            self.open_streams -= 1
        return response

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(f"{self.name}: {message.data}")
        return response


def listening(address: Address) -> socket.socket:
    """A socket that listens there."""
    if address.path is not None:
        return listen_unix(address.path)
    host, _, port = str(address).rpartition(":")
    return socket.create_server((host, int(port)))


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, directory: Path) -> Address:
    """Where an app may listen: routing is the same for both kinds of address."""
    if request.param == "tcp":
        return Address(f"127.0.0.1:{quiet_port()}")
    return Address.unix(directory / "one.sock")


@pytest_asyncio.fixture
async def app(harbour: Harbour, address: Address) -> AsyncIterator[App]:
    """An app at my-app.localhost."""
    async with running("one", address) as started:
        await harbour.router.point("my-app.localhost", started.address)
        yield started


@contextlib.asynccontextmanager
async def running(name: str, address: Address) -> AsyncIterator[App]:
    started = App(name, address)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


async def get(
    client: aiohttp.ClientSession, harbour: Harbour, host: str, path: str = "/", **headers: str
) -> tuple[int, str]:
    """Status and text of one answer."""
    async with client.get(
        harbour.url(path), headers={"Host": host} | headers, allow_redirects=False
    ) as response:
        return response.status, await response.text()


async def raw(harbour: Harbour, request: bytes) -> bytes:
    """The head of the answer to exactly these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", harbour.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head


def running_proxies(settings: ProxySettings) -> list[int]:
    config = settings.state_dir / "haproxy.cfg"
    return [record.pid for record in find_running(("-db", "-f", str(config)))]

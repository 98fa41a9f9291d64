"""Visitors of an app over HTTPS while each of two gateways restarts and is killed.

ROUNDS and SECONDS, in the environment, make it longer: how often each is restarted and killed, and
how long visitors come at least.
"""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx2
import pytest
from busy_app import BUSY

from moorage.process import find_running
from support.books.postgres_fixture import PostgresServer
from support.chains.chain_fixture import LocalChains
from support.clients.wallet import Wallet, fresh_name
from support.gateway.members import Member, Pair, running_pair

pytestmark = [pytest.mark.root, pytest.mark.long]

APART = f"127.88.{os.getpid() % 250}.30"  # where the ports of HTTP and HTTPS are free
ROUNDS, SECONDS = int(os.environ.get("ROUNDS", "1")), float(os.environ.get("SECONDS", "10"))
WAYS = "HTTP/1.1", "HTTP/2"
EACH, BEAT_SECONDS = 5, 0.2  # so many visitors by each, who ask so often: fifty requests a second
PAUSE_SECONDS = 0.05
ANSWER_SECONDS = 30.0  # far beyond what anything here takes


@pytest.fixture
def pair(
    local_chains: LocalChains, postgres_server: PostgresServer, tmp_path: Path
) -> Iterator[Pair]:
    name = postgres_server.create()
    with running_pair(
        tmp_path / "data",
        url=postgres_server.url(name),
        chains=local_chains,
        proxy_listen=f"{APART}:80",
        tls="true",
        acme_directories="internal",
    ) as pair:
        yield pair
    postgres_server.drop(name)


@dataclass
class Visitors:
    """Those of one app: fifty a second, by HTTP/1.1 and HTTP/2, and one by a WebSocket."""

    host: str
    root: Path  # of the authority that they trust
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ways: set[str] = field(default_factory=set)
    said: int = 0
    hung_up: int = 0

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """While the body runs."""
        over = asyncio.Event()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client(way)) for way in WAYS]
            connector = aiohttp.TCPConnector(ssl=self._trust())
            talker = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for _ in range(EACH):
                for client in clients:
                    tasks.create_task(self._come(client, over))
            tasks.create_task(self._talk(talker, over))
            try:
                yield
            finally:
                over.set()

    def _client(self, way: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            http1=way == "HTTP/1.1",
            http2=way == "HTTP/2",
            verify=self._trust(),
            timeout=ANSWER_SECONDS,
            headers={"Host": self.host},
        )

    def _trust(self) -> ssl.SSLContext:
        """For one of the clients: each sets what it speaks."""
        return ssl.create_default_context(cafile=str(self.root))

    def clear(self) -> None:
        """Forgets what was."""
        self.seconds.clear()
        self.failed.clear()
        self.ways.clear()
        self.said = self.hung_up = 0

    async def _come(self, client: httpx2.AsyncClient, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not over.is_set():
            began = loop.time()
            try:
                answer = await client.get(
                    f"https://{APART}/", extensions={"sni_hostname": self.host}
                )
                assert (answer.status_code, answer.text) == (200, "busy")
            except (AssertionError, httpx2.HTTPError) as failure:
                self.failed.append(repr(failure))
            else:
                self.ways.add(answer.http_version)
                self.seconds.append(loop.time() - began)
            await asyncio.sleep(began + BEAT_SECONDS - loop.time())

    async def _talk(self, client: aiohttp.ClientSession, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with client.ws_connect(
                    f"https://{APART}/", server_hostname=self.host, headers={"Host": self.host}
                ) as socket:
                    while not over.is_set():
                        await socket.send_str("hello")
                        assert await socket.receive_str(timeout=ANSWER_SECONDS) == "HELLO"
                        self.said += 1
                        await asyncio.sleep(PAUSE_SECONDS)
            except (aiohttp.ClientError, TypeError):  # TypeError: it was closed
                self.hung_up += 1
                await asyncio.sleep(PAUSE_SECONDS)

    def figures(self) -> str:
        """What they saw."""
        return (
            f"{len(self.seconds)} answers, at worst after {max(self.seconds) * 1000:.0f} ms;"
            f" {len(self.failed)} failed; {self.said} words by WebSocket, {self.hung_up} hung up"
        )


async def restart(member: Member) -> None:
    """Ends it as an operator does, and starts it again."""
    await asyncio.to_thread(member.stop)
    await asyncio.to_thread(member.start)


async def crash(member: Member) -> None:
    """Kills it, and starts it again."""
    await asyncio.to_thread(member.kill)
    await asyncio.to_thread(member.start)


def proxy_pid(pair: Pair) -> int:
    """The process of the proxy that both share."""
    config = pair.first.data_dir / "proxy" / "haproxy.cfg"
    (process,) = find_running(("-db", "-f", str(config)))
    return process.pid


async def test_no_visitor_is_lost_whichever_gateway_ends(pair: Pair) -> None:
    wallet, name = await Wallet(pair.first).fund(), fresh_name()
    deployed = await wallet.deploy_paid(name, {"index.js": BUSY})
    assert (await wallet.settled(deployed))["status"] == "ready"
    root = pair.first.data_dir / "certificates" / "root.pem"
    host = f"{name}.{pair.books.base_domain}"
    visitors = Visitors(host, root)
    proxy = proxy_pid(pair)

    async with visitors.coming():
        until = asyncio.get_running_loop().time() + SECONDS
        for member in pair.members * ROUNDS:
            await restart(member)
            await crash(member)
        await asyncio.sleep(until - asyncio.get_running_loop().time())
    print("gateways restarted and killed:", visitors.figures())
    assert proxy_pid(pair) == proxy
    assert (visitors.failed, visitors.hung_up) == ([], 0)
    assert visitors.ways == {*WAYS}
    assert visitors.said > 0

    visitors.clear()
    async with visitors.coming():
        began = asyncio.get_running_loop().time()
        os.kill(proxy, signal.SIGKILL)
        while not visitors.seconds or not visitors.said:
            await asyncio.sleep(PAUSE_SECONDS)
        gone = asyncio.get_running_loop().time() - began
        visitors.clear()
        await asyncio.sleep(1)
    print(f"proxy killed: gone for {gone:.1f} s; then", visitors.figures())
    assert visitors.failed == []
    assert await pair.audit() == []

"""Real apps that crash: visitors are held and answered, and nothing is delivered twice."""

import asyncio
import os
import uuid
from collections import Counter
from dataclasses import dataclass

import aiohttp
import pytest

from support.clients.visitor import Page, address, fetch, host
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root

VISITORS, SENDERS = 6, 3
BOUND_SECONDS = 120  # far beyond what anything here takes

APP = r"""
const http = require('http'), fs = require('fs');
const kept = process.env.HOME + '/deliveries';
const born = String(Date.now());
http.createServer(async (q, s) => {
  const [, what, id] = q.url.split('/');
  if (what === 'deliveries') return s.end(fs.existsSync(kept) ? fs.readFileSync(kept) : '');
  if (q.method === 'POST') fs.appendFileSync(kept, `${id}\n`);  // as soon as its head is there
  if (what === 'before') process.exit(3);
  if (q.method === 'POST') {
    for await (const piece of q);
    if (what === 'exit') process.exit(3);
    if (what === 'kill') process.kill(process.pid, 'SIGKILL');
    if (what === 'throw') setImmediate(() => { throw new Error('unforeseen'); });
    if (['kill', 'throw'].includes(what)) return;
  }
  s.end(born);
}).listen(process.env.PORT);
"""


@dataclass
class Mortal:
    """A deployed app that crashes when told to."""

    gateway: DevGateway
    name: str

    async def fetch(self, path: str = "/", method: str = "GET", data: object = None) -> Page:
        return await fetch(self.gateway, self.name, path, method=method, data=data)

    async def post(self, what: str) -> tuple[str, Page]:
        """A POST that is told from every other, and what came back."""
        sent = str(uuid.uuid4())
        return sent, await self.fetch(f"/{what}/{sent}", "POST", os.urandom(100_000))

    async def deliveries(self) -> Counter[str]:
        return Counter((await self.fetch("/deliveries")).text.split())


@pytest.fixture
async def mortal(dev_gateway: DevGateway) -> Mortal:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    deploying = await wallet.deploy_paid(name, {"index.js": APP})
    status = await wallet.settled(deploying)
    assert status["status"] == "ready", status
    return Mortal(dev_gateway, name)


class Load:
    """Visitors with connections kept alive, and senders whose POSTs are told from each other."""

    def __init__(self, mortal: Mortal) -> None:
        self._mortal = mortal
        self._headers = host(mortal.gateway, mortal.name)
        self.seen: list[set[str]] = []  # by each visitor: the lives of the app
        self.answered: set[str] = set()
        self.over = asyncio.Event()
        work = [self._visit() for _ in range(VISITORS)] + [self._send() for _ in range(SENDERS)]
        self.tasks = [asyncio.create_task(each) for each in work]

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=1)
        return aiohttp.ClientSession(connector=connector, headers=self._headers)

    async def _visit(self) -> None:
        lives: set[str] = set()
        self.seen.append(lives)
        async with self._session() as session:
            while not self.over.is_set():
                async with session.get(address(self._mortal.gateway)) as response:
                    text = await response.text()
                    assert response.status == 200, text
                    lives.add(text)

    async def _send(self) -> None:
        async with self._session() as session:
            while not self.over.is_set():
                sent = str(uuid.uuid4())
                url = address(self._mortal.gateway, f"/keep/{sent}")
                async with session.post(url, data=b"x" * 1000) as response:
                    await response.read()
                    assert response.status in {200, 502}
                    if response.status == 200:
                        self.answered.add(sent)

    async def until_everybody_saw(self, lives: int) -> None:
        def saw() -> bool:
            for task in self.tasks:
                if task.done():
                    task.result()
            return len(self.seen) == VISITORS and all(len(each) >= lives for each in self.seen)

        await until(saw, seconds=BOUND_SECONDS)


@pytest.mark.parametrize("way", ["exit", "kill", "throw", "before"])
async def test_no_get_fails_and_no_post_is_delivered_twice_while_the_app_crashes(
    mortal: Mortal, way: str
) -> None:
    load = Load(mortal)
    await load.until_everybody_saw(1)
    sent, page = await mortal.post(way)
    assert (page.status, "X-Moorage-Fallback" in page.headers) == (502, True)
    await load.until_everybody_saw(2)
    load.over.set()
    await asyncio.gather(*load.tasks)
    deliveries = await mortal.deliveries()
    assert deliveries[sent] == 1
    assert set(deliveries.values()) == {1}
    assert load.answered <= deliveries.keys()


async def test_visitor_who_comes_after_a_request_crashed_the_app_twice_is_answered(
    mortal: Mortal,
) -> None:
    page = await mortal.fetch("/before")  # a GET, sent once more
    assert (page.status, "X-Moorage-Fallback" in page.headers) == (502, True)
    page = await mortal.fetch("/")  # before the next try is due
    assert (page.status, "X-Moorage-Fallback" in page.headers) == (200, False)

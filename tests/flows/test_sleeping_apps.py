"""Real apps that sleep: nothing is left running, and whatever comes first wakes them, whole."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from support.clients.visitor import address, fetch, host
from support.clients.wallet import Answer, Wallet, fresh_name
from support.engines.remains import of_gateway
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

SLEEPER = r"""
const http = require('http'), crypto = require('crypto');
const born = String(Date.now());
http.createServer(async (q, s) => {
  if (q.url === '/events') {
    s.writeHead(200, { 'Content-Type': 'text/event-stream' });
    return s.write('data: awake\n\n');
  }
  if (q.method === 'POST') {
    const hash = crypto.createHash('sha256');
    for await (const piece of q) hash.update(piece);
    return s.end(hash.digest('hex'));
  }
  if (q.url === '/wrong') { s.statusCode = 500; return s.end(); }
  s.end(born);
}).on('upgrade', (q, socket) => {
  const key = q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
    `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.write(Buffer.concat([Buffer.from([129, 5]), Buffer.from('awake')]));
  socket.on('data', () => socket.end());
}).listen(process.env.PORT);
"""


@dataclass
class Sleeper:
    """A deployed app that sleeps after a second."""

    name: str
    wallet: Wallet
    deployed: Answer

    async def project(self) -> dict[str, Any]:
        answer = await self.wallet.call("GET", f"/agent/projects/{self.deployed.body['projectId']}")
        assert answer.status == 200, answer.body
        return answer.body

    async def is_asleep(self) -> bool:
        return bool((await self.project())["asleep"])

    async def falls_asleep(self) -> None:
        await until(self.is_asleep, pause_seconds=0.05)
        await until(self.is_gone, pause_seconds=0.1)  # each look reads much of the machine

    def is_gone(self) -> bool:
        gateway = self.wallet.gateway
        left = of_gateway(gateway.data_dir, gateway.instance_id)
        kinds = ("processes", "cgroups", "networks", "mounts", "loop devices")
        return not [
            thing
            for kind in kinds
            for thing in left[kind]
            if kind not in {"cgroups", "mounts"} or self.deployed.body["deploymentId"] in thing
        ]

    async def usage(self, query: str = "") -> dict[str, Any]:
        path = f"/agent/projects/{self.deployed.body['projectId']}/usage{query}"
        answer = await self.wallet.call("GET", path)
        assert answer.status == 200, answer.body
        return answer.body


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("sleep")
    with running(directory, requests_per_minute="100000", min_sleep_after_seconds="1") as started:
        yield started


@contextlib.asynccontextmanager
async def deployed(gateway: DevGateway) -> AsyncIterator[Sleeper]:
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    deploying = await wallet.deploy_paid(
        name, {"index.js": SLEEPER}, settings={"sleepAfterSeconds": 1}
    )
    status = await wallet.settled(deploying)
    assert status["status"] == "ready", status
    yield Sleeper(name, wallet, deploying)
    deleted = await wallet.call("DELETE", f"/agent/projects/{deploying.body['projectId']}")
    assert deleted.status == 200, deleted.body


@pytest.fixture
async def sleeper(gateway: DevGateway) -> AsyncIterator[Sleeper]:
    async with deployed(gateway) as started:
        yield started


@contextlib.asynccontextmanager
async def events(sleeper: Sleeper) -> AsyncIterator[bytes]:
    """The first line of the app's stream of events, which is open meanwhile."""
    gateway = sleeper.wallet.gateway
    async with (
        aiohttp.ClientSession() as session,
        session.get(address(gateway, "/events"), headers=host(gateway, sleeper.name)) as response,
    ):
        yield await response.content.readline()


async def test_unused_app_leaves_nothing_but_files_and_is_ready_all_the_same(
    sleeper: Sleeper,
) -> None:
    await sleeper.falls_asleep()
    assert (await sleeper.wallet.status(sleeper.deployed)).body["status"] == "ready"
    assert (await sleeper.project())["status"] == "active"
    page = await fetch(sleeper.wallet.gateway, sleeper.name)
    assert (page.status, page.text.isdigit()) == (200, True)
    async with events(sleeper):  # it can't fall asleep again meanwhile
        assert not await sleeper.is_asleep()
    await sleeper.falls_asleep()
    again = await fetch(sleeper.wallet.gateway, sleeper.name)
    assert int(again.text) > int(page.text)


async def test_websocket_wakes_and_keeps_awake(sleeper: Sleeper) -> None:
    gateway = sleeper.wallet.gateway
    await sleeper.falls_asleep()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address(gateway), headers=host(gateway, sleeper.name)) as connection,
    ):
        assert await connection.receive_str() == "awake"
        async with deployed(gateway) as other:
            await until(other.is_asleep, pause_seconds=0.05)
        assert not await sleeper.is_asleep()


async def test_of_a_thousand_requests_at_once_to_a_sleeping_app_none_is_lost(
    sleeper: Sleeper,
) -> None:
    """They come from four addresses, as one may have 512 connections, and wake it once."""
    gateway = sleeper.wallet.gateway
    await sleeper.falls_asleep()

    async def asked(session: aiohttp.ClientSession) -> tuple[int, str]:
        where = address(gateway)
        async with session.get(where, headers=host(gateway, sleeper.name)) as response:
            return response.status, await response.text()

    async with contextlib.AsyncExitStack() as stack:
        visitors = [
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, local_addr=(f"127.0.0.{last}", 0))
            )
            for last in range(2, 6)
        ]
        for visitor in visitors:
            await stack.enter_async_context(visitor)
        answers = await asyncio.gather(*(asked(each) for each in visitors for _ in range(250)))
    assert Counter(status for status, _ in answers) == {200: 1_000}
    assert len({born for _, born in answers}) == 1


async def test_owner_sees_what_each_state_cost(sleeper: Sleeper) -> None:
    await sleeper.falls_asleep()
    awake, asleep = (await sleeper.usage())["states"]
    assert (awake["state"], asleep["state"]) == ("awake", "asleep")
    assert awake["ms"] > 1_000
    told = await sleeper.wallet.call("GET", "/agent/credits")
    (burning,) = told.body["burning"]
    project = await sleeper.project()
    assert burning["asleep"] is True
    assert burning["burn_per_hour_usd"] == project["burnPerHourUsd"] < project["pricePerHourUsd"]


async def test_sleeping_app_sleeps_on_over_a_crash_of_the_gateway(sleeper: Sleeper) -> None:
    gateway = sleeper.wallet.gateway
    await sleeper.falls_asleep()
    gateway.kill()
    gateway.start()
    assert await sleeper.is_asleep()
    assert sleeper.is_gone()
    assert (await fetch(gateway, sleeper.name)).status == 200


async def test_usage_tells_what_visitors_asked_and_nothing_else(sleeper: Sleeper) -> None:
    gateway = sleeper.wallet.gateway
    for path in ("/", "/", "/wrong"):
        await fetch(gateway, sleeper.name, path)
    await fetch(gateway, sleeper.name, method="POST", data=b"x" * 1000)
    await sleeper.falls_asleep()

    async def counted() -> bool:
        return bool((await sleeper.usage())["totals"]["requests"] >= 4)

    await until(counted)
    totals = (await sleeper.usage())["totals"]
    assert totals["requests"] == 4
    assert totals["status"] == {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 0, "5xx": 1}
    assert 1000 < totals["bytesIn"] < 1000 + 4 * 500  # with four heads
    assert 13 + 13 + 64 < totals["bytesOut"] < 13 + 13 + 64 + 4 * 500
    latency = totals["latency"]
    assert 0 <= latency["medianMs"] <= latency["p95Ms"] <= latency["slowestMs"]
    assert latency["slowestMs"] > 0
    fine = await sleeper.usage("?by=5m")
    assert (fine["hours"], sum(each["requests"] for each in fine["spans"])) == ([], 4)
    assert fine["totals"]["bytesIn"] == totals["bytesIn"]
    path = f"/agent/projects/{sleeper.deployed.body['projectId']}/usage?by=week"
    assert (await sleeper.wallet.call("GET", path)).body["field"] == "by"

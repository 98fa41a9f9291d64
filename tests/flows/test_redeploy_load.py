"""A redeploy and a rollback under load: no request fails, whatever was begun before the switch."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from support.clients.visitor import address, host
from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = [pytest.mark.root, pytest.mark.long]

MIB = 1024 * 1024
UPLOAD_BYTES = 10 * MIB
VISITORS, UPLOADERS = 6, 3
BOUND_SECONDS = 180  # far beyond what anything here takes

APP = r"""
const http = require('http'), crypto = require('crypto');
const version = 'VERSION';
let streams = [];
http.createServer(async (q, s) => {
  if (q.url === '/events') {
    s.writeHead(200, { 'Content-Type': 'text/event-stream' });
    s.write(`data: ${version}\n\n`);
    return streams.push(s);
  }
  if (q.url === '/upload') {
    const hash = crypto.createHash('sha256');
    for await (const piece of q) hash.update(piece);
    return s.end(`${version} ${hash.digest('hex')}`);
  }
  s.end(version);
}).on('upgrade', (q, socket) => {
  const key = q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
    `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('error', () => {});
  let come = Buffer.alloc(0);  // short frames, in whatever pieces
  socket.on('data', (piece) => {  // whatever it is asked, streams end and it says who it is
    come = Buffer.concat([come, piece]);
    while (come.length >= 6 && come.length >= 6 + (come[1] & 127)) {
      const frame = come.subarray(0, 6 + (come[1] & 127));
      come = come.subarray(frame.length);
      if ((frame[0] & 15) !== 1) return socket.end();
      streams.splice(0).forEach((s) => s.end('data: last\n\n'));
      socket.write(Buffer.concat([Buffer.from([129, version.length]), Buffer.from(version)]));
    }
  });
}).listen(process.env.PORT);
"""

Switch = Callable[[Wallet, str, Answer], Awaitable[Answer]]


def app(version: str) -> dict[str, str]:
    return {"index.js": APP.replace("VERSION", version)}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("load")
    settings = {"requests_per_minute": "100000"}
    with running(directory, **settings) as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


class Load:
    """Visitors and uploaders of one app, who note what they were answered and by which version."""

    def __init__(self, gateway: DevGateway, name: str) -> None:
        self._gateway = gateway
        self._headers = host(gateway, name)
        self.seen: list[set[str]] = []
        self.switched = asyncio.Event()  # uploads that are half sent go on
        self.over = asyncio.Event()
        self.uploads = 0

    def _url(self, path: str) -> str:
        return address(self._gateway, path)

    async def visit(self) -> None:
        """One client with one connection kept alive."""
        versions: set[str] = set()
        self.seen.append(versions)
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            while not self.over.is_set():
                async with session.get(self._url("/")) as response:
                    text = await response.text()
                    assert response.status == 200, text
                    versions.add(text)

    async def upload(self) -> None:
        """An upload of 10 MiB that is under way while the address changes hands."""
        content = b"\7" * UPLOAD_BYTES
        async with aiohttp.ClientSession(headers=self._headers) as session:
            pieces = self._half_and_half(content)
            async with session.post(self._url("/upload"), data=pieces) as response:
                text = await response.text()
                assert response.status == 200, text
                assert text.split()[1] == hashlib.sha256(content).hexdigest()
                self.uploads += 1

    async def _half_and_half(self, content: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(content), MIB):
            if at == len(content) // 2:
                await self.switched.wait()
            yield content[at : at + MIB]

    @asynccontextmanager
    async def connections(
        self,
    ) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, aiohttp.ClientResponse]]:
        """A WebSocket and a stream of events, open."""
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession(headers=self._headers))
            socket = await stack.enter_async_context(session.ws_connect(self._url("/socket")))
            stream = await stack.enter_async_context(session.get(self._url("/events")))
            yield socket, stream

    async def until_everybody_saw(self, version: str) -> None:
        while not all(version in versions for versions in self.seen):
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    def begin(self) -> None:
        work = [self.visit() for _ in range(VISITORS)] + [self.upload() for _ in range(UPLOADERS)]
        self.tasks = [asyncio.create_task(each) for each in work]


async def redeploy(wallet: Wallet, name: str, first: Answer) -> Answer:
    return await wallet.deploy(name, app("new"))


async def roll_back(wallet: Wallet, name: str, first: Answer) -> Answer:
    project = first.body["projectId"]
    return await wallet.call("POST", f"/agent/projects/{project}/rollback", json={})


@pytest.mark.parametrize("switch", [redeploy, roll_back])
async def test_nothing_fails_while_the_address_changes_hands(
    gateway: DevGateway, wallet: Wallet, switch: Switch
) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name, app("new" if switch is roll_back else "old"))
    assert (await wallet.settled(first))["status"] == "ready"
    if switch is roll_back:
        second = await wallet.deploy(name, app("old"))
        assert (await wallet.settled(second))["status"] == "ready"
    load = Load(gateway, name)
    async with asyncio.timeout(BOUND_SECONDS), load.connections() as (socket, stream):
        assert await stream.content.readuntil(b"\n\n") == b"data: old\n\n"
        load.begin()
        await load.until_everybody_saw("old")

        switched = await switch(wallet, name, first)
        assert switched.status == 200, switched.body
        assert (await wallet.settled(switched))["status"] == "ready"
        await load.until_everybody_saw("new")

        load.switched.set()
        await socket.send_str("who")
        assert await socket.receive_str() == "old"
        assert await stream.content.read() == b"data: last\n\n"
        load.over.set()
        await asyncio.gather(*load.tasks)
        assert load.uploads == UPLOADERS

        ended = await socket.receive()  # at the limit, as nobody closes it before
        assert ended.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")

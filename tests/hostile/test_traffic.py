"""Nobody takes all connections or all bandwidth: no app of the world's, no visitor of an app's."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import arena
import pytest
import pytest_asyncio
from apps import PATIENCE_SECONDS, SMALL, Deployer, ask, attempts, plan, upload

from conftest import Host, new_sandbox
from moorage.engines.engine import Instance
from moorage.engines.host.configuration import ConnectionLimits
from support.engines.small_apps import connected

pytestmark = [
    pytest.mark.root,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.spread("deployer"),
]

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

SINK_PORT = 8098
MBIT = 8
LIMITED = ConnectionLimits(
    app_connections=300,
    app_new_connections=20,
    app_bandwidth_mbit=MBIT,
)


@pytest.fixture(scope="module")
def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployer(host: Host) -> AsyncIterator[Deployer]:
    """Deploys in a sandbox with limits."""
    sandbox = new_sandbox(host, "f", traffic=LIMITED)
    await sandbox.open()
    yield Deployer(sandbox)
    await sandbox.close(stop_apps=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(deployer: Deployer, source: Path) -> Instance:
    """An app that takes what it can get."""
    return await deployer.deploy("taker", source, plan(), SMALL)


class Sink:
    """A service of the world's that takes all it is sent, and counts bytes and connections."""

    def __init__(self, world: int) -> None:
        self.received, self.connections = 0, 0
        with arena.inside(world):
            self._endpoint = socket.create_server((arena.PUBLIC_ADDRESS, SINK_PORT), backlog=512)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._endpoint.accept()
                self.connections += 1
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while chunk := connection.recv(1 << 16):
                self.received += len(chunk)

    def close(self) -> None:
        """Take no more."""
        self._endpoint.shutdown(socket.SHUT_RDWR)
        self._endpoint.close()


@pytest.fixture
def sink(host: Host) -> Iterator[Sink]:
    """Somewhere in the world to send to."""
    it = Sink(host.world)
    yield it
    it.close()


async def test_app_sends_no_faster_than_it_may(app: Instance, sink: Sink) -> None:
    """Outside, this link carries gigabits: twice the limit is far below."""
    took = time.monotonic()
    await attempts(app, [["exhaust.py", "send", arena.PUBLIC_ADDRESS, str(SINK_PORT), "4"]])
    seconds = time.monotonic() - took
    assert 64 * 1024 < sink.received < 2 * MBIT * 125_000 * seconds


async def test_app_that_scans_begins_no_more_connections_than_it_may(
    app: Instance, sink: Sink
) -> None:
    took = time.monotonic()
    await attempts(app, [["exhaust.py", "scan", arena.PUBLIC_ADDRESS, str(SINK_PORT), "500", "2"]])
    seconds = time.monotonic() - took
    assert 0 < sink.connections <= 20 + 20 * (seconds + 1)


async def test_app_takes_as_many_connections_as_it_may(deployer: Deployer, source: Path) -> None:
    """Of one visitor who holds them: 256 were once the end for everybody else."""
    server = "require('http').createServer((_, answer) => answer.end('{}')).listen(3000)"
    app = await deployer.deploy("held", source, plan(f'exec node -e "{server}"'))
    held = [await connected(app) for _ in range(290)]
    try:
        assert await asyncio.wait_for(ask(app), PATIENCE_SECONDS) == {}
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_ask_beside(app, 20, held), PATIENCE_SECONDS)
    finally:
        for _, writer in held:
            writer.close()


async def _ask_beside(app: Instance, more: int, held: list[Connection]) -> None:
    """Ask over one connection, after so many more: one too many is refused, or hung up on."""
    while more:
        held.append(await connected(app))
        more -= 1
    await ask(app)

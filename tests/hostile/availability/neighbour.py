"""A paying neighbour of whoever attacks the gateway, and what it must go on having meanwhile."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

HEALTH_SECONDS = 1.0
_PAUSE_SECONDS = 0.1

# Each request writes to the volume, and waits until the disk has it.
WRITES = """\
const fs = require('fs'), file = process.env.DATA_DIR + '/written';
require('http').createServer((request, response) => {
  const written = fs.openSync(file, 'w');
  fs.writeSync(written, request.url);
  fs.fsyncSync(written);
  fs.closeSync(written);
  response.end('wrote ' + fs.readFileSync(file, 'utf8'));
}).listen(process.env.PORT);
"""


@dataclass
class Neighbour:
    """A wallet that paid, with an app that writes to its volume at each visit."""

    gateway: DevGateway
    wallet: Wallet
    name: str
    deployed: Answer
    health_seconds: list[float] = field(default_factory=list)
    visits: int = 0

    async def visit(self) -> None:
        """One visit, which must be answered by the app and must have been written."""
        self.visits += 1
        expected = (200, f"wrote /{self.visits}")
        assert await self.wallet.visit(self.name, f"/{self.visits}") == expected

    async def ask_health(self) -> None:
        """One question over a connection of its own; how long it took is kept."""
        started = time.monotonic()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.gateway.url}/health") as response,
        ):
            assert response.status == 200
        self.health_seconds.append(time.monotonic() - started)

    async def deploy_another(self) -> None:
        """A further app of the same wallet, paid for, becomes ready."""
        deployed = await self.wallet.deploy_paid(fresh_name())
        assert (await self.wallet.settled(deployed, pause_seconds=0.5))["status"] == "ready"
        await self.wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")

    @asynccontextmanager
    async def unharmed(self) -> AsyncIterator[None]:
        """While the body attacks: visits, writes, `/health`, and a paid deploy, all of them served.

        `/health` is asked all along. Half of the answers come within `HEALTH_SECONDS`: a machine
        that is busy with other tests may hold up one, a gateway that is held up holds up all.
        """
        self.health_seconds.clear()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._go_on(over))
            deploy = tasks.create_task(self.deploy_another())
            yield
            await deploy
            over.set()
        assert statistics.median(self.health_seconds) < HEALTH_SECONDS, self.health_seconds

    async def _go_on(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self.ask_health()
            await self.visit()
            await asyncio.sleep(_PAUSE_SECONDS)


async def settle(gateway: DevGateway) -> Neighbour:
    """A neighbour whose app is ready."""
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    deployed = await wallet.deploy_paid(name, {"index.js": WRITES}, settings={"volume": True})
    assert (await wallet.settled(deployed, pause_seconds=0.5))["status"] == "ready"
    return Neighbour(gateway, wallet, name, deployed)

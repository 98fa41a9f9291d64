"""A fleet of small apps that are deployed, crashed and deleted at random, and what must hold."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

WALLETS = 8
SHARE = {"X-Use-Existing-Credits": "true"}
BROKEN = {"main.py": "raise SystemExit('this version does not start')"}
UNREACHABLE = (aiohttp.ClientError, TimeoutError)
"""What a client meets while the gateway is killed and started again."""


def app(version: int) -> dict[str, str]:
    """An app of a few MiB that says its version, and dies when asked to."""
    return {
        "main.py": f"""\
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class App(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        body = b"{version}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        print(*args, flush=True)

ThreadingHTTPServer(("", int(os.environ["PORT"])), App).serve_forever()
"""
    }


@dataclass
class Berth:
    """One project as it should be."""

    wallet: Wallet
    name: str
    project: str
    versions: set[int]  # one of which serves: two after a redeploy whose answer was lost
    busy: bool = False  # one task at a time changes it
    doubtful: bool = False  # whether it was deleted is not known


@dataclass
class Fleet:
    """All projects, and the random acts upon them; `chance` makes a run repeatable."""

    gateway: DevGateway
    size: int
    chance: random.Random
    wallets: list[Wallet] = field(default_factory=list)
    berths: list[Berth] = field(default_factory=list)
    versions: int = 0
    acts: dict[str, int] = field(default_factory=dict)

    async def fund(self) -> None:
        """Wallets with credits for far more deploys than there will be."""
        for _ in range(WALLETS):
            wallet = await Wallet(self.gateway).fund(amount=200_000_000)
            tx = await wallet.pay(100_000_000)
            answer = await wallet.call("POST", "/agent/credits", headers={"X-Payment-Tx": tx})
            assert answer.status == 200, answer.body
            self.wallets.append(wallet)

    async def fill(self) -> None:
        """Deploy until the fleet has its size."""
        places = asyncio.Semaphore(WALLETS)

        async def one(wallet: Wallet) -> None:
            async with places:
                await self.deploy(wallet)

        wanted = self.size - len(self.berths)
        await asyncio.gather(*(one(self.wallets[n % WALLETS]) for n in range(wanted)))

    async def act(self) -> None:
        """One random act upon a random project that nobody else is at."""
        idle = [berth for berth in self.berths if not (berth.busy or berth.doubtful)]
        if not idle:
            await asyncio.sleep(0.05)
            return
        berth = self.chance.choice(idle)
        act: Callable[[Berth], Awaitable[None]] = self.chance.choices(
            [self.redeploy, self.redeploy_broken, self.crash, self.replace], weights=[4, 1, 4, 2]
        )[0]
        berth.busy = True
        try:
            await act(berth)
        except UNREACHABLE:
            self._count("unreachable")
            berth.doubtful = act == self.replace
            await asyncio.sleep(0.1)  # the gateway is just being started again
        else:
            self._count(act.__name__)
        finally:
            berth.busy = False

    async def deploy(self, wallet: Wallet) -> None:
        """A new project, settled."""
        self.versions += 1
        version, name = self.versions, fresh_name()
        deployed = await wallet.deploy(name, app(version), headers=SHARE)
        assert deployed.status == 200, deployed.body
        berth = Berth(wallet, name, deployed.body["projectId"], {version}, busy=True)
        self.berths.append(berth)
        try:
            await wallet.settled(deployed, within_seconds=300)
        finally:
            berth.busy = False

    async def redeploy(self, berth: Berth) -> None:
        """Another version of a project, which then serves."""
        self.versions += 1
        version = self.versions
        berth.versions.add(version)
        deployed = await berth.wallet.deploy(berth.name, app(version), headers=SHARE)
        assert deployed.status == 200, deployed.body
        settled = await berth.wallet.settled(deployed, within_seconds=300)
        assert settled["status"] == "ready", settled
        berth.versions = {version}

    async def redeploy_broken(self, berth: Berth) -> None:
        """A version that does not start leaves the one before."""
        broken = await berth.wallet.deploy(berth.name, BROKEN, headers=SHARE)
        assert broken.status == 200, broken.body
        settled = await berth.wallet.settled(broken, within_seconds=300)
        assert settled["status"] == "failed", settled

    async def crash(self, berth: Berth) -> None:
        """The app ends by itself."""
        await berth.wallet.visit(berth.name, "/die")

    async def replace(self, berth: Berth) -> None:
        """Delete a project, and deploy a new one in its place."""
        deleted = await berth.wallet.call("DELETE", f"/agent/projects/{berth.project}")
        assert deleted.status in {200, 404}, deleted.body  # 404: an answer before was lost
        self.berths.remove(berth)
        await self.deploy(berth.wallet)

    async def settle_doubts(self) -> None:
        """Replace those of which it is not known whether they were deleted."""
        for berth in [berth for berth in self.berths if berth.doubtful]:
            await self.replace(berth)

    async def serves(self) -> None:
        """Every project's address answers with its version."""
        for berth in self.berths:
            await berth.wallet.until_answers(berth.name, within_seconds=120)
            status, text = await berth.wallet.visit(berth.name)
            assert status == 200, berth.name
            assert int(text) in berth.versions, berth.name

    async def clear(self) -> None:
        """Delete everything, also what an answer that was lost had deployed."""
        for wallet in self.wallets:
            listed = await wallet.call("GET", "/agent/projects")
            for project in listed.body["projects"]:
                deleted = await wallet.call("DELETE", f"/agent/projects/{project['id']}")
                assert deleted.status == 200, deleted.body
        self.berths.clear()

    def _count(self, act: str) -> None:
        self.acts[act] = self.acts.get(act, 0) + 1

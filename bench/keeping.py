"""Ten thousand projects, a thousand of them running, over two gateways: one compares, one follows.

The gateway that keeps the apps compares rows and engine every two seconds; the other, on another
machine, has its proxy's routes follow both each second. Engine and routes are in memory, and cost
nothing: what is measured is the gateways' own, by the processor time of this process. PostgreSQL's
server has its own.
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from customers import Customers, fill
from measure import SERVER_CPU, Row, cpu_seconds, median, on_cpu, spread
from moorage.engines.engine import Instance
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.addresses.routes import FOLLOW_SECONDS, FollowedRoutes
from moorage.hosting.loops import loops_of
from moorage.records.project import Project, ProjectStatus
from moorage.storage.database import Database
from moorage.storage.opening import open_database
from sharing import server
from support.books.postgres_fixture import PostgresServer
from support.books.records_fixture import add_project
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRoutes, app_address

sys.path.append(str(Path(__file__).parents[1] / "tests" / "unit" / "hosting"))

from yard import Yard

PROJECTS, RUNNING = 10_000, 1_000
FEW = 10
TICKS = 10
DEPLOYS = 30
_HOSTS = Hosts(base_domain="example.com", scheme="https", port=None)


@dataclass
class Fleet:
    """A gateway that keeps so many projects, and what was measured there."""

    yard: Yard
    other: Database  # of the gateway that follows
    deployed: Project
    compares: list[float] = field(default_factory=list)  # percent of a core, in each tick
    follows: list[float] = field(default_factory=list)
    deploys_ms: list[float] = field(default_factory=list)  # from the job's claim to its end
    server_ms: float = 0.0  # the server's own, for a comparison and two followings

    async def compare(self, postgres: PostgresServer) -> None:
        """Measures comparisons, and how another gateway's routes follow."""
        routes = FollowedRoutes(
            db=self.other, instances=self.yard.runtime, routes=FakeRoutes(), hosts=_HOSTS
        )
        (apps,) = (loop for loop in loops_of(self.yard.services) if loop.name == "apps")
        began = _server_seconds(postgres)
        self.compares = await _shares(apps.tick, every_seconds=apps.every_seconds)
        between = _server_seconds(postgres)
        self.follows = await _shares(routes.follow, every_seconds=FOLLOW_SECONDS)
        used = between - began + 2 * (_server_seconds(postgres) - between)
        self.server_ms = 1000 * used / (TICKS + 1)

    async def deploy(self) -> float:
        """Carries out one deployment; returns the milliseconds of this process."""
        queued = await self.yard.queued(self.deployed)
        began = time.process_time()
        settled = await self.yard.deployed()
        took_ms = 1000 * (time.process_time() - began)
        assert (settled.id, settled.status) == (queued.id, "ready")
        return took_ms


def run() -> list[Row]:
    """The same beside ten projects, and beside all."""
    with on_cpu(SERVER_CPU), server() as postgres:
        return rows(*asyncio.run(_measure(postgres)))


def rows(few: Fleet, many: Fleet) -> list[Row]:
    """Figures against what is wanted."""
    compares, follows = median(many.compares), median(many.follows)
    deploy, beside_few = median(many.deploys_ms), median(few.deploys_ms)
    fleet = f"{PROJECTS:,} projects, {RUNNING:,} running"
    return [
        Row(
            f"{fleet}: the leader's comparisons",
            f"{compares:.2f} % of a core",
            "< 2 %",
            compares < 2,
            f"PostgreSQL's own beside both gateways' is {many.server_ms:.0f} ms every two seconds; "
            f"{spread(many.compares, 2)}",
        ),
        Row(
            f"{fleet}: another gateway's routes",
            f"{follows:.2f} % of a core",
            "< 2 %",
            follows < 2,
            spread(many.follows, 2),
        ),
        Row(
            f"a deploy beside them ÷ beside {FEW}",
            f"{deploy / beside_few:.2f}×",
            "≤ 1.10×",
            deploy / beside_few <= 1.1,
            f"the gateway's processor time, {deploy:.1f} ms ÷ {beside_few:.1f} ms; "
            f"{spread(many.deploys_ms, 1)} and {spread(few.deploys_ms, 1)} ms",
        ),
    ]


async def _measure(postgres: PostgresServer) -> tuple[Fleet, Fleet]:
    async with AsyncExitStack() as stack:
        few = await _opened(stack, postgres, running=FEW, asleep=0)
        many = await _opened(stack, postgres, running=RUNNING, asleep=PROJECTS - RUNNING)
        gc.collect()
        gc.freeze()  # as a gateway does that has opened its parts
        for fleet in (few, many):
            await fleet.compare(postgres)
        for number in range(DEPLOYS + 1):
            for fleet in (few, many):
                took_ms = await fleet.deploy()
                if number:
                    fleet.deploys_ms.append(took_ms)
        return few, many


async def _opened(
    stack: AsyncExitStack, postgres: PostgresServer, *, running: int, asleep: int
) -> Fleet:
    url = postgres.url(postgres.create())
    leader, other = open_database(url), open_database(url)
    for db in (leader, other):
        stack.callback(db.close)
    sources = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sources"
    sources.mkdir()
    yard = Yard(cast("Any", leader), MovableClock(), sources)
    await _put(yard, leader, running=running, asleep=asleep)
    return Fleet(yard, other, await add_project(leader, status=ProjectStatus.QUEUED))


async def _shares(tick: Callable[[], Awaitable[object]], *, every_seconds: float) -> list[float]:
    """Percent of a core that each tick takes; the first, which sets all routes, is left out."""
    found = []
    for _ in range(TICKS + 1):
        began = time.process_time()
        await tick()
        found.append(100 * (time.process_time() - began) / every_seconds)
    return found[1:]


async def _put(yard: Yard, db: Database, *, running: int, asleep: int) -> None:
    """Rows of all, and in the engine what it has of them."""
    now_ms = yard.clock.now_ms()
    customers = Customers(projects=running + asleep, asleep=asleep, billed_ms=now_ms)
    serving = await fill(db, customers)
    yard.runtime.discarded.update(serving[:asleep])
    for deployment_id in serving[asleep:]:
        yard.runtime.apps[deployment_id] = Instance(
            deployment_id=deployment_id, address=app_address(deployment_id), port=3000
        )


def _server_seconds(postgres: PostgresServer) -> float:
    return sum(cpu_seconds(pid, children=True) for pid in postgres.processes())

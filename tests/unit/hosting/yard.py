"""Everything that carries out deployments, over a real database, a fake runtime and fake routes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import bindparam, select

from moorage.address import Address
from moorage.certificates.certificates import Certificates
from moorage.core import Core
from moorage.engines.engine import BuildSpec, Engine, Instance
from moorage.engines.pair import EnginePair
from moorage.failpoints import armed
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.limits import app_limits, build_limits
from moorage.hosting.loops import loops_of
from moorage.hosting.platform import AppPlatform, Keeping
from moorage.hosting.services import DeployServices
from moorage.ledger.services import LedgerServices, LedgerSettings
from moorage.money import MicroUsd
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment, DeploymentStatus, Job, JobPlaces
from moorage.records.project import Project, ProjectStatus
from moorage.records.usage import Position
from moorage.settings import Settings, load_settings
from moorage.storage.apps import certificates, deployments, jobs, projects
from moorage.storage.apps.certificates import Issued
from moorage.storage.database import Statement
from moorage.storage.money import accounts
from moorage.storage.schema import jobs as jobs_table
from moorage.storage.schema import run_intervals
from moorage.storage.several.leases import Leases
from moorage.storage.vault import Vault
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import GATEWAY, PLAN, add_deployment, add_project, fund
from support.gateway.clock import HOUR_MS, START_MS, MovableClock
from support.gateway.fakes import FakeRoutes, FakeRuntime, app_address

HOST = "hello.example.com"
PLACES = JobPlaces(jobs=8, builds=2, builds_of_wallet=1)
BUILD_MONTH = MicroUsd(2_000_000)
SETTINGS = load_settings(
    file=None,
    environ={},
    base_domain="example.com",
    builds_at_once=PLACES.builds,
    build_seconds=100,
    listen_seconds=20,
    disk_reserve_mib=0,
)
ENGINE = "own"  # on which uploads are built
APP_LIMITS, BUILD_LIMITS = app_limits(SETTINGS.size_list.default), build_limits(SETTINGS)
JOB_STATUS = Statement(
    select(jobs_table.c.status).where(jobs_table.c.subject_id == bindparam("subject"))
)
INTERVALS = Statement(
    select(run_intervals.c.id, run_intervals.c.started_at_ms, run_intervals.c.ended_at_ms)
    .where(run_intervals.c.project_id == bindparam("project_id"))
    .order_by(run_intervals.c.started_at_ms)
)


Visit = Callable[[str, str, Mapping[str, str]], Awaitable[int | None]]
"""Sends a visitor's GET."""


class NoVisits:
    """An access log that tells nothing."""

    def read(self, position: Position | None) -> None:
        return None


ISSUED = Issued(
    chain="chain",
    sealed_key="sealed",
    pem_sha256="digest",
    not_before_ms=START_MS,
    not_after_ms=START_MS + 10 * 365 * 24 * HOUR_MS,  # tests let years pass
    authority="https://authority.example/directory",
    order_at_ms=START_MS + 60 * 24 * HOUR_MS,
)


class Yard:
    """The services, wired as the gateway wires them, and what the tests want to know of them."""

    def __init__(
        self,
        db: FaultyDatabase,
        clock: MovableClock,
        sources: Path,
        *,
        settings: Settings = SETTINGS,
        leaving: FakeRuntime | None = None,
        speed: float = 1.0,
    ) -> None:
        """With `leaving`, projects leave that engine, which has volumes of its own."""
        self.db = db
        self.clock = clock
        self.sources = sources
        self.runtime = FakeRuntime()
        self.engine: Engine = self.runtime
        if leaving is not None:
            pair = EnginePair(own=self.runtime, leaving=leaving, shares_volumes=False)
            self.engine = pair
        self.routes = FakeRoutes()
        self.steps: list[str] = []
        self.failed: list[Plan] = []  # the plans of what failed, once it was cleared up
        self.on_step: Callable[[str], None] = lambda step: None
        self.unhealthy: list[Exception] = []  # what the next health checks raise
        self.before_healthy: Callable[[], Awaitable[None]] = nothing  # done at each health check
        self.pauses: list[float] = []  # seconds that requests waited for a try to be due
        self.on_pause: Callable[[], Awaitable[None]] = nothing  # done while a request waits
        self.asked: list[str] = []  # the paths that the health checks asked for
        self.has_ended: list[bool] = []  # what the health checks were told of the app's end
        self.answers: Callable[[], Awaitable[bool]] = answers
        self.visit: Visit = nobody
        self.answers_plain = False  # whether apps answer at the port for plain HTTP
        self.gives_certificates = True  # whether the authority does
        self.certificates = Certificates(
            db=db,
            own_names=(),
            wildcards=(),
            files=None,
            per_wallet=20,
            clock=clock,
            kick=lambda: None,
            pause=self._authority,
        )
        self.vault = Vault([bytes(32)])
        self.core = Core(
            db=db,
            vault=self.vault,
            leases=Leases(db=db, holder=GATEWAY, clock=clock),
            clock=clock,
            data_dir=sources.parent,
            speed=speed,
        )
        of_ledger = LedgerSettings(
            build_minutes_per_usd=60, build_month=BUILD_MONTH, minimum_charge=MicroUsd(1)
        )
        ledger = LedgerServices(self.core, of_ledger)
        self.services = DeployServices(
            self.core,
            settings,
            platform=self._platform(),
            ledger=ledger,
            certificates=self.certificates,
        )
        self.metering = ledger.metering
        self.addresses = self.services.addresses
        self.workflow = self.services.workflow
        self.worker = self.services.worker
        self.apps = self.services.apps
        self.sleep = self.services.sleep
        self.reconciler = self.services.reconciler
        self.wake = self.services.wake
        self.deletion = self.services.deletion

    def _platform(self) -> AppPlatform:
        return AppPlatform(
            view=self.engine,
            keeping=Keeping(
                runtime=self.engine,
                answers=self._answers,
                answers_plain=self._answers_plain,
                access_log=NoVisits(),
                discard_toolchains=self._failed,
                healthy=self.healthy,
                pause=self.pause,
                engine=ENGINE,
                visit=self._visit,
            ),
            routes=self.routes,
            hosts=Hosts(base_domain="example.com", scheme="https", port=None),
            gateway_host="gateway.example",
            max_host_length=200,
        )

    async def keep(self) -> None:
        """What goes on for apps: looks at each that ends, and comparisons, without a pause."""
        (comparing,) = [loop for loop in loops_of(self.services) if loop.name == "apps"]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.reconciler.run(self.services.space.handle))
            tasks.create_task(comparing.run(self.core.leases.hold, speed=2000))

    async def pause(self, seconds: float) -> None:
        """In place of a real wait."""
        await self.on_pause()
        self.pauses.append(seconds)
        self.clock.advance(round(seconds * 1000))

    async def healthy(
        self,
        address: Address | None,
        *,
        host: str,
        path: str,
        timeout_seconds: float,
        has_ended: Callable[[], Awaitable[bool]],
    ) -> None:
        """In place of the product's health check, which opens a socket."""
        assert host == HOST
        await asyncio.sleep(0)
        self.asked.append(path)
        await self.before_healthy()
        self.has_ended.append(await has_ended())
        if self.unhealthy:
            raise self.unhealthy.pop(0)

    async def _answers(self, host: str) -> bool:
        assert host == HOST
        await asyncio.sleep(0)
        return await self.answers()

    async def _visit(self, host: str, path: str, headers: Mapping[str, str]) -> int | None:
        return await self.visit(host, path, headers)

    async def _answers_plain(self, host: str) -> bool:
        return self.answers_plain

    async def _authority(self, _seconds: float) -> None:
        """What an authority does while a deploy waits for it."""
        if self.gives_certificates:
            for host in await certificates.asked_since(self.db, 0):
                await self.certify(host)
        else:
            self.clock.advance(30_000)

    async def certify(self, host: str) -> None:
        """A certificate comes."""
        async with self.db.transaction(durable=True) as tx:
            if not await certificates.touch(tx, host, now_ms=self.clock.now_ms()):
                await certificates.add(tx, host, wallet="", now_ms=self.clock.now_ms())
            await certificates.issue(tx, host, ISSUED, fence=0)

    async def _failed(self, plan: Plan) -> None:
        self.failed.append(plan)

    def reach(self, step: str) -> None:
        """A failpoint."""
        self.steps.append(step)
        self.on_step(step)

    async def queued(self, project: Project, plan: Plan = PLAN, **changed: Any) -> Deployment:
        """A deployment as admission leaves it: row, job and files."""
        await self._afford(project.wallet)
        encoded = msgspec.json.encode(plan).decode()
        deployment = await add_deployment(self.db, project, queued=True, plan=encoded, **changed)
        (self.sources / deployment.id).mkdir(parents=True)
        return deployment

    async def _afford(self, wallet: str) -> None:
        """The least that lets a wallet build, where a test gave it nothing, and nobody is told."""
        async with self.db.transaction(durable=False) as tx:
            if await accounts.balance(tx, wallet) == 0:
                await accounts.ensure_wallet(tx, wallet, now_ms=self.clock.now_ms())
                await accounts.change_balance(tx, wallet, 1)

    async def serving(self, project: Project, **changed: Any) -> Deployment:
        """A deployment that is served and runs, its address leading to it."""
        deployment = await add_deployment(
            self.db, project, DeploymentStatus.READY, serving=True, **changed
        )
        spec = BuildSpec(
            deployment_id=deployment.id,
            source=self.sources,
            plan=PLAN,
            limits=BUILD_LIMITS,
            timeout_seconds=1,
        )
        self.runtime.built[deployment.id] = spec
        self.runtime.apps[deployment.id] = Instance(
            deployment_id=deployment.id, address=socket_of(deployment), port=3000
        )
        self.routes.table[HOST] = socket_of(deployment)
        return deployment

    async def active(
        self, project: Project, *, micro_usd: int = 0, billed: bool = True, **changed: Any
    ) -> Deployment:
        """As `serving`, of a project that is active, and billed where it is given credits."""
        if micro_usd:
            await fund(self.db, project.wallet, micro_usd)
        deployment = await self.serving(project, **changed)
        async with self.db.transaction(durable=True) as tx:
            await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
            if micro_usd and billed:
                await self.metering.begin(tx, project.id)
        return deployment

    async def claim(self) -> Job:
        """The waiting job."""
        now_ms = self.clock.now_ms()
        async with self.db.transaction(durable=False) as tx:
            job = await jobs.claim(
                tx, holder=GATEWAY, now_ms=now_ms, until_ms=now_ms + 60_000, places=PLACES
            )
        assert job is not None
        return job

    async def deployed(self) -> Deployment:
        """Carry the waiting job out; the deployment afterwards."""
        job = await self.claim()
        await self.workflow.run(job)
        return await self.deployment(job.subject_id)

    async def deployment(self, deployment_id: str) -> Deployment:
        found = await deployments.by_id(self.db, deployment_id)
        assert found is not None
        return found

    async def project(self, project: Project) -> Project:
        """The project as it is now."""
        found = await projects.by_id(self.db, project.id)
        assert found is not None
        return found

    async def down(self) -> set[str | None]:
        """Deployments that serve, and whose app should run and does not."""
        awake = await projects.awake(self.db)
        return {each.serving_deployment_id for each in awake if each.down_since_ms is not None}

    async def job_status(self, deployment: Deployment) -> str:
        row = await self.db.one(JOB_STATUS, subject=deployment.id)
        assert row is not None
        return str(row[0])

    async def intervals(self, project: Project) -> list[tuple[Any, ...]]:
        """Id, start and end of each stretch that is billed."""
        return await self.db.all(INTERVALS, project_id=project.id)

    async def reconcile(self) -> None:
        """One comparison, and what it begins aside."""
        await self.reconciler.reconcile()
        await self.tasks_done()

    async def until_restarted(self, app_id: str) -> None:
        """Reconcile as often as the next try is due, until the app runs."""
        while True:
            await self.reconcile()
            if app_id in self.runtime.apps:
                return
            wait_seconds = self.reconciler.restarts.wait_seconds(app_id)
            self.clock.advance(max(1_000, round(wait_seconds * 1_000)))

    async def tasks_done(self) -> None:
        """Wait until the reconciler does nothing aside."""
        async with asyncio.timeout(60):
            while tasks := self.apps.under_way():
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.sleep(0)


async def nothing() -> None:
    """What is done unless a test says otherwise."""


async def answers() -> bool:
    return True


async def nobody(_host: str, _path: str, _headers: Mapping[str, str]) -> int | None:
    return None


def socket_of(deployment: Deployment) -> Address:
    """Where the fake runtime has a deployment's app listen."""
    return app_address(deployment.id)


@pytest.fixture
def yard(db: FaultyDatabase, clock: MovableClock, tmp_path: Path) -> Iterator[Yard]:
    made = Yard(db, clock, tmp_path / "sources")
    made.sources.mkdir()
    with armed(made.reach):
        yield made


@pytest.fixture
async def project(db: FaultyDatabase) -> Project:
    """A project that has just been admitted."""
    return await add_project(db, status=ProjectStatus.QUEUED)

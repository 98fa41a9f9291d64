"""The reconciler makes what runs equal what the rows want.

After a crash of the gateway, of an app or of the machine it adopts what still runs, starts what
should, stops what should not, and removes what no row owns.
"""

import asyncio
import shutil
from pathlib import Path

import msgspec
import structlog

from moorage.clock import Clock
from moorage.deploy.hosts import Hosts
from moorage.deploy.project import Project, ProjectStatus
from moorage.deploy.workflow import Routes
from moorage.errors import DeployFailed
from moorage.ledger.metering import Metering
from moorage.planning.plan import Plan
from moorage.runtimes.runtime import Instance, InstanceSpec, Limits, Runtime
from moorage.storage import accounts, projects
from moorage.storage.database import Database

log = structlog.get_logger()

PERIOD_SECONDS = 2.0
_LONGEST_BACKOFF_SECONDS = 60.0


class Reconciler:
    """Compares and mends, every few seconds; `live` is what it found serving."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Runtime,
        routes: Routes,
        metering: Metering,
        hosts: Hosts,
        limits: Limits,
        listen_seconds: float,
        sources: Path,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._routes = routes
        self._metering = metering
        self._hosts = hosts
        self._limits = limits
        self._listen_seconds = listen_seconds
        self._sources = sources
        self._clock = clock
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._backoff: dict[str, _Backoff] = {}
        self.running = 0
        """How many apps ran when last looked."""
        self.dead: frozenset[str] = frozenset()
        """Serving deployments whose app does not run at the moment."""

    async def run(self) -> None:
        """Reconcile until cancelled."""
        try:
            while True:
                await self.reconcile()
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            for task in self._restarts.values():
                task.cancel()
            await asyncio.gather(*self._restarts.values(), return_exceptions=True)

    async def sweep(self) -> None:
        """Remove what a dead gateway left: uploads nobody admitted, half-deleted projects."""
        keep = {deployment.id for deployment in await projects.deployments_under_way(self._db)}
        for path in sorted(self._sources.iterdir()):
            if path.name not in keep:
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        for project in await projects.living(self._db):
            if project.status is ProjectStatus.DELETING:
                await self.delete(project)

    async def reconcile(self) -> None:
        """One comparison."""
        known = await self._runtime.known()
        under_way = {item.id for item in await projects.deployments_under_way(self._db)}
        living = await projects.living(self._db)
        kept = {project.serving_deployment_id for project in living}
        for deployment_id in known - under_way - kept:
            await self._runtime.remove(deployment_id)
        running = await self._runtime.running()
        self.running = len(running)
        dead = set()
        for project in living:
            serving = project.serving_deployment_id
            if serving is None:
                continue
            instance = running.get(serving)
            if await self._settle(project, serving, instance):
                dead.add(serving)
        self.dead = frozenset(dead)

    async def delete(self, project: Project) -> None:
        """Stop a project that is being deleted, remove all of it, then free its name."""
        self._routes.remove(self._hosts.host(project.unique_name))
        for deployment in await projects.deployments_of(self._db, project.id):
            restart = self._restarts.get(deployment.id)
            if restart is not None:
                restart.cancel()
                await asyncio.gather(restart, return_exceptions=True)
            await self._runtime.remove(deployment.id)
            await asyncio.to_thread(
                shutil.rmtree, self._sources / deployment.id, ignore_errors=True
            )
        async with self._db.transaction(durable=True) as tx:
            await projects.set_deleted(tx, project.id, at_ms=self._clock.now_ms())

    async def _settle(self, project: Project, serving: str, instance: Instance | None) -> bool:
        """Bring one project in line; True when its app should run and does not."""
        host = self._hosts.host(project.unique_name)
        if project.status is ProjectStatus.SUSPENDED:
            if await accounts.balance(self._db, project.wallet) > 0:
                self._restart(project, serving)
            elif instance is not None:
                self._routes.remove(host)
                await self._runtime.stop(serving)
            return False
        if project.status is not ProjectStatus.ACTIVE:
            return False
        if instance is None:
            self._restart(project, serving)
            return True
        await self._point(project.id, serving, instance)
        return False

    def _restart(self, project: Project, serving: str) -> None:
        backoff = self._backoff.setdefault(serving, _Backoff())
        if serving in self._restarts or self._clock.monotonic_seconds() < backoff.until:
            return
        backoff.grow(self._clock.monotonic_seconds())
        task = asyncio.create_task(self._start(project, serving), name=f"restart {serving}")
        self._restarts[serving] = task
        task.add_done_callback(lambda _: self._restarts.pop(serving, None))

    async def _start(self, project: Project, serving: str) -> None:
        deployment = await projects.deployment(self._db, serving)
        if deployment is None:
            return
        plan = msgspec.json.decode(deployment.plan, type=Plan)
        spec = InstanceSpec(deployment_id=serving, plan=plan, limits=self._limits)
        try:
            instance = await self._runtime.start(spec, timeout_seconds=self._listen_seconds)
        except DeployFailed as failure:
            log.warning("app does not come back", deployment=serving, cause=failure.cause)
            return
        await self._point(project.id, serving, instance)
        if project.status is ProjectStatus.SUSPENDED:
            async with self._db.transaction(durable=True) as tx:
                if await projects.set_status(tx, project.id, ProjectStatus.ACTIVE):
                    await self._metering.begin(tx, project.id)

    async def _point(self, project_id: str, serving: str, instance: Instance) -> None:
        """Lead the address to the app, unless a deployment is about to lead it elsewhere.

        The rows are read afresh, and reads do not give way to other tasks before the pointing.
        """
        project = await projects.by_id(self._db, project_id)
        if project is None or project.serving_deployment_id != serving:
            return
        if await projects.has_under_way(self._db, project_id):
            return
        self._routes.point(self._hosts.host(project.unique_name), instance.socket)


class _Backoff:
    """How long to wait before the next start: doubling, and forgotten after a calm while."""

    def __init__(self) -> None:
        self.until = 0.0
        self._pause = 0.0

    def grow(self, now: float) -> None:
        calm = now > self.until + 10 * _LONGEST_BACKOFF_SECONDS
        self._pause = 1.0 if calm or not self._pause else self._pause * 2
        self._pause = min(self._pause, _LONGEST_BACKOFF_SECONDS)
        self.until = now + self._pause

"""The reconciler makes what runs equal what the rows want.

After a crash of the gateway, of an app or of the machine it adopts what still runs, starts what
should, stops what should not, and removes what no row owns. An app that ends meanwhile is seen to
at once.
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.entrance.capacity import Capacity
from moorage.deploy.keeping.releases import Releases
from moorage.deploy.keeping.restarts import Restarts
from moorage.deploy.keeping.sleep import Sleep
from moorage.deploy.keeping.subject_tasks import SubjectTasks
from moorage.deploy.work.specs import Specs
from moorage.engines.engine import Engine, Instance
from moorage.events import outbox
from moorage.ledger.metering import Metering
from moorage.records.deployment import Deployment
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import configuration, domains, projects
from moorage.storage.apps import releases as kept_releases
from moorage.storage.database import Database, Transaction
from moorage.threads import in_thread

log = structlog.get_logger()

PERIOD_SECONDS = 2.0


class Reconciler:
    """Compares and mends, every few seconds.

    What takes a while is done aside, one thing at a time for each deployment, so that no app waits
    for another. Between reading the rows and acting on them nothing else gets its turn.
    """

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        addresses: Addresses,
        metering: Metering,
        specs: Specs,
        listen_seconds: float,
        sources: Path,
        subject_tasks: SubjectTasks,
        releases: Releases,
        restarts: Restarts,
        sleep: Sleep,
        capacity: Capacity,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._addresses = addresses
        self._metering = metering
        self._specs = specs
        self._listen_seconds = listen_seconds
        self._sources = sources
        self._clock = clock
        self._subject_tasks = subject_tasks
        self._releases = releases
        self.restarts = restarts
        self._sleep = sleep
        self._capacity = capacity
        self.dead: frozenset[str] = frozenset()
        """Serving deployments whose app does not run at the moment."""
        self.running = 0
        """How many apps the last comparison found running."""
        self.asleep = 0
        """How many projects it found asleep."""
        self._just_seen: set[str] = set()  # since the comparison under way began, one by one
        self.deleting: set[str] = set()
        """Projects whose deletion somebody sees to; what others began is finished here."""

    async def run(self) -> None:
        """Reconcile until cancelled, whatever fails meanwhile."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._compare())
                while True:
                    tasks.create_task(self._look_soundly(await self._runtime.next_exit()))
        finally:
            await self._subject_tasks.end_all()

    async def sweep(self) -> None:
        """Remove what a crash left: uploads that nobody admitted, volumes of deleted projects.

        Before requests come. A volume of a project that no row tells of stays: the rows may be
        wrong, and what it holds is nowhere else.
        """
        keep = {deployment.id for deployment in await projects.deployments_under_way(self._db)}
        for path in sorted(self._sources.iterdir()):
            if path.name not in keep:
                await in_thread(shutil.rmtree, path, ignore_errors=True)
        for volume_id in await self._runtime.volumes():
            if await projects.is_deleted(self._db, volume_id):
                await self._runtime.remove_volume(volume_id)

    async def reconcile(self) -> None:
        """One comparison."""
        changing = {item.id for item in await projects.deployments_under_way(self._db)}
        self._sleep.begin()
        self._just_seen.clear()
        known = await self._runtime.known()
        running = await self._runtime.running()
        self.running = len(running)
        under_way = {item.id for item in await projects.deployments_under_way(self._db)}
        living = await projects.awake(self._db)
        sleeping = await projects.sleeping(self._db)
        self.asleep = len(sleeping)
        serving = {project.serving_deployment_id for project in living} | sleeping.keys()
        kept = await kept_releases.kept(self._db)
        proved = await domains.verified(self._db)
        for stray in known - under_way - serving - kept.keys():
            self._subject_tasks.begin("remove", stray, partial(self._runtime.remove, stray))
        for project_id in [sleeping[name] for name in running if name in sleeping]:
            project = await projects.by_id(self._db, project_id)
            if project is not None:
                await self._settle(project, running, proved)
        dead: set[str] = set()
        for project in living:
            deployment_id = project.serving_deployment_id or ""
            if deployment_id in changing or deployment_id in self._just_seen:
                dead |= self.dead & {deployment_id}  # `running` may be older than what is known
            elif await self._settle(project, running, proved):
                dead.add(deployment_id)
        self.dead = frozenset(dead)
        self._subject_tasks.forget(but=known | self.dead | {project.id for project in living})
        self._sleep.end(known=known)
        self.restarts.forget(but=[name for name in serving if name])
        await self._releases.tend(kept, known=known, running=running)

    async def look(self, deployment_id: str) -> None:
        """Compare the one project that a deployment serves, if it does, as it is at this moment."""
        deployment = await projects.deployment(self._db, deployment_id)
        if deployment is None or await self._serves(deployment.project_id, deployment_id) is None:
            return
        instance = await self._runtime.instance(deployment_id)
        project = await self._serves(deployment.project_id, deployment_id)
        if project is not None:
            running = {} if instance is None else {deployment_id: instance}
            proved = {project.id: await domains.verified_of(self._db, project.id)}
            dead = await self._settle(project, running, proved)
            self._note(deployment_id, dead=dead)

    async def delete(self, project: Project) -> None:
        """Stop a project that is being deleted, remove all of it, then free its name.

        Does nothing when that has been done: its name may be another project's by now.
        """
        if await projects.by_id(self._db, project.id) is None:
            return
        await self._addresses.remove(project)
        for deployment in await projects.deployments_of(self._db, project.id):
            await self._subject_tasks.end(deployment.id)
            await self._runtime.remove(deployment.id)
            await in_thread(shutil.rmtree, self._sources / deployment.id, ignore_errors=True)
        if project.volume:
            await self._runtime.remove_volume(project.id)
        async with self._db.transaction(durable=True) as tx:
            await domains.remove_of(tx, project.id)
            await configuration.forget(tx, project.id)
            if await projects.set_deleted(tx, project.id, at_ms=self._clock.now_ms()):
                await self._tell(tx, project, EventKind.PROJECT_DELETED)

    async def _compare(self) -> None:
        while True:
            try:
                await self.reconcile()
            except Exception:
                log.exception("reconciliation failed")
            await asyncio.sleep(PERIOD_SECONDS)

    async def _look_soundly(self, deployment_id: str) -> None:
        try:
            await self.look(deployment_id)
        except Exception:
            log.exception("reconciliation of one failed", deployment=deployment_id)

    async def _settle(
        self,
        project: Project,
        running: Mapping[str, Instance],
        proved: Mapping[str, Sequence[str]],
    ) -> bool:
        """Bring one project in line; True when its app should run and does not."""
        serving = project.serving_deployment_id
        if project.status is ProjectStatus.DELETING and project.id not in self.deleting:
            self._subject_tasks.begin("delete", project.id, lambda: self.delete(project))
        if serving is None:
            return False
        instance = running.get(serving)
        if project.status is ProjectStatus.SUSPENDED:
            if await self._metering.wakes(self._db, project):
                self._subject_tasks.begin("start", serving, lambda: self.start(project.id, serving))
            elif instance is not None:
                self._subject_tasks.begin(
                    "stop", serving, lambda: self._suspend(project.id, serving)
                )
            return False
        if project.status is not ProjectStatus.ACTIVE:
            return False
        if await self._sleep.rests(project, instance):
            return False
        if instance is None:
            self.restarts.begin(project, serving, self.start)
            return True
        own = proved.get(project.id, ())
        if not self._addresses.lead_to(project, instance.address, proved=own):
            await self._point(project.id, serving, instance)
        return False

    async def start(self, project_id: str, serving: str) -> None:
        """Start a project's app again, resume the project if it is suspended, lead its address.

        Raises NoCapacity when there is no memory for one more to be resumed.
        """
        deployment = await projects.deployment(self._db, serving)
        project = await self._serves(project_id, serving)
        if deployment is None or project is None:
            return
        if project.status is not ProjectStatus.SUSPENDED:
            await self._begin(project, deployment)
            return
        with self._capacity.starting(project_id):
            await self._capacity.require_memory(self._db, project_id)
            await self._begin(project, deployment)

    async def _begin(self, project: Project, deployment: Deployment) -> None:
        project_id, serving = project.id, deployment.id
        spec = self._specs.instance(deployment, project)
        instance = await self._runtime.start(spec, timeout_seconds=self._listen_seconds)
        async with self._db.transaction(durable=True) as tx:
            current = await projects.by_id(tx, project_id)
            if current is not None and current.status is ProjectStatus.SUSPENDED:
                if not await self._metering.wakes(tx, current):
                    return
                if not await projects.set_status(tx, project_id, ProjectStatus.ACTIVE):
                    return  # it is being deleted since it was read
                await self._metering.begin(tx, project_id)
                await self._tell(tx, current, EventKind.PROJECT_RESUMED)
        await self._point(project_id, serving, instance)
        self._note(serving, dead=False)

    def _note(self, serving: str, *, dead: bool) -> None:
        self.dead = self.dead | {serving} if dead else self.dead - {serving}
        self._just_seen.add(serving)

    async def _tell(self, tx: Transaction, project: Project, kind: EventKind) -> None:
        await outbox.record(
            tx,
            wallet=project.wallet,
            kind=kind,
            data={"project_id": project.id},
            now_ms=self._clock.now_ms(),
        )

    async def _suspend(self, project_id: str, serving: str) -> None:
        project = await self._serves(project_id, serving)
        if project is not None and project.status is ProjectStatus.SUSPENDED:
            await self._addresses.remove(project)
            await self._runtime.stop(serving)

    async def _point(self, project_id: str, serving: str, instance: Instance) -> None:
        """Lead the address to the app, unless a deployment is about to take it over.

        The rows are read afresh, and reads do not give way to other tasks before the pointing.
        """
        project = await self._serves(project_id, serving)
        if project is None or project.status is not ProjectStatus.ACTIVE:
            return
        leads_somewhere = self._addresses.target(project) is not None
        if leads_somewhere and await projects.is_starting(self._db, project_id):
            return
        await self._addresses.point(project, instance.address)

    async def _serves(self, project_id: str, serving: str) -> Project | None:
        """The project as it is now, if this deployment is still the one that serves."""
        project = await projects.by_id(self._db, project_id)
        if project is None or project.serving_deployment_id != serving:
            return None
        return project

"""The reconciler: makes what runs match the database.

It takes over apps that still run, starts those that should, stops those that should not, and
removes what no row refers to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from moorage.clock import Clock
from moorage.engines.engine import AppExit, Engine, Incident, IncidentKind, Instance, Keep
from moorage.errors import DatabaseUnavailable, DeployFailed, WriteConflict
from moorage.hosting.addresses.addresses import Addresses
from moorage.hosting.entrance.capacity import Capacity
from moorage.hosting.keeping.apps import Apps
from moorage.hosting.keeping.releases import Releases
from moorage.hosting.keeping.restarts import Restarts
from moorage.hosting.keeping.sleep import Sleep
from moorage.hosting.sources import Sources
from moorage.hosting.work.workflow import Specs
from moorage.ledger.metering import Metering
from moorage.records.deployment import Deployment
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events, page_access
from moorage.storage.apps import deployments, domains, jobs, projects, runs
from moorage.storage.apps import deployments as kept_releases
from moorage.storage.database import Database, Transaction

log = structlog.get_logger()


class Reconciler:
    """Compares what runs with the database every few seconds, and corrects differences.

    What takes long runs in tasks, one at a time for each deployment, so that no app waits for
    another. A comparison only finds the projects that differ; each of them is read again under its
    lock before anything is changed.
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
        sources: Sources,
        apps: Apps,
        releases: Releases,
        restarts: Restarts,
        sleep: Sleep,
        capacity: Capacity,
        clock: Clock,
        abandon: Callable[[Project], Awaitable[None]],
    ) -> None:
        """`abandon` ends the work on a project's deployments, and its runs."""
        self._abandon = abandon
        self._db = db
        self._runtime = runtime
        self._addresses = addresses
        self._metering = metering
        self._specs = specs
        self._listen_seconds = listen_seconds
        self._sources = sources
        self._clock = clock
        self._apps = apps
        self._releases = releases
        self.restarts = restarts
        self._sleep = sleep
        self._capacity = capacity
        self.running = 0
        """How many apps the last comparison found running."""
        self.asleep = 0
        """How many projects it found asleep."""

    async def run(self, others: Callable[[Incident], Awaitable[None]]) -> None:
        """Reconciles each app at once when it ends, until cancelled; `others` handles the rest."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    tasks.create_task(self._handle(await self._runtime.next_incident(), others))
        finally:
            await self._apps.end_all()

    async def sweep(self, *, min_age_seconds: float = 0.0) -> None:
        """Removes what a crash left: uploads of no deployment, volumes of deleted projects.

        Call it before requests are served; where other gateways serve some, uploads that are
        younger than `min_age_seconds` may be of requests under way, and stay. A volume whose
        project is unknown stays: the rows may be wrong, and there is no other copy of its files.
        """
        await self.sweep_sources(min_age_seconds=min_age_seconds)
        for volume_id in await self._runtime.volumes():
            if await projects.is_deleted(self._db, volume_id):
                await self._runtime.delete_volume(volume_id)

    async def sweep_sources(self, *, min_age_seconds: float) -> None:
        """Removes uploads of no deployment under way that are older than this."""
        old = await self._sources.older(min_age_seconds=min_age_seconds)
        keep = {deployment.id for deployment in await deployments.under_way(self._db)}
        for name in old:
            if name not in keep:
                await self._sources.drop(name)

    async def reconcile(self) -> None:
        """Compares once, and corrects differences."""
        known = await self._runtime.known()
        running = await self._runtime.running()
        self.running = len(running)
        async with self._db.snapshot() as rows:
            under_way = {item.id for item in await deployments.under_way(rows)}
            living = await projects.awake(rows)
            sleeping = await projects.sleeping(rows)
            kept = await kept_releases.kept_releases(rows)
            proved = await domains.verified(rows)
            run_ids = await runs.kept(rows)
        self.asleep = len(sleeping)
        serving = {project.serving_deployment_id or "" for project in living} | sleeping.keys()
        for stray in known - under_way - serving - kept.keys() - run_ids:
            self._apps.app(stray).begin("remove", partial(self._remove, stray))
        changed = [sleeping[name] for name in running if name in sleeping]
        for project in living:
            instance = running.get(project.serving_deployment_id or "")
            if not await self._is_in_line(project, instance, proved.get(project.id, ())):
                changed.append(project.id)
        for project_id in changed:
            if not self._apps.project(project_id).is_held:  # the lock's holder corrects it
                await self._reconcile_project(project_id)
        self._apps.forget(
            keep={*known, *serving, *sleeping.values(), *(project.id for project in living)}
        )
        await self._releases.tend(kept, known=known, running=running)

    async def look(self, deployment_id: str) -> None:
        """Reconciles the project that a deployment serves, if it serves one."""
        deployment = await deployments.by_id(self._db, deployment_id)
        if deployment is not None:
            await self._reconcile_project(deployment.project_id, serving=deployment_id)

    async def delete(self, project: Project) -> None:
        """Stops a project that is being deleted, removes all of it, then frees its name.

        Does nothing when it is deleted already, as its name may be another project's now.
        """
        await self._abandon(project)  # its job is revoked, and may wait for the lock
        async with self._apps.held(project.id):
            if await projects.by_id(self._db, project.id) is not None:
                await self._delete(project)

    async def _delete(self, project: Project) -> None:
        await self._addresses.unroute(project)
        for deployment in await deployments.of_project(self._db, project.id):
            await self._apps.app(deployment.id).end()
            await self._remove(deployment.id)
            await self._sources.drop(deployment.id)
        if project.volume:
            await self._runtime.delete_volume(project.id)
        async with self._db.transaction(durable=True) as tx:
            await domains.remove_of(tx, project.id)
            await projects.forget_variables(tx, project.id)
            await page_access.revoke_manage_tokens(tx, project.id)
            if await projects.set_deleted(tx, project.id, at_ms=self._clock.now_ms()):
                await self._tell(tx, project, EventKind.PROJECT_DELETED)

    async def _remove(self, deployment_id: str) -> None:
        await self._runtime.stop(deployment_id, keep=Keep.NOTHING)

    async def _handle(
        self, incident: Incident, others: Callable[[Incident], Awaitable[None]]
    ) -> None:
        try:
            if incident.kind is IncidentKind.ENDED:
                await self.look(incident.deployment_id)
            else:
                await others(incident)
        except Exception:  # the next comparison finds what it left to do
            log.exception("incident is not handled", deployment=incident.deployment_id)

    async def _is_in_line(
        self, project: Project, instance: Instance | None, proved: Sequence[str]
    ) -> bool:
        """Returns whether a project needs no change, by what was read a moment ago."""
        serving = project.serving_deployment_id
        match project.status:
            case ProjectStatus.DELETING:
                return False
            case ProjectStatus.SUSPENDED if serving is not None:
                return instance is None and not await self._metering.may_resume(self._db, project)
            case ProjectStatus.ACTIVE if serving is not None:
                return (
                    instance is not None
                    and project.down_since_ms is None
                    and not self._sleep.is_idle(project)
                    and self._addresses.routes_to(project, instance.address, proved=proved)
                )
        return True

    async def _reconcile_project(self, project_id: str, *, serving: str | None = None) -> None:
        """Reconciles a project under its lock; with `serving`, only if that serves it still."""
        async with self._apps.held(project_id):
            project = await projects.by_id(self._db, project_id)
            if project is None or serving not in (None, project.serving_deployment_id):
                return
            if project.status is ProjectStatus.DELETING:
                self._finish_deletion(project)
            elif project.serving_deployment_id is not None:
                await self._bring_in_line(project, project.serving_deployment_id)

    def _finish_deletion(self, project: Project) -> None:
        """Finishes a deletion that an earlier process began, or that failed."""
        work = self._apps.project(project.id)
        if work.deletion is None:
            work.begin("delete", lambda: self.delete(project))

    async def _bring_in_line(self, project: Project, serving: str) -> None:
        if project.volume and await jobs.is_moving(self._db, project.id):
            return  # it is begun again, here or on the other engine, when that is over
        state = await self._runtime.inspect(serving)
        instance = state.instance
        app = self._apps.app(serving)
        if project.status is ProjectStatus.SUSPENDED:
            if await self._metering.may_resume(self._db, project):
                app.begin("start", lambda: self.start(project.id, serving))
            elif instance is not None:
                app.begin("stop", lambda: self._suspend(project.id, serving))
        elif project.status is ProjectStatus.ACTIVE and not self._sleep.keeps_asleep(
            project, instance
        ):
            if instance is None:
                if app.current is None and not app.was_woken:  # else it is being started
                    await self._note_fault(project, state.exit)
                await self._start_again(project, serving)
            else:
                if project.down_since_ms is not None:  # its start may have been cut off before that
                    await self._bill(project.id)
                await self._route(project, instance)
            await self._note(project, serving, is_down=instance is None)

    async def _note_fault(self, project: Project, ended: AppExit | None) -> None:
        """Stores whose fault it is that an app is down, if that is known: it decides who pays.

        An app of which nobody knows how it ended was lost by the machine or the engine.
        """
        if ended is not None:
            is_lost = ended.exit_code is None and not ended.out_of_memory
            if is_lost is (project.lost_since_ms is None):
                await self._set_lost(project, is_lost=is_lost)

    async def _set_lost(self, project: Project, *, is_lost: bool) -> None:
        try:
            async with self._db.transaction(durable=True) as tx:
                if is_lost:
                    await self._metering.lose(tx, project.id)
                elif (current := await projects.by_id(tx, project.id)) is not None:
                    await self._metering.regain(tx, current)
        except (DatabaseUnavailable, WriteConflict) as error:  # it must not keep the app down
            log.warning("fault is not stored", project=project.id, error=error.message)

    async def _start_again(self, project: Project, serving: str) -> None:
        """Begins to start an app that should run: after its end, or as another gateway woke it."""
        if self._addresses.are_reused and not await deployments.is_starting(self._db, project.id):
            await self._addresses.unroute(project)
        if self._sleep.was_woken(serving):
            self._apps.app(serving).begin("start", partial(self.start, project.id, serving))
        else:
            self.restarts.begin(project, serving, self.start)

    async def start(self, project_id: str, serving: str) -> None:
        """Starts a project's app, resumes the project if it is suspended, and routes its address.

        Raises NoCapacity when memory does not allow a suspended project to resume.
        """
        deployment = await deployments.by_id(self._db, serving)
        project = await self._serves(project_id, serving)
        if deployment is None or project is None:
            return
        if project.volume and await jobs.is_moving(self._db, project_id):
            return
        if project.status is ProjectStatus.ACTIVE:
            await self._begin(project, deployment)
        elif project.status is ProjectStatus.SUSPENDED:
            with self._capacity.starting(project_id, project.size):
                await self._capacity.require_memory(self._db, project.size, project_id)
                await self._begin(project, deployment)

    async def _begin(self, project: Project, deployment: Deployment) -> None:
        spec = self._specs.instance(deployment, project)
        try:
            instance = await self._runtime.start(spec, timeout_seconds=self._listen_seconds)
        except DeployFailed:  # from now on it is down by its own fault
            await self._set_lost(project, is_lost=False)
            raise
        async with self._apps.held(project.id):
            if project.volume_missing and project.id in await self._runtime.volumes():
                async with self._db.transaction(durable=False) as tx:
                    await projects.set_volume_made(tx, project.id)
            await self._bill(project.id)
            current = await self._serves(project.id, deployment.id)
            if current is not None and current.status is ProjectStatus.ACTIVE:
                await self._route(current, instance)
                await self._note(current, deployment.id, is_down=False)

    async def _note(self, project: Project, serving: str, *, is_down: bool) -> None:
        """Stores whether the app should run and does not, where that has changed."""
        if is_down is (project.down_since_ms is not None):
            return
        since_ms = self._clock.now_ms() if is_down else None
        try:
            async with self._db.transaction(durable=True) as tx:
                await deployments.set_down(tx, project.id, serving=serving, since_ms=since_ms)
                if not is_down:
                    await self._metering.regain(tx, project)
        except (DatabaseUnavailable, WriteConflict) as error:  # the next comparison stores it
            log.warning("state is not stored", deployment=serving, error=error.message)

    async def _bill(self, project_id: str) -> None:
        """Begins billing a project whose app was started, if its wallet's credits allow it.

        One that is suspended resumes; one that was stopped to move its volume starts again.
        """
        async with self._db.transaction(durable=True) as tx:
            project = await projects.by_id(tx, project_id)
            if project is None:
                return
            if project.status is ProjectStatus.SUSPENDED:
                if await self._metering.may_resume(tx, project) and await projects.set_status(
                    tx, project_id, ProjectStatus.ACTIVE
                ):
                    await self._metering.begin(tx, project_id)
                    await self._tell(tx, project, EventKind.PROJECT_RESUMED)
            elif (
                project.status is ProjectStatus.ACTIVE
                and project.uncertified_since_ms is None
                and not await self._metering.bills(tx, project_id)
            ):
                await self._metering.begin_or_suspend(tx, project)

    async def _tell(self, tx: Transaction, project: Project, kind: EventKind) -> None:
        await events.record(
            tx,
            wallet=project.wallet,
            kind=kind,
            data={"project_id": project.id},
            now_ms=self._clock.now_ms(),
        )

    async def _suspend(self, project_id: str, serving: str) -> None:
        async with self._apps.held(project_id):
            project = await self._serves(project_id, serving)
            if project is not None and project.status is ProjectStatus.SUSPENDED:
                await self._addresses.unroute(project)
                await self._runtime.stop(serving)

    async def _route(self, project: Project, instance: Instance) -> None:
        """Routes the address to the app, unless it has a route and a deployment is starting."""
        has_route = self._addresses.target(project) is not None
        if not (has_route and await deployments.is_starting(self._db, project.id)):
            await self._addresses.route(project, instance.address)

    async def _serves(self, project_id: str, serving: str) -> Project | None:
        """Returns the project as it is now, if this deployment still serves it."""
        project = await projects.by_id(self._db, project_id)
        if project is None or project.serving_deployment_id != serving:
            return None
        return project

"""Carrying: a volume is filled for the next version of a project.

Its volume goes along when the next version is on another engine; one that it is given begins with
what the version that serves has written. That version is stopped before anything is copied, and the
copy counts from the moment at which the rows say that the next version serves: until then visitors
wait, and none reaches that one. Whatever fails before, a crash included, leaves the version that
serves with its volume and its files as they were; the copy is removed, and begun again by the next
attempt.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.keeping.apps import Apps
from moorage.engines.carried import NewVolume
from moorage.engines.engine import Engine
from moorage.engines.locks import Locks
from moorage.engines.volume_copies import VolumeCopies, Way
from moorage.errors import ClusterUnavailable, DatabaseUnavailable, DeployFailed
from moorage.failpoints import failpoint
from moorage.ledger.metering import Metering
from moorage.records.deployment import Deployment, Job, LostJob
from moorage.records.project import Project
from moorage.storage.apps import deployments, jobs, projects, restarts
from moorage.storage.database import Database, Transaction
from moorage.threads import to_its_end

log = structlog.get_logger()

BUILT = "built"
"""The step of a job whose deployment can be started."""

TIDY_SECONDS = 60.0
_LAST_REQUESTS_SECONDS = 5.0  # how long requests may take that came before the route was removed
_POLL_SECONDS = 0.05


@asynccontextmanager
async def nothing_carried(
    _job: Job, _deployment: Deployment, _project: Project
) -> AsyncIterator[str]:
    """As `Carrying.carried`, for a gateway whose engines all have the same volumes."""
    yield ""


class Carrying:
    """Carries volumes for deployments that are being started."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        volumes: VolumeCopies,
        addresses: Addresses,
        apps: Apps,
        metering: Metering,
        locks: Locks,
        size_bytes: int,
        clock: Clock,
    ) -> None:
        """`locks` are those of volumes, for exports as well; `size_bytes` is that of a new one."""
        self._db = db
        self._runtime = runtime
        self._volumes = volumes
        self._addresses = addresses
        self._apps = apps
        self._metering = metering
        self._size_bytes = size_bytes
        self._clock = clock
        self._locks = locks

    @asynccontextmanager
    async def carried(
        self, job: Job, deployment: Deployment, project: Project
    ) -> AsyncIterator[str]:
        """Fills the volume that the deployment is to have; gives a sentence about it.

        Gives "" where there is nothing to fill it with. Otherwise the version that serves is
        stopped, until the rows say that the deployment serves, or the block fails. An export of the
        volume is waited for. Raises DeployFailed, LostJob, OSError, ClusterUnavailable.
        """
        if not project.volume:
            yield ""
            return
        if self._locks.is_held(project.id):
            log.info("a move waits for an export of the volume", project=project.id)
        async with self._locks.alone(project.id):
            way = await self._way(deployment, project)
            if way is None:
                yield ""
                return
            async with self._copied(job, deployment, project, way):
                yield _sentence(way)
        await self._tidy_safely(project.id)

    async def tidy(self) -> None:
        """Removes what moves have left of volumes where these do not count, and their archives.

        One that stays holds up no other. Raises ClusterUnavailable, OSError.
        """
        for volume_id in await self._volumes.archives():
            if not self._locks.is_held(volume_id):
                async with self._locks.alone(volume_id):
                    await self._volumes.discard_archive(volume_id)
        for volume_id in await self._volumes.on_both():
            if not self._locks.is_held(volume_id):
                await self._tidy_safely(volume_id)

    async def _way(self, deployment: Deployment, project: Project) -> Way | None:
        serving = project.serving_deployment_id
        if serving is None:  # what failed before it served has left nothing that counts
            await self._volumes.forget(project.id, beside=deployment.id)
            return None
        if project.volume_begins:
            return await self._volumes.beginning(serving=serving, following=deployment.id)
        return await self._volumes.way(project.id, serving=serving, following=deployment.id)

    @asynccontextmanager
    async def _copied(
        self, job: Job, deployment: Deployment, project: Project, way: Way
    ) -> AsyncIterator[None]:
        new = NewVolume(
            volume_id=project.id,
            owner=project.wallet,
            deployment_id=deployment.id,
            size_bytes=self._size_bytes,
        )
        try:
            await self._runtime.stop(deployment.id)  # an attempt that was cut off may have begun it
            await self._volumes.prepare(new, way)
            with self._volumes.closed(new, way):
                await self._stop(job, project, way)
                if way.written_by and way.written_by == deployment.copy_of and not way.is_apart:
                    await self._runtime.copy(way.written_by, deployment.id)  # with its last files
                await self._volumes.carry(new, way)
                failpoint("volume carried")
                yield
        except BaseException:
            await to_its_end(self._take_back(job, deployment, project, way))
            raise

    async def _stop(self, job: Job, project: Project, way: Way) -> None:
        """Stops all apps that may use the old volume, once they have answered what they were asked.

        From the rows it is known from then on, also after a crash, that none may be started.
        Nothing is billed from the stop on until an app of the project is started.
        """
        async with self._apps.held(project.id):
            async with self._db.transaction(durable=True) as tx:
                await jobs.hold(tx, job, jobs.CARRYING)
            await self._addresses.unroute(project)
        failpoint("volume held")
        known = await way.before.known()
        for each in await deployments.of_project(self._db, project.id):
            if each.id in known:
                await self._apps.app(each.id).end()
                await self._until_idle(way.before, each.id)
                await way.before.stop(each.id)
        async with self._db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, jobs.CARRYING)
            await self._unbill(tx, project.id)

    async def _unbill(self, tx: Transaction, project_id: str) -> None:
        """Ends the billing of a project whose app was stopped; one that slept sleeps on."""
        current = await projects.by_id(tx, project_id)
        if current is None or current.asleep_since_ms is not None:
            return
        await self._metering.end(tx, project_id)
        await restarts.set_down(
            tx,
            project_id,
            serving=current.serving_deployment_id or "",
            since_ms=self._clock.now_ms(),
        )

    async def _until_idle(self, engine: Engine, deployment_id: str) -> None:
        deadline = self._clock.monotonic_seconds() + _LAST_REQUESTS_SECONDS
        while await engine.connections(deployment_id) != 0:
            if self._clock.monotonic_seconds() > deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _take_back(
        self, job: Job, deployment: Deployment, project: Project, way: Way
    ) -> None:
        """Has the old volume count again, unless by the rows the new one does.

        They are read in a transaction that writes: it waits for one whose outcome is not known.
        """
        try:
            async with self._db.transaction(durable=True) as tx:
                current = await projects.by_id(tx, project.id)
            if current is None or current.serving_deployment_id == deployment.id:
                return
            try:
                await self._runtime.stop(deployment.id)
                await way.after.remove_volume(project.id)
            except (ClusterUnavailable, DeployFailed, OSError) as error:
                log.warning(
                    "the copy of a volume stays for now", project=project.id, error=str(error)
                )
            with suppress(LostJob):
                async with self._db.transaction(durable=True) as tx:
                    await jobs.hold(tx, job, BUILT)
            app = self._apps.app(current.serving_deployment_id or "")
            app.was_woken = True  # its start is no restart of an app that has ended
            app.used_at = self._clock.monotonic_seconds()  # visitors could not use it meanwhile
            app.reset_pause("start")
        except DatabaseUnavailable as error:
            log.warning("a volume waits for the database", project=project.id, error=error.message)

    async def _tidy_safely(self, project_id: str) -> None:
        try:
            await self._tidy(project_id)
        except (ClusterUnavailable, DatabaseUnavailable, OSError) as error:
            log.warning("the old volume stays for now", project=project_id, error=str(error))

    async def _tidy(self, project_id: str) -> None:
        async with self._locks.alone(project_id):
            project = await projects.by_id(self._db, project_id)
            if project is not None and project.serving_deployment_id is not None:
                await self._volumes.keep_beside(project_id, project.serving_deployment_id)


def _sentence(way: Way) -> str:
    if way.written_by:
        return (
            "The app's new volume, /data, began with what the version before had written below "
            "/app, at the same paths."
        )
    return (
        f"The app's volume was moved with it: {way.content.files:,} files, "
        f"{way.content.size_bytes / 1024**2:,.1f} MiB."
    )

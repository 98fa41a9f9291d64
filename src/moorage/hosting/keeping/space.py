"""Space: apps that the engine ended because the disk was full wait until there is room.

They are suspended and not billed meanwhile. Their rows say that they wait, so that a restarted
gateway knows it too. When there is room, a project is suspended as any other, and the reconciler
resumes it.
"""

import os
from pathlib import Path

import structlog

from moorage.clock import Clock
from moorage.engines.engine import Incident, IncidentKind, Resources, Runs
from moorage.hosting.entrance.capacity import Capacity
from moorage.hosting.keeping.suspension import block_project
from moorage.ledger.metering import Metering
from moorage.metrics import record_ended_for_space, record_lost_volume
from moorage.records.event import EventKind
from moorage.records.project import ProjectStatus
from moorage.storage import events
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database


class ReservedDiskFile:
    """A file of `size_bytes` that nothing reads. Its methods block for milliseconds."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def adjust(self, *, free_bytes: int, spare_bytes: int) -> None:
        """Removes the file when less than its size is free; makes it again when more is spare."""
        if self._path.exists():
            if free_bytes < self._size_bytes:
                self._path.unlink()
                log.error("the disk is full: ballast dropped", bytes=self._size_bytes)
        elif self._size_bytes and spare_bytes > self._size_bytes:
            self._allocate()

    def _allocate(self) -> None:
        with self._path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
            except OSError as error:
                self._path.unlink()
                log.warning("no room for ballast", error=str(error))


log = structlog.get_logger()

NO_SPACE = (
    "The gateway's disk is nearly full, and this app was writing most: it was ended. It is not "
    "billed, its files are kept, and it starts again by itself when there is room."
)
VOLUME_LOST = (
    "The app's volume, /data, is gone from the gateway's storage. The app is stopped, and not "
    "billed, until the operator has put a copy in its place, or resumes it with an empty one."
)
_MENDED = "The file system of the volume had errors and was repaired when the app was started."


class Space:
    """Records what has happened to apps, and releases those that have room again."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Runs,
        metering: Metering,
        capacity: Capacity,
        ballast: ReservedDiskFile,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._metering = metering
        self._capacity = capacity
        self._ballast = ballast
        self._clock = clock

    async def handle(self, incident: Incident) -> None:
        """Records an incident that is no end, with an event for the app's owner."""
        match incident.kind:
            case IncidentKind.NO_SPACE:
                record_ended_for_space()
                await self._capacity.measure()  # from now on no new app is admitted
                await self._hold(incident.deployment_id)
            case IncidentKind.VOLUME_REPAIRED:
                await self._tell_mended(incident.deployment_id)
            case IncidentKind.VOLUME_LOST:
                await self._lose_volume(incident.deployment_id)

    async def look(self) -> None:
        """Measures the disk, holds apps that the engine ended, and releases those with room."""
        resources = await self._capacity.measure()
        spare = self._capacity.spare_bytes(resources)
        self._ballast.adjust(free_bytes=resources.free_bytes, spare_bytes=spare)
        for deployment_id in resources.held:
            await self._hold(deployment_id)
        await self._release(resources, spare)

    async def _hold(self, deployment_id: str) -> None:
        """Ends a project's billing and suspends it; a build that was ended fails by itself."""
        deployment = await deployments.by_id(self._db, deployment_id)
        if deployment is None:
            return
        async with self._db.transaction(durable=True) as tx:
            project = await projects.by_id(tx, deployment.project_id)
            if project is None or not await projects.suspend_for_space(
                tx,
                project.id,
                serving=deployment_id,
                at_ms=self._metering.time.now_ms(),
                since_ms=self._clock.now_ms(),
            ):
                return
            await self._metering.end(tx, project.id)
            await events.record(
                tx,
                wallet=project.wallet,
                kind=EventKind.PROJECT_SUSPENDED,
                data={"project_id": project.id, "reason": NO_SPACE, "reason_code": "no_capacity"},
                now_ms=self._clock.now_ms(),
            )
        await self._runtime.note(deployment_id, NO_SPACE)
        log.warning("app ended: the disk is nearly full", deployment=deployment_id)

    async def _release(self, resources: Resources, spare: int) -> None:
        """Releases apps, longest wait first, while there is room for the growth of their disks."""
        for project_id, serving in (await projects.suspended_for_space(self._db)).items():
            growth = resources.growth.get(serving, 0)
            if serving in resources.held or growth > spare:
                continue
            spare -= growth
            async with self._db.transaction(durable=True) as tx:
                await projects.release_for_space(tx, project_id)
            log.info("there is room again", deployment=serving)

    async def _lose_volume(self, deployment_id: str) -> None:
        """Suspends a project whose volume is gone, as the operator would; once for each loss.

        While its app runs, that has the files still, and is not stopped: they would end with it.
        """
        deployment = await deployments.by_id(self._db, deployment_id)
        if deployment is None:
            return
        if await self._still_serves(deployment.project_id):
            record_lost_volume()
            log.error("a running app's volume is gone", deployment=deployment_id)
            return
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            project = await projects.by_id(tx, deployment.project_id)
            if project is None or project.status is ProjectStatus.DELETING:
                return  # the deletion has removed it
            if not await projects.set_volume_lost(tx, project.id):
                return
            await block_project(tx, project, VOLUME_LOST, now_ms=now_ms)
            await events.record(
                tx,
                wallet=project.wallet,
                kind=EventKind.VOLUME_LOST,
                data={
                    "project_id": project.id,
                    "deployment_id": deployment_id,
                    "reason": VOLUME_LOST,
                },
                now_ms=now_ms,
            )
        record_lost_volume()
        await self._runtime.note(deployment_id, VOLUME_LOST)
        log.error("a volume is gone", deployment=deployment_id, project=project.id)

    async def _still_serves(self, project_id: str) -> bool:
        project = await projects.by_id(self._db, project_id)
        if project is None or project.serving_deployment_id is None:
            return False
        return (await self._runtime.inspect(project.serving_deployment_id)).instance is not None

    async def _tell_mended(self, deployment_id: str) -> None:
        deployment = await deployments.by_id(self._db, deployment_id)
        if deployment is None:
            return
        async with self._db.transaction(durable=False) as tx:
            project = await projects.by_id(tx, deployment.project_id)
            if project is not None:
                await events.record(
                    tx,
                    wallet=project.wallet,
                    kind=EventKind.VOLUME_MENDED,
                    data={
                        "project_id": project.id,
                        "deployment_id": deployment_id,
                        "reason": _MENDED,
                    },
                    now_ms=self._clock.now_ms(),
                )

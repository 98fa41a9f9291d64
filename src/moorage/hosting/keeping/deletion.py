"""Deletion: removes a project's app, address and files, and frees its name; credits stay.

Projects that were suspended or failed for long are deleted as well. A gateway that does not run the
apps waits for the one that does.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from moorage.clock import Clock, SteadyWall
from moorage.errors import ContentUnavailable, LeaderAway, ProjectNotFound
from moorage.hosting.keeping.apps import Apps, ProjectWork
from moorage.hosting.sources import Sources
from moorage.ledger.metering import Metering
from moorage.records.deployment import UNDER_WAY, DeploymentStatus, JobKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts

_MAX_SECONDS = 60.0
_POLL_SECONDS = 0.1


class KeptElsewhere:
    """What the leader has done."""

    def __init__(self, *, db: Database, sources: Sources, clock: Clock) -> None:
        self._db = db
        self._sources = sources
        self._clock = clock

    async def deleted(self, project: Project) -> None:
        """Returns when nothing is left of a project that is being deleted. Raises LeaderAway."""

        async def is_gone() -> bool:
            return await projects.by_id(self._db, project.id) is None

        await self._until(is_gone)

    async def cleared_up(self, deployment_id: str) -> None:
        """Returns when the files of a deployment that was ended are gone. Raises LeaderAway."""

        async def is_gone() -> bool:
            try:
                return not await self._sources.exists(deployment_id)
            except ContentUnavailable:
                return False

        await self._until(is_gone)

    async def _until(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        deadline = self._clock.monotonic_seconds() + _MAX_SECONDS
        while not await is_done():
            if self._clock.monotonic_seconds() > deadline:
                raise LeaderAway
            await asyncio.sleep(_POLL_SECONDS)


class Deletion:
    """Deletes projects; after an error or a crash, the reconciler finishes it."""

    def __init__(
        self,
        *,
        db: Database,
        finish: Callable[[Project], Awaitable[None]],
        metering: Metering,
        apps: Apps,
    ) -> None:
        """`finish` removes all of a project whose rows say so, or waits until that is done."""
        self._db = db
        self._finish = finish
        self._metering = metering
        self._apps = apps

    async def delete(self, project: Project) -> None:
        """Deletes a project, whatever its state; concurrent calls share one deletion.

        Goes on when its caller is cancelled. Raises ProjectNotFound if it is another wallet's by
        now.
        """
        work = self._apps.project(project.id)
        if work.deletion is None:
            work.deletion = asyncio.create_task(
                self._delete(work, project), name=f"delete {project.id}"
            )
        await asyncio.shield(work.deletion)

    async def expire(self, project: Project) -> bool:
        """Deletes a project unless it has changed since it was read; returns whether it did.

        A project that is being redeployed, that its wallet's credits can resume, or that only its
        limit of the month stops, stays.
        """
        async with self._db.transaction(durable=True) as tx:
            deployed = await deployments.of_project(tx, project.id)
            if (
                await projects.by_id(tx, project.id) != project
                or any(deployment.status in UNDER_WAY for deployment in deployed)
                or await self._metering.may_resume(tx, project)
                or await self._metering.is_at_limit(tx, project)
            ):
                return False
            await projects.set_status(tx, project.id, ProjectStatus.DELETING)
        await self.delete(project)
        return True

    async def begin(self, tx: Transaction, project_id: str) -> None:
        """Ends billing, and records that the project is deleted, even after a crash."""
        await self._metering.close(tx, project_id)
        await projects.set_status(tx, project_id, ProjectStatus.DELETING)
        for deployment in await deployments.of_project(tx, project_id):
            await deployments.move(tx, deployment.id, DeploymentStatus.STOPPED)
            await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=deployment.id)

    async def _delete(self, work: ProjectWork, project: Project) -> None:
        try:
            async with self._db.transaction(durable=True) as tx:
                await accounts.lock(tx, project.wallet)  # as who gives it to another wallet does
                current = await projects.by_id(tx, project.id)
                if current is not None and current.wallet != project.wallet:
                    raise ProjectNotFound
                await self.begin(tx, project.id)
            await self._finish(project)
        finally:
            work.deletion = None


log = structlog.get_logger()

DAY_MS = 24 * 3_600_000


class Retention:
    """Deletes projects suspended too long, and those that failed long ago and never served.

    The time of a suspension is billed time, so that neither a change of the clock nor a machine
    that is down shortens what the owner was promised. A clock set forward ends no other time.
    """

    def __init__(
        self,
        *,
        db: Database,
        deletion: Deletion,
        metering: Metering,
        suspended_days: int,
        failed_days: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._deletion = deletion
        self._metering = metering
        self._steady = SteadyWall(clock)
        self._failed_ms = failed_days * DAY_MS
        self.change(suspended_days=suspended_days)

    def change(self, *, suspended_days: int) -> None:
        """Takes another time, for projects that wait already as well."""
        self._suspended_ms = suspended_days * DAY_MS

    async def sweep(self) -> None:
        """Deletes the projects that are due, one by one, unless they changed meanwhile."""
        suspended = await projects.suspended_until(
            self._db, until_ms=self._metering.time.now_ms() - self._suspended_ms
        )
        failed = await projects.failed_until(
            self._db, until_ms=self._steady.now_ms() - self._failed_ms
        )
        for project in [*suspended, *failed]:
            if await self._deletion.expire(project):
                log.info("project deleted after its time", project=project.id, was=project.status)

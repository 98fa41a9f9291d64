"""Deletion: removes a project's app, address and files, and frees its name; credits stay."""

import asyncio
from collections.abc import Awaitable, Callable

from moorage.deploy.keeping.apps import Apps, ProjectWork
from moorage.ledger.metering import Metering
from moorage.records.deployment import UNDER_WAY, DeploymentStatus, JobKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database, Transaction


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

        Goes on when its caller is cancelled.
        """
        work = self._apps.project(project.id)
        if work.deletion is None:
            work.deletion = asyncio.create_task(
                self._delete(work, project), name=f"delete {project.id}"
            )
        await asyncio.shield(work.deletion)

    async def expire(self, project: Project) -> bool:
        """Deletes a project unless it has changed since it was read; returns whether it did.

        A project that is being redeployed, or that its wallet's credits can resume, stays.
        """
        async with self._db.transaction(durable=True) as tx:
            deployed = await deployments.of_project(tx, project.id)
            if (
                await projects.by_id(tx, project.id) != project
                or any(deployment.status in UNDER_WAY for deployment in deployed)
                or await self._metering.may_resume(tx, project)
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
                await self.begin(tx, project.id)
            await self._finish(project)
        finally:
            work.deletion = None

"""Deletion: a project's app, address, files and name are gone; unspent credits stay."""

from moorage.deploy.deployment import DeploymentStatus
from moorage.deploy.job import JobKind
from moorage.deploy.project import Project, ProjectStatus
from moorage.deploy.reconciler import Reconciler
from moorage.deploy.worker import Worker
from moorage.ledger.metering import Metering
from moorage.storage import jobs, projects
from moorage.storage.database import Database


class Deletion:
    """Deletes projects; what a crash leaves half done, the next start finishes."""

    def __init__(
        self, *, db: Database, worker: Worker, reconciler: Reconciler, metering: Metering
    ) -> None:
        self._db = db
        self._worker = worker
        self._reconciler = reconciler
        self._metering = metering

    async def delete(self, project: Project) -> None:
        """Delete a project, whatever it is doing. Safe to call again."""
        async with self._db.transaction(durable=True) as tx:
            await self._metering.end(tx, project.id)
            await projects.set_status(tx, project.id, ProjectStatus.DELETING)
            deployments = await projects.deployments_of(tx, project.id)
            for deployment in deployments:
                await projects.move(tx, deployment.id, DeploymentStatus.STOPPED)
                await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=deployment.id)
        for deployment in deployments:
            await self._worker.abandon(deployment.id)
        await self._reconciler.delete(project)

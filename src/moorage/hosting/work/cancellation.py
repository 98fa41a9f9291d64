"""Cancellation: a deployment under way is ended at its owner's request."""

import asyncio
from collections.abc import Awaitable, Callable

from moorage.clock import Clock
from moorage.engines.engine import EngineView, Keep, Runs, log_tail
from moorage.errors import DeployFailed, DeploymentOver, FailureCause
from moorage.hosting.sources import Sources
from moorage.hosting.work.failure import fail, fail_project
from moorage.hosting.work.worker import Worker
from moorage.records.deployment import UNDER_WAY, Deployment, DeploymentStatus, JobKind, LogKind
from moorage.records.project import Project
from moorage.storage.apps import deployments, jobs
from moorage.storage.database import Database

_LATELY_MS = 600_000


class Cancellation:
    """Ends deployments; after a crash, the reconciler finishes it."""

    def __init__(
        self,
        *,
        db: Database,
        clear_up: Callable[[str], Awaitable[None]],
        runtime: EngineView,
        clock: Clock,
    ) -> None:
        """`clear_up` ends the work on a deployment and removes what it made, or waits for that."""
        self._db = db
        self._clear_up = clear_up
        self._runtime = runtime
        self._clock = clock

    async def cancel(self, project: Project, deployment: Deployment) -> None:
        """Ends the deployment as failed; returns when nothing of it runs.

        The version that serves is not touched. Goes on when its caller is cancelled. Raises
        DeploymentOver.
        """
        await self._end(project, deployment)
        await asyncio.shield(asyncio.ensure_future(self._clear_up(deployment.id)))

    async def _end(self, project: Project, deployment: Deployment) -> None:
        cancelled = DeployFailed(
            FailureCause.CANCELLED,
            "You cancelled this deployment.",
            log_tail=await log_tail(self._runtime, deployment.id, LogKind.BUILD),
        )
        async with self._db.transaction(durable=True) as tx:
            current = await deployments.by_id(tx, deployment.id)
            if current is None or current.status not in UNDER_WAY:
                raise DeploymentOver
            now_ms = self._clock.now_ms()
            await fail(tx, current, cancelled, wallet=project.wallet, now_ms=now_ms)
            await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=deployment.id)
            await fail_project(tx, project.id)


class ClearingUp:
    """Ends the work on a deployment here, and removes what it made."""

    def __init__(
        self,
        *,
        db: Database,
        worker: Worker,
        runtime: Runs,
        sources: Sources,
        clock: Clock,
    ) -> None:
        self._db = db
        self._clock = clock
        self._cleared: set[str] = set()  # of those that failed lately elsewhere
        self._worker = worker
        self._runtime = runtime
        self._sources = sources

    async def __call__(self, deployment_id: str) -> None:
        """Returns when nothing of the deployment runs."""
        await self._worker.abandon(deployment_id)
        await self._runtime.stop(deployment_id, keep=Keep.LOGS)
        await self._sources.drop(deployment_id)

    async def given_up(self) -> None:
        """Ends the work on deployments that other gateways ended, and removes their files."""
        await self._worker.drop_lost()
        for name in self._sources.here():
            if not self._worker.works_on(name):
                deployment = await deployments.by_id(self._db, name)
                if deployment is not None and deployment.status is DeploymentStatus.FAILED:
                    await self(name)
        if self._sources.is_shared:
            await self._given_up_elsewhere()

    async def _given_up_elsewhere(self) -> None:
        """Does the same for those whose files only the store has."""
        failed = await deployments.failed_since(self._db, self._clock.now_ms() - _LATELY_MS)
        for name in failed:
            if name not in self._cleared and not self._worker.works_on(name):
                if await self._sources.exists(name):
                    await self(name)
                self._cleared.add(name)
        self._cleared.intersection_update(failed)

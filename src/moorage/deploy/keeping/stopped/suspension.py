"""Suspension by the operator: the project is stopped, and stays so whatever its credits."""

from collections.abc import Callable

from moorage.clock import Clock
from moorage.deploy.work.failure import fail
from moorage.errors import DeployFailed, FailureCause, ProjectBlocked
from moorage.events import outbox
from moorage.ledger.metering import Metering
from moorage.records.deployment import JobKind
from moorage.records.event import EventKind
from moorage.records.project import Project
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts


class Suspension:
    """Carries out suspensions, which the operator's command has written to rows."""

    def __init__(
        self, *, db: Database, metering: Metering, on_given_up: Callable[[str], None], clock: Clock
    ) -> None:
        self._db = db
        self._metering = metering
        self._on_given_up = on_given_up
        self._clock = clock

    async def enforce(self) -> None:
        """Suspends the blocked projects that still run."""
        for project_id in await projects.not_enforced(self._db):
            await self._suspend(project_id)

    async def _suspend(self, project_id: str) -> None:
        """Ends the project's billing and deployments under way; the reconciler stops its app."""
        async with self._db.transaction(durable=True) as tx:
            project = await projects.by_id(tx, project_id)
            if project is None or project.blocked_reason is None:
                return
            given_up = await deployments.under_way_of(tx, project_id)
            ended = DeployFailed(
                FailureCause.BLOCKED, ProjectBlocked(project.blocked_reason).message
            )
            for deployment in given_up:
                await fail(
                    tx, deployment, ended, wallet=project.wallet, now_ms=self._clock.now_ms()
                )
                await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=deployment.id)
            await self._metering.end(tx, project_id)
            await projects.suspend(tx, project_id, at_ms=self._metering.time.now_ms())
        for deployment in given_up:
            self._on_given_up(deployment.id)


async def block_project(tx: Transaction, project: Project, reason: str, *, now_ms: int) -> None:
    """Blocks a project, and records an event that tells its wallet why."""
    await projects.block_project(tx, project.id, reason)
    await outbox.record(
        tx,
        wallet=project.wallet,
        kind=EventKind.PROJECT_SUSPENDED,
        data={
            "project_id": project.id,
            "reason": reason,
            "reason_code": FailureCause.BLOCKED.value,
        },
        now_ms=now_ms,
    )


async def block_wallet(tx: Transaction, wallet: str, reason: str, *, now_ms: int) -> list[Project]:
    """Blocks a wallet and all its projects; returns these. The wallet can no longer deploy.

    Its credits stay, and can be refunded.
    """
    await accounts.ensure_wallet(tx, wallet, now_ms=now_ms)
    await projects.set_of_wallet(tx, wallet, reason)
    owned = await projects.of_wallet(tx, wallet)
    for project in owned:
        await block_project(tx, project, reason, now_ms=now_ms)
    return owned


async def unblock_wallet(tx: Transaction, wallet: str) -> list[Project]:
    """Unblocks a wallet and its blocked projects; returns these."""
    await projects.set_of_wallet(tx, wallet, None)
    blocked = [
        project
        for project in await projects.of_wallet(tx, wallet)
        if project.blocked_reason is not None
    ]
    for project in blocked:
        await projects.unblock_project(tx, project.id)
    return blocked

"""Suspension by the operator or for lack of credits, and pauses that owners ask for."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import (
    DeployFailed,
    FailureCause,
    InvalidField,
    ProjectBlocked,
)
from moorage.hosting.entrance.configuration import refuse_blocked
from moorage.hosting.work.failure import fail
from moorage.ledger.metering import Metering
from moorage.records.deployment import Deployment, JobKind
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts

_PAUSED_MEANWHILE = "You paused the project before this was ready: resume it, then deploy again."


class Paused(StrEnum):
    """What became of a request to pause or to resume."""

    AS_BEFORE = "as_before"
    PAUSED = "paused"
    RESUMED = "resumed"  # the reconciler starts it within seconds
    WAITING = "waiting"  # no longer paused, but without credits for its next hour, or without room


class Pausing:
    """Writes to rows what an owner wants; the reconciler stops and starts the app."""

    def __init__(
        self,
        *,
        db: Database,
        metering: Metering,
        resumptions: RateLimiter,
        on_given_up: Callable[[str], None],
        clock: Clock,
    ) -> None:
        """`resumptions` are limited by project.

        A paused app runs on, unbilled, until the reconciler has stopped it.
        """
        self._db = db
        self._metering = metering
        self._resumptions = resumptions
        self._on_given_up = on_given_up
        self._clock = clock

    async def pause(self, of: Project) -> Paused:
        """Stops a project's billing, and gives up what is under way of it.

        Raises ProjectNotFound, ProjectBlocked, and InvalidField if it has never served.
        """
        async with self._db.transaction(durable=True) as tx:
            project = await self._locked(tx, of)
            if project.paused_at_ms is not None and project.status is ProjectStatus.SUSPENDED:
                return Paused.AS_BEFORE
            if project.serving_deployment_id is None:
                raise InvalidField(
                    "paused", "nothing of this project has served yet: cancel its deployment"
                )
            given_up = await self._pause(tx, project)
        for deployment in given_up:
            self._on_given_up(deployment.id)
        return Paused.PAUSED

    async def pause_all(self, tx: Transaction, project_ids: Iterable[str]) -> Callable[[], None]:
        """Pauses projects that are billed, in a transaction; call what it returns after that."""
        given_up: list[Deployment] = []
        for project_id in project_ids:
            project = await projects.by_id(tx, project_id)
            if project is not None and project.status is not ProjectStatus.DELETING:
                given_up += await self._pause(tx, project)

        def end() -> None:
            for deployment in given_up:
                self._on_given_up(deployment.id)

        return end

    async def _pause(self, tx: Transaction, project: Project) -> list[Deployment]:
        """Pauses a project, and returns the deployments that are given up for it."""
        given_up = await deployments.under_way_of(tx, project.id)
        for deployment in given_up:
            await self._give_up(tx, deployment, wallet=project.wallet)
        await self._metering.end(tx, project.id)
        await projects.suspend(tx, project.id, at_ms=self._metering.time.now_ms())
        await projects.set_paused(tx, project.id, at_ms=self._clock.now_ms())
        await self._tell(tx, project)
        return given_up

    async def resume(self, of: Project) -> Paused:
        """Ends the pause; from now on credits decide.

        Raises ProjectNotFound, ProjectBlocked, RateLimited. The time for which a suspended project
        is kept counts from the pause on.
        """
        async with self._db.transaction(durable=True) as tx:
            project = await self._locked(tx, of)
            if project.paused_at_ms is None:
                return Paused.AS_BEFORE
            await self._resumptions.check(project.id)
            await projects.set_paused(tx, project.id, at_ms=None)
            starts = await self._metering.may_resume(tx, project)
        return Paused.RESUMED if starts else Paused.WAITING

    async def _locked(self, tx: Transaction, of: Project) -> Project:
        """Returns the project as it is now, with its wallet's row locked."""
        await accounts.lock(tx, of.wallet)
        project = await projects.living(tx, of)
        refuse_blocked(await accounts.wallet_row(tx, of.wallet), project)
        return project

    async def _give_up(self, tx: Transaction, deployment: Deployment, *, wallet: str) -> None:
        ended = DeployFailed(FailureCause.PAUSED, _PAUSED_MEANWHILE)
        await fail(tx, deployment, ended, wallet=wallet, now_ms=self._clock.now_ms())
        await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=deployment.id)

    async def _tell(self, tx: Transaction, project: Project) -> None:
        await events.record(
            tx,
            wallet=project.wallet,
            kind=EventKind.PROJECT_SUSPENDED,
            data={
                "project_id": project.id,
                "reason": "You paused it.",
                "reason_code": FailureCause.PAUSED.value,
            },
            now_ms=self._clock.now_ms(),
        )


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
    await events.record(
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

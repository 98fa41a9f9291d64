"""Rollback: an earlier release is deployed again, as a new deployment of its files."""

from collections.abc import Callable

import msgspec

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.engines.engine import EngineView
from moorage.errors import (
    DeploymentNotFound,
    NoEarlierRelease,
    OutOfCredits,
    ReleaseGone,
    ReleaseNeverServed,
    ReleaseServing,
)
from moorage.hosting.entrance.capacity import Capacity
from moorage.hosting.entrance.configuration import (
    copied_deployment,
    queue_deployment,
    refuse_stopped,
)
from moorage.ledger import ledger
from moorage.records.deployment import Deployment, DeploymentStatus, Origin
from moorage.records.project import Project
from moorage.storage import idempotency
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database, Transaction
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts


class RollingBack(msgspec.Struct, frozen=True):
    """A queued deployment of an earlier release."""

    project_id: str
    deployment_id: str
    release_id: str


class Rollback:
    """Queues deployments that copy a release with its plan, variables and health path.

    The size stays that which the project has.
    """

    def __init__(
        self,
        *,
        db: Database,
        runtime: EngineView,
        capacity: Capacity,
        copies: RateLimiter,
        clock: Clock,
        on_queued: Callable[[], None],
        on_superseded: Callable[[str], None],
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._capacity = capacity
        self._copies = copies  # by wallet: each copies a whole disk
        self._clock = clock
        self._on_queued = on_queued
        self._on_superseded = on_superseded

    async def to(
        self, of: Project, release_id: str | None, *, claim: Claim | None = None
    ) -> RollingBack:
        """Rolls a project back to a release; without an id, to the one that served before.

        Raises ProjectNotFound, ProjectBlocked, ProjectPaused, OutOfCredits, DeploymentNotFound,
        ReleaseServing, ReleaseNeverServed, ReleaseGone, NoEarlierRelease, NoCapacity, RateLimited.
        """
        await self._capacity.require(self._db, of.size, project_id=of.id)
        on_machine = await self._runtime.known()
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, of.wallet)
            project = await self._rollable(tx, of)
            release = await self._release(tx, project, release_id)
            if release.id not in on_machine:
                raise ReleaseGone
            await self._copies.check(project.wallet)
            copy = copied_deployment(release, Origin.ROLLBACK, now_ms=self._clock.now_ms())
            deployment = msgspec.structs.replace(copy, size=project.size)
            given_up = await queue_deployment(
                tx,
                project,
                deployment,
                in_place_of=await deployments.under_way_of(tx, project.id),
            )
            begun = RollingBack(project.id, deployment.id, release.id)
            await idempotency.carried_out(tx, claim, begun)
        self._on_queued()
        for earlier in given_up:
            self._on_superseded(earlier)
        return begun

    async def _rollable(self, tx: Transaction, of: Project) -> Project:
        """Returns the project as it is now; raises unless its wallet may redeploy it."""
        project = await projects.living(tx, of)
        refuse_stopped(await accounts.wallet_row(tx, project.wallet), project)
        if (await ledger.reach(tx, project.id, wallet=project.wallet)).total <= 0:
            raise OutOfCredits
        return project

    async def _release(
        self, tx: Transaction, project: Project, release_id: str | None
    ) -> Deployment:
        release_id = release_id or await deployments.latest_release(tx, project.id)
        if release_id is None:
            raise NoEarlierRelease
        release = await deployments.by_id(tx, release_id)
        if release is None or release.project_id != project.id:
            raise DeploymentNotFound
        if release.id == project.serving_deployment_id:
            raise ReleaseServing
        if release.status is not DeploymentStatus.SUPERSEDED:
            raise ReleaseNeverServed
        if not release.is_kept:
            raise ReleaseGone
        return release

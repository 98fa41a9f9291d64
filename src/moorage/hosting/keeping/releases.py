"""Releases: what is kept of earlier deployments, so that a release can be deployed again.

Of each project, the latest superseded deployments keep their files. As many that failed, and as
many that were superseded or cancelled before they served, keep their logs. First a row records that
something is no longer kept; then the reconciler removes it.
"""

from collections.abc import Collection, Mapping
from functools import partial

import structlog

from moorage.clock import Clock
from moorage.engines.engine import Engine, Keep, Runs
from moorage.hosting.keeping.apps import Apps
from moorage.records.deployment import DeploymentStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database

IDLE_SECONDS = 1.5
"""After so long without a connection nobody uses it: the proxy closes idle ones after 1 s."""


class Drain:
    """Decides which of the replaced versions that still run may be stopped.

    Times are kept in this process: after a restart of the gateway they begin again.
    """

    def __init__(
        self,
        *,
        runtime: Runs,
        apps: Apps,
        limit_seconds: float,
        clock: Clock,
        min_seconds: float = 0.0,
    ) -> None:
        """`min_seconds` is how long other gateways' proxies may still send requests there."""
        self._runtime = runtime
        self._apps = apps
        self._limit_seconds = max(limit_seconds, min_seconds)
        self._min_seconds = min_seconds
        self._clock = clock

    async def over(self, replaced: Collection[str]) -> list[str]:
        """Returns those that were idle for 1.5 s, or drained for `limit_seconds`."""
        return [name for name in replaced if await self._is_over(name)]

    def may_stop(self, deployment_id: str) -> bool:
        """Returns whether every proxy has had the time to switch to the next version."""
        now, app = self._clock.monotonic_seconds(), self._apps.app(deployment_id)
        if app.drains_until is None:
            app.drains_until = now + self._limit_seconds
        return now >= app.drains_until - self._limit_seconds + self._min_seconds

    async def _is_over(self, deployment_id: str) -> bool:
        if not self.may_stop(deployment_id):
            return False
        now, app = self._clock.monotonic_seconds(), self._apps.app(deployment_id)
        if app.drains_until is None or now >= app.drains_until:
            return True
        if await self._runtime.connections(deployment_id) != 0:
            app.idle_since = None
            return False
        if app.idle_since is None:
            app.idle_since = now
        return now - app.idle_since >= IDLE_SECONDS


log = structlog.get_logger()

DRAINING_AT_ONCE = 3
"""How many replaced versions of a project may run on. It pays for one app, however often it deploys
while clients keep connections to each version."""

Kept = Mapping[str, DeploymentStatus]
"""Ended deployments that are kept, with their status: superseded or failed."""


class Releases:
    """Stops drained versions, discards failed ones, and removes the releases beyond the limit."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        apps: Apps,
        drain: Drain,
        max_kept: int,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._apps = apps
        self._drain = drain
        self._max_kept = max_kept
        self._all_within_cap: Kept = {}

    async def tend(self, kept: Kept, *, known: Collection[str], running: Collection[str]) -> None:
        """Does all that is due; `kept` was read after `known` and `running`."""
        for failed in [name for name in known if kept.get(name) is DeploymentStatus.FAILED]:
            self._discard(failed)
        replaced = [name for name in running if kept.get(name) is DeploymentStatus.SUPERSEDED]
        over = {*await self._drain.over(replaced), *await self._too_many(replaced)}
        for deployment_id in over:
            self._apps.app(deployment_id).begin("stop", partial(self._runtime.stop, deployment_id))
        if kept != self._all_within_cap and await self._collect(running):
            self._all_within_cap = kept

    async def _too_many(self, replaced: Collection[str]) -> set[str]:
        """Returns those beyond the last `DRAINING_AT_ONCE` of their project."""
        if len(replaced) <= DRAINING_AT_ONCE:
            return set()
        surplus = set(await deployments.surplus_releases(self._db, keep=DRAINING_AT_ONCE))
        return {name for name in surplus.intersection(replaced) if self._drain.may_stop(name)}

    def _discard(self, deployment_id: str) -> None:
        """Discards a failed deployment once in this process: a crash may have left its files."""
        app = self._apps.app(deployment_id)
        if not app.is_discarded:
            app.begin("discard", partial(self._discard_one, deployment_id))

    async def _discard_one(self, deployment_id: str) -> None:
        await self._runtime.stop(deployment_id, keep=Keep.LOGS)
        failed = await deployments.by_id(self._db, deployment_id)
        if failed is not None:
            await self._clear_volume(failed.project_id)
        self._apps.app(deployment_id).is_discarded = True

    async def _clear_volume(self, project_id: str) -> None:
        """Clears a volume with which no version has served: what a failed one left there.

        One that is being filled for the next version stays: what is there by now is that one's.
        """
        async with self._apps.held(project_id):
            project = await projects.by_id(self._db, project_id)
            if project is None or not project.volume:
                return
            if await jobs.is_moving(self._db, project.id):
                return
            if project.serving_deployment_id is None or project.volume_begins:
                await self._runtime.delete_volume(project.id, unless_used=True)

    async def _collect(self, running: Collection[str]) -> bool:
        """Ends the keeping of releases beyond the limit; returns False if some still run."""
        surplus = await deployments.surplus_releases(self._db, keep=self._max_kept)
        idle = [deployment_id for deployment_id in surplus if deployment_id not in running]
        if not idle:
            return not surplus
        async with self._db.transaction(durable=True) as tx:
            collected = [name for name in idle if await deployments.collect_releases(tx, name)]
        log.info("releases collected", deployments=collected)
        return len(collected) == len(surplus)

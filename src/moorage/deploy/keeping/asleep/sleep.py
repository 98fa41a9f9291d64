"""Sleep: an app that nobody uses is stopped until its next request.

First its project's row says that it sleeps; then it is stopped. After a crash in between, the
reconciler stops it.
"""

import asyncio

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.keeping.apps import Apps
from moorage.engines.engine import Engine, Instance
from moorage.records.project import Project
from moorage.storage.apps import projects, usage
from moorage.storage.database import Database

log = structlog.get_logger()

_LAST_REQUESTS_SECONDS = 5.0  # how long requests may take that came before the route was removed
_POLL_SECONDS = 0.02
_ASLEEP = "Not used for a while: asleep until the next request."


class Sleep:
    """Puts apps to sleep that had no request and no connection for `after_seconds`; 0: never.

    Times are kept in this process: after a restart of the gateway they begin anew.
    """

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        addresses: Addresses,
        apps: Apps,
        after_seconds: float,
        clock: Clock,
        several_proxies: bool = False,
    ) -> None:
        """With `several_proxies`, requests that other gateways counted are use as well."""
        self._several_proxies = several_proxies
        self._db = db
        self._runtime = runtime
        self._addresses = addresses
        self._apps = apps
        self._after_seconds = after_seconds
        self._clock = clock

    def use(self, deployment_id: str) -> None:
        """Records that a serving app is used now; its idle time begins anew."""
        app = self._apps.app(deployment_id)
        app.used_at = self._clock.monotonic_seconds()
        app.reset_pause("sleep")

    def keeps_asleep(self, project: Project, instance: Instance | None) -> bool:
        """Returns whether an active project sleeps; begins to stop its app if that still runs.

        For an idle app that is awake, begins a closer check, which may put it to sleep. Callers
        hold the project's lock.
        """
        app = self._apps.app(project.serving_deployment_id or "")
        app.sleeps = project.asleep_since_ms is not None or app.sleeps
        if project.asleep_since_ms is None:
            serving = project.serving_deployment_id
            if app.sleeps and serving is not None:
                self._note_woken(serving, runs=instance is not None)
            if serving is not None and self.is_idle(serving):
                app.begin("sleep", lambda: self._try(project.id, serving, instance))
            return False
        if instance is not None:
            app.begin("sleep", lambda: self._stop(project.id, instance))
        return True

    def was_woken(self, deployment_id: str) -> bool:
        """Returns whether an app was woken by its row, once."""
        app = self._apps.app(deployment_id)
        woken, app.was_woken = app.was_woken, False
        return woken

    def _note_woken(self, deployment_id: str, *, runs: bool) -> None:
        """Has an app that another gateway woke count as used, and start without a pause."""
        self.use(deployment_id)
        app = self._apps.app(deployment_id)
        app.sleeps, app.was_woken = False, not runs
        app.reset_pause("start")

    def is_idle(self, serving: str) -> bool:
        """Returns whether an app was not used for `after_seconds`, as far as this process knows."""
        if not self._after_seconds:
            return False
        app, now = self._apps.app(serving), self._clock.monotonic_seconds()
        if app.used_at is None:
            app.used_at = now
        return now - app.used_at >= self._after_seconds

    async def _try(self, project_id: str, serving: str, instance: Instance | None) -> None:
        """Puts a project's app to sleep, unless it is in use or about to be replaced."""
        if await self._runtime.connections(serving) or await self._is_visited(project_id, serving):
            self.use(serving)
        async with self._apps.held(project_id):
            if not self.is_idle(serving):
                return
            async with self._db.transaction(durable=False) as tx:
                falls_asleep = await projects.fall_asleep(
                    tx, project_id, serving=serving, at_ms=self._clock.now_ms()
                )
        self._apps.app(serving).sleeps = falls_asleep
        if falls_asleep and instance is not None:
            await self._stop(project_id, instance)

    async def _is_visited(self, project_id: str, serving: str) -> bool:
        """Returns whether any gateway has counted requests since this was last asked."""
        if not self._several_proxies:
            return False
        app, requests = self._apps.app(serving), await usage.requests(self._db, project_id)
        before, app.requests = app.requests, requests
        return requests != before

    async def _stop(self, project_id: str, instance: Instance) -> None:
        """Stops a sleeping project's app when it has no connections, unless it is woken before."""
        deadline = self._clock.monotonic_seconds() + _LAST_REQUESTS_SECONDS
        while True:
            if await self._is_over(project_id, instance, deadline):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_over(self, project_id: str, instance: Instance, deadline: float) -> bool:
        """Removes the route, and stops the app if it is idle; returns False to try again."""
        serving = instance.deployment_id
        async with self._apps.held(project_id):
            project = await self._sleeping(project_id, serving)
            if project is None:
                return True
            if self._addresses.target(project) == instance.address:
                await self._addresses.unroute(project)
            is_late = self._clock.monotonic_seconds() > deadline
            count = await self._runtime.connections(serving)
            if count == 0 or (count is None and is_late):
                await self._runtime.note(serving, _ASLEEP)
                await self._runtime.stop(serving)
                log.info("app fell asleep", deployment=serving)
                return True
            if not is_late:
                return False
            await self._stay_awake(project, instance)
            return True

    async def _sleeping(self, project_id: str, serving: str) -> Project | None:
        """Returns the project as it is now, if it sleeps and this deployment serves it."""
        project = await projects.by_id(self._db, project_id)
        if project is None or project.asleep_since_ms is None:
            return None
        return project if project.serving_deployment_id == serving else None

    async def _stay_awake(self, project: Project, instance: Instance) -> None:
        """Keeps an app running that is in use; the reconciler routes its address again."""
        self.use(instance.deployment_id)
        async with self._db.transaction(durable=False) as tx:
            await projects.wake(tx, project.id)

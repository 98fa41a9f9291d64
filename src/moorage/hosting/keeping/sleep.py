"""Sleep: an app that nobody uses is stopped until its next request.

First its project's row says that it sleeps; then it is stopped. After a crash in between, the
reconciler stops it. Visits are counted from the proxy's access log.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog

from moorage.clock import Clock
from moorage.engines.engine import Instance, Runs
from moorage.hosting.addresses.addresses import Addresses
from moorage.hosting.keeping.apps import Apps
from moorage.ledger.metering import Metering
from moorage.metrics import record_app_requests
from moorage.records.project import Kind, Project
from moorage.records.usage import BUCKETS, Batch, Consumption, Position, Traffic
from moorage.storage.apps import projects, usage
from moorage.storage.database import Database
from moorage.threads import in_thread

FOLLOW_SECONDS = 2.0
MACHINES_LOG = 1
"""The number of the one access log of gateways that share a machine."""


class AccessLog(Protocol):
    """The part of the access log that this room uses."""

    def read(self, position: Position | None) -> Batch | None:
        """Returns the next batch after a position, or None if there is none. Blocks."""
        ...


def log_number(gateway: str) -> int:
    """Returns the number of the access log of a gateway with a proxy of its own, by its id."""
    digest = hashlib.sha256(gateway.encode()).digest()
    return MACHINES_LOG + 1 + int.from_bytes(digest[:3], "big")


class Visits:
    """Counts requests every few seconds, and tells `on_use` which deployments had some."""

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        log: AccessLog,
        on_use: Callable[[str], None],
        number: int = MACHINES_LOG,
    ) -> None:
        """`number` is the log's among those of the gateways on the database."""
        self._db = db
        self._addresses = addresses
        self._log = log
        self._on_use = on_use
        self._number = number
        self._position: Position | None = None

    async def follow(self) -> None:
        """Adds the requests that the access log has got since the last call."""
        if self._position is None:
            self._position = await usage.position(self._db, self._number)
        while (batch := await in_thread(self._log.read, self._position)) is not None:
            await self._count(batch)
            self._position = batch.position

    async def _count(self, batch: Batch) -> None:
        projects = {host: await self._addresses.project_at(host) for host in batch.tried}
        totals: Counter[str] = Counter()
        async with self._db.transaction(durable=False) as tx:
            for (host, span_ms), traffic in batch.traffic.items():
                project = projects[host]
                if project is not None and project.created_at_ms <= traffic.last_at_ms:
                    await usage.count(tx, _of_traffic(project, traffic), at_ms=span_ms)
                totals.update(_totals(traffic))
            await usage.set_position(tx, batch.position, self._number)
        record_app_requests(totals)
        for project in projects.values():
            if project is not None and project.serving_deployment_id is not None:
                self._on_use(project.serving_deployment_id)


def _of_traffic(project: Project, traffic: Traffic) -> Consumption:
    return Consumption(
        project_id=project.id,
        requests=traffic.requests,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        status_1xx=traffic.status_1xx,
        status_2xx=traffic.status_2xx,
        status_3xx=traffic.status_3xx,
        status_4xx=traffic.status_4xx,
        status_5xx=traffic.status_5xx,
        held=traffic.held,
        held_ms=traffic.held_ms,
        slowest_ms=traffic.slowest_ms,
        **dict(zip(BUCKETS, traffic.latency, strict=True)),
    )


def _totals(traffic: Traffic) -> dict[str, int]:
    return {
        name: getattr(traffic, name)
        for name in Traffic.__struct_fields__
        if name.startswith(("status_", "bytes_"))
    }


log = structlog.get_logger()

_LAST_REQUESTS_SECONDS = 5.0  # how long requests may take that came before the route was removed
_POLL_SECONDS = 0.02
_ASLEEP = "Not used for a while: asleep until the next request."


class Sleep:
    """Puts apps to sleep that had no request and no connection for as long as their owners chose.

    Times are kept in this process: after a restart of the gateway they begin again.
    """

    def __init__(
        self,
        *,
        db: Database,
        runtime: Runs,
        addresses: Addresses,
        apps: Apps,
        metering: Metering,
        min_seconds: int,
        clock: Clock,
        several_proxies: bool = False,
    ) -> None:
        """No app sleeps sooner than after `min_seconds`.

        With `several_proxies`, requests that other gateways counted are use as well.
        """
        self._several_proxies = several_proxies
        self._db = db
        self._runtime = runtime
        self._addresses = addresses
        self._apps = apps
        self._metering = metering
        self._min_seconds = min_seconds
        self._clock = clock

    def use(self, deployment_id: str) -> None:
        """Records that a serving app is used now; its idle time begins again."""
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
            if serving is not None and self.is_idle(project):
                app.begin("sleep", lambda: self._try(project, serving, instance))
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

    def is_idle(self, project: Project) -> bool:
        """Returns whether an app was not used for so long that it may sleep, as far as this process
        knows.
        """
        serving, after_seconds = project.serving_deployment_id, project.sleep_after_seconds
        if serving is None or after_seconds is None or project.kind is Kind.WORKER:
            return False  # no request would wake a worker
        app, now = self._apps.app(serving), self._clock.monotonic_seconds()
        if app.used_at is None:
            app.used_at = now
        return now - app.used_at >= max(after_seconds, self._min_seconds)

    async def _try(self, project: Project, serving: str, instance: Instance | None) -> None:
        """Puts a project's app to sleep, unless it is in use or about to be replaced."""
        if await self._connections(project, serving) or await self._is_visited(project.id, serving):
            self.use(serving)
        async with self._apps.held(project.id):
            current = await projects.by_id(self._db, project.id)
            if current is None or not self.is_idle(current):
                return
            async with self._db.transaction(durable=True) as tx:
                falls_asleep = await self._metering.fall_asleep(tx, current, serving=serving)
        self._apps.app(serving).sleeps = falls_asleep
        if falls_asleep and instance is not None:
            await self._stop(project.id, instance)

    async def _connections(self, project: Project, serving: str) -> int | None:
        """Returns how many connections an app has; None if that is not known.

        Where its engine counts none, what the proxy passes on now tells of those there are.
        """
        count = await self._runtime.connections(serving)
        return await self._addresses.requests(project) or None if count is None else count

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
            count = await self._connections(project, serving)
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
        async with self._db.transaction(durable=True) as tx:
            await self._metering.wake(tx, project)

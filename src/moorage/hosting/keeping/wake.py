"""Wake: a request for an app that sleeps, or has just ended, waits until the app runs.

It does not wait for an app in a crash loop, or one whose next start is too far off. In a gateway
that does not run the apps, a row says that the app is wanted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from moorage.address import Address
from moorage.clock import Clock
from moorage.engines.engine import Runs
from moorage.errors import DeployFailed, NoCapacity
from moorage.hosting.addresses.addresses import Addresses
from moorage.hosting.addresses.routes import FollowedRoutes
from moorage.hosting.entrance.capacity import Capacity
from moorage.hosting.keeping.apps import Apps, ProjectWork
from moorage.hosting.keeping.restarts import Restarts, crash_loop
from moorage.hosting.keeping.sleep import Sleep
from moorage.hosting.work.switch import Healthy, wait_until_healthy
from moorage.ledger.metering import Metering
from moorage.metrics import record_wake
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database

_POLL_SECONDS = 0.1


class WakeElsewhere:
    """Waits for an app once, however many requests come for it at the same time."""

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        routes: FollowedRoutes,
        capacity: Capacity,
        metering: Metering,
        timeout_seconds: float,
        clock: Clock,
    ) -> None:
        self._db = db
        self._addresses = addresses
        self._routes = routes
        self._capacity = capacity
        self._metering = metering
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._waking: dict[str, asyncio.Task[bool]] = {}  # by project

    async def host(self, host: str) -> bool:
        """Returns whether a host, lower case and without port, is routed to a running app.

        Waits for an app that sleeps or is restarted; returns at once for any other host.
        """
        project = await self._addresses.project_at(host)
        if project is None or not _can_run(project):
            return False
        waking = self._waking.get(project.id)
        if waking is None:
            waking = asyncio.create_task(self._in_time(project.id), name=f"wake {host}")
            self._waking[project.id] = waking
            waking.add_done_callback(lambda _: self._waking.pop(project.id, None))
        return await asyncio.shield(waking)

    async def _in_time(self, project_id: str) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._until_routed(project_id)
        except TimeoutError:
            return False

    async def _until_routed(self, project_id: str) -> bool:
        while True:
            project = await projects.by_id(self._db, project_id)
            if project is None or not _can_run(project):
                return False
            if project.volume and await jobs.is_moving(self._db, project_id):
                await asyncio.sleep(_POLL_SECONDS)  # as in `Wake`: it is started afterwards
                continue
            if project.asleep_since_ms is not None:
                if not await self._mark_awake(project):
                    return False
            elif await self._routes.look(project):
                return True
            elif await self._is_looping(project):
                return False
            else:
                await asyncio.sleep(_POLL_SECONDS)

    async def _mark_awake(self, project: Project) -> bool:
        """Records that a project is wanted; returns False without memory or credits for its app."""
        try:
            async with self._db.transaction(durable=True) as tx:
                await self._capacity.require_memory(tx, project.size, project.id)
                return await self._metering.wake(tx, project)
        except NoCapacity:
            return False

    async def _is_looping(self, project: Project) -> bool:
        now_ms = self._clock.now_ms()
        serving = project.serving_deployment_id or ""
        return await crash_loop(self._db, serving, now_ms=now_ms) is not None


log = structlog.get_logger()

_MAX_PAUSE_SECONDS = 5.0  # how long a request waits until an app's next try is due
_CARRIED_SECONDS = 0.5  # between two looks whether its volume is on its way still

Start = Callable[[str, str], Awaitable[None]]
"""Starts a project's app (ids of project and deployment), and routes its address to it."""


class Wake:
    """Wakes an app once, however many requests come for it at the same time."""

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        apps: Apps,
        sleep: Sleep,
        restarts: Restarts,
        capacity: Capacity,
        metering: Metering,
        runtime: Runs,
        start: Start,
        timeout_seconds: float,
        healthy_seconds: float,
        clock: Clock,
        healthy: Healthy = wait_until_healthy,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._addresses = addresses
        self._apps = apps
        self._sleep = sleep
        self._restarts = restarts
        self._capacity = capacity
        self._metering = metering
        self._runtime = runtime
        self._start = start
        self._timeout_seconds = timeout_seconds
        self._healthy_seconds = healthy_seconds
        self._healthy = healthy
        self._pause = pause
        self._clock = clock

    async def host(self, host: str) -> bool:
        """Returns whether a host, lower case and without port, is routed to a running app.

        Waits for an app that sleeps or is restarted; returns at once for any other host.
        """
        project = await self._addresses.project_at(host)
        if project is None or not _can_run(project):
            return False
        work = self._apps.project(project.id)
        if work.waking is None:
            work.waking = asyncio.create_task(self._in_time(work, project.id), name=f"wake {host}")
        return await asyncio.shield(work.waking)

    async def _in_time(self, work: ProjectWork, project_id: str) -> bool:
        begun = self._clock.monotonic_seconds()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                was_asleep, awake = await self._bring_up(project_id)
        except TimeoutError:
            return False
        finally:
            work.waking = None
        if was_asleep:
            record_wake(well=awake, seconds=self._clock.monotonic_seconds() - begun)
        return awake

    async def _bring_up(self, project_id: str) -> tuple[bool, bool]:
        """Returns whether the app slept, and whether it answers now."""
        was_asleep = begun = waited = False
        while True:
            project = await self._here(project_id)
            if project is None or not _can_run(project):
                return was_asleep, False
            serving = project.serving_deployment_id or ""
            if project.asleep_since_ms is not None:
                try:
                    was_asleep = await self._mark_awake(project_id, serving) or was_asleep
                except NoCapacity:
                    return True, False
                begun = False
            elif (task := self._apps.app(serving).current) is not None:
                if not was_asleep and await self._is_looping(serving):
                    return was_asleep, False
                await asyncio.wait([task])
                waited = True
            elif (address := await self._running_at(project, serving)) is not None:
                if waited:
                    await self._until_healthy(project, serving, address)
                return was_asleep, True
            elif begun:
                return was_asleep, False
            elif was_asleep or not (wait_seconds := self._restarts.wait_seconds(serving)):
                begun = True
                self._begin(project, serving, was_asleep=was_asleep)
            elif wait_seconds > _MAX_PAUSE_SECONDS or await self._is_looping(serving):
                return was_asleep, False
            else:
                await self._pause(wait_seconds)

    async def _here(self, project_id: str) -> Project | None:
        """Returns the project, once its volume is not on its way to another engine."""
        while True:
            project = await projects.by_id(self._db, project_id)
            if project is None or not project.volume:
                return project
            if not await jobs.is_moving(self._db, project_id):
                return project
            await self._pause(_CARRIED_SECONDS)

    def _begin(self, project: Project, serving: str, *, was_asleep: bool) -> None:
        """Begins to start the app, whose next try is due."""
        if was_asleep:
            self._apps.app(serving).begin("start", partial(self._start, project.id, serving))
        else:
            self._restarts.begin(project, serving, self._start)

    async def _running_at(self, project: Project, serving: str) -> Address | None:
        """Returns what the project's host is routed to, if its app runs and listens."""
        address = self._addresses.target(project)
        if address is None or (await self._runtime.inspect(serving)).instance is None:
            return None
        return address

    async def _is_looping(self, serving: str) -> bool:
        return await crash_loop(self._db, serving, now_ms=self._clock.now_ms()) is not None

    async def _mark_awake(self, project_id: str, serving: str) -> bool:
        """Records that a sleeping project is awake, and resets its pause; returns whether it slept.

        One without credits for an hour awake is suspended instead. Raises NoCapacity when memory
        does not allow one more app; the next request tries again.
        """
        async with self._apps.held(project_id):
            async with self._db.transaction(durable=True) as tx:
                project = await projects.by_id(tx, project_id)
                if project is None or project.asleep_since_ms is None:
                    return False
                await self._capacity.require_memory(tx, project.size, project_id)
                if not await self._metering.wake(tx, project):
                    return False
            self._sleep.use(serving)
            self._apps.app(serving).reset_pause("start")
            self._apps.app(serving).sleeps = False
        await self._runtime.note(serving, "A request came: awake, and started again.")
        return True

    async def _until_healthy(self, project: Project, serving: str, address: Address) -> None:
        """Waits until the app is healthy; if it is not in time, visitors get its answers anyway."""

        async def has_ended() -> bool:
            return (await self._runtime.inspect(serving)).exit is not None

        deployment = await deployments.by_id(self._db, serving)
        path = "/" if deployment is None else deployment.health_path
        try:
            await self._healthy(
                address,
                host=self._addresses.host(project),
                path=path,
                timeout_seconds=self._healthy_seconds,
                has_ended=has_ended,
            )
        except DeployFailed as failure:
            log.warning("woken app is not well", deployment=serving, cause=failure.cause)


def _can_run(project: Project) -> bool:
    if project.kind is Kind.WORKER:
        return False  # it has no address
    return project.status is ProjectStatus.ACTIVE and project.serving_deployment_id is not None

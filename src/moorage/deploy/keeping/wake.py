"""Wake: a request that found no app waits until it runs: it slept, or has just ended.

One that ends again and again, or is not to be started for a while yet, is not waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from moorage.address import Address
from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.entrance.capacity import Capacity
from moorage.deploy.keeping.apps import Apps, ProjectWork
from moorage.deploy.keeping.restarts import Restarts, crash_loop
from moorage.deploy.keeping.sleep import Sleep
from moorage.deploy.work.health import Healthy, wait_until_healthy
from moorage.engines.engine import Engine
from moorage.errors import DeployFailed, NoCapacity
from moorage.metrics import record_wake
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database

log = structlog.get_logger()

_LYING_DOWN_SECONDS = 20.0  # how long stopping an app may take that is woken amid it
_PATIENCE_SECONDS = 5.0  # how long a request waits for an app's next try to be due

Start = Callable[[str, str], Awaitable[None]]
"""Starts a project's app (ids of project and deployment), unless it runs, and leads its address."""


class Wake:
    """Wakes an app once, however many ask for it at the same time."""

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        apps: Apps,
        sleep: Sleep,
        restarts: Restarts,
        capacity: Capacity,
        runtime: Engine,
        start: Start,
        listen_seconds: float,
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
        self._runtime = runtime
        self._start = start
        self._longest_seconds = listen_seconds + healthy_seconds + _LYING_DOWN_SECONDS
        self._healthy_seconds = healthy_seconds
        self._healthy = healthy
        self._pause = pause
        self._clock = clock

    async def host(self, host: str) -> bool:
        """Whether a host, lower case and without port, leads to a living app by now.

        Waits for one that can be had: asleep, or started again. At once for any other host.
        """
        project = await self._addresses.project_at(host)
        if project is None or not _can_run(project):
            return False
        work = self._apps.project(project.id)
        if work.waking is None:
            work.waking = asyncio.create_task(self._in_time(work, project.id), name=f"wake {host}")
        return await asyncio.shield(work.waking)

    async def has_room(self, project: Project) -> bool:
        """Whether there is memory for a sleeping project's app."""
        try:
            await self._capacity.require_memory(self._db, project.id)
        except NoCapacity:
            return False
        return True

    async def _in_time(self, work: ProjectWork, project_id: str) -> bool:
        begun = self._clock.monotonic_seconds()
        try:
            async with asyncio.timeout(self._longest_seconds):
                was_asleep, awake = await self._bring_up(project_id)
        except TimeoutError:
            return False
        finally:
            work.waking = None
        if was_asleep:
            record_wake(well=awake, seconds=self._clock.monotonic_seconds() - begun)
        return awake

    async def _bring_up(self, project_id: str) -> tuple[bool, bool]:
        """Whether the app slept, and whether it can be asked now."""
        was_asleep = begun = waited = False
        while True:
            project = await projects.by_id(self._db, project_id)
            if project is None or not _can_run(project):
                return was_asleep, False
            serving = project.serving_deployment_id or ""
            if project.asleep_since_ms is not None:
                try:
                    was_asleep = await self._rouse(project_id, serving) or was_asleep
                except NoCapacity:
                    return True, False
                begun = False
            elif (task := self._apps.app(serving).current) is not None:
                if not was_asleep and await self._is_looping(serving):
                    return was_asleep, False
                await asyncio.wait([task])
                waited = True
            elif (address := await self._living(project, serving)) is not None:
                if waited:
                    await self._until_healthy(serving, address)
                return was_asleep, True
            elif begun:
                return was_asleep, False
            elif was_asleep or not (wait_seconds := self._restarts.wait_seconds(serving)):
                begun = True
                self._begin(project, serving, was_asleep=was_asleep)
            elif wait_seconds > _PATIENCE_SECONDS or await self._is_looping(serving):
                return was_asleep, False
            else:
                await self._pause(wait_seconds)

    def _begin(self, project: Project, serving: str, *, was_asleep: bool) -> None:
        """Have the app started; its next try is due."""
        if was_asleep:
            self._apps.app(serving).begin("start", partial(self._start, project.id, serving))
        else:
            self._restarts.begin(project, serving, self._start)

    async def _living(self, project: Project, serving: str) -> Address | None:
        """Where the project's name leads, if its app runs and listens."""
        address = self._addresses.target(project)
        if address is None or await self._runtime.instance(serving) is None:
            return None
        return address

    async def _is_looping(self, serving: str) -> bool:
        return await crash_loop(self._db, serving, now_ms=self._clock.now_ms()) is not None

    async def _rouse(self, project_id: str, serving: str) -> bool:
        """Says that the project sleeps no more, if it does; forgives what kept it from starting.

        Raises NoCapacity when there is no memory for one more: the next request tries again.
        """
        async with self._apps.held(project_id):
            async with self._db.transaction(durable=False) as tx:
                project = await projects.by_id(tx, project_id)
                if project is None or project.asleep_since_ms is None:
                    return False
                await self._capacity.require_memory(tx, project_id)
                await projects.wake(tx, project_id)
            self._sleep.use(serving)
            self._apps.app(serving).forgive("start")
        await self._runtime.note(serving, "A request came: awake, and started again.")
        return True

    async def _until_healthy(self, serving: str, address: Address) -> None:
        """Wait until the app is well; what it says if it never is, its visitors are to see."""

        async def has_ended() -> bool:
            return await self._runtime.exit_reason(serving) is not None

        deployment = await deployments.by_id(self._db, serving)
        path = "/" if deployment is None else deployment.health_path
        try:
            await self._healthy(
                address, path=path, timeout_seconds=self._healthy_seconds, has_ended=has_ended
            )
        except DeployFailed as failure:
            log.warning("woken app is not well", deployment=serving, cause=failure.cause)


def _can_run(project: Project) -> bool:
    return project.status is ProjectStatus.ACTIVE and project.serving_deployment_id is not None

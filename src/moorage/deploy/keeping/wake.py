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
from moorage.deploy.keeping.restarts import Restarts
from moorage.deploy.keeping.sleep import Sleep
from moorage.deploy.keeping.subject_tasks import SubjectTasks
from moorage.deploy.work.health import Healthy, wait_until_healthy
from moorage.engines.engine import Engine
from moorage.errors import DeployFailed, NoCapacity
from moorage.metrics import record_wake
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
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
        subject_tasks: SubjectTasks,
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
        self._subject_tasks = subject_tasks
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
        self._under_way: dict[str, asyncio.Task[bool]] = {}

    async def host(self, host: str) -> bool:
        """Whether a host, lower case and without port, leads to a living app by now.

        Waits for one that can be had: asleep, or started again. At once for any other host.
        """
        project = await self._addresses.project_at(host)
        if project is None or not _can_run(project):
            return False
        task = self._under_way.get(project.id)
        if task is None:
            task = asyncio.create_task(self._in_time(project.id), name=f"wake {project.id}")
            self._under_way[project.id] = task
            task.add_done_callback(lambda _: self._under_way.pop(project.id, None))
        return await asyncio.shield(task)

    async def has_room(self, project: Project) -> bool:
        """Whether there is memory for a sleeping project's app."""
        try:
            await self._capacity.require_memory(self._db, project.id)
        except NoCapacity:
            return False
        return True

    async def _in_time(self, project_id: str) -> bool:
        begun = self._clock.monotonic_seconds()
        try:
            async with asyncio.timeout(self._longest_seconds):
                was_asleep, awake = await self._bring_up(project_id)
        except TimeoutError:
            return False
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
                was_asleep, begun = True, False
                try:
                    await self._rouse(project, serving)
                except NoCapacity:
                    return was_asleep, False
            elif (chore := self._subject_tasks.of(serving)) is not None:
                if not was_asleep and self._restarts.crash_loop(serving) is not None:
                    return was_asleep, False
                await asyncio.wait([chore])
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
            elif wait_seconds > _PATIENCE_SECONDS or self._restarts.crash_loop(serving) is not None:
                return was_asleep, False
            else:
                await self._pause(wait_seconds)

    def _begin(self, project: Project, serving: str, *, was_asleep: bool) -> None:
        """Have the app started; its next try is due."""
        if was_asleep:
            self._subject_tasks.begin("start", serving, partial(self._start, project.id, serving))
        else:
            self._restarts.begin(project, serving, self._start)

    async def _living(self, project: Project, serving: str) -> Address | None:
        """Where the project's name leads, if its app runs and listens."""
        address = self._addresses.target(project)
        if address is None or await self._runtime.instance(serving) is None:
            return None
        return address

    async def _rouse(self, project: Project, serving: str) -> None:
        """Say that the project sleeps no more; what kept its app from starting before is over.

        Raises NoCapacity when there is no memory for one more: the next request tries again.
        """
        async with self._db.transaction(durable=False) as tx:
            await self._capacity.require_memory(tx, project.id)
            await projects.wake(tx, project.id)
        self._sleep.use(serving)
        self._subject_tasks.forgive("start", serving)
        await self._runtime.note(serving, "A request came: awake, and started again.")

    async def _until_healthy(self, serving: str, address: Address) -> None:
        """Wait until the app is well; what it says if it never is, its visitors are to see."""

        async def has_ended() -> bool:
            return await self._runtime.exit_reason(serving) is not None

        deployment = await projects.deployment(self._db, serving)
        path = "/" if deployment is None else deployment.health_path
        try:
            await self._healthy(
                address, path=path, timeout_seconds=self._healthy_seconds, has_ended=has_ended
            )
        except DeployFailed as failure:
            log.warning("woken app is not well", deployment=serving, cause=failure.cause)


def _can_run(project: Project) -> bool:
    return project.status is ProjectStatus.ACTIVE and project.serving_deployment_id is not None

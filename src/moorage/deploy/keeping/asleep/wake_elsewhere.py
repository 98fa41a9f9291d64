"""Wake, in a gateway that does not keep the apps: a row says that the app is wanted.

The gateway that keeps the apps reads it and starts the app. The request waits here, at this
gateway's own proxy, until the app runs and is routed.
"""

import asyncio

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.followed import FollowedRoutes
from moorage.deploy.entrance.capacity import Capacity
from moorage.deploy.keeping.restarts import crash_loop
from moorage.errors import NoCapacity
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import jobs, projects
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
        timeout_seconds: float,
        clock: Clock,
    ) -> None:
        self._db = db
        self._addresses = addresses
        self._routes = routes
        self._capacity = capacity
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
                if not await self._mark_awake(project_id):
                    return False
            elif await self._routes.look(project):
                return True
            elif await self._is_looping(project):
                return False
            else:
                await asyncio.sleep(_POLL_SECONDS)

    async def _mark_awake(self, project_id: str) -> bool:
        """Records that a project is wanted; returns False when there is no memory for its app."""
        try:
            async with self._db.transaction(durable=False) as tx:
                await self._capacity.require_memory(tx, project_id)
                await projects.wake(tx, project_id)
        except NoCapacity:
            return False
        return True

    async def _is_looping(self, project: Project) -> bool:
        now_ms = self._clock.now_ms()
        serving = project.serving_deployment_id or ""
        return await crash_loop(self._db, serving, now_ms=now_ms) is not None


def _can_run(project: Project) -> bool:
    return project.status is ProjectStatus.ACTIVE and project.serving_deployment_id is not None

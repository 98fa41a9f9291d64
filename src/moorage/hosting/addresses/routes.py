"""Routes to apps that were not seen for long: their addresses may be other apps' by now.

A cluster gives a pod's address to another pod when the first has ended. A gateway that the cluster
does not answer cannot know: the apps may run on, or be gone since long.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from moorage.clock import Clock
from moorage.engines.engine import Instance, Runs
from moorage.errors import ClusterUnavailable
from moorage.hosting.addresses.addresses import Hosts, Routes
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.storage.apps import domains, projects
from moorage.storage.database import Database

FOLLOW_SECONDS = 1.0
SWITCH_SECONDS = 5.0
"""How long a replaced version runs on at least, so that every gateway's proxy has switched."""


class _Routed(NamedTuple):
    project_id: str
    deployment_id: str


class FollowedRoutes:
    """Routes every host of a project to the version that serves, where it runs."""

    def __init__(
        self,
        *,
        db: Database,
        instances: Runs,
        routes: Routes,
        hosts: Hosts,
    ) -> None:
        self._db = db
        self._instances = instances
        self._routes = routes
        self._hosts = hosts
        self._routed: dict[str, _Routed] = {}  # by host
        self._lock = asyncio.Lock()

    async def follow(self) -> None:
        """Makes all routes what rows and engine say. Raises what the engine does not know."""
        async with self._lock:
            async with self._db.snapshot() as rows:
                living = await projects.awake(rows)
                proved = await domains.verified(rows)
            running = await self._instances.running()  # after the rows: what serves ran before
            wanted = set()
            for project in living:
                hosts = self._hosts_of(project, proved.get(project.id, ()))
                wanted.update(hosts)
                await self._route(project, hosts, running)
            for host in self._routes.routes().keys() - wanted:
                await self._remove(host)

    async def look(self, project: Project) -> bool:
        """Does the same for one active project; returns whether what serves is routed now."""
        serving = project.serving_deployment_id or ""
        async with self._lock:
            hosts = self._hosts_of(project, await domains.verified_of(self._db, project.id))
            instance = (await self._instances.inspect(serving)).instance
            if instance is None:
                return False
            await self._route(project, hosts, {serving: instance})
            return bool(hosts)

    def _hosts_of(self, project: Project, proved: Sequence[str]) -> list[str]:
        """Returns the hosts that are to be routed: none unless the project is to be served."""
        if project.status is not ProjectStatus.ACTIVE or project.serving_deployment_id is None:
            return []
        if project.kind is Kind.WORKER:
            return []
        return [self._hosts.host(project.unique_name), *proved]

    async def _route(
        self, project: Project, hosts: Sequence[str], running: Mapping[str, Instance]
    ) -> None:
        serving = _Routed(project.id, project.serving_deployment_id or "")
        instance = running.get(serving.deployment_id)
        for host in hosts:
            if instance is not None and instance.address is not None:
                await self._routes.point(host, instance.address)
                self._routed[host] = serving
            elif not self._is_served_still(host, project, running):
                await self._remove(host)

    def _is_served_still(
        self, host: str, project: Project, running: Mapping[str, Instance]
    ) -> bool:
        """Returns whether an earlier version of the project runs where the host is routed."""
        routed = self._routed.get(host)
        if routed is None or routed.project_id != project.id:
            return False
        earlier = running.get(routed.deployment_id)
        if earlier is None or earlier.address is None:
            return False
        return earlier.address == self._routes.target(host)

    async def _remove(self, host: str) -> None:
        await self._routes.remove(host)
        self._routed.pop(host, None)


log = structlog.get_logger()

LOOK_SECONDS = 10.0
UNSEEN_SECONDS = 210.0
"""After so long without an answer routes go: with the 90 s for which a copy of the cluster is
believed, five minutes after it was made."""


class UnseenRoutes:
    """Removes the routes of one proxy when its gateway no longer sees where apps run."""

    def __init__(self, *, instances: Runs, routes: Routes, clock: Clock) -> None:
        self._instances = instances
        self._routes = routes
        self._clock = clock
        self._seen_at = clock.monotonic_seconds()

    async def look(self) -> None:
        """Looks whether the engine tells what runs; removes all routes if it has not for long.

        The gateway that routes sets them again when it does.
        """
        now = self._clock.monotonic_seconds()
        try:
            await self._instances.running()
        except ClusterUnavailable:
            if now - self._seen_at > UNSEEN_SECONDS:
                await self._remove_all()
        else:
            self._seen_at = now

    async def _remove_all(self) -> None:
        hosts = list(self._routes.routes())
        if hosts:
            log.error("apps are not routed any more: the cluster does not answer", hosts=len(hosts))
        for host in hosts:
            await self._routes.remove(host)

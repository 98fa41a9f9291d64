"""The addresses of projects: each one's own name, and the domains that its owner proved."""

from collections.abc import Iterable
from typing import Protocol

from moorage.address import Address
from moorage.deploy.addresses.hosts import Hosts
from moorage.records.project import Project
from moorage.storage.apps import domains, projects
from moorage.storage.database import Database


class Routes(Protocol):
    """What is needed of the router."""

    def point(self, host: str, target: Address) -> None:
        """Routes a host to an app."""
        ...

    def remove(self, host: str) -> None:
        """Removes the route of a host."""
        ...

    def target(self, host: str) -> Address | None:
        """What a host is routed to, None without a route."""
        ...

    def routes(self) -> dict[str, Address]:
        """Every host that has a route."""
        ...


class Addresses:
    """Routes all hosts of a project to one app.

    Whoever routes holds the project's lock, from the reading of what it is to be routed to.
    """

    def __init__(self, *, db: Database, routes: Routes, hosts: Hosts) -> None:
        self._db = db
        self._routes = routes
        self._hosts = hosts

    async def route(self, project: Project, target: Address) -> None:
        """Routes every host of a project to an app; once more is free."""
        for host in await self._of(project):
            self._routes.point(host, target)

    async def unroute(self, project: Project) -> None:
        """Removes the routes of a project."""
        for host in await self._of(project):
            self._routes.remove(host)

    def routes_to(self, project: Project, target: Address, *, proved: Iterable[str]) -> bool:
        """Whether a project's own name and its `proved` domains are all routed to this app."""
        hosts = (self._hosts.host(project.unique_name), *proved)
        return all(self._routes.target(host) == target for host in hosts)

    def target(self, project: Project) -> Address | None:
        """What a project's own name is routed to, None without a route."""
        return self._routes.target(self._hosts.host(project.unique_name))

    def has_route(self, host: str) -> bool:
        """Whether a host has a route."""
        return self._routes.target(host) is not None

    def take_over(self, host: str, project: Project) -> None:
        """Routes a domain, whose ever it was, to what the project's own name is routed to."""
        target = self.target(project)
        if target is None:
            self._routes.remove(host)
        else:
            self._routes.point(host, target)

    def unroute_host(self, host: str) -> None:
        """Removes the route of a domain that is no project's any more."""
        self._routes.remove(host)

    async def project_at(self, host: str) -> Project | None:
        """The project that a host, lower case and without port, is an address of."""
        name = self._hosts.unique_name(host)
        if name is not None:
            return await projects.by_name(self._db, name)
        project_id = await domains.project_at(self._db, host)
        return None if project_id is None else await projects.by_id(self._db, project_id)

    async def sweep(self) -> None:
        """Mends what a crash left of a domain that changed hands, of an app that fell asleep."""
        for host in self._routes.routes():
            project = await self.project_at(host)
            if project is None or project.asleep_since_ms is not None:
                self._routes.remove(host)
            elif self._hosts.unique_name(host) is None:
                self.take_over(host, project)

    async def _of(self, project: Project) -> list[str]:
        proved = await domains.verified_of(self._db, project.id)
        return [self._hosts.host(project.unique_name), *proved]

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
        """Lead a host nowhere."""
        ...

    def target(self, host: str) -> Address | None:
        """Where a host leads, None when nowhere."""
        ...

    def routes(self) -> dict[str, Address]:
        """Every host that leads somewhere."""
        ...


class Addresses:
    """Leads all hosts of a project to one place.

    Between reading the rows and leading, no other task gets its turn.
    """

    def __init__(self, *, db: Database, routes: Routes, hosts: Hosts) -> None:
        self._db = db
        self._routes = routes
        self._hosts = hosts

    async def point(self, project: Project, target: Address) -> None:
        """Lead every host of a project to an app; pointing again is free."""
        for host in await self._of(project):
            self._routes.point(host, target)

    async def remove(self, project: Project) -> None:
        """Lead every host of a project nowhere."""
        for host in await self._of(project):
            self._routes.remove(host)

    def lead_to(self, project: Project, target: Address, *, proved: Iterable[str]) -> bool:
        """Whether a project's own name and its `proved` domains all lead to this app."""
        hosts = (self._hosts.host(project.unique_name), *proved)
        return all(self._routes.target(host) == target for host in hosts)

    def target(self, project: Project) -> Address | None:
        """Where a project's own name leads, None when nowhere."""
        return self._routes.target(self._hosts.host(project.unique_name))

    def leads(self, host: str) -> bool:
        """Whether a host leads anywhere."""
        return self._routes.target(host) is not None

    def adopt(self, host: str, project: Project) -> None:
        """Lead a domain, whose ever it was, to where the project's own name leads."""
        target = self.target(project)
        if target is None:
            self._routes.remove(host)
        else:
            self._routes.point(host, target)

    def drop(self, host: str) -> None:
        """Lead a domain that is no project's any more nowhere."""
        self._routes.remove(host)

    async def project_at(self, host: str) -> Project | None:
        """The project that a host, lower case and without port, is an address of."""
        name = self._hosts.unique_name(host)
        if name is not None:
            return await projects.by_name(self._db, name)
        project_id = await domains.project_at(self._db, host)
        return None if project_id is None else await projects.by_id(self._db, project_id)

    async def sweep(self) -> None:
        """Mend what a crash left of a domain that changed hands, of an app that fell asleep."""
        for host in self._routes.routes():
            project = await self.project_at(host)
            if project is None or project.asleep_since_ms is not None:
                self._routes.remove(host)
            elif self._hosts.unique_name(host) is None:
                self.adopt(host, project)

    async def _of(self, project: Project) -> list[str]:
        proved = await domains.verified_of(self._db, project.id)
        return [self._hosts.host(project.unique_name), *proved]

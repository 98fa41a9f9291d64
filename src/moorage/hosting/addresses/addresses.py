"""The addresses of a project: hosts, apps that answer at them, names that nobody gets."""

import re
from collections.abc import Iterable
from typing import Protocol

import msgspec

from moorage.address import Address
from moorage.records.project import Project
from moorage.storage.apps import domains, projects
from moorage.storage.database import Database


class Hosts(msgspec.Struct, frozen=True):
    """Every app's host is `<unique name>.<base domain>`, behind the proxy."""

    base_domain: str
    scheme: str  # "http" or "https"
    port: int | None  # None: the scheme's own
    former_domains: tuple[str, ...] = ()  # below which apps are served as well

    def host(self, unique_name: str) -> str:
        """Returns the host name of a project."""
        return f"{unique_name}.{self.base_domain}"

    def former_hosts(self, unique_name: str) -> list[str]:
        """Returns the host names that a project has beside its own, as it may have had them."""
        return [f"{unique_name}.{domain}" for domain in self.former_domains]

    def url(self, unique_name: str) -> str:
        """Returns the public URL of a project."""
        return self.url_of(self.host(unique_name))

    def url_of(self, host: str) -> str:
        """Returns the public URL of any host that is served here."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    def unique_name(self, host: str) -> str | None:
        """Returns the unique name in a host name under a base domain, or None."""
        name, dot, domain = host.partition(".")
        return name if dot and domain in (self.base_domain, *self.former_domains) else None


_PROGRAMS = "autoconfig autodiscover broadcasthost isatap localdomain localhost mta-sts wpad"
_SERVICES = (
    "cdn dns ftp git imap ldap mail mailer mailserver mysql ntp pop pop3 postgres proxy redis sftp "
    "sip smtp ssh static vpn webdav webmail webmaster www"
)
_MAILBOXES = (  # RFC 2142
    "abuse hostmaster info marketing noc postmaster sales security support usenet uucp"
)
_OPERATORS = (
    "account accounts admin administrator api auth billing checkout console dashboard developer "
    "developers docs gateway help helpdesk legal login logout manage moorage oauth official "
    "operator password pay payment payments portal privacy register root secure signin signup sso "
    "staff status system terms wallet"
)
RESERVED_NAMES = frozenset(" ".join((_PROGRAMS, _SERVICES, _MAILBOXES, _OPERATORS)).split())

_NUMBERED = re.compile(r"(?:dns|mail|mx|ns|relay|smtp|www)-?[0-9]+")
_PUNYCODE = "xn--"  # is shown as other letters, which may look like another name


def is_reserved(name: str, *, own: str | None = None) -> bool:
    """Returns whether a lower-case name is reserved; `own` is the gateway's own name."""
    return (
        name in RESERVED_NAMES
        or name == own
        or name.startswith(_PUNYCODE)
        or _NUMBERED.fullmatch(name) is not None
    )


class Routes(Protocol):
    """The part of the router that this room uses."""

    async def point(self, host: str, target: Address) -> None:
        """Routes a host to an app."""
        ...

    async def remove(self, host: str) -> None:
        """Removes the route of a host."""
        ...

    def target(self, host: str) -> Address | None:
        """Returns what a host is routed to, or None."""
        ...

    def routes(self) -> dict[str, Address]:
        """Returns every host that has a route."""
        ...

    async def requests(self, host: str) -> int:
        """Returns how many requests to a host are under way at this gateway's proxy."""
        ...


class Addresses:
    """Routes all hosts of a project to one app.

    Callers hold the project's lock while they read what to route to, and until it is routed.
    """

    def __init__(
        self, *, db: Database, routes: Routes, hosts: Hosts, are_reused: bool = False
    ) -> None:
        self._db = db
        self.are_reused = are_reused
        """Whether an app's address may be another's soon after its end."""
        self._routes = routes
        self._hosts = hosts

    def host(self, project: Project) -> str:
        """Returns the host at which visitors ask for a project."""
        return self._hosts.host(project.unique_name)

    async def route(self, project: Project, target: Address | None) -> None:
        """Routes every host of a project to an app, or nowhere; does nothing where that is so."""
        for host in await self._of(project):
            await self._set(host, target)

    async def requests(self, project: Project) -> int:
        """Returns how many requests to a project's hosts are under way at this gateway's proxy."""
        return sum([await self._routes.requests(host) for host in await self._of(project)])

    async def unroute(self, project: Project) -> None:
        """Removes the routes of a project."""
        await self.route(project, None)

    def routes_to(self, project: Project, target: Address | None, *, proved: Iterable[str]) -> bool:
        """Returns whether a project's host names and its `proved` domains are routed to the app.

        Without a target, whether they have no route.
        """
        name = project.unique_name
        hosts = (self._hosts.host(name), *self._hosts.former_hosts(name), *proved)
        return all(self._routes.target(host) == target for host in hosts)

    def target(self, project: Project) -> Address | None:
        """Returns what the project's host name is routed to, or None."""
        return self._routes.target(self._hosts.host(project.unique_name))

    def has_route(self, host: str) -> bool:
        """Returns whether a host has a route."""
        return self._routes.target(host) is not None

    async def take_over(self, host: str, project: Project) -> None:
        """Routes a domain to what the project's host name is routed to, in place of any other."""
        await self._set(host, self.target(project))

    async def unroute_host(self, host: str) -> None:
        """Removes the route of a domain that no project has any more."""
        await self._routes.remove(host)

    async def project_at(self, host: str) -> Project | None:
        """Returns the project that a host, lower case and without port, belongs to, or None."""
        name = self._hosts.unique_name(host)
        if name is not None:
            return await projects.by_name(self._db, name)
        project_id = await domains.project_at(self._db, host)
        return None if project_id is None else await projects.by_id(self._db, project_id)

    async def sweep(self) -> None:
        """Corrects routes after a crash: of domains that changed hands, of apps that sleep."""
        for host in self._routes.routes():
            project = await self.project_at(host)
            if project is None or project.asleep_since_ms is not None:
                await self._routes.remove(host)
            elif self._hosts.unique_name(host) is None:
                await self.take_over(host, project)

    async def unroute_lost(self) -> None:
        """Removes the routes of domains that no project has any more; leads others to theirs.

        Other gateways may have changed the rows; a project that sleeps has no route.
        """
        routed = self._routes.routes()  # before the rows: a new domain's row comes before its route
        proved = await domains.verified(self._db)
        project_of = {host: project_id for project_id, hosts in proved.items() for host in hosts}
        for host, target in routed.items():
            if self._hosts.unique_name(host) is not None:
                continue
            project = await projects.by_id(self._db, project_of.get(host, ""))
            if project is None:
                await self._routes.remove(host)
            elif self.target(project) != target:
                await self.take_over(host, project)

    async def _set(self, host: str, target: Address | None) -> None:
        if target is None:
            await self._routes.remove(host)
        else:
            await self._routes.point(host, target)

    async def _of(self, project: Project) -> list[str]:
        proved = await domains.verified_of(self._db, project.id)
        name = project.unique_name
        return [self._hosts.host(name), *self._hosts.former_hosts(name), *proved]

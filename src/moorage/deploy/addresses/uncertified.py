"""Certificates of apps: wanted for all that serve, waited for, and billed from then on."""

from collections.abc import Iterable

import structlog

from moorage.certificates.certificates import Certificates
from moorage.clock import Clock
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.keeping.apps import Apps
from moorage.events import outbox
from moorage.ledger.metering import Metering
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import domains, projects
from moorage.storage.database import Database, Transaction

log = structlog.get_logger()

LOOK_SECONDS = 10.0
WANT_SECONDS = 600.0


class Uncertified:
    """Looks whether missing certificates have come; begins billing where one did."""

    def __init__(
        self,
        *,
        db: Database,
        certificates: Certificates | None,
        apps: Apps,
        metering: Metering,
        hosts: Hosts,
        clock: Clock,
    ) -> None:
        """`certificates` is None where apps are served without TLS."""
        self._db = db
        self._certificates = certificates
        self._apps = apps
        self._metering = metering
        self._hosts = hosts
        self._clock = clock

    async def want(self) -> None:
        """Wants certificates for the hosts of all projects that serve, or have served.

        Those that nobody has, as the gateway had no TLS before, are ordered then; others go on
        being renewed. Raises DatabaseUnavailable.
        """
        if self._certificates is None:
            return
        proved = await domains.verified(self._db)
        wallets = {
            host: project.wallet
            for project in await projects.served(self._db)
            for host in self._hosts_of(project, proved.get(project.id, ()))
        }
        for host in sorted(await self._certificates.unwanted(wallets)):
            await self._certificates.want(host, wallets[host])

    def _hosts_of(self, project: Project, proved: Iterable[str]) -> list[str]:
        name = project.unique_name
        return [self._hosts.host(name), *self._hosts.former_hosts(name), *proved]

    async def look(self) -> None:
        """Looks at each app that is up and served without. Raises DatabaseUnavailable."""
        for project in await projects.uncertified(self._db):
            is_up = project.status is ProjectStatus.ACTIVE and project.asleep_since_ms is None
            host = self._hosts.host(project.unique_name)
            if is_up and (self._certificates is None or await self._certificates.has(host)):
                await self._certify(project)

    async def _certify(self, project: Project) -> None:
        async with self._apps.held(project.id), self._db.transaction(durable=True) as tx:
            current = await projects.by_id(tx, project.id)
            if current is None or current.uncertified_since_ms is None:
                return
            await projects.set_uncertified(tx, project.id, since_ms=None)
            data = {"project_id": project.id, "endpoint": self._hosts.url(project.unique_name)}
            await self._tell(tx, project, EventKind.PROJECT_CERTIFIED, data)
            # One that is down, as while its volume is carried, is billed from its start on.
            is_up = current.status is ProjectStatus.ACTIVE and current.down_since_ms is None
            if is_up and not await self._metering.begin_or_suspend(tx, current):
                data = {"project_id": project.id}
                await self._tell(tx, project, EventKind.PROJECT_SUSPENDED, data)
        log.info("app has its certificate", project=project.id)

    async def _tell(
        self, tx: Transaction, project: Project, kind: EventKind, data: dict[str, str]
    ) -> None:
        await outbox.record(
            tx, wallet=project.wallet, kind=kind, data=data, now_ms=self._clock.now_ms()
        )

"""Apps for which no certificate could be had: served over plain HTTP, free, until one comes."""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.keeping.apps import Apps
from moorage.events import outbox
from moorage.ledger.metering import Metering
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.database import Database, Transaction

log = structlog.get_logger()

RETRY_SECONDS = 600.0
"""Authorities refuse who fails too often: five times an hour for a host at Let's Encrypt."""

MAX_AT_A_TIME = 15
"""Authorities refuse who asks for many at once: 300 in three hours at Let's Encrypt."""


class PlainServing(Protocol):
    """What serves hosts over plain HTTP beside HTTPS."""

    def add(self, host: str) -> None:
        """Has a host served so."""
        ...

    def keep(self, hosts: Collection[str]) -> None:
        """Has these hosts served so, and no other."""
        ...


class PlainHttp:
    """Serves a host over plain HTTP, and asks whether it has a certificate by now."""

    def __init__(
        self,
        hosts: PlainServing,
        *,
        answers: Callable[[str], Awaitable[bool]],
        is_secure: Callable[[str], Awaitable[bool]],
        comes: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """`answers` asks the app at the HTTP port.

        `is_secure` asks the proxy for the host's certificate. An app's answer must not decide it:
        one that fails over HTTPS alone would run free. `comes` asks the same with more patience.
        """
        self.hosts = hosts
        self.is_secure = is_secure
        self.comes = comes or is_secure
        self._answers = answers

    async def serve(self, host: str) -> bool:
        """Serves a host over plain HTTP; returns whether its app answers there."""
        self.hosts.add(host)
        return await self._answers(host)


class Uncertified:
    """Asks again for the certificates that are missing; begins billing where one came."""

    def __init__(
        self,
        *,
        db: Database,
        plain: PlainHttp | None,
        apps: Apps,
        metering: Metering,
        hosts: Hosts,
        clock: Clock,
    ) -> None:
        """`plain` is None where no app needs an authority's certificate any more."""
        self._db = db
        self._plain = plain
        self._apps = apps
        self._metering = metering
        self._hosts = hosts
        self._clock = clock
        self._asked_at: dict[str, float] = {}  # by the project's id

    async def retry(self) -> None:
        """Asks for some, one after the other, those first that were not asked for the longest.

        Raises DatabaseUnavailable.
        """
        missing = await projects.uncertified(self._db)
        if self._plain is not None:
            self._plain.hosts.keep({self._hosts.host(each.unique_name) for each in missing})
        came = 0
        for project in self._next(missing):
            self._asked_at[project.id] = self._clock.monotonic_seconds()
            if await self._is_secure(self._hosts.host(project.unique_name)):
                await self._certify(project)
                came += 1
        if missing:
            log.info("certificates were asked for", came=came, missing=len(missing) - came)

    def _next(self, missing: list[Project]) -> list[Project]:
        """Returns the apps that run and whose turn it is."""
        asked_at = {each.id: self._asked_at.get(each.id, float("-inf")) for each in missing}
        self._asked_at = asked_at
        up = [
            each
            for each in missing
            if each.status is ProjectStatus.ACTIVE and each.asleep_since_ms is None
        ]
        up.sort(key=lambda each: (asked_at[each.id], each.uncertified_since_ms or 0))
        return up if self._plain is None else up[:MAX_AT_A_TIME]

    async def _is_secure(self, host: str) -> bool:
        return self._plain is None or await self._plain.comes(host)

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
        log.info("certificate came", project=project.id)

    async def _tell(
        self, tx: Transaction, project: Project, kind: EventKind, data: dict[str, str]
    ) -> None:
        await outbox.record(
            tx, wallet=project.wallet, kind=kind, data=data, now_ms=self._clock.now_ms()
        )

"""Which hosts may have a certificate: the proxy asks before it requests one."""

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps.addresses import certificates
from moorage.storage.database import Database

log = structlog.get_logger()

_DAY_MS = 24 * 3_600_000
_WEEK_MS = 7 * _DAY_MS
_FORGOTTEN_MS = 120 * _DAY_MS  # a certificate that was not renewed has expired by then


class Certificates:
    """Allows certificates, as authorities limit how many a domain gets in a week.

    A host may have one if its project serves or the host has a route. New hosts are limited per
    wallet and week; hosts that were allowed before are always allowed, as theirs is renewed.
    """

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        own_host: str | None,
        per_wallet: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._addresses = addresses
        self._own_host = own_host
        self._per_wallet = per_wallet
        self._clock = clock

    async def may_have(self, host: str) -> bool:
        """Returns whether a host, lower case and without port, may have one; counts new hosts."""
        if host == self._own_host:
            return True
        project = await self._addresses.project_at(host)
        if project is None or not self._serves(project, host):
            return False
        return await self._is_counted(host, project.wallet)

    def _serves(self, project: Project, host: str) -> bool:
        """Returns whether the project serves, also asleep or suspended, or the host has a route."""
        if project.status is ProjectStatus.DELETING:
            return False
        return project.serving_deployment_id is not None or self._addresses.has_route(host)

    async def _is_counted(self, host: str, wallet: str) -> bool:
        now_ms = self._clock.now_ms()
        asked_at_ms = await certificates.asked_at_ms(self._db, host)
        if asked_at_ms is not None and now_ms - asked_at_ms < _DAY_MS:
            return True
        async with self._db.transaction(durable=False) as tx:
            if await certificates.touch(tx, host, now_ms=now_ms):
                return True
            await certificates.forget(tx, until_ms=now_ms - _FORGOTTEN_MS)
            new = await certificates.count_since(tx, wallet, since_ms=now_ms - _WEEK_MS)
            if new >= self._per_wallet:
                log.warning("no certificate: the wallet had its share", host=host, wallet=wallet)
                return False
            await certificates.add(tx, host, wallet=wallet, now_ms=now_ms)
        return True

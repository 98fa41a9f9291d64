"""Which hosts may have a certificate: what the proxy asks before it has one made."""

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import certificates
from moorage.storage.database import Database

log = structlog.get_logger()

_DAY_MS = 24 * 3_600_000
_WEEK_MS = 7 * _DAY_MS
_FORGOTTEN_MS = 120 * _DAY_MS  # a certificate that was not renewed by then has expired


class Certificates:
    """Answers the proxy's question. Authorities bound how many they make for a domain a week.

    Yes for hosts that serve or are being led to their app, so many new ones a wallet and week;
    always for a host that was answered yes before and still serves, as it has a certificate, which
    is to be renewed.
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
        """Whether a host, lower case and without port, may have a certificate; counts it if new."""
        if host == self._own_host:
            return True
        project = await self._addresses.project_at(host)
        if project is None or not self._serves(project, host):
            return False
        return await self._is_counted(host, project.wallet)

    def _serves(self, project: Project, host: str) -> bool:
        """Or did, and sleeps, is suspended, is being started; or is led to its app just now."""
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

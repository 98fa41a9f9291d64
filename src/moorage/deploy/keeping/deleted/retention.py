"""Retention: deletes projects that stay suspended or failed."""

import structlog

from moorage.clock import Clock, SteadyWall
from moorage.deploy.keeping.deleted.deletion import Deletion
from moorage.ledger.metering import Metering
from moorage.storage.apps import projects
from moorage.storage.database import Database

log = structlog.get_logger()

DAY_MS = 24 * 3_600_000


class Retention:
    """Deletes projects suspended too long, and those that failed long ago and never served.

    The time of a suspension is billed time, so that neither a change of the clock nor a machine
    that is down shortens what the owner was promised. A clock set forward ends no other time.
    """

    def __init__(
        self,
        *,
        db: Database,
        deletion: Deletion,
        metering: Metering,
        suspended_days: int,
        failed_days: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._deletion = deletion
        self._metering = metering
        self._steady = SteadyWall(clock)
        self._failed_ms = failed_days * DAY_MS
        self.change(suspended_days=suspended_days)

    def change(self, *, suspended_days: int) -> None:
        """Takes another time, for projects that wait already as well."""
        self._suspended_ms = suspended_days * DAY_MS

    async def sweep(self) -> None:
        """Deletes the projects that are due, one by one, unless they changed meanwhile."""
        suspended = await projects.suspended_until(
            self._db, until_ms=self._metering.time.now_ms() - self._suspended_ms
        )
        failed = await projects.failed_until(
            self._db, until_ms=self._steady.now_ms() - self._failed_ms
        )
        for project in [*suspended, *failed]:
            if await self._deletion.expire(project):
                log.info("project deleted after its time", project=project.id, was=project.status)

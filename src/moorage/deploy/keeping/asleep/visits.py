"""Visits: the requests of apps, read from this gateway's proxy's access log, summed by time.

One transaction stores the sums and how far was counted. So a crash neither loses nor doubles
anything, as long as the access log's files are still there.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from moorage.deploy.addresses.addresses import Addresses
from moorage.metrics import record_app_requests
from moorage.records.project import Project
from moorage.records.usage import BUCKETS, Batch, Consumption, Position, Traffic
from moorage.storage.apps import usage
from moorage.storage.database import Database
from moorage.threads import in_thread

FOLLOW_SECONDS = 2.0
MACHINES_LOG = 1
"""The number of the one access log of gateways that share a machine."""


class AccessLog(Protocol):
    """The part of the access log that this room uses."""

    def read(self, position: Position | None) -> Batch | None:
        """Returns the next batch after a position, or None if there is none. Blocks."""
        ...


def log_number(gateway: str) -> int:
    """Returns the number of the access log of a gateway with a proxy of its own, by its id."""
    digest = hashlib.sha256(gateway.encode()).digest()
    return MACHINES_LOG + 1 + int.from_bytes(digest[:3], "big")


class Visits:
    """Counts requests every few seconds, and tells `on_use` which deployments had some."""

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        log: AccessLog,
        on_use: Callable[[str], None],
        number: int = MACHINES_LOG,
    ) -> None:
        """`number` is the log's among those of the gateways on the database."""
        self._db = db
        self._addresses = addresses
        self._log = log
        self._on_use = on_use
        self._number = number
        self._position: Position | None = None

    async def follow(self) -> None:
        """Adds the requests that the access log has got since the last call."""
        if self._position is None:
            self._position = await usage.position(self._db, self._number)
        while (batch := await in_thread(self._log.read, self._position)) is not None:
            await self._count(batch)
            self._position = batch.position

    async def _count(self, batch: Batch) -> None:
        projects = {host: await self._addresses.project_at(host) for host in batch.tried}
        totals: Counter[str] = Counter()
        async with self._db.transaction(durable=False) as tx:
            for (host, span_ms), traffic in batch.traffic.items():
                project = projects[host]
                if project is not None and project.created_at_ms <= traffic.last_at_ms:
                    await usage.count(tx, _of_traffic(project, traffic), at_ms=span_ms)
                totals.update(_totals(traffic))
            await usage.set_position(tx, batch.position, self._number)
        record_app_requests(totals)
        for project in projects.values():
            if project is not None and project.serving_deployment_id is not None:
                self._on_use(project.serving_deployment_id)


def _of_traffic(project: Project, traffic: Traffic) -> Consumption:
    return Consumption(
        project_id=project.id,
        requests=traffic.requests,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        status_1xx=traffic.status_1xx,
        status_2xx=traffic.status_2xx,
        status_3xx=traffic.status_3xx,
        status_4xx=traffic.status_4xx,
        status_5xx=traffic.status_5xx,
        held=traffic.held,
        held_ms=traffic.held_ms,
        slowest_ms=traffic.slowest_ms,
        **dict(zip(BUCKETS, traffic.latency, strict=True)),
    )


def _totals(traffic: Traffic) -> dict[str, int]:
    return {
        name: getattr(traffic, name)
        for name in Traffic.__struct_fields__
        if name.startswith(("status_", "bytes_"))
    }

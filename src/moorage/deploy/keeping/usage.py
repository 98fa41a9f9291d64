"""Usage: the requests, CPU time and memory of apps, summed by hour.

One transaction stores the sums and how far was counted. So a crash neither loses nor doubles
anything, as long as the access log's files and the apps' control groups are still there.
"""

from collections import Counter
from typing import Protocol

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.keeping.sleep import Sleep
from moorage.engines.engine import Engine
from moorage.engines.engine import Usage as Used
from moorage.metrics import record_app_requests, record_cpu, watch_app_memory
from moorage.records.consumption import Load, UsageHour
from moorage.records.project import Project
from moorage.records.traffic import HOUR_MS, Batch, Position, Traffic
from moorage.storage.apps import usage
from moorage.storage.database import Database, Transaction
from moorage.threads import in_thread

FOLLOW_SECONDS = 2.0
SAMPLE_SECONDS = 15.0
_MAX_SAMPLE_SECONDS = 4 * SAMPLE_SECONDS  # memory is counted for no longer gap between samples
_AT_ONCE = 50  # apps counted in one transaction, so that the event loop and other writers go on
_DAY_MS = 24 * HOUR_MS


class AccessLog(Protocol):
    """The part of the access log that this room uses."""

    def read(self, position: Position | None) -> Batch | None:
        """Returns the next batch after a position, or None if there is none. Blocks."""
        ...


class UsageMeter:
    """Sums usage every few seconds, and tells `sleep` which apps had requests."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        addresses: Addresses,
        log: AccessLog,
        sleep: Sleep,
        keep_days: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._addresses = addresses
        self._log = log
        self._sleep = sleep
        self._keep_days = keep_days
        self._clock = clock
        self._position: Position | None = None
        self._sampled: dict[str, tuple[float, Used]] = {}
        watch_app_memory(lambda: sum(used.memory_bytes for _, used in self._sampled.values()))

    async def follow(self) -> None:
        """Adds the requests that the access log has got since the last call."""
        if self._position is None:
            self._position = await usage.position(self._db)
        while (batch := await in_thread(self._log.read, self._position)) is not None:
            await self._count(batch)
            self._position = batch.position

    async def sample(self) -> None:
        """Adds what running apps have used since the last call."""
        now, at_ms = self._clock.monotonic_seconds(), self._clock.now_ms()
        running = await self._runtime.usage()
        counted = await usage.counters(self._db)
        names = sorted(running.keys() | counted.keys())
        for begin in range(0, len(names), _AT_ONCE):
            async with self._db.transaction(durable=False) as tx:
                for name in names[begin : begin + _AT_ONCE]:
                    if name in running:
                        await self._add(tx, name, running[name], counted, now=now, at_ms=at_ms)
                    else:
                        await usage.forget_counter(tx, name)
        self._sampled = {deployment_id: (now, used) for deployment_id, used in running.items()}

    async def purge(self) -> None:
        """Removes the hours that are older than `keep_days`."""
        async with self._db.transaction(durable=False) as tx:
            await usage.purge(tx, before_ms=self._clock.now_ms() - self._keep_days * _DAY_MS)

    async def _count(self, batch: Batch) -> None:
        projects = {host: await self._addresses.project_at(host) for host in batch.tried}
        totals: Counter[str] = Counter()
        async with self._db.transaction(durable=False) as tx:
            for (host, hour_ms), traffic in batch.traffic.items():
                project = projects[host]
                if project is not None and project.created_at_ms <= traffic.last_at_ms:
                    await usage.add(tx, _of_traffic(project, hour_ms, traffic))
                totals.update(_totals(traffic))
            await usage.set_position(tx, batch.position)
        record_app_requests(totals)
        for project in projects.values():
            if project is not None and project.serving_deployment_id is not None:
                self._sleep.use(project.serving_deployment_id)

    async def _add(
        self,
        tx: Transaction,
        deployment_id: str,
        used: Used,
        counted: dict[str, int],
        *,
        now: float,
        at_ms: int,
    ) -> None:
        """Adds what one app used since it was last counted, or since it was started."""
        project_id = await usage.project_of(tx, deployment_id)
        if project_id is None:
            return
        before = counted.get(deployment_id, 0)
        cpu_ms = used.cpu_ms - before if used.cpu_ms >= before else used.cpu_ms
        sampled = self._sampled.get(deployment_id)
        since, _ = sampled or (now, used)
        seconds = min(now - since, _MAX_SAMPLE_SECONDS)
        await usage.add(
            tx,
            UsageHour(
                project_id=project_id,
                hour_ms=at_ms - at_ms % HOUR_MS,
                cpu_ms=cpu_ms,
                memory_byte_seconds=round(used.memory_bytes * seconds),
                memory_peak_bytes=used.memory_bytes,
            ),
        )
        load = None if sampled is None else _load(sampled, (now, used))
        await usage.set_counter(tx, deployment_id, used.cpu_ms, load)
        record_cpu(cpu_ms / 1000)


def _of_traffic(project: Project, hour_ms: int, traffic: Traffic) -> UsageHour:
    return UsageHour(
        project_id=project.id,
        hour_ms=hour_ms,
        requests=traffic.requests,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        status_1xx=traffic.status_1xx,
        status_2xx=traffic.status_2xx,
        status_3xx=traffic.status_3xx,
        status_4xx=traffic.status_4xx,
        status_5xx=traffic.status_5xx,
    )


def _totals(traffic: Traffic) -> dict[str, int]:
    return {
        name: getattr(traffic, name)
        for name in Traffic.__struct_fields__
        if name not in {"requests", "last_at_ms"}
    }


def _load(before: tuple[float, Used], after: tuple[float, Used]) -> Load:
    (since, earlier), (now, used) = before, after
    cpu_ms = used.cpu_ms - earlier.cpu_ms if used.cpu_ms >= earlier.cpu_ms else used.cpu_ms
    return Load(
        cpu_millis=round(cpu_ms / (now - since)) if now > since else 0,
        memory_bytes=used.memory_bytes,
    )

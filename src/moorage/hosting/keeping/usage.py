"""Usage: the CPU time and memory of apps, summed by time.

One transaction stores the sums and how far was counted. So a crash neither loses nor doubles
anything, as long as the apps' control groups are still there.
"""

from moorage.clock import Clock
from moorage.engines.engine import Runs
from moorage.engines.engine import Usage as Used
from moorage.metrics import record_cpu, watch_app_memory
from moorage.records.usage import HOUR_MS, Consumption, Load
from moorage.storage.apps import usage
from moorage.storage.database import Database, Transaction

SAMPLE_SECONDS = 15.0
_MAX_SAMPLE_SECONDS = 4 * SAMPLE_SECONDS  # memory is counted for no longer gap between samples
_AT_ONCE = 50  # apps counted in one transaction: other writers wait no longer
_DAY_MS = 24 * HOUR_MS
_SPANS_KEPT_MS = 25 * HOUR_MS  # some 300 rows a project that runs


class UsageMeter:
    """Samples what apps use every few seconds."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Runs,
        keep_days: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._keep_days = keep_days
        self._clock = clock
        self._sampled: dict[str, tuple[float, Used]] = {}
        watch_app_memory(lambda: sum(used.memory_bytes for _, used in self._sampled.values()))

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
        """Removes the hours that are older than `keep_days`, and finer sums older than a day."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False) as tx:
            await usage.purge(
                tx,
                hours_before_ms=now_ms - self._keep_days * _DAY_MS,
                spans_before_ms=now_ms - _SPANS_KEPT_MS,
            )

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
        await usage.count(
            tx,
            Consumption(
                project_id=project_id,
                cpu_ms=cpu_ms,
                memory_byte_seconds=round(used.memory_bytes * seconds),
                memory_peak_bytes=used.memory_bytes,
            ),
            at_ms=at_ms,
        )
        load = None if sampled is None else _load(sampled, (now, used))
        await usage.set_counter(tx, deployment_id, used.cpu_ms, load)
        record_cpu(cpu_ms / 1000)


def _load(before: tuple[float, Used], after: tuple[float, Used]) -> Load:
    (since, earlier), (now, used) = before, after
    cpu_ms = used.cpu_ms - earlier.cpu_ms if used.cpu_ms >= earlier.cpu_ms else used.cpu_ms
    return Load(
        cpu_millis=round(cpu_ms / (now - since)) if now > since else 0,
        memory_bytes=used.memory_bytes,
    )

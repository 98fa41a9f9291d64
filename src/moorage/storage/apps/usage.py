"""Queries over what apps used hour by hour, and how far it has been counted."""

import msgspec
from sqlalchemy import bindparam, case, delete, func, insert, select, update

from moorage.records.consumption import Load, UsageHour
from moorage.records.traffic import Position
from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.schema import access_log_position, deployments, usage, usage_counters

_HOUR = [usage.c[name] for name in UsageHour.__struct_fields__]
_PEAK = "memory_peak_bytes"
_SUMS = [
    name for name in UsageHour.__struct_fields__ if name not in {"project_id", "hour_ms", _PEAK}
]
_ADD = Statement(
    update(usage)
    .where(
        usage.c.project_id == bindparam("of_project_id"), usage.c.hour_ms == bindparam("of_hour_ms")
    )
    .values(
        {name: usage.c[name] + bindparam(f"more_{name}") for name in _SUMS}
        | {
            _PEAK: case(
                (usage.c[_PEAK] < bindparam("a_peak"), bindparam("a_peak")), else_=usage.c[_PEAK]
            )
        }
    )
)
_INSERT = Statement(
    insert(usage).values({name: bindparam(name) for name in UsageHour.__struct_fields__})
)
_BETWEEN = Statement(
    select(*_HOUR)
    .where(
        usage.c.project_id == bindparam("project_id"),
        usage.c.hour_ms >= bindparam("from_ms"),
        usage.c.hour_ms < bindparam("until_ms"),
    )
    .order_by(usage.c.hour_ms)
)
_REQUESTS = Statement(
    select(func.sum(usage.c.requests)).where(usage.c.project_id == bindparam("project_id"))
)
_PURGE = Statement(delete(usage).where(usage.c.hour_ms < bindparam("before_ms")))
_POSITION = Statement(
    select(access_log_position.c.head, access_log_position.c.offset).where(
        access_log_position.c.id == bindparam("number")
    )
)
_FORGET_POSITION = Statement(
    delete(access_log_position).where(access_log_position.c.id == bindparam("number"))
)
_SET_POSITION = Statement(
    insert(access_log_position).values(
        id=bindparam("number"), head=bindparam("the_head"), offset=bindparam("the_offset")
    )
)
_COUNTERS = Statement(select(usage_counters.c.deployment_id, usage_counters.c.cpu_ms))
_PROJECT_OF = Statement(
    select(deployments.c.project_id).where(deployments.c.id == bindparam("deployment_id"))
)
_FORGET_COUNTER = Statement(
    delete(usage_counters).where(usage_counters.c.deployment_id == bindparam("deployment_id"))
)
_ADD_COUNTER = Statement(
    insert(usage_counters).values(
        deployment_id=bindparam("deployment_id"),
        cpu_ms=bindparam("cpu_ms"),
        cpu_millis=bindparam("cpu_millis"),
        memory_bytes=bindparam("memory_bytes"),
    )
)
_LOAD = Statement(
    select(usage_counters.c.cpu_millis, usage_counters.c.memory_bytes).where(
        usage_counters.c.deployment_id == bindparam("deployment_id"),
        usage_counters.c.cpu_millis.is_not(None),
    )
)


async def add(tx: Transaction, more: UsageHour) -> None:
    """Adds to what a project used in an hour; of two memory peaks, keeps the higher."""
    touched = await tx.execute(
        _ADD,
        of_project_id=more.project_id,
        of_hour_ms=more.hour_ms,
        a_peak=more.memory_peak_bytes,
        **{f"more_{name}": getattr(more, name) for name in _SUMS},
    )
    if not touched:
        await tx.execute(_INSERT, **msgspec.structs.asdict(more))


async def between(
    source: Source, project_id: str, *, from_ms: int, until_ms: int
) -> list[UsageHour]:
    """Returns a project's hours that began from `from_ms` on and before `until_ms`, in order."""
    rows = await source.all(_BETWEEN, project_id=project_id, from_ms=from_ms, until_ms=until_ms)
    return [struct_of(UsageHour, row) for row in rows]


async def requests(source: Source, project_id: str) -> int:
    """Returns how many requests of a project are counted in all hours that are kept."""
    row = await source.one(_REQUESTS, project_id=project_id)
    return int(row[0] or 0) if row else 0


async def purge(tx: Transaction, *, before_ms: int) -> int:
    """Deletes hours that began before `before_ms`; returns how many."""
    return await tx.execute(_PURGE, before_ms=before_ms)


async def position(source: Source, number: int) -> Position | None:
    """Returns how far the access log with this number was counted; None before the first time."""
    row = await source.one(_POSITION, number=number)
    return None if row is None else struct_of(Position, row)


async def set_position(tx: Transaction, position: Position, number: int) -> None:
    """Records how far the access log with this number has been counted."""
    await tx.execute(_FORGET_POSITION, number=number)
    await tx.execute(
        _SET_POSITION, number=number, the_head=position.head, the_offset=position.offset
    )


async def counters(source: Source) -> dict[str, int]:
    """Returns apps' processor time when it was last counted, in ms, by deployment."""
    return {row[0]: int(row[1]) for row in await source.all(_COUNTERS)}


async def set_counter(tx: Transaction, deployment_id: str, cpu_ms: int, now: Load | None) -> None:
    """Records a deployment's total processor time, and what it uses now, if known."""
    await forget_counter(tx, deployment_id)
    await tx.execute(
        _ADD_COUNTER,
        deployment_id=deployment_id,
        cpu_ms=cpu_ms,
        cpu_millis=None if now is None else now.cpu_millis,
        memory_bytes=None if now is None else now.memory_bytes,
    )


async def forget_counter(tx: Transaction, deployment_id: str) -> None:
    """Removes the counters of a deployment that no longer runs."""
    await tx.execute(_FORGET_COUNTER, deployment_id=deployment_id)


async def load(source: Source, deployment_id: str) -> Load | None:
    """Returns what an app uses now; None when it does not run, or was only just started."""
    row = await source.one(_LOAD, deployment_id=deployment_id)
    return None if row is None else Load(cpu_millis=int(row[0]), memory_bytes=int(row[1]))


async def project_of(source: Source, deployment_id: str) -> str | None:
    """Returns the project that a deployment belongs to."""
    row = await source.one(_PROJECT_OF, deployment_id=deployment_id)
    return None if row is None else str(row[0])

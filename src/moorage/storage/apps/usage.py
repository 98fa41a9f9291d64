"""Queries over what apps used, by the hour and lately finer, and how far it has been counted."""

from typing import Generic, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from moorage.records.usage import (
    HOUR_MS,
    SPAN_MS,
    Consumption,
    Load,
    Position,
    UsageHour,
    UsageSpan,
)
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    given,
    insert_of,
    record_of,
)
from moorage.storage.schema import (
    access_log_position,
    deployments,
    usage,
    usage_counters,
    usage_spans,
)

_Kind = TypeVar("_Kind", UsageHour, UsageSpan)
_HIGHEST = ("memory_peak_bytes", "slowest_ms")  # of two of them the higher is kept
_SAMPLED = ("cpu_ms", "memory_byte_seconds", "memory_peak_bytes")
_VISITED = tuple(
    name for name in Consumption.__struct_fields__ if name not in {"project_id", *_SAMPLED}
)


class _Sums(Generic[_Kind]):
    """The statements of a table of sums; `begins` is its column of time."""

    def __init__(self, table: Table, kind: type[_Kind], begins: str) -> None:
        names = kind.__struct_fields__
        project, time = table.c.project_id, table.c[begins]
        self.kind: type[_Kind] = kind
        self.begins = begins
        # Samples and visits come apart, and often: neither writes the columns of the other.
        self.add = {
            columns: Statement(
                update(table)
                .where(project == bindparam("of_project_id"), time == bindparam("of_begins"))
                .values({name: _grown(table.c[name]) for name in columns})
            )
            for columns in (_SAMPLED, _VISITED)
        }
        self.insert = insert_of(table, kind)
        self.between = Statement(
            select(*(table.c[name] for name in names))
            .where(
                project == bindparam("project_id"),
                time >= bindparam("from_ms"),
                time < bindparam("until_ms"),
            )
            .order_by(time)
        )
        self.purge = Statement(delete(table).where(time < bindparam("before_ms")))


def _grown(column: Column[int]) -> ColumnElement[int]:
    """Returns what a column becomes when more is added to it."""
    more = bindparam(f"more_{column.name}", type_=BigInteger)
    if column.name in _HIGHEST:
        return case((column < more, more), else_=column)
    return column + more


_HOURS = _Sums(usage, UsageHour, "hour_ms")
_SPANS = _Sums(usage_spans, UsageSpan, "begins_ms")
_REQUESTS = Statement(select(func.sum(usage.c.requests)).where(*given(usage, "project_id")))
_POSITION = Statement(
    select(access_log_position.c.head, access_log_position.c.offset).where(
        *given(access_log_position, id="number")
    )
)
_FORGET_POSITION = Statement(
    delete(access_log_position).where(*given(access_log_position, id="number"))
)
_SET_POSITION = Statement(
    insert(access_log_position).values(
        id=bindparam("number"), head=bindparam("the_head"), offset=bindparam("the_offset")
    )
)
_COUNTERS = Statement(select(usage_counters.c.deployment_id, usage_counters.c.cpu_ms))
_PROJECT_OF = Statement(
    select(deployments.c.project_id).where(*given(deployments, id="deployment_id"))
)
_FORGET_COUNTER = Statement(delete(usage_counters).where(*given(usage_counters, "deployment_id")))
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
        *given(usage_counters, "deployment_id"), usage_counters.c.cpu_millis.is_not(None)
    )
)


async def count(tx: Transaction, used: Consumption, *, at_ms: int) -> None:
    """Adds what a project used at a time to its hour, and to its five minutes."""
    fields = {name: getattr(used, name) for name in Consumption.__struct_fields__}
    await add(tx, UsageHour(**fields, hour_ms=at_ms - at_ms % HOUR_MS))
    await add(tx, UsageSpan(**fields, begins_ms=at_ms - at_ms % SPAN_MS))


async def add(tx: Transaction, more: UsageHour | UsageSpan) -> None:
    """Adds to what a project used in that time; of two peaks, keeps the higher."""
    sums = _HOURS if isinstance(more, UsageHour) else _SPANS
    for columns, statement in sums.add.items():
        amounts = {f"more_{name}": getattr(more, name) for name in columns}
        if not any(amounts.values()):
            continue
        touched = await tx.execute(
            statement,
            of_project_id=more.project_id,
            of_begins=getattr(more, sums.begins),
            **amounts,
        )
        if not touched:
            await tx.execute(sums.insert, **msgspec.structs.asdict(more))
            return


async def between(
    source: Source, project_id: str, *, from_ms: int, until_ms: int
) -> list[UsageHour]:
    """Returns a project's hours that began from `from_ms` on and before `until_ms`, in order."""
    return await _between(_HOURS, source, project_id, from_ms, until_ms)


async def spans_between(
    source: Source, project_id: str, *, from_ms: int, until_ms: int
) -> list[UsageSpan]:
    """Returns its stretches of five minutes in the same way; those that are kept."""
    return await _between(_SPANS, source, project_id, from_ms, until_ms)


async def _between(
    sums: _Sums[_Kind], source: Source, project_id: str, from_ms: int, until_ms: int
) -> list[_Kind]:
    times = {"from_ms": from_ms, "until_ms": until_ms}
    rows = await source.all(sums.between, project_id=project_id, **times)
    return [record_of(sums.kind, row) for row in rows]


async def requests(source: Source, project_id: str) -> int:
    """Returns how many requests of a project are counted in all hours that are kept."""
    return await source.number(_REQUESTS, project_id=project_id)


async def purge(tx: Transaction, *, hours_before_ms: int, spans_before_ms: int) -> None:
    """Deletes hours, and stretches of five minutes, that began before these times."""
    await tx.execute(_HOURS.purge, before_ms=hours_before_ms)
    await tx.execute(_SPANS.purge, before_ms=spans_before_ms)


async def position(source: Source, number: int) -> Position | None:
    """Returns how far the access log with this number was counted; None before the first time."""
    return await source.record(Position, _POSITION, number=number)


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
    return await source.value(_PROJECT_OF, deployment_id=deployment_id)

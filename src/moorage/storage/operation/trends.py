"""Queries over all that was paid and used, by day and by hour."""

from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from moorage.money import MicroUsd
from moorage.records.payments import PaymentStatus
from moorage.storage.database import Source, Statement
from moorage.storage.schema import payments, usage

DAY_MS = 86_400_000


class HourOfAll(NamedTuple):
    """What all projects together used in the hour that began at `hour_ms`."""

    hour_ms: int
    cpu_ms: int
    memory_byte_seconds: int
    status_2xx: int
    status_3xx: int
    status_4xx: int
    status_5xx: int


_day = payments.c.claimed_at_ms // DAY_MS
_PAID_BY_DAY = Statement(
    select(_day, func.sum(payments.c.credited_micro_usd))
    .where(
        payments.c.status == PaymentStatus.CREDITED,
        payments.c.claimed_at_ms >= bindparam("since_ms"),
    )
    .group_by(_day)
)
_HOURS = Statement(
    select(
        usage.c.hour_ms,
        *(func.sum(usage.c[name]) for name in HourOfAll._fields[1:]),
    )
    .where(usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.hour_ms)
    .order_by(usage.c.hour_ms)
)


async def paid_by_day(source: Source, *, since_ms: int) -> dict[int, MicroUsd]:
    """Returns what was credited for payments by the begin of the day (UTC) in which it was."""
    rows = await source.all(_PAID_BY_DAY, since_ms=since_ms)
    return {int(day) * DAY_MS: MicroUsd(int(total)) for day, total in rows}


async def hours_of_all(source: Source, *, since_ms: int) -> list[HourOfAll]:
    """Returns the hours that began from `since_ms` on, in which anything was used."""
    rows = await source.all(_HOURS, since_ms=since_ms)
    return [HourOfAll(*(int(value) for value in row)) for row in rows]

"""Queries over projects of all wallets and what they used, all at once or a page at a time."""

from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, bindparam, case, func, or_, select

from moorage.money import MicroUsd
from moorage.records.usage import BUCKETS
from moorage.storage.database import Source, Statement
from moorage.storage.schema import projects, usage

_NO_HOUR = 2**62  # after every hour


class ProjectRow(NamedTuple):
    """A project that is not deleted, and what it used since a time."""

    id: str
    name: str
    wallet: str
    status: str
    monthly_price: MicroUsd
    created_at_ms: int
    blocked_reason: str | None
    asleep_since_ms: int | None
    requests: int
    cpu_ms: int
    memory_peak_bytes: int
    bytes_out: int


class ProjectOrder(StrEnum):
    """What the projects that have most of it come first by."""

    CPU = "cpu"
    MEMORY = "memory"
    REQUESTS = "requests"
    OUT = "out"  # bytes sent
    ANSWER = "answer"  # time within which 95 of 100 requests were answered
    PRICE = "price"
    NEWEST = "newest"


_used = (
    select(
        usage.c.project_id,
        func.sum(usage.c.requests).label("requests"),
        func.sum(usage.c.cpu_ms).label("cpu_ms"),
        func.max(usage.c.memory_peak_bytes).label("memory_peak_bytes"),
        func.sum(usage.c.bytes_out).label("bytes_out"),
    )
    .where(usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.project_id)
    .subquery()
)
_requests, _cpu_ms, _memory, _out = (
    func.coalesce(_used.c[name], 0)
    for name in ("requests", "cpu_ms", "memory_peak_bytes", "bytes_out")
)
_there = projects.c.deleted_at_ms.is_(None)
_rows = (
    select(
        projects.c.id,
        projects.c.unique_name,
        projects.c.wallet,
        projects.c.status,
        projects.c.monthly_price_micro_usd,
        projects.c.created_at_ms,
        projects.c.blocked_reason,
        projects.c.asleep_since_ms,
        _requests,
        _cpu_ms,
        _memory,
        _out,
    )
    .select_from(projects.outerjoin(_used, _used.c.project_id == projects.c.id))
    .where(_there)
)
_EVERY = Statement(_rows)
_has_text = or_(
    bindparam("pattern", type_=Text) == "%%",
    projects.c.unique_name.like(bindparam("pattern", type_=Text), escape="\\"),
    projects.c.wallet == bindparam("of_wallet", type_=Text),
)
_COLUMNS: dict[ProjectOrder, ColumnElement[Any]] = {
    ProjectOrder.CPU: _cpu_ms,
    ProjectOrder.MEMORY: _memory,
    ProjectOrder.REQUESTS: _requests,
    ProjectOrder.OUT: _out,
    ProjectOrder.PRICE: projects.c.monthly_price_micro_usd,
    ProjectOrder.NEWEST: projects.c.created_at_ms,
}


_counts = [func.sum(usage.c[bucket]) for bucket in BUCKETS]
_all = sum(_counts[1:], _counts[0])
_answered = (
    select(
        usage.c.project_id,
        case(
            (_all == 0, -1),
            *(
                (sum(_counts[1 : number + 1], _counts[0]) * 100 >= _all * 95, number)
                for number in range(len(BUCKETS))
            ),
        ).label("bucket"),  # of `latency` that holds the 95th of 100 requests
        func.max(usage.c.slowest_ms).label("slowest_ms"),
    )
    .where(usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.project_id)
    .subquery()
)


def _page(rows: Select[Any], *first: ColumnElement[Any]) -> Statement:
    return Statement(
        rows.where(_has_text)
        .order_by(*(each.desc() for each in first), projects.c.unique_name)
        .limit(bindparam("limit"))
        .offset(bindparam("offset"))
    )


_PAGES = {order: _page(_rows, first) for order, first in _COLUMNS.items()} | {
    ProjectOrder.ANSWER: _page(
        _rows.outerjoin(_answered, _answered.c.project_id == projects.c.id),
        func.coalesce(_answered.c.bucket, -1),
        func.coalesce(_answered.c.slowest_ms, 0),
    )
}
_COUNT = Statement(select(func.count()).select_from(projects).where(_there, _has_text))


async def every_project(source: Source, *, used_since_ms: int = _NO_HOUR) -> list[ProjectRow]:
    """Returns every project that is not deleted, with what it used since the hour of a time."""
    return [ProjectRow(*row) for row in await source.all(_EVERY, since_ms=used_since_ms)]


async def page(
    source: Source, order: ProjectOrder, *, since_ms: int, text: str, limit: int, offset: int
) -> list[ProjectRow]:
    """Returns projects that have a text in their name, or a wallet's; use since an hour."""
    rows = await source.all(
        _PAGES[order], since_ms=since_ms, limit=limit, offset=offset, **_values(text)
    )
    return [ProjectRow(*row) for row in rows]


async def count(source: Source, *, text: str) -> int:
    """Returns how many projects a text finds."""
    row = await source.one(_COUNT, **_values(text))
    return int(row[0]) if row else 0


def _values(text: str) -> dict[str, str]:
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return {"pattern": f"%{escaped}%", "of_wallet": text}

"""Queries over projects of all wallets and what they used, all at once or a page at a time."""

from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, bindparam, func, or_, select

from moorage.money import MicroUsd
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
    months: int | None  # for how many of running its first price holds


class ProjectOrder(StrEnum):
    """What the projects that have most of it come first by."""

    CPU = "cpu"
    MEMORY = "memory"
    REQUESTS = "requests"
    OUT = "out"  # bytes sent
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
        projects.c.months,
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


def _page(first: ColumnElement[Any]) -> Statement:
    return Statement(
        _rows.where(_has_text)
        .order_by(first.desc(), projects.c.unique_name)
        .limit(bindparam("limit"))
        .offset(bindparam("offset"))
    )


_PAGES = {order: _page(first) for order, first in _COLUMNS.items()}
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

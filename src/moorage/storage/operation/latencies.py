"""How long apps of all wallets took to answer: of the projects that a page shows."""

from collections.abc import Sequence

from sqlalchemy import Text, bindparam, func, select

from moorage.records.usage import BUCKETS, Latency, latency_of
from moorage.storage.database import Source, Statement
from moorage.storage.schema import usage

MAX_IDS = 50
"""How many projects are asked for at once."""

_id_names = [f"id_{number}" for number in range(MAX_IDS)]
_OF_PROJECTS = Statement(
    select(
        usage.c.project_id,
        func.max(usage.c.slowest_ms),
        *(func.sum(usage.c[bucket]) for bucket in BUCKETS),
    )
    .where(
        usage.c.project_id.in_([bindparam(name, type_=Text) for name in _id_names]),
        usage.c.hour_ms >= bindparam("since_ms"),
    )
    .group_by(usage.c.project_id)
)


async def of_projects(
    source: Source, ids: Sequence[str], *, since_ms: int
) -> dict[str, Latency | None]:
    """Returns the latency of MAX_IDS projects at most since an hour; None without a request."""
    given: dict[str, str | None] = dict.fromkeys(_id_names)
    given |= dict(zip(_id_names, ids, strict=False))
    rows = await source.all(_OF_PROJECTS, since_ms=since_ms, **given)
    return {
        project_id: latency_of([int(count) for count in counts], slowest_ms=slowest_ms)
        for project_id, slowest_ms, *counts in rows
    }

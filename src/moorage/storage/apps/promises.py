"""Queries over what was admitted and may not use the machine's resources yet."""

import msgspec
from sqlalchemy import and_, bindparam, case, func, null, select

from moorage.records.deployment import UNDER_WAY
from moorage.records.project import SHARING_STATUSES
from moorage.storage.database import Source, Statement
from moorage.storage.schema import deployments, projects

_living = projects.c.deleted_at_ms.is_(None)
_awake = and_(
    _living,
    projects.c.asleep_since_ms.is_(None),
    projects.c.status.in_([status.value for status in SHARING_STATUSES]),
)
_MADE = Statement(  # each part by an index: every 402 asks
    select(
        deployments.c.id,
        projects.c.id,
        projects.c.volume,
        case((_living & ~_awake, 1), else_=0),  # it runs, and is not in the count of the awake
    )
    .join_from(deployments, projects)
    .where(deployments.c.status.in_([status.value for status in UNDER_WAY]))
    .union_all(
        select(null(), null(), null(), func.count())
        .select_from(projects)
        .where(_awake, projects.c.id != bindparam("without"))
    )
)


class Coming(msgspec.Struct, frozen=True):
    """A deployment that is neither ready nor over."""

    deployment_id: str
    project_id: str
    volume: bool  # whether the project has one, or will


class Promised(msgspec.Struct, frozen=True):
    """What was admitted to this gateway's machines, in all."""

    running: int
    """How many projects have an app that runs or is about to; sleeping, suspended and failed ones
    count only while a deployment is under way."""
    coming: list[Coming]


async def made(source: Source, *, without: str = "") -> Promised:
    """Returns what was promised; the project `without` does not count as running."""
    rows = await source.all(_MADE, without=without)
    coming = [Coming(row[0], row[1], bool(row[2])) for row in rows if row[0] is not None]
    counted = {row[1]: row[3] for row in rows if row[1] != without}
    return Promised(running=sum(counted.values()), coming=coming)

"""Queries over what was admitted and may not be on the machine yet."""

import msgspec
from sqlalchemy import select

from moorage.deploy.deployment import UNDER_WAY
from moorage.storage.database import Database, Statement
from moorage.storage.schema import deployments, projects

_UNDER_WAY = Statement(
    select(deployments.c.id, projects.c.id, projects.c.volume)
    .join_from(deployments, projects)
    .where(deployments.c.status.in_([status.value for status in UNDER_WAY]))
)


class Coming(msgspec.Struct, frozen=True):
    """A deployment that is neither ready nor over."""

    deployment_id: str
    project_id: str
    volume: bool  # whether the project has one, or will


async def under_way(db: Database) -> list[Coming]:
    """Every deployment that is neither ready nor over."""
    return [Coming(row[0], row[1], bool(row[2])) for row in await db.all(_UNDER_WAY)]

"""Queries over the toolchains that deployments name."""

import msgspec
from sqlalchemy import and_, or_, select

from moorage.records.deployment import UNDER_WAY, DeploymentStatus
from moorage.storage.database import Database, Statement
from moorage.storage.schema import deployments

_IN_USE = Statement(
    select(deployments.c.plan)
    .where(
        or_(
            and_(deployments.c.is_kept, deployments.c.status != DeploymentStatus.FAILED),
            deployments.c.status.in_([s.value for s in UNDER_WAY]),
        )
    )
    .distinct()
)


class _Plan(msgspec.Struct):
    """The part of a `planning.plan.Plan` that is read here."""

    toolchains: dict[str, str] = {}


async def in_use(db: Database) -> set[tuple[str, str]]:
    """Returns program and version of each toolchain that a deployment uses, or may use again."""
    found: set[tuple[str, str]] = set()
    for (plan,) in await db.all(_IN_USE):
        found.update(msgspec.json.decode(plan, type=_Plan).toolchains.items())
    return found

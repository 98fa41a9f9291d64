"""Queries over what was admitted and may not use the machine's resources yet."""

import msgspec
from sqlalchemy import bindparam, func, select

from moorage.money import MicroUsd
from moorage.records.deployment import UNDER_WAY
from moorage.records.project import SHARING_STATUSES
from moorage.storage.database import Source, Statement
from moorage.storage.schema import deployments, projects

_UNDER_WAY = Statement(
    select(deployments.c.id, projects.c.id, projects.c.volume)
    .join_from(deployments, projects)
    .where(deployments.c.status.in_([status.value for status in UNDER_WAY]))
)
_living = projects.c.deleted_at_ms.is_(None)
_AWAKE = select(projects.c.id).where(
    _living,
    projects.c.asleep_since_ms.is_(None),
    projects.c.status.in_([status.value for status in SHARING_STATUSES]),
)
_HAVE_ONE_UNDER_WAY = (
    select(projects.c.id)
    .join_from(deployments, projects)
    .where(_living, deployments.c.status.in_([status.value for status in UNDER_WAY]))
)
_running = _AWAKE.union(_HAVE_ONE_UNDER_WAY).subquery()  # each by an index: every 402 asks
_RUNNING = Statement(
    select(func.count()).select_from(_running).where(_running.c.id != bindparam("without"))
)
_SHARING_PRICES = Statement(
    select(projects.c.monthly_price_micro_usd).where(
        projects.c.wallet == bindparam("wallet"),
        projects.c.status.in_([status.value for status in SHARING_STATUSES]),
    )
)


class Coming(msgspec.Struct, frozen=True):
    """A deployment that is neither ready nor over."""

    deployment_id: str
    project_id: str
    volume: bool  # whether the project has one, or will


async def under_way(source: Source) -> list[Coming]:
    """Returns every deployment that is neither ready nor over."""
    return [Coming(row[0], row[1], bool(row[2])) for row in await source.all(_UNDER_WAY)]


async def running(source: Source, *, without: str = "") -> int:
    """Returns how many projects, not counting `without`, have an app that runs or is about to.

    Sleeping, suspended and failed projects count only while a deployment is under way.
    """
    row = await source.one(_RUNNING, without=without)
    return int(row[0]) if row else 0


async def prices_sharing_credits(source: Source, wallet: str) -> list[MicroUsd]:
    """Returns the monthly price of each project that shares the wallet's credits."""
    return [MicroUsd(row[0]) for row in await source.all(_SHARING_PRICES, wallet=wallet)]

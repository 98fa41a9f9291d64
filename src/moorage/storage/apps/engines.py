"""Queries over the engines that deployments are on."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import bindparam, select, update

from moorage.records.deployment import DeploymentStatus
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import deployments, projects

_serving = deployments.alias("serving")
_later = deployments.alias("later")
_living = projects.c.deleted_at_ms.is_(None)

_UNNOTED = Statement(
    select(deployments.c.id).where(deployments.c.engine == "", deployments.c.is_kept)
)
_NOTE = Statement(
    update(deployments)
    .where(deployments.c.id == bindparam("deployment_id"))
    .values(engine=bindparam("on"))
)
_SERVING = Statement(
    select(projects.c.unique_name, projects.c.wallet, _serving.c.engine)
    .join_from(projects, _serving, _serving.c.id == projects.c.serving_deployment_id)
    .where(_living)
    .order_by(projects.c.unique_name)
)
_PLANS = Statement(
    select(_serving.c.plan)
    .join_from(projects, _serving, _serving.c.id == projects.c.serving_deployment_id)
    .where(_living)
)
# What was begun on another engine than the one that serves, oldest first.
_BEGUN = Statement(
    select(projects.c.unique_name, _later.c.status, _later.c.reason)
    .join_from(projects, _serving, _serving.c.id == projects.c.serving_deployment_id)
    .join(_later, _later.c.project_id == projects.c.id)
    .where(
        _living,
        _later.c.engine.not_in(["", _serving.c.engine]),
        _later.c.created_at_ms > _serving.c.created_at_ms,
    )
    .order_by(_later.c.created_at_ms, _later.c.id)
)


class Placed(NamedTuple):
    """A project that serves, and the engine that its app is on."""

    name: str
    wallet: str
    engine: str  # "" if it is not noted yet
    move: DeploymentStatus | None = None  # where its latest move stands, if there was one
    reason: str = ""  # why that failed


async def placed(db: Database) -> list[Placed]:
    """Returns every project that serves, by name."""
    begun = {row[0]: row for row in await db.all(_BEGUN)}
    found = []
    for name, wallet, engine in await db.all(_SERVING):
        _, status, reason = begun.get(name, ("", None, None))
        move = None if status is None else DeploymentStatus(status)
        found.append(Placed(name, wallet, engine, move, reason or ""))
    return found


async def serving_plans(db: Database) -> list[str]:
    """Returns the plan of each project that serves, as its row holds it."""
    return [row[0] for row in await db.all(_PLANS)]


async def unnoted(db: Database) -> set[str]:
    """Returns the kept deployments whose engine is not noted."""
    return {row[0] for row in await db.all(_UNNOTED)}


async def note(tx: Transaction, deployment_ids: Collection[str], engine: str) -> None:
    """Notes the engine that has these deployments."""
    for deployment_id in deployment_ids:
        await tx.execute(_NOTE, deployment_id=deployment_id, on=engine)

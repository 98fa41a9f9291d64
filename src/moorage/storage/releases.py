"""Queries over releases: deployments that are over and of which files or logs are kept."""

from sqlalchemy import bindparam, exists, func, select, update

from moorage.deploy.deployment import UNDER_WAY, DeploymentStatus
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import deployments

_over = deployments.c.is_kept & deployments.c.status.in_(
    [DeploymentStatus.SUPERSEDED.value, DeploymentStatus.FAILED.value]
)
_KEPT = Statement(select(deployments.c.id, deployments.c.status).where(_over))
_ended_at_ms = func.coalesce(deployments.c.superseded_at_ms, deployments.c.ended_at_ms)
_RANKED = (
    select(
        deployments.c.id,
        func.row_number()
        .over(
            partition_by=(deployments.c.project_id, deployments.c.status),
            order_by=(_ended_at_ms.desc(), deployments.c.created_at_ms.desc(), deployments.c.id),
        )
        .label("rank"),
    )
    .where(_over)
    .subquery()
)
_SURPLUS = Statement(select(_RANKED.c.id).where(_RANKED.c.rank > bindparam("most")))
_copies = deployments.alias()
_COLLECT = Statement(
    update(deployments)
    .where(
        deployments.c.id == bindparam("deployment_id"),
        _over,
        ~exists().where(
            _copies.c.copy_of == deployments.c.id,
            _copies.c.status.in_([status.value for status in UNDER_WAY]),
        ),
    )
    .values(is_kept=False)
)


async def kept(db: Database) -> dict[str, DeploymentStatus]:
    """Every deployment that is over and kept, superseded or failed; those that serve are not."""
    return {row[0]: DeploymentStatus(row[1]) for row in await db.all(_KEPT)}


async def surplus(db: Database, *, most: int) -> list[str]:
    """Those kept beyond the latest `most` superseded and `most` failed ones of their project."""
    return [row[0] for row in await db.all(_SURPLUS, most=most)]


async def collect(tx: Transaction, deployment_id: str) -> bool:
    """Keep a deployment no longer; False when something under way copies it, or it is not over."""
    return await tx.execute(_COLLECT, deployment_id=deployment_id) == 1

"""Queries over releases: deployments that are over and whose files or logs are kept."""

from sqlalchemy import bindparam, exists, func, select, update

from moorage.errors import DeploymentNotFound, FailureCause
from moorage.records.deployment import UNDER_WAY, DeploymentStatus, Origin, Summary
from moorage.storage.database import Database, Row, Source, Statement, Transaction
from moorage.storage.schema import deployments

_END_OF_TIME_MS = 2**63 - 1

_over = deployments.c.is_kept & deployments.c.status.in_(
    [DeploymentStatus.SUPERSEDED.value, DeploymentStatus.FAILED.value]
)
_KEPT = Statement(select(deployments.c.id, deployments.c.status).where(_over))
_ended_at_ms = func.coalesce(deployments.c.superseded_at_ms, deployments.c.ended_at_ms)
_given_up = deployments.c.reason_code.in_(
    [FailureCause.SUPERSEDED.value, FailureCause.CANCELLED.value]
)
"""Ended by the owner: counted apart, so that these do not displace the logs of failures."""
_RANKED = (
    select(
        deployments.c.id,
        func.row_number()
        .over(
            partition_by=(deployments.c.project_id, deployments.c.status, _given_up),
            order_by=(_ended_at_ms.desc(), deployments.c.created_at_ms.desc(), deployments.c.id),
        )
        .label("rank"),
    )
    .where(_over)
    .subquery()
)
_SURPLUS = Statement(select(_RANKED.c.id).where(_RANKED.c.rank > bindparam("keep")))
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
    .values(is_kept=False, log_tail="", variables="")
)
_LATEST = Statement(
    select(deployments.c.id)
    .where(
        deployments.c.project_id == bindparam("project_id"),
        deployments.c.status == DeploymentStatus.SUPERSEDED.value,
        deployments.c.is_kept,
    )
    .order_by(_ended_at_ms.desc(), deployments.c.created_at_ms.desc(), deployments.c.id)
    .limit(1)
)
_SUMMARY = [deployments.c[name] for name in Summary.__struct_fields__]
_PLACE = Statement(
    select(deployments.c.created_at_ms).where(
        deployments.c.id == bindparam("id"), deployments.c.project_id == bindparam("project_id")
    )
)
_ONE = Statement(
    select(*_SUMMARY, deployments.c.superseded_at_ms).where(
        deployments.c.id == bindparam("id"), deployments.c.project_id == bindparam("project_id")
    )
)
_PAGE = Statement(
    select(*_SUMMARY)
    .where(
        deployments.c.project_id == bindparam("project_id"),
        (deployments.c.created_at_ms < bindparam("before_ms"))
        | (
            (deployments.c.created_at_ms == bindparam("before_ms"))
            & (deployments.c.id < bindparam("before_id"))
        ),
    )
    .order_by(deployments.c.created_at_ms.desc(), deployments.c.id.desc())
    .limit(bindparam("limit"))
)


async def kept(source: Source) -> dict[str, DeploymentStatus]:
    """Returns every kept deployment that is superseded or failed."""
    return {row[0]: DeploymentStatus(row[1]) for row in await source.all(_KEPT)}


async def surplus(db: Database, *, keep: int) -> list[str]:
    """Returns kept ones beyond each project's latest `keep` superseded, failed and given up."""
    return [row[0] for row in await db.all(_SURPLUS, keep=keep)]


async def collect(tx: Transaction, deployment_id: str) -> bool:
    """Marks a deployment as not kept; returns False when it is not over, or is being copied."""
    return await tx.execute(_COLLECT, deployment_id=deployment_id) == 1


async def latest(tx: Transaction, project_id: str) -> str | None:
    """Returns the kept release of a project that was replaced last."""
    row = await tx.one(_LATEST, project_id=project_id)
    return None if row is None else str(row[0])


async def page(
    db: Database, *, project_id: str, before: str | None, limit: int
) -> list[Summary] | None:
    """Returns at most `limit` of a project's deployments older than `before`, newest first.

    Without `before`, it begins with the newest. Returns None when `before` does not exist.
    """
    before_ms = _END_OF_TIME_MS
    if before is not None:
        place = await db.one(_PLACE, id=before, project_id=project_id)
        if place is None:
            return None
        before_ms = place[0]
    rows = await db.all(
        _PAGE, project_id=project_id, before_ms=before_ms, before_id=before or "", limit=limit
    )
    return [_summary(row) for row in rows]


async def one(db: Database, deployment_id: str, *, project_id: str) -> tuple[Summary, int | None]:
    """Returns a deployment of a project, and when a later one replaced it.

    Raises DeploymentNotFound.
    """
    row = await db.one(_ONE, id=deployment_id, project_id=project_id)
    if row is None:
        raise DeploymentNotFound
    return _summary(row[:-1]), row[-1]


def _summary(row: Row) -> Summary:
    fields = dict(zip(Summary.__struct_fields__, row, strict=True))
    typed = {
        "status": DeploymentStatus(fields["status"]),
        "origin": Origin(fields["origin"]),
        "is_kept": bool(fields["is_kept"]),
    }
    return Summary(**fields | typed)

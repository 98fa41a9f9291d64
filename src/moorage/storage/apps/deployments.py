"""Queries over deployments."""

from collections.abc import Sequence

from sqlalchemy import BindParameter, bindparam, func, insert, select, update

from moorage.records.deployment import (
    TRANSITIONS,
    UNDER_WAY,
    Deployment,
    DeploymentStatus,
    DeploymentView,
    Origin,
)
from moorage.records.project import ProjectStatus
from moorage.storage.database import Database, Row, Source, Statement, Transaction
from moorage.storage.schema import deployments, projects

_DEPLOYMENT = [deployments.c[name] for name in Deployment.__struct_fields__]

_INSERT = Statement(
    insert(deployments).values({name: bindparam(name) for name in Deployment.__struct_fields__})
)
_BY_ID = Statement(select(*_DEPLOYMENT).where(deployments.c.id == bindparam("id")))
_VIEW = Statement(
    select(
        deployments.c.id,
        deployments.c.project_id,
        deployments.c.status,
        deployments.c.note,
        deployments.c.reason,
        deployments.c.reason_code,
        deployments.c.log_tail,
        projects.c.wallet,
        projects.c.unique_name,
        projects.c.status,
        projects.c.serving_deployment_id,
        projects.c.blocked_reason,
        projects.c.no_space_since_ms,
        projects.c.paused_at_ms,
        projects.c.down_since_ms,
        projects.c.monthly_price_micro_usd,
        deployments.c.is_kept,
        deployments.c.findings,
        projects.c.volume,
        projects.c.volume_after,
    )
    .join_from(deployments, projects)
    .where(deployments.c.id == bindparam("id"))
)
_REPLAN = Statement(
    update(deployments)
    .where(deployments.c.id == bindparam("deployment_id"))
    .values(plan=bindparam("new_plan"))
)
_OF_PROJECT = Statement(
    select(*_DEPLOYMENT)
    .where(deployments.c.project_id == bindparam("project_id"))
    .order_by(deployments.c.created_at_ms.desc(), deployments.c.id)
)
_under_way = select(*_DEPLOYMENT).where(
    deployments.c.status.in_([status.value for status in UNDER_WAY])
)
_UNDER_WAY = Statement(_under_way)
_UNDER_WAY_OF = Statement(_under_way.where(deployments.c.project_id == bindparam("project_id")))
_FAILED_SINCE = Statement(
    select(deployments.c.id)
    .where(
        deployments.c.status == DeploymentStatus.FAILED.value,
        deployments.c.ended_at_ms >= bindparam("since_ms"),
    )
    .order_by(deployments.c.id)
)
_STARTING_OF = Statement(
    select(deployments.c.id)
    .where(
        deployments.c.project_id == bindparam("project_id"),
        deployments.c.status == DeploymentStatus.DEPLOYING.value,
    )
    .limit(1)
)
_SINCE: dict[DeploymentStatus, dict[str, BindParameter[int]]] = {
    DeploymentStatus.SUPERSEDED: {"superseded_at_ms": bindparam("at_ms")}
}
_MOVE: dict[DeploymentStatus, Statement] = {
    target: Statement(
        update(deployments)
        .where(
            deployments.c.id == bindparam("deployment_id"),
            deployments.c.status.in_(
                [origin.value for origin, targets in TRANSITIONS.items() if target in targets]
            ),
        )
        .values(
            status=target.value,
            note=func.coalesce(bindparam("new_note"), deployments.c.note),
            reason=bindparam("new_reason"),
            reason_code=bindparam("new_reason_code"),
            log_tail=func.coalesce(bindparam("new_log_tail"), deployments.c.log_tail),
            ended_at_ms=func.coalesce(deployments.c.ended_at_ms, bindparam("at_ms")),
            **_SINCE.get(target, {}),
        )
    )
    for target in DeploymentStatus
    if target is not DeploymentStatus.QUEUED
}


async def add(tx: Transaction, deployment: Deployment) -> None:
    """Stores a new deployment."""
    await tx.execute(
        _INSERT, **{name: getattr(deployment, name) for name in deployment.__struct_fields__}
    )


async def by_id(source: Source, deployment_id: str) -> Deployment | None:
    """One deployment."""
    row = await source.one(_BY_ID, id=deployment_id)
    return _deployment(row) if row else None


async def view(db: Database, deployment_id: str) -> DeploymentView | None:
    """Returns a deployment with its project, deleted or not, in one read, as clients poll it."""
    row = await db.one(_VIEW, id=deployment_id)
    if row is None:
        return None
    return DeploymentView(
        row[0], row[1], DeploymentStatus(row[2]), row[3], row[4], row[5], row[6], row[7], row[8],
        ProjectStatus(row[9]), row[10], row[11], row[12], row[13], row[14], row[15],
        bool(row[16]), row[17], bool(row[18]),
    )  # fmt: skip


async def of_project(source: Source, project_id: str) -> Sequence[Deployment]:
    """A project's deployments, newest first."""
    return [_deployment(row) for row in await source.all(_OF_PROJECT, project_id=project_id)]


async def under_way(source: Source) -> Sequence[Deployment]:
    """Returns every deployment that is neither ready nor over."""
    return [_deployment(row) for row in await source.all(_UNDER_WAY)]


async def under_way_of(source: Source, project_id: str) -> list[Deployment]:
    """Returns a project's deployments that are neither ready nor over: at most one."""
    return [_deployment(row) for row in await source.all(_UNDER_WAY_OF, project_id=project_id)]


async def failed_since(db: Database, since_ms: int) -> list[str]:
    """Returns the ids of deployments that failed, or were ended, since then."""
    return [row[0] for row in await db.all(_FAILED_SINCE, since_ms=since_ms)]


async def is_starting(db: Database, project_id: str) -> bool:
    """Whether a deployment of this project is built and about to serve its address."""
    return await db.one(_STARTING_OF, project_id=project_id) is not None


async def move(
    tx: Transaction,
    deployment_id: str,
    status: DeploymentStatus,
    *,
    note: str | None = None,
    reason: str | None = None,
    reason_code: str | None = None,
    log_tail: str | None = None,
    at_ms: int | None = None,
) -> bool:
    """Changes a deployment's status if the transition is legal; returns whether it did."""
    touched = await tx.execute(
        _MOVE[status],
        deployment_id=deployment_id,
        new_note=note,
        new_reason=reason,
        new_reason_code=reason_code,
        new_log_tail=log_tail,
        at_ms=at_ms,
    )
    return touched == 1


async def replan(tx: Transaction, deployment_id: str, plan: str) -> None:
    """Replaces the plan of a deployment that is being built."""
    await tx.execute(_REPLAN, deployment_id=deployment_id, new_plan=plan)


def _deployment(row: Row) -> Deployment:
    fields = dict(zip(Deployment.__struct_fields__, row, strict=True))
    typed = {
        "status": DeploymentStatus(fields["status"]),
        "origin": Origin(fields["origin"]),
        "is_kept": bool(fields["is_kept"]),
    }
    return Deployment(**fields | typed)

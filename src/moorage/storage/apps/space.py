"""Queries over projects that are suspended as the machine's disk has no room for their app."""

from sqlalchemy import bindparam, func, null, select, update

from moorage.records.project import ProjectStatus
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import projects

_HOLD = Statement(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.status == ProjectStatus.ACTIVE.value,
        projects.c.serving_deployment_id == bindparam("serving"),
    )
    .values(
        status=ProjectStatus.SUSPENDED.value,
        suspended_at_ms=func.coalesce(projects.c.suspended_at_ms, bindparam("at_ms")),
        asleep_since_ms=null(),
        no_space_since_ms=bindparam("since_ms"),
    )
)
_HELD = Statement(
    select(projects.c.id, projects.c.serving_deployment_id)
    .where(projects.c.no_space_since_ms.is_not(None), projects.c.deleted_at_ms.is_(None))
    .order_by(projects.c.no_space_since_ms, projects.c.id)
)
_RELEASE = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(no_space_since_ms=null())
)


async def hold(
    tx: Transaction, project_id: str, *, serving: str, at_ms: int, since_ms: int
) -> bool:
    """Suspend a project that runs, at this billed time and this one of the clock.

    False when it does not run, or another deployment serves.
    """
    touched = await tx.execute(
        _HOLD, project_id=project_id, serving=serving, at_ms=at_ms, since_ms=since_ms
    )
    return touched == 1


async def held(db: Database) -> dict[str, str]:
    """The serving deployments of projects that wait for room, by project, the longest first."""
    return {str(row[0]): str(row[1] or "") for row in await db.all(_HELD)}


async def release(tx: Transaction, project_id: str) -> None:
    """Let a project wait for room no more: from now on it is suspended as any other."""
    await tx.execute(_RELEASE, project_id=project_id)

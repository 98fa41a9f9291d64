"""Queries over projects that are suspended because the machine's disk is nearly full."""

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
    """Suspends a running project; `at_ms` is billed time, `since_ms` the clock's.

    Returns False when it does not run, or another deployment serves.
    """
    touched = await tx.execute(
        _HOLD, project_id=project_id, serving=serving, at_ms=at_ms, since_ms=since_ms
    )
    return touched == 1


async def held(db: Database) -> dict[str, str]:
    """Returns serving deployments by project, for projects that wait for disk space.

    Those that have waited the longest come first.
    """
    return {str(row[0]): str(row[1] or "") for row in await db.all(_HELD)}


async def release(tx: Transaction, project_id: str) -> None:
    """Records that a project no longer waits for disk space; it stays suspended."""
    await tx.execute(_RELEASE, project_id=project_id)

"""Queries over apps that should run and do not, and over recent restarts."""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, or_, select, update

from moorage.records.project import ProjectStatus
from moorage.storage.database import Database, Source, Statement, Transaction
from moorage.storage.schema import projects, restarts

_FORGET = Statement(
    delete(restarts).where(
        or_(
            restarts.c.deployment_id == bindparam("of_deployment"),
            restarts.c.last_ms < bindparam("before_ms"),
        )
    )
)
_KEEP = Statement(
    insert(restarts).values(
        deployment_id=bindparam("deployment_id"),
        last_ms=bindparam("last_ms"),
        history=bindparam("history"),
    )
)
_SINCE = Statement(
    select(restarts.c.deployment_id, restarts.c.history).where(
        restarts.c.last_ms >= bindparam("since_ms")
    )
)

_SET_DOWN = Statement(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.status == ProjectStatus.ACTIVE.value,
        projects.c.serving_deployment_id == bindparam("serving"),
        projects.c.asleep_since_ms.is_(None),
    )
    .values(down_since_ms=bindparam("since_ms"))
)
_OF = Statement(
    select(restarts.c.history).where(restarts.c.deployment_id == bindparam("deployment_id"))
)


async def of(source: Source, deployment_id: str) -> str | None:
    """Returns the restart history of a deployment, if it was restarted recently."""
    row = await source.one(_OF, deployment_id=deployment_id)
    return None if row is None else str(row[0])


async def keep(
    tx: Transaction, deployment_id: str, *, last_ms: int, history: str, before_ms: int
) -> None:
    """Stores a restart history; removes those whose last restart was before `before_ms`."""
    await tx.execute(_FORGET, of_deployment=deployment_id, before_ms=before_ms)
    await tx.execute(_KEEP, deployment_id=deployment_id, last_ms=last_ms, history=history)


async def since(db: Database, since_ms: int) -> Sequence[tuple[str, str]]:
    """Returns deployment and history of apps restarted at `since_ms` or later."""
    return [(row[0], row[1]) for row in await db.all(_SINCE, since_ms=since_ms)]


async def set_down(tx: Transaction, project_id: str, *, serving: str, since_ms: int | None) -> None:
    """Records since when this app should run and does not; None if it runs."""
    await tx.execute(_SET_DOWN, project_id=project_id, serving=serving, since_ms=since_ms)

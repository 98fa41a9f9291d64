"""Queries over projects that an operator has ordered to be deleted."""

import msgspec
from sqlalchemy import bindparam, delete, func, null, select, update

from moorage.storage.database import Source, Statement, Transaction, given, upsert_of
from moorage.storage.schema import evictions, projects


class Eviction(msgspec.Struct, frozen=True):
    """An order to delete a project, and when it is due."""

    project_id: str
    reason: str
    at_ms: int
    with_export: bool = True  # whether its owner gets an archive of what it has


class FailedTry(msgspec.Struct, frozen=True):
    """Why an order was not carried out when it was last tried, and when that was."""

    at_ms: int
    why: str


_ALL = Statement(
    select(evictions.c.project_id, evictions.c.reason, evictions.c.at_ms, evictions.c.with_export)
    .join(projects, projects.c.id == evictions.c.project_id)
    .where(projects.c.deleted_at_ms.is_(None))
    .order_by(evictions.c.at_ms, evictions.c.project_id)
)
_FIRST_DUE = Statement(
    select(func.min(evictions.c.at_ms))
    .join(projects, projects.c.id == evictions.c.project_id)
    .where(projects.c.deleted_at_ms.is_(None))
)
_NO_FAILURE: dict[str, object] = dict.fromkeys(("failed_at_ms", "failure"), null())
_ORDER = upsert_of(evictions)
_CANCEL = Statement(delete(evictions).where(*given(evictions, project_id="of_project")))
_FAILURES = Statement(
    select(evictions.c.project_id, evictions.c.failed_at_ms, evictions.c.failure).where(
        evictions.c.failed_at_ms.is_not(None)
    )
)
_NOTE_FAILURE = Statement(
    update(evictions)
    .where(*given(evictions, project_id="of_project", at_ms="due_ms"))
    .values(failed_at_ms=bindparam("tried_at_ms"), failure=bindparam("why"))
)
_FORGET_FAILURE = Statement(
    update(evictions).where(*given(evictions, project_id="of_project")).values(_NO_FAILURE)
)


async def ordered(source: Source) -> list[Eviction]:
    """Returns all orders for projects that are not deleted, the next one first."""
    return [
        Eviction(project_id, reason, at_ms, bool(with_export))
        for project_id, reason, at_ms, with_export in await source.all(_ALL)
    ]


async def order(tx: Transaction, eviction: Eviction) -> None:
    """Orders that a project be deleted, in place of an earlier order."""
    await tx.execute(_ORDER, **msgspec.structs.asdict(eviction), failed_at_ms=None, failure=None)


async def cancel(tx: Transaction, project_id: str) -> bool:
    """Cancels an order; returns False if there is none."""
    return await tx.execute(_CANCEL, of_project=project_id) == 1


async def first_due_ms(source: Source) -> int | None:
    """Returns when the order is due that is due first; None without any."""
    return await source.value(_FIRST_DUE)


async def failures(source: Source) -> dict[str, FailedTry]:
    """Returns, by project, the orders that were not carried out when they were last tried."""
    rows = await source.all(_FAILURES)
    return {project_id: FailedTry(at_ms, why) for project_id, at_ms, why in rows}


async def note_failure(tx: Transaction, tried: Eviction, failed: FailedTry) -> None:
    """Records that an order was not carried out; nothing if it was changed meanwhile."""
    await tx.execute(
        _NOTE_FAILURE,
        of_project=tried.project_id,
        due_ms=tried.at_ms,
        tried_at_ms=failed.at_ms,
        why=failed.why,
    )


async def forget_failure(tx: Transaction, project_id: str) -> None:
    """Records that the last try went well."""
    await tx.execute(_FORGET_FAILURE, of_project=project_id)

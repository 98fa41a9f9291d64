"""Queries over projects that an operator has ordered to be deleted."""

import msgspec
from sqlalchemy import bindparam, case, delete, select

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import evictions, projects


class Eviction(msgspec.Struct, frozen=True):
    """An order to delete a project, and when it is due."""

    project_id: str
    reason: str
    at_ms: int
    with_export: bool = True  # whether its owner gets an archive of what it has


HIDDEN_MS = 253_370_764_800_000  # 9999-01-01
"""`at_ms` of orders with an export, so that a gateway that can't make one has nothing to do."""

_at_ms = case(
    (evictions.c.at_ms == HIDDEN_MS, evictions.c.after_export_at_ms), else_=evictions.c.at_ms
)
_ALL = Statement(
    select(evictions.c.project_id, evictions.c.reason, _at_ms, evictions.c.with_export)
    .join(projects, projects.c.id == evictions.c.project_id)
    .where(projects.c.deleted_at_ms.is_(None))
    .order_by(_at_ms, evictions.c.project_id)
)
_GIVEN = ("project_id", "reason", "at_ms", "with_export", "after_export_at_ms")
_ORDER = Statement(
    Upsert(
        table=evictions,
        values={name: bindparam(name) for name in _GIVEN},
        replaced=_GIVEN[1:],
    )
)
_CANCEL = Statement(delete(evictions).where(evictions.c.project_id == bindparam("of_project")))


async def ordered(source: Source) -> list[Eviction]:
    """Returns all orders for projects that are not deleted, the next one first."""
    return [
        Eviction(project_id, reason, at_ms, bool(with_export))
        for project_id, reason, at_ms, with_export in await source.all(_ALL)
    ]


async def order(tx: Transaction, eviction: Eviction) -> None:
    """Orders that a project be deleted, in place of an earlier order."""
    hidden = {"at_ms": HIDDEN_MS, "after_export_at_ms": eviction.at_ms}
    shown = {"at_ms": eviction.at_ms, "after_export_at_ms": None}
    due = hidden if eviction.with_export else shown
    await tx.execute(_ORDER, **msgspec.structs.asdict(eviction) | due)


async def cancel(tx: Transaction, project_id: str) -> bool:
    """Cancels an order; returns False if there is none."""
    return await tx.execute(_CANCEL, of_project=project_id) == 1

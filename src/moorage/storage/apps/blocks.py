"""Queries over projects and wallets that the operator has suspended."""

from typing import NamedTuple

from sqlalchemy import bindparam, exists, func, literal, null, or_, select, union_all, update

from moorage.records.deployment import UNDER_WAY
from moorage.records.project import ProjectStatus
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import deployments, meters, projects, wallets

_living = projects.c.deleted_at_ms.is_(None)
_SET_OF_WALLET = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("wallet"))
    .values(blocked_reason=bindparam("new_reason"))
)
_BLOCK = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(blocked_reason=bindparam("new_reason"))
)
_of_what_was_suspended = (
    projects.c.id == bindparam("project_id"),
    projects.c.status == ProjectStatus.SUSPENDED.value,
)
# It may still lack credits; the time for which such a project is kept begins now.
_UNBLOCK_SERVED = Statement(
    update(projects)
    .where(*_of_what_was_suspended, projects.c.serving_deployment_id.is_not(None))
    .values(suspended_at_ms=select(func.max(meters.c.billed_ms)).scalar_subquery())
)
_UNBLOCK_UNSERVED = Statement(
    update(projects)
    .where(*_of_what_was_suspended, projects.c.serving_deployment_id.is_(None))
    .values(status=ProjectStatus.FAILED.value, suspended_at_ms=null())
)
_ALL = Statement(
    union_all(
        select(wallets.c.address, literal("").label("name"), wallets.c.blocked_reason).where(
            wallets.c.blocked_reason.is_not(None)
        ),
        select(projects.c.wallet, projects.c.unique_name, projects.c.blocked_reason).where(
            projects.c.blocked_reason.is_not(None), _living
        ),
    )
)


_NOT_ENFORCED = Statement(
    select(projects.c.id).where(
        projects.c.blocked_reason.is_not(None),
        _living,
        projects.c.status != ProjectStatus.DELETING.value,
        or_(
            projects.c.status != ProjectStatus.SUSPENDED.value,
            exists().where(
                deployments.c.project_id == projects.c.id,
                deployments.c.status.in_([status.value for status in UNDER_WAY]),
            ),
        ),
    )
)


class Block(NamedTuple):
    """A suspended project, or, with an empty `unique_name`, a suspended wallet."""

    wallet: str
    unique_name: str
    reason: str


async def set_of_wallet(tx: Transaction, wallet: str, reason: str | None) -> None:
    """Suspends a wallet for this reason, or resumes it with None. Its row must exist."""
    await tx.execute(_SET_OF_WALLET, wallet=wallet, new_reason=reason)


async def block(tx: Transaction, project_id: str, reason: str) -> None:
    """Records that the operator suspends a project; the gateway then stops it."""
    await tx.execute(_BLOCK, project_id=project_id, new_reason=reason)


async def unblock(tx: Transaction, project_id: str) -> None:
    """Records that the operator no longer suspends it; now only its credits decide."""
    await tx.execute(_BLOCK, project_id=project_id, new_reason=None)
    await tx.execute(_UNBLOCK_SERVED, project_id=project_id)
    await tx.execute(_UNBLOCK_UNSERVED, project_id=project_id)


async def not_enforced(db: Database) -> list[str]:
    """Returns the projects to be suspended that still run or are being deployed."""
    return [row[0] for row in await db.all(_NOT_ENFORCED)]


async def all_blocks(db: Database) -> list[Block]:
    """Returns everything that the operator has suspended."""
    return [Block(*row) for row in await db.all(_ALL)]

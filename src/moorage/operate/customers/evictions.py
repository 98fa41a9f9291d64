"""Projects that the operator suspends, or deletes after a notice."""

import msgspec

from moorage.clock import SystemClock, iso_utc
from moorage.errors import InvalidField
from moorage.hosting.keeping.evictions import STOPPED
from moorage.hosting.keeping.suspension import block_project, block_wallet, unblock_wallet
from moorage.operate.books import OpenBooks, note_act
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.apps.projects import Block
from moorage.storage.database import Transaction
from moorage.storage.money import accounts
from moorage.storage.operation import evictions
from moorage.storage.operation.evictions import Eviction, FailedTry


class Subject(msgspec.Struct, frozen=True):
    """A project by its name, or all projects of a wallet by its address."""

    name: str
    wallet: str


async def suspend(books: OpenBooks, subject: Subject, reason: str) -> list[Project]:
    """Suspends it, with the reason for its owner; returns the projects. Raises InvalidField."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        about = subject.name or subject.wallet
        await note_act(tx, books.operator, "suspend", about, reason=reason)
        if subject.wallet:
            return await block_wallet(tx, subject.wallet, reason, now_ms=now_ms)
        project = await project_named(tx, subject.name)
        await block_project(tx, project, reason, now_ms=now_ms)
        return [project]


async def unsuspend(books: OpenBooks, subject: Subject, *, reason: str = "") -> list[Project]:
    """Lifts the suspension; returns the projects, whose credits now decide. Raises InvalidField."""
    async with books.db.transaction(durable=True) as tx:
        about = subject.name or subject.wallet
        await note_act(tx, books.operator, "resume", about, reason=reason)
        if subject.wallet:
            return await unblock_wallet(tx, subject.wallet)
        project = await project_named(tx, subject.name)
        if (await accounts.wallet_row(tx, project.wallet)).blocked_reason is not None:
            raise InvalidField(
                subject.name,
                f"its wallet is suspended: moorage operator resume --wallet {project.wallet}",
            )
        if project.blocked_reason is None:
            return []
        await projects.unblock_project(tx, project.id)
        return [project]


async def suspended(books: OpenBooks) -> list[Block]:
    """Returns what is suspended."""
    return await projects.all_blocks(books.db)


async def project_named(tx: Transaction, name: str) -> Project:
    """Returns the project of this name. Raises InvalidField if there is none."""
    project = await projects.by_name(tx, name.lower())
    if project is None:
        raise InvalidField(name, "no project has this name")
    return project


_DAY_MS = 24 * 3_600_000


class FailedDeletion(msgspec.Struct, frozen=True):
    """The last try to export or delete a project, as it failed."""

    at: str  # ISO 8601
    why: str


class EvictedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project and when it will be deleted."""

    name: str
    wallet: str
    reason: str
    at: str  # ISO 8601
    with_export: bool  # whether it is deleted only once its owner has an archive
    has_begun: bool = False  # whether the deletion has begun, so that it can't be cancelled
    failed: FailedDeletion | None = None  # None where nothing was tried, or all went well


async def evict(
    books: OpenBooks, name: str, *, reason: str, days: float, with_export: bool = True
) -> EvictedProject:
    """Orders a project's deletion and tells its owner. Raises InvalidField."""
    now_ms = SystemClock().now_ms()
    at_ms = now_ms + round(days * _DAY_MS)
    async with books.db.transaction(durable=True) as tx:
        project = await project_named(tx, name)
        await evictions.order(tx, Eviction(project.id, reason, at_ms, with_export))
        if at_ms > now_ms:
            await _let_run(tx, project)
        await events.record(
            tx,
            wallet=project.wallet,
            kind=EventKind.PROJECT_EVICTED,
            data={"project_id": project.id, "reason": reason, "deleted_at": iso_utc(at_ms)},
            now_ms=now_ms,
        )
        await note_act(tx, books.operator, "evict", name, reason=reason)
    return _shown(project, Eviction(project.id, reason, at_ms, with_export), None)


async def keep(books: OpenBooks, name: str, *, reason: str = "") -> str:
    """Cancels a project's eviction; returns the project's name.

    Raises InvalidField if there is none, or if it has begun.
    """
    async with books.db.transaction(durable=True) as tx:
        project = await project_named(tx, name)
        if project.status is ProjectStatus.DELETING:
            raise InvalidField(name, "it is being deleted already")
        if not await evictions.cancel(tx, project.id):
            raise InvalidField(name, "it is not to be deleted")
        await _let_run(tx, project)
        await note_act(tx, books.operator, "cancel eviction", name, reason=reason)
    return project.unique_name


async def _let_run(tx: Transaction, project: Project) -> None:
    """Ends the suspension of a project that was due to be deleted, and is not any more."""
    if (project.blocked_reason or "").startswith(STOPPED):
        await projects.unblock_project(tx, project.id)


async def evicted(books: OpenBooks) -> list[EvictedProject]:
    """Returns the projects that are to be deleted, the next one first."""
    failures = await evictions.failures(books.db)
    found = [
        (each, await projects.by_id(books.db, each.project_id))
        for each in await evictions.ordered(books.db)
    ]
    return [
        _shown(project, each, failures.get(project.id))
        for each, project in found
        if project is not None
    ]


def _shown(project: Project, order: Eviction, failed: FailedTry | None) -> EvictedProject:
    return EvictedProject(
        name=project.unique_name,
        wallet=project.wallet,
        reason=order.reason,
        at=iso_utc(order.at_ms),
        with_export=order.with_export,
        has_begun=project.status is ProjectStatus.DELETING,
        failed=None if failed is None else FailedDeletion(iso_utc(failed.at_ms), failed.why),
    )

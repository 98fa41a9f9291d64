"""`moorage suspend`, `resume` and `suspended`, directly in the gateway's database."""

import msgspec

from moorage.clock import SystemClock
from moorage.deploy.keeping.stopped.suspension import block_project, block_wallet, unblock_wallet
from moorage.errors import InvalidField
from moorage.operate.acts import note_act
from moorage.operate.books import OpenBooks, open_books
from moorage.records.project import Project
from moorage.settings import Settings
from moorage.storage.apps import projects
from moorage.storage.apps.projects import Block
from moorage.storage.database import Transaction
from moorage.storage.money import accounts


class Subject(msgspec.Struct, frozen=True):
    """A project by its name, or all projects of a wallet by its address."""

    name: str
    wallet: str


async def run_suspend(settings: Settings, subject: Subject, reason: str) -> list[Project]:
    """Suspends it, with the reason for its owner; returns the projects. Raises InvalidField."""
    async with open_books(settings) as books:
        return await suspend(books, subject, reason)


async def suspend(books: OpenBooks, subject: Subject, reason: str) -> list[Project]:
    """As `run_suspend`, in open books."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        about = subject.name or subject.wallet
        await note_act(tx, books.operator, "suspend", about, reason=reason)
        if subject.wallet:
            return await block_wallet(tx, subject.wallet, reason, now_ms=now_ms)
        project = await project_named(tx, subject.name)
        await block_project(tx, project, reason, now_ms=now_ms)
        return [project]


async def run_unsuspend(settings: Settings, subject: Subject) -> list[Project]:
    """Lifts the suspension; returns the projects, whose credits now decide. Raises InvalidField."""
    async with open_books(settings) as books:
        return await unsuspend(books, subject)


async def unsuspend(books: OpenBooks, subject: Subject, *, reason: str = "") -> list[Project]:
    """As `run_unsuspend`, in open books."""
    async with books.db.transaction(durable=True) as tx:
        about = subject.name or subject.wallet
        await note_act(tx, books.operator, "resume", about, reason=reason)
        if subject.wallet:
            return await unblock_wallet(tx, subject.wallet)
        project = await project_named(tx, subject.name)
        if (await accounts.wallet_row(tx, project.wallet)).blocked_reason is not None:
            raise InvalidField(
                subject.name, f"its wallet is suspended: moorage resume --wallet {project.wallet}"
            )
        if project.blocked_reason is None:
            return []
        await projects.unblock_project(tx, project.id)
        return [project]


async def run_suspended(settings: Settings) -> list[Block]:
    """Returns what is suspended."""
    async with open_books(settings) as books:
        return await projects.all_blocks(books.db)


async def project_named(tx: Transaction, name: str) -> Project:
    """Returns the project of this name. Raises InvalidField if there is none."""
    project = await projects.by_name(tx, name.lower())
    if project is None:
        raise InvalidField(name, "no project has this name")
    return project

"""Who the customers are and what they run: balances, burn, when credits run out, and use."""

from collections import defaultdict

import msgspec

from moorage.clock import SystemClock, boot_id
from moorage.ledger.billed_time import BilledTime
from moorage.ledger.burn import HOUR_MS, owed, runs_out_at
from moorage.money import MicroUsd
from moorage.operate.books import OpenBooks, open_books
from moorage.records.project import SHARING_STATUSES, ProjectStatus
from moorage.settings import Settings
from moorage.storage.money import billing
from moorage.storage.money.billing import RunInterval
from moorage.storage.operation import overview
from moorage.storage.operation.overview import ProjectRow, WalletRow


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet and where it stands; amounts in micro-USD."""

    wallet: str
    balance: MicroUsd  # less what has burned and is not booked yet
    a_month: MicroUsd  # what a month of all that runs costs
    runs_out_at_ms: int | None  # None while nothing burns
    paid: MicroUsd  # all its payments, less refunds
    given: MicroUsd  # by hand
    active: int  # projects that run, or are being deployed
    suspended: int
    projects: int
    since_ms: int
    blocked_reason: str | None


class ProjectUse(msgspec.Struct, frozen=True, kw_only=True):
    """A project of any wallet, and what it used of late."""

    project: ProjectRow
    runs: bool  # whether it is billed now


async def run_wallets(settings: Settings) -> list[Customer]:
    """Returns every wallet that has credits or projects or ever had, the largest burn first."""
    async with open_books(settings) as books:
        return await wallets(books)


async def wallets(books: OpenBooks) -> list[Customer]:
    """As `run_wallets`, in open books."""
    async with books.db.snapshot() as snapshot:
        billed = BilledTime(clock=SystemClock(), boot_id=boot_id(), gateway="")
        await billed.resume(books.db)
        now_ms = billed.now_ms()
        paid, given = (
            await overview.paid_by_wallet(snapshot),
            await overview.given_by_wallet(snapshot),
        )
        burning: defaultdict[str, list[RunInterval]] = defaultdict(list)
        for interval in await billing.every_open(snapshot):
            burning[interval.wallet].append(interval)
        has: defaultdict[str, list[ProjectRow]] = defaultdict(list)
        for project in await overview.every_project(snapshot):
            has[project.wallet].append(project)
        found = []
        for row in await overview.every_wallet(snapshot):
            runs_out = runs_out_at(row.balance, burning[row.address], now_ms=now_ms)
            found.append(
                _customer(
                    row,
                    burning[row.address],
                    has[row.address],
                    now_ms=now_ms,
                    runs_out_at_ms=None if runs_out is None else billed.wall_ms(runs_out),
                    paid=paid.get(row.address, 0),
                    given=given.get(row.address, 0),
                )
            )
    return sorted(found, key=lambda each: (-each.a_month, -each.balance, each.wallet))


async def run_projects(settings: Settings, *, hours: int) -> list[ProjectUse]:
    """Returns every project that is not deleted, those that used most processor time first."""
    async with open_books(settings) as books:
        since_ms = SystemClock().now_ms() - hours * HOUR_MS
        return await projects(books, since_ms=since_ms)


async def projects(books: OpenBooks, *, since_ms: int) -> list[ProjectUse]:
    """As `run_projects`, in open books, with what was used from a time on."""
    async with books.db.snapshot() as snapshot:
        running = {each.project_id for each in await billing.every_open(snapshot)}
        rows = await overview.every_project(snapshot, used_since_ms=since_ms)
    used = [ProjectUse(project=row, runs=row.id in running) for row in rows]
    return sorted(used, key=lambda each: (-each.project.cpu_ms, each.project.name))


def _customer(
    row: WalletRow,
    burning: list[RunInterval],
    has: list[ProjectRow],
    *,
    now_ms: int,
    runs_out_at_ms: int | None,
    paid: int,
    given: int,
) -> Customer:
    return Customer(
        wallet=row.address,
        balance=MicroUsd(row.balance - owed(burning, at_ms=now_ms)),
        a_month=MicroUsd(sum(each.monthly_price_micro_usd for each in burning)),
        runs_out_at_ms=runs_out_at_ms,
        paid=MicroUsd(paid),
        given=MicroUsd(given),
        active=sum(each.status in SHARING_STATUSES for each in has),
        suspended=sum(each.status == ProjectStatus.SUSPENDED for each in has),
        projects=len(has),
        since_ms=row.since_ms,
        blocked_reason=row.blocked_reason,
    )

"""Queries over wallets as an operator looks at them: a page at a time, the largest burn first."""

from typing import NamedTuple

from sqlalchemy import bindparam, func, or_, select

from moorage.money import MicroUsd
from moorage.records.project import ProjectStatus
from moorage.storage.database import Source, Statement
from moorage.storage.schema import projects, run_intervals, wallets


class ListedWallet(NamedTuple):
    """A wallet, what a month of all that runs costs it, and how many projects it has."""

    address: str
    balance: MicroUsd  # as booked: what has burned since is not taken off
    since_ms: int
    blocked_reason: str | None
    a_month: MicroUsd
    projects: int
    suspended: int


_burning = (
    select(
        projects.c.wallet.label("wallet"),
        func.sum(projects.c.monthly_price_micro_usd).label("a_month"),
    )
    .join_from(run_intervals, projects, projects.c.id == run_intervals.c.project_id)
    .where(run_intervals.c.ended_at_ms.is_(None))
    .group_by(projects.c.wallet)
    .subquery()
)
_own = projects.alias("own")
_living = (_own.c.wallet == wallets.c.address, _own.c.deleted_at_ms.is_(None))
_projects = select(func.count()).select_from(_own).where(*_living).scalar_subquery()
_suspended = (
    select(func.count())
    .select_from(_own)
    .where(*_living, _own.c.status == ProjectStatus.SUSPENDED)
    .scalar_subquery()
)
_a_month = func.coalesce(_burning.c.a_month, 0)
_LIST = Statement(
    select(
        wallets.c.address,
        wallets.c.balance_micro_usd,
        wallets.c.created_at_ms,
        wallets.c.blocked_reason,
        _a_month,
        _projects,
        _suspended,
    )
    .select_from(wallets.outerjoin(_burning, _burning.c.wallet == wallets.c.address))
    .where(or_(bindparam("of_wallet") == "", wallets.c.address == bindparam("of_wallet")))
    .order_by(_a_month.desc(), wallets.c.balance_micro_usd.desc(), wallets.c.address)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_COUNT = Statement(select(func.count()).select_from(wallets))


async def page(
    source: Source, *, limit: int, offset: int = 0, wallet: str = ""
) -> list[ListedWallet]:
    """Returns wallets, those that burn most first; with `wallet` that one alone."""
    rows = await source.all(_LIST, limit=limit, offset=offset, of_wallet=wallet)
    return [ListedWallet(*row[:4], *(int(each) for each in row[4:])) for row in rows]


async def count(source: Source) -> int:
    """Returns how many wallets there are."""
    row = await source.one(_COUNT)
    return int(row[0]) if row else 0

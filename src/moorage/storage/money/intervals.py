"""Queries over run intervals: the periods that are billed."""

from collections.abc import Collection
from typing import NamedTuple

import msgspec
from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from moorage.money import MicroUsd
from moorage.records.project import SHARING_STATUSES
from moorage.storage.database import Source, Statement, Transaction
from moorage.storage.money.accounts import purse_in, purse_of
from moorage.storage.money.purses import unshared
from moorage.storage.schema import projects, purses, run_intervals


class RunInterval(msgspec.Struct, frozen=True):
    """A period of serving that has not ended, with the wallet that pays and the price."""

    id: str
    project_id: str
    wallet: str
    monthly_price_micro_usd: MicroUsd
    started_at_ms: int
    charged_until_ms: int
    charged_micro_usd: MicroUsd
    purse: str | None = None
    """The project's id, if it lives from a purse of its own."""

    @property
    def holder(self) -> str:
        """Whose credits pay it: the wallet's, or the project's own."""
        return self.wallet if self.purse is None else purse_of(self.purse)


class Commitments(NamedTuple):
    """What a holder's credits pay for."""

    sharing: list[MicroUsd]
    """The monthly price of each project that shares them."""
    burning: list[RunInterval]
    """The open interval of each project that is being billed."""


class Charge(NamedTuple):
    """An amount charged for an interval, which is then paid until `until_ms`."""

    interval: RunInterval
    until_ms: int
    amount: MicroUsd


_OPEN_COLUMNS = [
    run_intervals.c.id,
    run_intervals.c.project_id,
    projects.c.wallet,
    projects.c.monthly_price_micro_usd,
    run_intervals.c.started_at_ms,
    run_intervals.c.charged_until_ms,
    run_intervals.c.charged_micro_usd,
    purses.c.project_id,
]
_joined = (
    select(*_OPEN_COLUMNS)
    .join_from(run_intervals, projects, projects.c.id == run_intervals.c.project_id)
    .outerjoin(purses, unshared(projects.c.id))
)
_from_wallet = purses.c.project_id.is_(None)
_open = run_intervals.c.ended_at_ms.is_(None)
_DUE = Statement(
    _joined.where(_open, run_intervals.c.charged_until_ms <= bindparam("before_ms"))
    .order_by(run_intervals.c.charged_until_ms, run_intervals.c.project_id)
    .limit(bindparam("limit"))
)
_OPEN_OF = Statement(_joined.where(_open, run_intervals.c.project_id == bindparam("project_id")))
_OPEN_OF_WALLET = Statement(
    _joined.where(_open, projects.c.wallet == bindparam("wallet"), _from_wallet)
)
_shares = projects.c.status.in_([status.value for status in SHARING_STATUSES])
_commitments = (
    select(projects.c.monthly_price_micro_usd, _shares, *_OPEN_COLUMNS)
    .select_from(projects)
    .outerjoin(run_intervals, and_(run_intervals.c.project_id == projects.c.id, _open))
    .outerjoin(purses, unshared(projects.c.id))
    .where(or_(_shares, run_intervals.c.id.is_not(None)))
)
_OF_WALLET = Statement(_commitments.where(projects.c.wallet == bindparam("wallet"), _from_wallet))
_OF_PURSE = Statement(_commitments.where(projects.c.id == bindparam("purse")))
_EVERY_OPEN = Statement(_joined.where(_open))
_a_month = (
    select(func.coalesce(func.sum(projects.c.monthly_price_micro_usd), 0))
    .join_from(run_intervals, projects)
    .outerjoin(purses, unshared(projects.c.id))
    .where(_open)
)
_A_MONTH_OF_WALLET = Statement(
    _a_month.where(projects.c.wallet == bindparam("wallet"), _from_wallet)
)
_A_MONTH_OF_PURSE = Statement(_a_month.where(projects.c.id == bindparam("purse")))
_SERVING_OPEN = Statement(
    select(run_intervals.c.id, projects.c.serving_deployment_id)
    .join_from(run_intervals, projects)
    .where(_open)
)
_DELAY = Statement(
    update(run_intervals)
    .where(run_intervals.c.id == bindparam("interval_id"), _open)
    .values(
        started_at_ms=run_intervals.c.started_at_ms + bindparam("by_ms"),
        charged_until_ms=run_intervals.c.charged_until_ms + bindparam("by_ms"),
    )
)
_OPEN = Statement(
    insert(run_intervals).values(
        id=bindparam("id"),
        project_id=bindparam("project_id"),
        started_at_ms=bindparam("at_ms"),
        charged_until_ms=bindparam("at_ms"),
        charged_micro_usd=0,
        monthly_price_micro_usd=select(projects.c.monthly_price_micro_usd)
        .where(projects.c.id == bindparam("project_id"))
        .scalar_subquery(),
    )
)
_CHARGE = Statement(
    update(run_intervals)
    .where(
        run_intervals.c.id == bindparam("interval_id"),
        run_intervals.c.charged_until_ms == bindparam("seen_until_ms"),
        _open,
    )
    .values(
        charged_until_ms=bindparam("until_ms"),
        charged_micro_usd=run_intervals.c.charged_micro_usd + bindparam("amount"),
    )
)
_CLOSE = Statement(
    update(run_intervals)
    .where(run_intervals.c.id == bindparam("interval_id"), _open)
    .values(ended_at_ms=bindparam("at_ms"))
)


async def due(source: Source, *, charged_before_ms: int, limit: int) -> list[RunInterval]:
    """Returns at most `limit` open intervals charged up to this time or earlier, earliest first."""
    rows = await source.all(_DUE, before_ms=charged_before_ms, limit=limit)
    return [RunInterval(*row) for row in rows]


async def open_of(source: Source, project_id: str) -> RunInterval | None:
    """Returns the project's open interval; None when it is not being billed."""
    row = await source.one(_OPEN_OF, project_id=project_id)
    return RunInterval(*row) if row else None


async def open_of_wallet(source: Source, wallet: str) -> list[RunInterval]:
    """Returns the open intervals of all projects that live from a wallet's credits."""
    return [RunInterval(*row) for row in await source.all(_OPEN_OF_WALLET, wallet=wallet)]


async def open_of_holder(source: Source, holder: str) -> list[RunInterval]:
    """Returns the open intervals that a wallet's credits pay, or a project's purse."""
    project_id = purse_in(holder)
    if project_id is None:
        return await open_of_wallet(source, holder)
    interval = await open_of(source, project_id)
    return [] if interval is None else [interval]


async def of_holder(source: Source, holder: str) -> Commitments:
    """Returns what a holder's projects cost, whether they are billed yet or not."""
    project_id = purse_in(holder)
    if project_id is None:
        rows = await source.all(_OF_WALLET, wallet=holder)
    else:
        rows = await source.all(_OF_PURSE, purse=project_id)
    return Commitments(
        sharing=[MicroUsd(price) for price, shares, *_ in rows if shares],
        burning=[RunInterval(*interval) for _, _, *interval in rows if interval[0] is not None],
    )


async def every_open(source: Source) -> list[RunInterval]:
    """Returns the open intervals of all wallets."""
    return [RunInterval(*row) for row in await source.all(_EVERY_OPEN)]


async def a_month_of_holder(tx: Transaction, holder: str) -> MicroUsd:
    """Returns the monthly price of all projects that burn a holder's credits."""
    project_id = purse_in(holder)
    if project_id is None:
        row = await tx.one(_A_MONTH_OF_WALLET, wallet=holder)
    else:
        row = await tx.one(_A_MONTH_OF_PURSE, purse=project_id)
    return MicroUsd(row[0] if row else 0)


async def open_interval(tx: Transaction, *, interval_id: str, project_id: str, at_ms: int) -> None:
    """Starts billing a project. Raises UniqueViolation when it is being billed already."""
    await tx.execute(_OPEN, id=interval_id, project_id=project_id, at_ms=at_ms)


async def charge(tx: Transaction, charge: Charge) -> bool:
    """Records a charge; returns False when another charge was recorded meanwhile."""
    touched = await tx.execute(
        _CHARGE,
        interval_id=charge.interval.id,
        seen_until_ms=charge.interval.charged_until_ms,
        until_ms=charge.until_ms,
        amount=charge.amount,
    )
    return touched == 1


async def delay(tx: Transaction, *, except_serving: Collection[str], by_ms: int) -> None:
    """Moves open intervals later by `by_ms`, except where one of these deployments serves."""
    stood_still = [
        interval_id
        for interval_id, serving in await tx.all(_SERVING_OPEN)
        if serving not in except_serving
    ]
    await tx.execute_many(_DELAY, [{"interval_id": each, "by_ms": by_ms} for each in stood_still])


async def close(tx: Transaction, interval_id: str, *, at_ms: int) -> bool:
    """Ends the interval; returns False when it had ended before."""
    return await tx.execute(_CLOSE, interval_id=interval_id, at_ms=at_ms) == 1

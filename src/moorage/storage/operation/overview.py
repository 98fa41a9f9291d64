"""Queries over projects, wallets and days, for the pages and reports of an operator."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, and_, bindparam, case, func, or_, select

from moorage.money import MicroUsd
from moorage.records.payments import PaymentStatus, RefundStatus
from moorage.records.project import ProjectStatus
from moorage.records.usage import BUCKETS, Latency, latency_of
from moorage.storage.database import Source, Statement, is_listed, listed, pattern_of
from moorage.storage.schema import (
    grants,
    payments,
    projects,
    refunds,
    run_intervals,
    usage,
    wallets,
)


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
        func.sum(run_intervals.c.monthly_price_micro_usd).label("a_month"),
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
_WALLET_LIST_COUNT = Statement(select(func.count()).select_from(wallets))


async def wallet_page(
    source: Source, *, limit: int, offset: int = 0, wallet: str = ""
) -> list[ListedWallet]:
    """Returns wallets, those that burn most first; with `wallet` that one alone."""
    rows = await source.all(_LIST, limit=limit, offset=offset, of_wallet=wallet)
    return [ListedWallet(*row[:4], *(int(each) for each in row[4:])) for row in rows]


async def count_wallets(source: Source) -> int:
    """Returns how many wallets there are."""
    return await source.number(_WALLET_LIST_COUNT)


"""How many projects are asked for at once."""

_OF_PROJECTS = Statement(
    select(
        usage.c.project_id,
        func.max(usage.c.slowest_ms),
        *(func.sum(usage.c[bucket]) for bucket in BUCKETS),
    )
    .where(is_listed(usage.c.project_id), usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.project_id)
)


async def latencies_of(
    source: Source, ids: Sequence[str], *, since_ms: int
) -> dict[str, Latency | None]:
    """Returns the latency of MAX_IDS projects at most since an hour; None without a request."""
    rows = await source.all(_OF_PROJECTS, since_ms=since_ms, **listed(ids))
    return {
        project_id: latency_of([int(count) for count in counts], slowest_ms=slowest_ms)
        for project_id, slowest_ms, *counts in rows
    }


DAY_MS = 86_400_000


class HourOfAll(NamedTuple):
    """What all projects together used in the hour that began at `hour_ms`."""

    hour_ms: int
    cpu_ms: int
    memory_byte_seconds: int
    status_2xx: int
    status_3xx: int
    status_4xx: int
    status_5xx: int


_day = payments.c.claimed_at_ms // DAY_MS
_PAID_BY_DAY = Statement(
    select(_day, func.sum(payments.c.credited_micro_usd))
    .where(
        payments.c.status == PaymentStatus.CREDITED,
        payments.c.claimed_at_ms >= bindparam("since_ms"),
    )
    .group_by(_day)
)
_HOURS = Statement(
    select(usage.c.hour_ms, *(func.sum(usage.c[name]) for name in HourOfAll._fields[1:]))
    .where(usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.hour_ms)
    .order_by(usage.c.hour_ms)
)


async def paid_by_day(source: Source, *, since_ms: int) -> dict[int, MicroUsd]:
    """Returns what was credited for payments by the begin of the day (UTC) in which it was."""
    rows = await source.all(_PAID_BY_DAY, since_ms=since_ms)
    return {int(day) * DAY_MS: MicroUsd(int(total)) for day, total in rows}


async def hours_of_all(source: Source, *, since_ms: int) -> list[HourOfAll]:
    """Returns the hours that began from `since_ms` on, in which anything was used."""
    rows = await source.all(_HOURS, since_ms=since_ms)
    return [HourOfAll(*(int(value) for value in row)) for row in rows]


class WalletRow(NamedTuple):
    """A wallet that ever paid, or was paid for."""

    address: str
    balance: MicroUsd
    since_ms: int
    blocked_reason: str | None  # why the operator has it suspended


_WALLETS = Statement(
    select(
        wallets.c.address,
        wallets.c.balance_micro_usd,
        wallets.c.created_at_ms,
        wallets.c.blocked_reason,
    )
)
_PAID = Statement(
    select(payments.c.payer, func.sum(payments.c.credited_micro_usd))
    .where(payments.c.status == PaymentStatus.CREDITED)
    .group_by(payments.c.payer)
)
_REFUNDED = Statement(
    select(refunds.c.recipient, func.sum(refunds.c.debited_micro_usd))
    .join(
        payments,
        and_(
            payments.c.chain_id == refunds.c.chain_id,
            payments.c.tx_hash == refunds.c.tx_hash,
            payments.c.log_index == refunds.c.log_index,
        ),
    )
    .where(refunds.c.status != RefundStatus.FAILED, payments.c.status == PaymentStatus.CREDITED)
    .group_by(refunds.c.recipient)
)
_GIVEN = Statement(
    select(grants.c.wallet, func.sum(grants.c.amount_micro_usd))
    .where(grants.c.undone_at_ms.is_(None))
    .group_by(grants.c.wallet)
)
_WITH_PROJECTS = Statement(
    select(projects.c.wallet).where(projects.c.deleted_at_ms.is_(None)).distinct()
)


async def wallets_with_projects(source: Source) -> set[str]:
    """Returns every wallet that has a project."""
    return {row[0] for row in await source.all(_WITH_PROJECTS)}


async def every_wallet(source: Source) -> list[WalletRow]:
    """Returns every wallet."""
    return await source.records(WalletRow, _WALLETS)


async def paid_by_wallet(source: Source) -> dict[str, int]:
    """Returns what each wallet's credited payments brought, less refunds, in micro-USD."""
    back: dict[str, int] = dict(await source.all(_REFUNDED))
    return {wallet: total - back.get(wallet, 0) for wallet, total in await source.all(_PAID)}


async def given_by_wallet(source: Source) -> dict[str, int]:
    """Returns what each wallet was given by hand, in micro-USD."""
    return dict(await source.all(_GIVEN))


_NO_HOUR = 2**62  # after every hour


class ProjectRow(NamedTuple):
    """A project that is not deleted, and what it used since a time."""

    id: str
    name: str
    wallet: str
    status: str
    monthly_price: MicroUsd
    created_at_ms: int
    blocked_reason: str | None
    asleep_since_ms: int | None
    requests: int
    cpu_ms: int
    memory_peak_bytes: int
    bytes_out: int


class ProjectOrder(StrEnum):
    """What the projects that have most of it come first by."""

    CPU = "cpu"
    MEMORY = "memory"
    REQUESTS = "requests"
    OUT = "out"  # bytes sent
    ANSWER = "answer"  # time within which 95 of 100 requests were answered
    PRICE = "price"
    NEWEST = "newest"


_used = (
    select(
        usage.c.project_id,
        func.sum(usage.c.requests).label("requests"),
        func.sum(usage.c.cpu_ms).label("cpu_ms"),
        func.max(usage.c.memory_peak_bytes).label("memory_peak_bytes"),
        func.sum(usage.c.bytes_out).label("bytes_out"),
    )
    .where(usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.project_id)
    .subquery()
)
_requests, _cpu_ms, _memory, _out = (
    func.coalesce(_used.c[name], 0)
    for name in ("requests", "cpu_ms", "memory_peak_bytes", "bytes_out")
)
_there = projects.c.deleted_at_ms.is_(None)
_rows = (
    select(
        projects.c.id,
        projects.c.unique_name,
        projects.c.wallet,
        projects.c.status,
        projects.c.monthly_price_micro_usd,
        projects.c.created_at_ms,
        projects.c.blocked_reason,
        projects.c.asleep_since_ms,
        _requests,
        _cpu_ms,
        _memory,
        _out,
    )
    .select_from(projects.outerjoin(_used, _used.c.project_id == projects.c.id))
    .where(_there)
)
_EVERY = Statement(_rows)
_has_text = or_(
    bindparam("pattern", type_=Text) == "%%",
    projects.c.unique_name.like(bindparam("pattern", type_=Text), escape="\\"),
    projects.c.wallet == bindparam("of_wallet", type_=Text),
)
_COLUMNS: dict[ProjectOrder, ColumnElement[Any]] = {
    ProjectOrder.CPU: _cpu_ms,
    ProjectOrder.MEMORY: _memory,
    ProjectOrder.REQUESTS: _requests,
    ProjectOrder.OUT: _out,
    ProjectOrder.PRICE: projects.c.monthly_price_micro_usd,
    ProjectOrder.NEWEST: projects.c.created_at_ms,
}


_counts = [func.sum(usage.c[bucket]) for bucket in BUCKETS]
_all = sum(_counts[1:], _counts[0])
_answered = (
    select(
        usage.c.project_id,
        case(
            (_all == 0, -1),
            *(
                (sum(_counts[1 : number + 1], _counts[0]) * 100 >= _all * 95, number)
                for number in range(len(BUCKETS))
            ),
        ).label("bucket"),  # of `latency` that holds the 95th of 100 requests
        func.max(usage.c.slowest_ms).label("slowest_ms"),
    )
    .where(usage.c.hour_ms >= bindparam("since_ms"))
    .group_by(usage.c.project_id)
    .subquery()
)


def _page(rows: Select[Any], *first: ColumnElement[Any]) -> Statement:
    return Statement(
        rows.where(_has_text)
        .order_by(*(each.desc() for each in first), projects.c.unique_name)
        .limit(bindparam("limit"))
        .offset(bindparam("offset"))
    )


_PAGES = {order: _page(_rows, first) for order, first in _COLUMNS.items()} | {
    ProjectOrder.ANSWER: _page(
        _rows.outerjoin(_answered, _answered.c.project_id == projects.c.id),
        func.coalesce(_answered.c.bucket, -1),
        func.coalesce(_answered.c.slowest_ms, 0),
    )
}
_COUNT = Statement(select(func.count()).select_from(projects).where(_there, _has_text))


async def every_project(source: Source, *, used_since_ms: int = _NO_HOUR) -> list[ProjectRow]:
    """Returns every project that is not deleted, with what it used since the hour of a time."""
    return await source.records(ProjectRow, _EVERY, since_ms=used_since_ms)


async def used_projects(
    source: Source, order: ProjectOrder, *, since_ms: int, text: str, limit: int, offset: int
) -> list[ProjectRow]:
    """Returns projects that have a text in their name, or a wallet's; use since an hour."""
    return await source.records(
        ProjectRow,
        _PAGES[order],
        since_ms=since_ms,
        limit=limit,
        offset=offset,
        pattern=pattern_of(text),
        of_wallet=text,
    )


async def count_used_projects(source: Source, *, text: str) -> int:
    """Returns how many projects a text finds."""
    return await source.number(_COUNT, pattern=pattern_of(text), of_wallet=text)

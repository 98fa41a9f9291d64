"""Queries over what is billed: run intervals, builds, runs, and the billed time of gateways."""

from collections.abc import Collection
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from moorage.money import NOTHING, MicroUsd
from moorage.records.project import SHARING_STATUSES
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    Value,
    columns_of,
    given,
    insert_of,
    upsert_of,
)
from moorage.storage.money.accounts import HolderQuery, purse_in, unadopted
from moorage.storage.schema import meters, projects, purses, run_intervals
from moorage.storage.work_schema import work


class WorkKind(StrEnum):
    """What is billed by its time, and the kind of its postings."""

    BUILD = "build"
    RUN = "run"


class Work(msgspec.Struct, frozen=True):
    """An attempt to build a deployment, or a run: its id is the run's.

    `billed_ms` of `ran_ms` were beyond the allowance, which builds alone have.
    """

    id: str
    wallet: str
    project_id: str
    deployment_id: str
    monthly_price_micro_usd: MicroUsd
    started_at_ms: int
    ran_ms: int = 0
    billed_ms: int = 0
    charged_micro_usd: MicroUsd = NOTHING
    kind: WorkKind = WorkKind.BUILD
    acted_by: str = ""


_ADD = insert_of(work, Work)
_BOOK = Statement(
    update(work)
    .where(*given(work, id="work_id"))
    .values(
        ran_ms=bindparam("ran"), billed_ms=bindparam("billed"), charged_micro_usd=bindparam("taken")
    )
)
_ONE = Statement(select(*columns_of(work, Work)).where(*given(work, id="work_id")))
_LAST_OF = Statement(
    select(*columns_of(work, Work))
    .where(*given(work, "wallet", "deployment_id"), work.c.kind == WorkKind.BUILD.value)
    .order_by(work.c.started_at_ms.desc())
    .limit(1)
)
_free = func.coalesce(func.sum(work.c.ran_ms - work.c.billed_ms), 0)
_FREE = HolderQuery(
    Statement(
        select(_free)
        .outerjoin(purses, unadopted(work.c.project_id))
        .where(*given(work, "wallet"), purses.c.project_id.is_(None))
    ),
    Statement(
        select(_free)
        .join(purses, unadopted(work.c.project_id))
        .where(
            purses.c.project_id == bindparam("purse"),
            work.c.wallet == purses.c.wallet,  # which has an index
        )
    ),
)


async def add_work(tx: Transaction, begun: Work) -> None:
    """Records that work begins."""
    await tx.execute(_ADD, **msgspec.structs.asdict(begun))


async def book_work(tx: Transaction, done: Work) -> None:
    """Updates how long work has taken and what was charged; does nothing without its row."""
    await tx.execute(
        _BOOK, work_id=done.id, ran=done.ran_ms, billed=done.billed_ms, taken=done.charged_micro_usd
    )


async def work_of(source: Source, work_id: str) -> Work | None:
    """Returns what is stored of work, if it is."""
    return await source.record(Work, _ONE, work_id=work_id)


async def last_build_of(source: Source, deployment_id: str, *, wallet: str) -> Work | None:
    """Returns the last build of a deployment of this wallet, if it was ever built."""
    return await source.record(Work, _LAST_OF, deployment_id=deployment_id, wallet=wallet)


async def free_ms(source: Source, holder: str) -> int:
    """Returns how much of the allowance builds have used, in milliseconds.

    Those of a project with a purse of its own count for that, not for its wallet.
    """
    return await _FREE.number(source, holder)


class Reading(msgspec.Struct, frozen=True):
    """Billed time, and the monotonic time and boot of the machine when it was read."""

    billed_ms: int
    monotonic_ms: int
    boot_id: str


_LAST = Statement(
    select(*columns_of(meters, Reading))
    .order_by(
        case((meters.c.gateway == bindparam("gateway"), 0), else_=1), meters.c.billed_ms.desc()
    )
    .limit(1)
)
_NOTE = upsert_of(meters)


async def last_reading(source: Source, gateway: str) -> Reading | None:
    """Returns a gateway's last reading, or, if it has none, the furthest of any gateway."""
    return await source.record(Reading, _LAST, gateway=gateway)


async def note_reading(tx: Transaction, gateway: str, reading: Reading) -> None:
    """Replaces a gateway's last reading."""
    await tx.execute(_NOTE, gateway=gateway, **msgspec.structs.asdict(reading))


class RunInterval(msgspec.Struct, frozen=True):
    """A period in one state that has not ended, with the wallet that pays and the price."""

    id: str
    project_id: str
    wallet: str
    monthly_price_micro_usd: MicroUsd
    started_at_ms: int
    charged_until_ms: int
    charged_micro_usd: MicroUsd
    purse: MicroUsd = NOTHING
    """What the project's purse has, which it burns first."""
    shared: bool = True
    """Whether it then burns its wallet's credits."""
    limit: MicroUsd | None = None
    """The most that the project burns in a calendar month."""
    asleep: bool = False


class Ran(NamedTuple):
    """What was booked of a run interval, whether it has ended or not."""

    started_at_ms: int
    ended_at_ms: int | None
    asleep: bool
    monthly_price: MicroUsd
    charged: MicroUsd


class Commitments(NamedTuple):
    """What a holder's credits pay for."""

    sharing: list[MicroUsd]
    """The monthly price of each project that shares them, in its present state."""
    burning: list[RunInterval]
    """The open interval of each project that is being billed."""


class Charge(NamedTuple):
    """An amount charged for an interval, which is then paid until `until_ms`."""

    interval: RunInterval
    until_ms: int
    amount: MicroUsd


_is_asleep = projects.c.asleep_since_ms.is_not(None)
_price_now = case(
    (_is_asleep, projects.c.asleep_price_micro_usd), else_=projects.c.monthly_price_micro_usd
)
_shares_wallet = func.coalesce(purses.c.shared, true())
_of_project = purses.c.project_id == projects.c.id
_OPEN_COLUMNS = [
    run_intervals.c.id,
    run_intervals.c.project_id,
    projects.c.wallet,
    run_intervals.c.monthly_price_micro_usd,
    run_intervals.c.started_at_ms,
    run_intervals.c.charged_until_ms,
    run_intervals.c.charged_micro_usd,
    func.coalesce(purses.c.balance_micro_usd, 0),
    _shares_wallet,
    purses.c.limit_month_micro_usd,
    run_intervals.c.asleep,
]
_joined = (
    select(*_OPEN_COLUMNS)
    .join_from(run_intervals, projects, projects.c.id == run_intervals.c.project_id)
    .outerjoin(purses, _of_project)
)
_open = run_intervals.c.ended_at_ms.is_(None)
_DUE = Statement(
    _joined.where(_open, run_intervals.c.charged_until_ms <= bindparam("before_ms"))
    .order_by(run_intervals.c.charged_until_ms, run_intervals.c.project_id)
    .limit(bindparam("limit"))
)
_OPEN_OF = Statement(_joined.where(_open, *given(run_intervals, "project_id")))
_OUTDATED_OF = Statement(
    _joined.where(
        _open,
        *given(run_intervals, "project_id"),
        or_(
            run_intervals.c.asleep != _is_asleep,
            run_intervals.c.monthly_price_micro_usd != _price_now,
        ),
    )
)
_OPEN_OF_WALLET = Statement(_joined.where(_open, *given(projects, "wallet"), _shares_wallet))
_shares = projects.c.status.in_([status.value for status in SHARING_STATUSES])
_commitments = (
    select(_price_now, _shares, *_OPEN_COLUMNS)
    .select_from(projects)
    .outerjoin(run_intervals, and_(run_intervals.c.project_id == projects.c.id, _open))
    .outerjoin(purses, _of_project)
    .where(or_(_shares, run_intervals.c.id.is_not(None)))
)
_COMMITTED = HolderQuery(
    Statement(_commitments.where(*given(projects, "wallet"), _shares_wallet)),
    Statement(_commitments.where(*given(projects, id="purse"))),
)
_EVERY_OPEN = Statement(_joined.where(_open))
_a_month = (
    select(func.coalesce(func.sum(run_intervals.c.monthly_price_micro_usd), 0))
    .join_from(run_intervals, projects)
    .outerjoin(purses, _of_project)
    .where(_open)
)
_A_MONTH = HolderQuery(
    Statement(_a_month.where(*given(projects, "wallet"), _shares_wallet)),
    Statement(_a_month.where(*given(projects, id="purse"))),
)
_SERVING_OPEN = Statement(
    select(run_intervals.c.id, projects.c.serving_deployment_id)
    .join_from(run_intervals, projects)
    .where(_open)
)
_DELAY = Statement(
    update(run_intervals)
    .where(*given(run_intervals, id="interval_id"), _open)
    .values(
        started_at_ms=run_intervals.c.started_at_ms + bindparam("by_ms"),
        charged_until_ms=run_intervals.c.charged_until_ms + bindparam("by_ms"),
    )
)


def _of_the_project(column: ColumnElement[Any]) -> ScalarSelect[Any]:
    return select(column).where(*given(projects, id="project_id")).scalar_subquery()


_OPEN = Statement(
    insert(run_intervals).values(
        id=bindparam("id"),
        project_id=bindparam("project_id"),
        started_at_ms=bindparam("at_ms"),
        charged_until_ms=bindparam("at_ms"),
        charged_micro_usd=0,
        monthly_price_micro_usd=_of_the_project(_price_now),
        asleep=_of_the_project(_is_asleep),
    )
)
_CHARGE = Statement(
    update(run_intervals)
    .where(*given(run_intervals, id="interval_id", charged_until_ms="seen_until_ms"), _open)
    .values(
        charged_until_ms=bindparam("until_ms"),
        charged_micro_usd=run_intervals.c.charged_micro_usd + bindparam("amount"),
    )
)
_CLOSE = Statement(
    update(run_intervals)
    .where(*given(run_intervals, id="interval_id"), _open)
    .values(ended_at_ms=bindparam("at_ms"), at_limit=bindparam("is_at_limit"))
)
_RAN = Statement(
    select(
        run_intervals.c.started_at_ms,
        run_intervals.c.ended_at_ms,
        run_intervals.c.asleep,
        run_intervals.c.monthly_price_micro_usd,
        run_intervals.c.charged_micro_usd,
    ).where(
        *given(run_intervals, "project_id"),
        or_(_open, run_intervals.c.charged_until_ms > bindparam("start_ms")),
        run_intervals.c.started_at_ms < bindparam("end_ms"),
    )
)
_WORKED = Statement(
    select(func.coalesce(func.sum(work.c.charged_micro_usd), 0)).where(
        work.c.project_id == bindparam("project_id"),
        work.c.wallet
        == select(projects.c.wallet)
        .where(*given(projects, id="project_id"))
        .scalar_subquery(),  # which has an index
        work.c.started_at_ms >= bindparam("start_ms"),
        work.c.started_at_ms < bindparam("end_ms"),
    )
)


async def due(source: Source, *, charged_before_ms: int, limit: int) -> list[RunInterval]:
    """Returns at most `limit` open intervals charged up to this time or earlier, earliest first."""
    return await source.records(RunInterval, _DUE, before_ms=charged_before_ms, limit=limit)


async def open_of(source: Source, project_id: str) -> RunInterval | None:
    """Returns the project's open interval; None when it is not being billed."""
    return await source.record(RunInterval, _OPEN_OF, project_id=project_id)


async def outdated_of(source: Source, project_id: str) -> RunInterval | None:
    """Returns the project's open interval if its row has another state or price by now."""
    return await source.record(RunInterval, _OUTDATED_OF, project_id=project_id)


async def open_of_wallet(source: Source, wallet: str) -> list[RunInterval]:
    """Returns the open intervals of all projects that may burn a wallet's credits."""
    return await source.records(RunInterval, _OPEN_OF_WALLET, wallet=wallet)


async def open_of_holder(source: Source, holder: str) -> list[RunInterval]:
    """Returns the open intervals that burn a wallet's credits, after their purses, or a purse."""
    project_id = purse_in(holder)
    if project_id is None:
        return await open_of_wallet(source, holder)
    interval = await open_of(source, project_id)
    return [] if interval is None else [msgspec.structs.replace(interval, purse=NOTHING)]


async def burned_around(
    source: Source, project_id: str, *, start_ms: int, end_ms: int
) -> tuple[list[Ran], int]:
    """Returns what ran of a project between two times, and what builds and runs begun then burned.

    An interval that also ran before or after is among these whole.
    """
    within: dict[str, Value] = {
        "project_id": project_id,
        "start_ms": start_ms,
        "end_ms": end_ms,
    }
    return await source.records(Ran, _RAN, **within), await source.number(_WORKED, **within)


async def of_holder(source: Source, holder: str) -> Commitments:
    """Returns what a holder's projects cost, whether they are billed yet or not."""
    rows = await _COMMITTED.all(source, holder)
    return Commitments(
        sharing=[MicroUsd(price) for price, shares, *_ in rows if shares],
        burning=[RunInterval(*interval) for _, _, *interval in rows if interval[0] is not None],
    )


async def every_open(source: Source) -> list[RunInterval]:
    """Returns the open intervals of all wallets."""
    return await source.records(RunInterval, _EVERY_OPEN)


async def a_month_of_holder(tx: Transaction, holder: str) -> MicroUsd:
    """Returns the monthly price of all projects that burn a holder's credits."""
    return MicroUsd(await _A_MONTH.number(tx, holder))


async def open_interval(tx: Transaction, *, interval_id: str, project_id: str, at_ms: int) -> None:
    """Starts billing a project at the price of its state.

    Raises UniqueViolation when it is being billed already.
    """
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


async def close(tx: Transaction, interval_id: str, *, at_ms: int, at_limit: bool = False) -> bool:
    """Ends the interval; returns False when it had ended before."""
    done = await tx.execute(_CLOSE, interval_id=interval_id, at_ms=at_ms, is_at_limit=at_limit)
    return done == 1

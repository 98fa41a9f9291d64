"""Queries over new prices that an operator ordered for projects that there are."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from moorage.money import NOTHING, MicroUsd
from moorage.records.project import Project
from moorage.records.size import SizePrice, Sizes
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    Value,
    given,
    is_listed,
    listed,
    parameters,
    record_of,
)
from moorage.storage.schema import price_changes, projects, run_intervals


class PriceChange(msgspec.Struct, frozen=True):
    """A new price of a project; amounts are of a month."""

    project_id: str
    wallet: str
    months: int  # of the project: for how many its first price holds
    ordered_at_ms: int
    before_micro_usd: MicroUsd
    after_micro_usd: MicroUsd
    from_ms: int
    before_asleep: MicroUsd = NOTHING
    after_asleep_micro_usd: MicroUsd = NOTHING

    @property
    def rises(self) -> bool:
        """Whether the project is to pay more, awake or asleep."""
        return (
            self.after_micro_usd > self.before_micro_usd
            or self.after_asleep_micro_usd > self.before_asleep
        )


class PricedRow(NamedTuple):
    """What a project that is not deleted costs a month."""

    id: str
    name: str
    wallet: str
    monthly_price: MicroUsd
    months: int  # for how many of running its first price holds
    size: str
    asleep_price: MicroUsd


class PriceCounts(NamedTuple):
    """How many projects there are, and how they stand to a price."""

    projects: int
    others: int  # that cost something else
    dearer: int  # that would cost more at it
    ordered: int  # whose new price does not count yet


"""How many projects' rows are asked for at once."""

ALL = 2**62
"""A limit above every count."""

_OF_PROJECT = {
    "wallet": projects.c.wallet,
    "months": projects.c.months,
    "before_asleep": projects.c.asleep_price_micro_usd,
}
_COLUMNS = [
    price_changes.c[name] if name not in _OF_PROJECT else _OF_PROJECT[name]
    for name in PriceChange.__struct_fields__
]
_waits = price_changes.c.applied_at_ms.is_(None)
_WAITING = (
    select(*_COLUMNS)
    .join(projects, projects.c.id == price_changes.c.project_id)
    .where(_waits, projects.c.deleted_at_ms.is_(None))
    .order_by(price_changes.c.look_at_ms, price_changes.c.project_id)
)
_ORDERED = Statement(_WAITING)
_ORDERED_OF = Statement(_WAITING.where(is_listed(price_changes.c.project_id)))
_there = projects.c.deleted_at_ms.is_(None)


@cache
def _by_size(sizes: int) -> tuple[Statement, Statement]:
    """Returns the queries of projects with another price than the list's, and of all counts."""

    def listed(price: str, own: ColumnElement[int]) -> ColumnElement[int]:
        each = (
            (projects.c.size == bindparam(f"size_{n}"), bindparam(f"{price}_{n}", type_=BigInteger))
            for n in range(sizes)
        )
        return case(*each, else_=own)

    month, asleep = projects.c.monthly_price_micro_usd, projects.c.asleep_price_micro_usd
    to_month, to_asleep = listed("month", month), listed("asleep", asleep)
    differs = or_(month != to_month, asleep != to_asleep)
    waiting = select(func.count()).select_from(_WAITING.order_by(None).subquery())
    counts = select(
        func.count(),
        func.sum(case((differs, 1), else_=0)),
        func.sum(case((or_(month < to_month, asleep < to_asleep), 1), else_=0)),
        waiting.scalar_subquery(),
    )
    return (
        Statement(_ROWS.where(differs)),
        Statement(counts.select_from(projects).where(_there)),
    )


def _listed(sizes: Sizes) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for n, each in enumerate(sizes.listed):
        found |= {
            f"size_{n}": each.name,
            f"month_{n}": each.month,
            f"asleep_{n}": each.asleep_month,
        }
    return found


_ROWS = (
    select(
        projects.c.id,
        projects.c.unique_name,
        projects.c.wallet,
        projects.c.monthly_price_micro_usd,
        projects.c.months,
        projects.c.size,
        projects.c.asleep_price_micro_usd,
    )
    .where(_there)
    .order_by(projects.c.unique_name)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_EVERY_ROW = Statement(_ROWS)
_DUE = Statement(
    _WAITING.where(price_changes.c.look_at_ms <= bindparam("now_ms")).limit(bindparam("limit"))
)
_STORED = [name for name in PriceChange.__struct_fields__ if name not in _OF_PROJECT]
_ADD = Statement(
    insert(price_changes).values(look_at_ms=bindparam("from_ms"), **parameters(_STORED))
)
_CANCEL = Statement(delete(price_changes).where(_waits))
_one = and_(*given(price_changes, "ordered_at_ms", project_id="of_project"), _waits)
_POSTPONE = Statement(
    update(price_changes).where(_one).values(look_at_ms=bindparam("new_look_at_ms"))
)
_APPLIED = Statement(
    update(price_changes)
    .where(_one)
    .values(look_at_ms=null(), applied_at_ms=bindparam("new_applied_at_ms"))
)
_SET_PRICE = Statement(
    update(projects)
    .where(*given(projects, id="of_project"))
    .values(
        monthly_price_micro_usd=bindparam("new_price"),
        asleep_price_micro_usd=bindparam("new_asleep"),
    )
)
_CANCEL_OF = Statement(
    delete(price_changes).where(_waits, *given(price_changes, project_id="of_project"))
)
_RESIZE = Statement(
    update(projects)
    .where(*given(projects, id="of_project"))
    .values(
        size=bindparam("new_size"),
        kept_prices=bindparam("new_kept"),
        monthly_price_micro_usd=bindparam("new_month"),
        asleep_price_micro_usd=bindparam("new_asleep"),
    )
)
_ended = func.sum(run_intervals.c.ended_at_ms - run_intervals.c.started_at_ms)
_RAN = Statement(
    select(func.coalesce(_ended, 0)).where(*given(run_intervals, project_id="of_project"))
)
_until_ms = func.coalesce(run_intervals.c.ended_at_ms, bindparam("now_ms", type_=BigInteger))
_each_ran = select(
    run_intervals.c.project_id, func.sum(_until_ms - run_intervals.c.started_at_ms)
).group_by(run_intervals.c.project_id)
_EACH_RAN = Statement(_each_ran)
_EACH_RAN_OF = Statement(_each_ran.where(is_listed(run_intervals.c.project_id)))


async def ordered(source: Source, ids: Sequence[str] | None = None) -> list[PriceChange]:
    """Returns the changes that are not in force yet, of projects that are not deleted.

    With `ids` of those alone, MAX_IDS at most.
    """
    if ids is None:
        rows = await source.all(_ORDERED)
    else:
        rows = await source.all(_ORDERED_OF, **listed(ids))
    return [record_of(PriceChange, row) for row in rows]


async def rows(
    source: Source, *, other_than: Sizes | None = None, limit: int = ALL, offset: int = 0
) -> list[PricedRow]:
    """Returns projects by name: all, or those with another price than a list has for their size."""
    if other_than is None:
        return await source.records(PricedRow, _EVERY_ROW, limit=limit, offset=offset)
    statement, _ = _by_size(len(other_than.listed))
    listed = _listed(other_than)
    return await source.records(PricedRow, statement, limit=limit, offset=offset, **listed)


async def counts(source: Source, sizes: Sizes) -> PriceCounts:
    """Returns how all projects stand to the prices of a list."""
    _, statement = _by_size(len(sizes.listed))
    row = await source.one(statement, **_listed(sizes))
    return PriceCounts(*(int(each or 0) for each in row or (0, 0, 0, 0)))


async def due(source: Source, *, now_ms: int, limit: int) -> list[PriceChange]:
    """Returns at most `limit` of them to be applied, the one that waits longest first."""
    return await source.records(PriceChange, _DUE, now_ms=now_ms, limit=limit)


async def replace_ordered(tx: Transaction, changes: Iterable[PriceChange]) -> None:
    """Orders these, in place of all that are not in force yet."""
    await tx.execute(_CANCEL)
    for each in changes:
        await tx.execute(_ADD, **{name: getattr(each, name) for name in _STORED})


async def postpone(tx: Transaction, change: PriceChange, *, look_at_ms: int) -> None:
    """Has a change tried again at `look_at_ms`."""
    await tx.execute(
        _POSTPONE,
        of_project=change.project_id,
        ordered_at_ms=change.ordered_at_ms,
        new_look_at_ms=look_at_ms,
    )


async def apply(tx: Transaction, change: PriceChange, *, at_ms: int) -> bool:
    """Gives the project its new price; returns False when it has it, or it was cancelled.

    The project must have no open run interval.
    """
    done = await tx.execute(
        _APPLIED,
        of_project=change.project_id,
        ordered_at_ms=change.ordered_at_ms,
        new_applied_at_ms=at_ms,
    )
    if done != 1:
        return False
    await tx.execute(
        _SET_PRICE,
        of_project=change.project_id,
        new_price=change.after_micro_usd,
        new_asleep=change.after_asleep_micro_usd,
    )
    return True


def prices_of(project: Project) -> dict[str, SizePrice]:
    """Returns what a project paid for each size that it has left."""
    return msgspec.json.decode(project.kept_prices, type=dict[str, SizePrice])


async def resize(tx: Transaction, project: Project, size: str, price: SizePrice) -> None:
    """Gives a project another size at a price, and keeps what it paid for the one that it leaves.

    A new price that is not in force yet was ordered for that: it is cancelled.
    """
    kept = prices_of(project) | {project.size: project.price}
    await tx.execute(_CANCEL_OF, of_project=project.id)
    await tx.execute(
        _RESIZE,
        of_project=project.id,
        new_size=size,
        new_kept=msgspec.json.encode(kept, order="sorted").decode(),
        new_month=price.month,
        new_asleep=price.asleep_month,
    )


async def ran_ms(source: Source, project_id: str) -> int:
    """Returns how long a project was billed, without the interval that is open."""
    return await source.number(_RAN, of_project=project_id)


async def each_ran_ms(
    source: Source, *, now_ms: int, ids: Sequence[str] | None = None
) -> dict[str, int]:
    """Returns how long each project was billed until `now_ms`, in billed time.

    With `ids` of those alone, MAX_IDS at most.
    """
    if ids is None:
        found = await source.all(_EACH_RAN, now_ms=now_ms)
    else:
        found = await source.all(_EACH_RAN_OF, now_ms=now_ms, **listed(ids))
    return {project_id: int(ran) for project_id, ran in found}

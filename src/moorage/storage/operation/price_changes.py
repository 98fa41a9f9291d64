"""Queries over new prices that an operator ordered for projects that there are."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import BigInteger, and_, bindparam, case, delete, func, insert, null, select, update

from moorage.money import MicroUsd
from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
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


class PricedRow(NamedTuple):
    """What a project that is not deleted costs a month."""

    id: str
    name: str
    wallet: str
    monthly_price: MicroUsd
    months: int  # for how many of running its first price holds


class PriceCounts(NamedTuple):
    """How many projects there are, and how they stand to a price."""

    projects: int
    others: int  # that cost something else
    dearer: int  # that would cost more at it
    ordered: int  # whose new price does not count yet


"""How many projects' rows are asked for at once."""

ALL = 2**62
"""A limit above every count."""

_COLUMNS = [
    projects.c[name] if name in ("wallet", "months") else price_changes.c[name]
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
_price = bindparam("price", type_=BigInteger)
_ROWS = Statement(
    select(
        projects.c.id,
        projects.c.unique_name,
        projects.c.wallet,
        projects.c.monthly_price_micro_usd,
        projects.c.months,
    )
    .where(_there, projects.c.monthly_price_micro_usd != _price)
    .order_by(projects.c.unique_name)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_COUNT = Statement(
    select(
        func.count(),
        func.sum(case((projects.c.monthly_price_micro_usd != _price, 1), else_=0)),
        func.sum(case((projects.c.monthly_price_micro_usd < _price, 1), else_=0)),
        select(func.count()).select_from(_WAITING.order_by(None).subquery()).scalar_subquery(),
    )
    .select_from(projects)
    .where(_there)
)
_DUE = Statement(
    _WAITING.where(price_changes.c.look_at_ms <= bindparam("now_ms")).limit(bindparam("limit"))
)
_STORED = [name for name in PriceChange.__struct_fields__ if name not in ("wallet", "months")]
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
    .values(monthly_price_micro_usd=bindparam("new_price"))
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
    source: Source, *, other_than: MicroUsd | None = None, limit: int = ALL, offset: int = 0
) -> list[PricedRow]:
    """Returns projects by name: all, or those with another price than one."""
    price = -1 if other_than is None else other_than
    return await source.records(PricedRow, _ROWS, price=price, limit=limit, offset=offset)


async def counts(source: Source, price: MicroUsd) -> PriceCounts:
    """Returns how all projects stand to a price."""
    row = await source.one(_COUNT, price=price)
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
    await tx.execute(_SET_PRICE, of_project=change.project_id, new_price=change.after_micro_usd)
    return True


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

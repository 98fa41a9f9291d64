"""Queries over run intervals: the stretches of time that are billed."""

import msgspec
from sqlalchemy import bindparam, insert, select, update

from moorage.money import MicroUsd
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import projects, run_intervals


class RunInterval(msgspec.Struct, frozen=True):
    """An open stretch of serving, with whom it is charged to and at what price."""

    id: str
    project_id: str
    wallet: str
    monthly_price_micro_usd: MicroUsd
    started_at_ms: int
    charged_until_ms: int
    charged_micro_usd: MicroUsd


_OPEN_COLUMNS = [
    run_intervals.c.id,
    run_intervals.c.project_id,
    projects.c.wallet,
    projects.c.monthly_price_micro_usd,
    run_intervals.c.started_at_ms,
    run_intervals.c.charged_until_ms,
    run_intervals.c.charged_micro_usd,
]
_joined = select(*_OPEN_COLUMNS).join(projects, projects.c.id == run_intervals.c.project_id)
_open = run_intervals.c.ended_at_ms.is_(None)
_DUE = Statement(
    _joined.where(_open, run_intervals.c.charged_until_ms <= bindparam("before_ms")).order_by(
        run_intervals.c.charged_until_ms, run_intervals.c.project_id
    )
)
_OPEN_OF = Statement(_joined.where(_open, run_intervals.c.project_id == bindparam("project_id")))
_OPEN_OF_WALLET = Statement(_joined.where(_open, projects.c.wallet == bindparam("wallet")))
_OPEN = Statement(
    insert(run_intervals).values(
        id=bindparam("id"),
        project_id=bindparam("project_id"),
        started_at_ms=bindparam("at_ms"),
        charged_until_ms=bindparam("at_ms"),
        charged_micro_usd=0,
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


async def due(db: Database, *, charged_before_ms: int) -> list[RunInterval]:
    """Open intervals last charged at or before this time, the longest uncharged first."""
    rows = await db.all(_DUE, before_ms=charged_before_ms)
    return [RunInterval(*row) for row in rows]


async def open_of(source: Database | Transaction, project_id: str) -> RunInterval | None:
    """The project's open interval: whether it is being billed."""
    row = await source.one(_OPEN_OF, project_id=project_id)
    return RunInterval(*row) if row else None


async def open_of_wallet(tx: Transaction, wallet: str) -> list[RunInterval]:
    """The open intervals of all projects of a wallet."""
    return [RunInterval(*row) for row in await tx.all(_OPEN_OF_WALLET, wallet=wallet)]


async def open_interval(tx: Transaction, *, interval_id: str, project_id: str, at_ms: int) -> None:
    """Begin billing a project. Raises UniqueViolation when it is being billed already."""
    await tx.execute(_OPEN, id=interval_id, project_id=project_id, at_ms=at_ms)


async def charge(tx: Transaction, interval: RunInterval, *, until_ms: int, amount: int) -> bool:
    """Note what was charged and up to when; False when another charge came between."""
    touched = await tx.execute(
        _CHARGE,
        interval_id=interval.id,
        seen_until_ms=interval.charged_until_ms,
        until_ms=until_ms,
        amount=amount,
    )
    return touched == 1


async def close(tx: Transaction, interval_id: str, *, at_ms: int) -> None:
    """End the interval."""
    await tx.execute(_CLOSE, interval_id=interval_id, at_ms=at_ms)

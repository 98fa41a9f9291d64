"""Queries over purses: credits that one project lives from, apart from its wallet's."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, false, null, or_, select, true, update

from moorage.money import MicroUsd
from moorage.storage.database import Row, Source, Statement, Transaction, Upsert
from moorage.storage.schema import projects, purses, relay_transactions, settlements


class Purse(NamedTuple):
    """One row of `purses`."""

    project_id: str
    wallet: str
    balance: MicroUsd  # below zero only after the reversal of a payment
    shared: bool  # whether its project burns its wallet's credits instead


_COLUMNS = (
    purses.c.project_id,
    purses.c.wallet,
    purses.c.balance_micro_usd,
    purses.c.shared,
)
_this = purses.c.project_id == bindparam("purse")
_ONE = Statement(select(*_COLUMNS).where(_this))
_OF_WALLET = Statement(
    select(*_COLUMNS)
    .where(purses.c.wallet == bindparam("of_wallet"))
    .order_by(purses.c.created_at_ms, purses.c.project_id)
)
_EVERY = Statement(select(*_COLUMNS))
_OPEN = Statement(
    Upsert(
        table=purses,
        values={
            "project_id": bindparam("purse"),
            "wallet": bindparam("of_wallet"),
            "balance_micro_usd": 0,
            "created_at_ms": bindparam("now_ms"),
        },
    )
)
_SHARE = Statement(update(purses).where(_this, purses.c.shared.is_(False)).values(shared=true()))
_UNSHARE = Statement(update(purses).where(_this).values(shared=false(), warned_hours=null()))
_LEFT_BEHIND = Statement(
    select(*_COLUMNS)
    .outerjoin(projects, projects.c.id == purses.c.project_id)
    .where(
        purses.c.shared.is_(False),
        purses.c.balance_micro_usd > 0,
        or_(
            projects.c.deleted_at_ms.is_not(None),
            projects.c.id.is_(None) & (purses.c.created_at_ms <= bindparam("before_ms")),
        ),
    )
)
_FILLED_BY = Statement(
    select(settlements.c.purse)
    .join_from(relay_transactions, settlements, settlements.c.id == relay_transactions.c.subject_id)
    .where(
        relay_transactions.c.chain_id == bindparam("of_chain"),
        relay_transactions.c.tx_hash == bindparam("of_hash"),
        settlements.c.payer == bindparam("payer"),
        settlements.c.token_address == bindparam("token_address"),
        settlements.c.amount_atomic == bindparam("amount_atomic"),
        settlements.c.purse.is_not(None),
    )
)


def unshared(project_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Returns the condition of an outer join that finds the purse that a project lives from."""
    return (purses.c.project_id == project_id) & purses.c.shared.is_(False)


async def one(source: Source, project_id: str) -> Purse | None:
    """Returns the purse of a project, if it ever had one."""
    row = await source.one(_ONE, purse=project_id)
    return _purse(row) if row else None


async def of_wallet(source: Source, wallet: str) -> list[Purse]:
    """Returns the purses that a wallet's projects ever had, the oldest first."""
    return [_purse(row) for row in await source.all(_OF_WALLET, of_wallet=wallet)]


async def every(source: Source) -> list[Purse]:
    """Returns every purse that there ever was."""
    return [_purse(row) for row in await source.all(_EVERY)]


async def left_behind(source: Source, *, before_ms: int) -> list[Purse]:
    """Returns purses with credits of deleted projects, and of none that came since `before_ms`."""
    return [_purse(row) for row in await source.all(_LEFT_BEHIND, before_ms=before_ms)]


async def ensure(tx: Transaction, project_id: str, *, wallet: str, now_ms: int) -> None:
    """Makes a project's purse, unless there is one."""
    await tx.execute(_OPEN, purse=project_id, of_wallet=wallet, now_ms=now_ms)


async def share(tx: Transaction, project_id: str) -> bool:
    """Records that the project burns its wallet's credits; returns False if it did before."""
    return await tx.execute(_SHARE, purse=project_id) == 1


async def unshare(tx: Transaction, project_id: str) -> None:
    """Records that the project lives from its purse alone."""
    await tx.execute(_UNSHARE, purse=project_id)


async def filled_by(
    source: Source,
    *,
    chain_id: int,
    tx_hash: str,
    payer: str,
    token_address: str,
    amount_atomic: str,
) -> str | None:
    """Returns the project whose purse a transfer fills, as its authorization was sent for that."""
    row = await source.one(
        _FILLED_BY,
        of_chain=chain_id,
        of_hash=tx_hash,
        payer=payer,
        token_address=token_address,
        amount_atomic=amount_atomic,
    )
    return row[0] if row else None


def _purse(row: Row) -> Purse:
    project_id, wallet, balance, shared = row
    return Purse(project_id, wallet, MicroUsd(balance), bool(shared))

"""Queries over credits that the operator gave by hand."""

import msgspec
from sqlalchemy import bindparam, select, update

from moorage.money import MicroUsd
from moorage.storage.database import Source, Statement, Transaction, columns_of, given, insert_of
from moorage.storage.schema import grants


class Grant(msgspec.Struct, frozen=True):
    """Credits that a wallet was given without a payment, and why."""

    id: str
    wallet: str
    amount_micro_usd: MicroUsd
    reason: str
    created_at_ms: int
    undone_at_ms: int | None = None


_COLUMNS = columns_of(grants, Grant)
_ONE = Statement(select(*_COLUMNS).where(*given(grants, id="grant_id")))
_EVERY = Statement(select(*_COLUMNS).order_by(grants.c.created_at_ms, grants.c.id))
_OF_WALLET = Statement(
    select(*_COLUMNS)
    .where(*given(grants, wallet="of_wallet"))
    .order_by(grants.c.created_at_ms.desc(), grants.c.id)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_ADD = insert_of(grants, Grant)
_SET_UNDONE = Statement(
    update(grants)
    .where(*given(grants, id="grant_id"), grants.c.undone_at_ms.is_(None))
    .values(undone_at_ms=bindparam("at_ms"))
)


async def one(source: Source, grant_id: str) -> Grant | None:
    """Returns a grant by its id."""
    return await source.record(Grant, _ONE, grant_id=grant_id)


async def every(source: Source) -> tuple[Grant, ...]:
    """Returns every grant, the oldest first."""
    return tuple(await source.records(Grant, _EVERY))


async def of_wallet(
    source: Source, wallet: str, *, limit: int, offset: int = 0
) -> tuple[Grant, ...]:
    """Returns grants of a wallet, the newest first."""
    return tuple(
        await source.records(Grant, _OF_WALLET, of_wallet=wallet, limit=limit, offset=offset)
    )


async def add(tx: Transaction, grant: Grant) -> None:
    """Inserts a grant."""
    await tx.execute(_ADD, **msgspec.structs.asdict(grant))


async def set_undone(tx: Transaction, grant_id: str, *, at_ms: int) -> bool:
    """Records that a grant was taken back; returns False if it was before."""
    return await tx.execute(_SET_UNDONE, grant_id=grant_id, at_ms=at_ms) == 1

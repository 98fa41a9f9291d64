"""Queries over refunds."""

import msgspec
from sqlalchemy import bindparam, insert, select, update

from moorage.payments.refund import UNFINISHED, Refund, RefundStatus
from moorage.storage.database import Database, Statement, Transaction, struct_of
from moorage.storage.schema import refunds

_COLUMNS = [refunds.c[name] for name in Refund.__struct_fields__]
_OF_PAYMENT = Statement(
    select(*_COLUMNS).where(
        refunds.c.chain_id == bindparam("chain_id"),
        refunds.c.tx_hash == bindparam("tx_hash"),
        refunds.c.log_index == bindparam("log_index"),
    )
)
_UNFINISHED = Statement(
    select(*_COLUMNS)
    .where(refunds.c.status.in_(UNFINISHED))
    .order_by(refunds.c.created_at_ms, refunds.c.id)
)
_ADD = Statement(
    insert(refunds).values({name: bindparam(name) for name in Refund.__struct_fields__})
)
_SET_STATUS = Statement(
    update(refunds)
    .where(
        refunds.c.id == bindparam("refund_id"),
        refunds.c.status.in_(UNFINISHED),
    )
    .values(
        status=bindparam("new_status"),
        refund_tx_hash=bindparam("new_tx_hash"),
        ended_at_ms=bindparam("new_ended_at_ms"),
    )
)


async def of_payment(
    source: Database | Transaction, *, chain_id: int, tx_hash: str, log_index: int
) -> list[Refund]:
    """Every refund of a payment, failed ones too."""
    rows = await source.all(_OF_PAYMENT, chain_id=chain_id, tx_hash=tx_hash, log_index=log_index)
    return [struct_of(Refund, row) for row in rows]


async def unfinished(source: Database | Transaction) -> list[Refund]:
    """The refunds whose outcome is not known yet, the oldest first."""
    return [struct_of(Refund, row) for row in await source.all(_UNFINISHED)]


async def add(tx: Transaction, refund: Refund) -> None:
    """Note a refund that is intended."""
    await tx.execute(_ADD, **msgspec.structs.asdict(refund))


async def move_on(
    tx: Transaction,
    refund_id: str,
    status: RefundStatus,
    *,
    refund_tx_hash: str | None,
    ended_at_ms: int | None,
) -> bool:
    """Move an unfinished refund on; False when it was finished elsewhere meanwhile."""
    touched = await tx.execute(
        _SET_STATUS,
        refund_id=refund_id,
        new_status=status,
        new_tx_hash=refund_tx_hash,
        new_ended_at_ms=ended_at_ms,
    )
    return touched == 1

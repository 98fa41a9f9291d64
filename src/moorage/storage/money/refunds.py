"""Queries over refunds."""

import msgspec
from sqlalchemy import and_, bindparam, func, null, or_, select, update

from moorage.records.payments import UNFINISHED, Finality, Refund, RefundStatus
from moorage.storage.database import Source, Statement, Transaction, columns_of, insert_of
from moorage.storage.schema import refunds

_COLUMNS = columns_of(refunds, Refund)
_OF_PAYMENT = Statement(
    select(*_COLUMNS).where(
        refunds.c.chain_id == bindparam("chain_id"),
        refunds.c.tx_hash == bindparam("tx_hash"),
        refunds.c.log_index == bindparam("log_index"),
    )
)
_EVERY = Statement(select(*_COLUMNS))
not_final = or_(
    refunds.c.status.in_(UNFINISHED),
    and_(refunds.c.status == RefundStatus.REFUNDED, refunds.c.finality == Finality.PROVISIONAL),
)
_TO_FOLLOW = Statement(
    select(*_COLUMNS)
    .where(refunds.c.chain_id == bindparam("chain_id"), not_final)
    .order_by(refunds.c.created_at_ms, refunds.c.id)
)
_SENT_BY = Statement(
    select(refunds.c.id)
    .where(
        refunds.c.chain_id == bindparam("chain_id"),
        refunds.c.refund_tx_hash == bindparam("refund_tx_hash"),
    )
    .limit(1)
)
_ADD = insert_of(refunds, Refund)
_this = refunds.c.id == bindparam("refund_id")
_SENT = Statement(
    update(refunds)
    .where(_this, refunds.c.status.in_(UNFINISHED))
    .values(status=RefundStatus.SENT, refund_tx_hash=bindparam("new_tx_hash"))
)
_REFUNDED = Statement(
    update(refunds)
    .where(_this, not_final)
    .values(
        status=RefundStatus.REFUNDED,
        refund_tx_hash=bindparam("new_tx_hash"),
        finality=bindparam("new_finality"),
        ended_at_ms=func.coalesce(refunds.c.ended_at_ms, bindparam("now_ms")),
    )
)
_REOPEN = Statement(
    update(refunds)
    .where(_this, refunds.c.status == RefundStatus.REFUNDED, not_final)
    .values(status=RefundStatus.SENT, ended_at_ms=null())
)
_FAILED = Statement(
    update(refunds)
    .where(_this, not_final)
    .values(status=RefundStatus.FAILED, refund_tx_hash=null(), ended_at_ms=bindparam("now_ms"))
)


async def every(source: Source) -> tuple[Refund, ...]:
    """Returns every refund that was ever begun."""
    return tuple(await source.records(Refund, _EVERY))


async def of_payment(
    source: Source, *, chain_id: int, tx_hash: str, log_index: int
) -> list[Refund]:
    """Returns every refund of a payment, failed ones too."""
    return await source.records(
        Refund, _OF_PAYMENT, chain_id=chain_id, tx_hash=tx_hash, log_index=log_index
    )


async def is_refund(source: Source, *, chain_id: int, refund_tx_hash: str) -> bool:
    """Whether a refund was paid, or sent, by this transaction."""
    return await source.one(_SENT_BY, chain_id=chain_id, refund_tx_hash=refund_tx_hash) is not None


async def to_follow(source: Source, *, chain_id: int) -> list[Refund]:
    """Returns the refunds of a chain without a final outcome, the oldest first."""
    return await source.records(Refund, _TO_FOLLOW, chain_id=chain_id)


async def add(tx: Transaction, refund: Refund) -> None:
    """Stores a refund before it is sent."""
    await tx.execute(_ADD, **msgspec.structs.asdict(refund))


async def sent(tx: Transaction, refund_id: str, *, refund_tx_hash: str) -> None:
    """Records that its transaction was sent."""
    await tx.execute(_SENT, refund_id=refund_id, new_tx_hash=refund_tx_hash)


async def refunded(
    tx: Transaction, refund_id: str, *, refund_tx_hash: str, is_final: bool, now_ms: int
) -> None:
    """Records that it is mined, and whether its block is safe."""
    await tx.execute(
        _REFUNDED,
        refund_id=refund_id,
        new_tx_hash=refund_tx_hash,
        new_finality=Finality.SAFE if is_final else Finality.PROVISIONAL,
        now_ms=now_ms,
    )


async def reopen(tx: Transaction, refund_id: str) -> bool:
    """Records that it is no longer mined; returns False when it was not."""
    return await tx.execute(_REOPEN, refund_id=refund_id) == 1


async def failed(tx: Transaction, refund_id: str, *, now_ms: int) -> bool:
    """Marks a refund that can no longer be paid as failed; returns False when it had ended."""
    return await tx.execute(_FAILED, refund_id=refund_id, now_ms=now_ms) == 1

"""Queries over refunds."""

import msgspec
from sqlalchemy import and_, bindparam, func, null, or_, select, tuple_, update

from moorage.money import MicroUsd
from moorage.records.payments import UNFINISHED, Finality, Refund, RefundStatus
from moorage.storage.database import Source, Statement, Transaction, columns_of, given, insert_of
from moorage.storage.money.payments import Key, named
from moorage.storage.schema import refunds

_COLUMNS = columns_of(refunds, Refund)
_OF_PAYMENT = Statement(
    select(*_COLUMNS).where(*given(refunds, "chain_id", "tx_hash", "log_index"))
)
_EVERY = Statement(select(*_COLUMNS))
not_final = or_(
    refunds.c.status.in_(UNFINISHED),
    and_(refunds.c.status == RefundStatus.REFUNDED, refunds.c.finality == Finality.PROVISIONAL),
)
_is_queued = refunds.c.status == RefundStatus.QUEUED
_is_open = or_(_is_queued, not_final)
_ONE = Statement(select(*_COLUMNS).where(*given(refunds, id="refund_id")))
_OF_REQUEST = Statement(
    select(*_COLUMNS).where(*given(refunds, "request_id", recipient="to")).order_by(refunds.c.id)
)
_REQUESTS_OF = Statement(
    select(refunds.c.request_id)
    .where(
        *given(refunds, recipient="to"),
        refunds.c.request_id != "",
        refunds.c.created_at_ms < bindparam("before_ms"),
    )
    .group_by(refunds.c.request_id, refunds.c.created_at_ms)
    .order_by(refunds.c.created_at_ms.desc(), refunds.c.request_id)
    .limit(bindparam("limit"))
)
_ON_ITS_WAY = Statement(
    select(refunds.c.request_id)
    .where(*given(refunds, recipient="to"), or_(_is_queued, refunds.c.status.in_(UNFINISHED)))
    .limit(1)
)
_QUEUED = Statement(
    select(*_COLUMNS).where(_is_queued).order_by(refunds.c.created_at_ms, refunds.c.id)
)
_TO_SEND = Statement(
    select(*_COLUMNS)
    .where(
        *given(refunds, "chain_id"),
        _is_queued,
        refunds.c.decided_by != "",
        tuple_(refunds.c.created_at_ms, refunds.c.id)
        > tuple_(bindparam("after_ms"), bindparam("after_id")),
    )
    .order_by(refunds.c.created_at_ms, refunds.c.id)
    .limit(bindparam("limit"))
)
_DECIDED_SINCE = Statement(
    select(
        func.coalesce(func.sum(refunds.c.debited_micro_usd), 0),
        func.coalesce(
            func.sum(refunds.c.debited_micro_usd).filter(refunds.c.recipient == bindparam("to")), 0
        ),
    ).where(
        *given(refunds, decided_by="by"),
        refunds.c.created_at_ms > bindparam("since_ms"),
        refunds.c.status != RefundStatus.FAILED,
    )
)
_TO_FOLLOW = Statement(
    select(*_COLUMNS)
    .where(*given(refunds, "chain_id"), not_final)
    .order_by(refunds.c.created_at_ms, refunds.c.id)
)
_SENT_BY = Statement(
    select(refunds.c.id).where(*given(refunds, "chain_id", "refund_tx_hash")).limit(1)
)
_ADD = insert_of(refunds, Refund)
_this = refunds.c.id == bindparam("refund_id")
_DECIDE = Statement(
    update(refunds)
    .where(*given(refunds, request_id="of_request"), _is_queued)
    .values(decided_by=bindparam("by"), waits_because=null())
)
_WAIT = Statement(
    update(refunds)
    .where(_this, _is_queued, func.coalesce(refunds.c.waits_because, "") != bindparam("because"))
    .values(waits_because=bindparam("because"))
)
_TAKE_UP = Statement(
    update(refunds)
    .where(_this, _is_queued)
    .values(status=RefundStatus.INTENDED, waits_because=null())
)
_SENT = Statement(
    update(refunds)
    .where(_this, refunds.c.status.in_(UNFINISHED))
    .values(status=RefundStatus.SENT, refund_tx_hash=bindparam("new_tx_hash"))
)
_REFUNDED = Statement(
    update(refunds)
    .where(_this, _is_open)
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
    .where(_this, _is_open)
    .values(status=RefundStatus.FAILED, refund_tx_hash=null(), ended_at_ms=bindparam("now_ms"))
)


async def every(source: Source) -> tuple[Refund, ...]:
    """Returns every refund that was ever begun."""
    return tuple(await source.records(Refund, _EVERY))


async def of_payment(source: Source, key: Key) -> list[Refund]:
    """Returns every refund of a payment, failed ones too."""
    return await source.records(Refund, _OF_PAYMENT, **named(key))


async def one(source: Source, refund_id: str) -> Refund | None:
    """Returns a refund by its id."""
    return await source.record(Refund, _ONE, refund_id=refund_id)


async def of_request(source: Source, request_id: str, *, wallet: str) -> list[Refund]:
    """Returns the refunds that a wallet asked for together; none for an id that is not its own."""
    return await source.records(Refund, _OF_REQUEST, request_id=request_id, to=wallet)


async def requests_of(
    source: Source, wallet: str, *, before_ms: int, limit: int
) -> list[list[Refund]]:
    """Returns at most `limit` requests of a wallet, made before a time, the newest first."""
    ids = await source.values(_REQUESTS_OF, to=wallet, before_ms=before_ms, limit=limit)
    return [await of_request(source, each, wallet=wallet) for each in ids]


async def is_on_its_way(source: Source, wallet: str) -> bool:
    """Whether something goes back to a wallet that is not mined yet."""
    return await source.one(_ON_ITS_WAY, to=wallet) is not None


async def queued(source: Source) -> list[Refund]:
    """Returns every queued refund, the oldest first."""
    return await source.records(Refund, _QUEUED)


async def to_send(
    source: Source, after: Refund | None = None, *, chain_id: int, limit: int
) -> list[Refund]:
    """Returns queued refunds of a chain that may be sent, the oldest first, or from one on."""
    after_ms, after_id = (-1, "") if after is None else (after.created_at_ms, after.id)
    return await source.records(
        Refund, _TO_SEND, chain_id=chain_id, limit=limit, after_ms=after_ms, after_id=after_id
    )


async def decided_since(
    source: Source, *, by: str, wallet: str, since_ms: int
) -> tuple[MicroUsd, MicroUsd]:
    """Returns what `by` let go back since a time, failed ones aside: in all, and to a wallet."""
    (row,) = await source.all(_DECIDED_SINCE, by=by, to=wallet, since_ms=since_ms)
    return MicroUsd(int(row[0])), MicroUsd(int(row[1]))


async def decide(tx: Transaction, request_id: str, *, by: str) -> int:
    """Lets the queued refunds of a request be sent; returns how many."""
    return await tx.execute(_DECIDE, of_request=request_id, by=by)


async def wait(tx: Transaction, refund_id: str, *, because: str) -> bool:
    """Records why a queued refund is not sent; returns False if that was recorded before."""
    return await tx.execute(_WAIT, refund_id=refund_id, because=because) == 1


async def take_up(tx: Transaction, refund_id: str) -> bool:
    """Records that a queued refund is being signed; returns False if it is not queued any more."""
    return await tx.execute(_TAKE_UP, refund_id=refund_id) == 1


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

"""Queries over payments and what each paid for."""

from typing import NamedTuple

import msgspec
from sqlalchemy import BigInteger, and_, bindparam, func, null, or_, select, tuple_, update

from moorage.money import MicroUsd
from moorage.records.payments import Finality, Payment, PaymentStatus, Place, Refund, RefundStatus
from moorage.storage.database import (
    Database,
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
    record_of,
)
from moorage.storage.money.accounts import HolderQuery, unadopted
from moorage.storage.schema import payment_uses, payments, purses, refunds

_PAYMENT = columns_of(payments, Payment)
_KEY = ("chain_id", "tx_hash", "log_index")
_BY_TIME = (payments.c.claimed_at_ms, *(payments.c[name] for name in _KEY))
_PAGE = Statement(
    select(*_PAYMENT, payment_uses.c.project_id, payment_uses.c.deployment_id)
    .join_from(
        payments,
        payment_uses,
        and_(
            payment_uses.c.chain_id == payments.c.chain_id,
            payment_uses.c.tx_hash == payments.c.tx_hash,
            payment_uses.c.wallet == payments.c.payer,
        ),
        isouter=True,
    )
    .where(
        payments.c.payer == bindparam("payer"),
        or_(
            payments.c.claimed_at_ms < bindparam("before_ms"),
            and_(
                payments.c.claimed_at_ms == bindparam("before_ms"),
                tuple_(*_BY_TIME[1:])
                < tuple_(
                    bindparam("before_chain"),
                    bindparam("before_tx"),
                    bindparam("before_log", type_=BigInteger),  # clients tell it
                ),
            ),
        ),
    )
    .order_by(*(column.desc() for column in _BY_TIME))
    .limit(bindparam("limit"))
)
_REFUNDS = Statement(
    select(*columns_of(refunds, Refund))
    .join_from(refunds, payments, and_(*(refunds.c[name] == payments.c[name] for name in _KEY)))
    .where(
        *given(payments, "payer"),
        payments.c.claimed_at_ms >= bindparam("from_ms"),
        payments.c.claimed_at_ms <= bindparam("to_ms"),
    )
    .order_by(refunds.c.created_at_ms, refunds.c.id)
)

Key = tuple[int, str, int]
"""Chain id, hash and log index: what a payment is known by."""


class PaidFor(NamedTuple):
    """A payment, what it paid for (nothing for a top-up), and what of it went back."""

    payment: Payment
    project_id: str | None
    deployment_id: str | None
    refunds: tuple[Refund, ...]


def key_of(payment: Payment | Refund) -> Key:
    """Returns what the payment, or that of the refund, is known by."""
    return (payment.chain_id, payment.tx_hash, payment.log_index)


def named(key: Key) -> dict[str, int | str]:
    """Returns a key as statements are given it."""
    return dict(zip(("chain_id", "tx_hash", "log_index"), key, strict=True))


async def page_of_payer(
    source: Source, payer: str, *, before: tuple[int, Key] | None, limit: int
) -> list[PaidFor]:
    """Returns at most `limit` payments of a payer, newest first, before a time and a key."""
    before_ms, (chain_id, tx_hash, log_index) = before or (2**63 - 1, (0, "", 0))
    rows = await source.all(
        _PAGE,
        payer=payer,
        before_ms=before_ms,
        before_chain=chain_id,
        before_tx=tx_hash,
        before_log=log_index,
        limit=limit,
    )
    found = [(record_of(Payment, row[:-2]), row[-2], row[-1]) for row in rows]
    if not found:
        return []
    sent_back = await source.all(
        _REFUNDS, payer=payer, from_ms=found[-1][0].claimed_at_ms, to_ms=found[0][0].claimed_at_ms
    )
    by_key: dict[Key, list[Refund]] = {}
    for refund in (record_of(Refund, row) for row in sent_back):
        by_key.setdefault(key_of(refund), []).append(refund)
    return [
        PaidFor(payment, project_id, deployment_id, tuple(by_key.get(key_of(payment), ())))
        for payment, project_id, deployment_id in found
    ]


_PLACE = columns_of(payments, Place)
_COLUMNS = columns_of(payments, Payment)
_in_transaction = (
    payments.c.chain_id == bindparam("chain_id"),
    payments.c.tx_hash == bindparam("tx_hash"),
)
_this = (*_in_transaction, payments.c.log_index == bindparam("log_index"))

_OF_TRANSACTION = Statement(
    select(*_COLUMNS).where(*_in_transaction).order_by(payments.c.log_index)
)
_BY_HASH = Statement(
    select(*_COLUMNS)
    .where(*given(payments, "tx_hash"))
    .order_by(payments.c.chain_id, payments.c.log_index)
)
_BROUGHT = Statement(
    select(payments.c.tx_hash)
    .where(
        *given(payments, "payer", "chain_id", "token_address", "amount_atomic"),
        payments.c.status != PaymentStatus.REVERSED,
    )
    .order_by(payments.c.block_number.desc())
    .limit(1)
)
_ONE = Statement(select(*_COLUMNS).where(*_this))
_EVERY = Statement(select(*_COLUMNS))
_ADD = insert_of(payments, Payment)
_REPLACE = Statement(
    update(payments)
    .where(*_this)
    .values({name: bindparam(name) for name in Payment.__struct_fields__ if name not in _KEY})
)
_SET_STATUS = Statement(
    update(payments)
    .where(*_this, *given(payments, status="expected"))
    .values(status=bindparam("new_status"))
)
_RELEASE = Statement(
    update(payments)
    .where(*_this, payments.c.status == PaymentStatus.HELD)
    .values(status=PaymentStatus.CREDITED, held_reason=null())
)
_GIVE = Statement(update(payments).where(*_this).values(given_to=bindparam("taker")))
_SET_PURSE = Statement(update(payments).where(*_this).values(purse=bindparam("new_purse")))
_credited = and_(*given(payments, payer="wallet"), payments.c.status == PaymentStatus.CREDITED)
_refunded = (  # of one payment: for a wallet that never paid, as most are asked for, of none
    select(func.coalesce(func.sum(refunds.c.debited_micro_usd), 0))
    .where(
        *(refunds.c[name] == payments.c[name] for name in _KEY),
        refunds.c.status != RefundStatus.FAILED,
    )
    .correlate(payments)
    .scalar_subquery()
)
_worth = func.coalesce(func.sum(payments.c.credited_micro_usd - _refunded), 0)
_SUM_CREDITED = Statement(select(_worth).where(_credited))
_SUM_OF_HOLDER = HolderQuery(
    Statement(
        select(_worth)
        .outerjoin(purses, unadopted(payments.c.purse))
        .where(_credited, purses.c.project_id.is_(None))
    ),
    Statement(
        select(_worth)
        .join(purses, purses.c.project_id == payments.c.purse)
        .where(
            purses.c.project_id == bindparam("purse"),
            payments.c.payer == purses.c.wallet,  # which has an index
            payments.c.status == PaymentStatus.CREDITED,
        )
    ),
)
_left_above = (
    select(*_COLUMNS)
    .where(_credited, payments.c.credited_micro_usd - _refunded > bindparam("above"))
    .order_by(payments.c.claimed_at_ms.desc(), *(payments.c[name] for name in _KEY))
    .limit(bindparam("limit"))
)
_not_final = (
    select(payments.c.chain_id, payments.c.finality, _worth)
    .where(_credited, payments.c.finality != Finality.FINALIZED)
    .group_by(payments.c.chain_id, payments.c.finality)
)
_NOT_FINAL = Statement(
    _not_final.outerjoin(purses, unadopted(payments.c.purse)).where(
        purses.c.project_id.is_(None), payments.c.given_to.is_(None)
    )
)
_NOT_FINAL_OF_PURSE = Statement(_not_final.where(*given(payments, "purse")))
_REFUNDABLE = Statement(
    _left_above.outerjoin(purses, unadopted(payments.c.purse)).where(
        purses.c.project_id.is_(None), payments.c.given_to.is_(None)
    )
)
_REFUNDABLE_OF_PURSE = Statement(
    _left_above.where(*given(payments, "purse"), payments.c.given_to.is_(None))
)
_HELD = Statement(
    select(*_COLUMNS)
    .where(payments.c.status == PaymentStatus.HELD)
    .order_by(payments.c.claimed_at_ms)
)
_SET_FINALITY = Statement(
    update(payments)
    .where(
        *_in_transaction,
        *given(payments, "block_hash"),
        payments.c.status.in_([PaymentStatus.CREDITED, PaymentStatus.HELD]),
        payments.c.finality != Finality.FINALIZED,
    )
    .values(finality=bindparam("new_finality"))
)
_due = or_(
    and_(payments.c.finality == Finality.PROVISIONAL, payments.c.block_number <= bindparam("safe")),
    and_(payments.c.finality == Finality.SAFE, payments.c.block_number <= bindparam("finalized")),
)
_of_due = (
    payments.c.chain_id == bindparam("chain_id"),
    payments.c.status.in_([PaymentStatus.CREDITED, PaymentStatus.HELD]),
    _due,
)
_DUE = select(*_PLACE).group_by(*_PLACE).limit(bindparam("limit"))
_OLDEST_DUE = Statement(
    _DUE.where(
        *_of_due,
        tuple_(payments.c.block_number, payments.c.tx_hash)
        > tuple_(bindparam("after_block"), bindparam("after_tx")),
    ).order_by(payments.c.block_number, payments.c.tx_hash, payments.c.block_hash)
)
_LARGEST_DUE = Statement(
    _DUE.where(*_of_due).order_by(func.sum(payments.c.credited_micro_usd).desc())
)
_ARRIVED = Statement(
    select(payments.c.amount_atomic).where(
        *given(payments, "chain_id", "token_address"),
        payments.c.status != PaymentStatus.REVERSED,
        payments.c.block_number > bindparam("after"),
        payments.c.block_number <= bindparam("last"),
    )
)
_USES = Statement(
    select(payment_uses.c.wallet, payment_uses.c.project_id, payment_uses.c.deployment_id).where(
        *given(payment_uses, "chain_id", "tx_hash")
    )
)
_ADD_USE = insert_of(payment_uses)


async def sum_credited(source: Source, *, payer: str) -> MicroUsd:
    """Returns the sum of the payer's payments that are credited, less what was refunded."""
    return MicroUsd(await source.number(_SUM_CREDITED, wallet=payer))


async def sum_credited_to(source: Source, holder: str) -> MicroUsd:
    """Returns the same of what was paid into a wallet's credits, or into a project's purse."""
    return MicroUsd(await _SUM_OF_HOLDER.number(source, holder))


async def refundable(
    source: Source, payer: str, *, purse: str | None, above: MicroUsd, limit: int
) -> list[tuple[Payment, list[Refund]]]:
    """Returns a payer's payments, newest first, of which more than `above` has not gone back.

    Of those that are in the wallet's credits, or that filled the purse of a project; each with all
    its refunds. At most `limit`.
    """
    asked: dict[str, str | int | None] = {"wallet": payer, "above": above, "limit": limit}
    if purse is None:
        found = await source.records(Payment, _REFUNDABLE, **asked)
    else:
        found = await source.records(Payment, _REFUNDABLE_OF_PURSE, **asked, purse=purse)
    if not found:
        return []
    sent_back = await source.records(
        Refund,
        _REFUNDS,
        payer=payer,
        from_ms=found[-1].claimed_at_ms,
        to_ms=found[0].claimed_at_ms,
    )
    return [(each, [one for one in sent_back if key_of(one) == key_of(each)]) for each in found]


async def not_final(
    source: Source, payer: str, *, purse: str | None
) -> list[tuple[int, Finality, MicroUsd]]:
    """Returns what is left of a payer's payments that are not finalized, by chain and finality.

    Of those that `refundable` is about.
    """
    asked: dict[str, str | None] = {"wallet": payer}
    if purse is None:
        rows = await source.all(_NOT_FINAL, **asked)
    else:
        rows = await source.all(_NOT_FINAL_OF_PURSE, **asked, purse=purse)
    return [(chain_id, Finality(of), MicroUsd(int(left))) for chain_id, of, left in rows]


async def of_transaction(source: Source, *, chain_id: int, tx_hash: str) -> list[Payment]:
    """Returns every payment of this transaction that was ever claimed, in log order."""
    return await source.records(Payment, _OF_TRANSACTION, chain_id=chain_id, tx_hash=tx_hash)


async def by_hash(source: Source, *, tx_hash: str) -> list[Payment]:
    """Returns every payment of transactions with this hash, on whichever chain."""
    return await source.records(Payment, _BY_HASH, tx_hash=tx_hash)


async def brought(
    source: Source, *, chain_id: int, token_address: str, payer: str, amount_atomic: str
) -> str | None:
    """Returns the last transaction by which a wallet paid exactly this amount of a token."""
    return await source.value(
        _BROUGHT,
        chain_id=chain_id,
        token_address=token_address,
        payer=payer,
        amount_atomic=amount_atomic,
    )


async def one(source: Source, key: Key) -> Payment | None:
    """Returns the payment of this key, if it was ever claimed."""
    return await source.record(Payment, _ONE, **named(key))


async def every(source: Source) -> tuple[Payment, ...]:
    """Returns every payment that was ever claimed."""
    return tuple(await source.records(Payment, _EVERY))


async def add(tx: Transaction, payment: Payment) -> None:
    """Claims a transfer. Raises UniqueViolation when it was claimed before."""
    await tx.execute(_ADD, **msgspec.structs.asdict(payment))


async def replace(tx: Transaction, payment: Payment) -> None:
    """Replaces the row of a payment that was reversed and is on the chain again."""
    await tx.execute(_REPLACE, **msgspec.structs.asdict(payment))


async def set_status(tx: Transaction, payment: Payment, status: PaymentStatus) -> bool:
    """Changes a payment's status; returns False when it no longer has the status in `payment`."""
    touched = await tx.execute(
        _SET_STATUS, **named(key_of(payment)), expected=payment.status, new_status=status
    )
    return touched == 1


async def give(tx: Transaction, payment: Payment, taker: str) -> None:
    """Records that a payment is part of another wallet's credits than its payer's."""
    await tx.execute(_GIVE, **named(key_of(payment)), taker=taker)


async def set_purse(tx: Transaction, payment: Payment, purse: str) -> None:
    """Records that a payment filled the purse of a project."""
    await tx.execute(_SET_PURSE, **named(key_of(payment)), new_purse=purse)


async def release(tx: Transaction, payment: Payment) -> bool:
    """Marks a held payment as credited; returns False when it is no longer held."""
    return await tx.execute(_RELEASE, **named(key_of(payment))) == 1


async def held(db: Database) -> list[Payment]:
    """Returns every payment that screening holds, the longest held first."""
    return await db.records(Payment, _HELD)


async def set_finality(tx: Transaction, of: Place | Payment, finality: Finality) -> None:
    """Sets the finality of a chain transaction's payments, but of those in another block now."""
    await tx.execute(
        _SET_FINALITY,
        chain_id=of.chain_id,
        tx_hash=of.tx_hash,
        block_hash=of.block_hash,
        new_finality=finality,
    )


async def awaiting_finality(
    db: Database, *, chain_id: int, safe: int, finalized: int, after: Place | None, limit: int
) -> list[Place]:
    """Returns transactions of a chain to be checked again, as their block is safe or finalized.

    `safe` and `finalized` are the chain's latest such block numbers. At most `limit` are returned,
    in the order of the chain, after the transaction `after`.
    """
    return await db.records(
        Place,
        _OLDEST_DUE,
        chain_id=chain_id,
        safe=safe,
        finalized=finalized,
        after_block=after.block_number if after else -1,
        after_tx=after.tx_hash if after else "",
        limit=limit,
    )


async def largest_awaiting_finality(
    db: Database, *, chain_id: int, safe: int, limit: int
) -> list[Place]:
    """Returns those that bring the most, of the transactions whose block is safe now."""
    return await db.records(
        Place, _LARGEST_DUE, chain_id=chain_id, safe=safe, finalized=-1, limit=limit
    )


async def sum_arrived(
    source: Source, *, chain_id: int, token_address: str, after: int, last: int
) -> int:
    """Returns what arrived in blocks after `after` up to `last`, in the token's atomic units."""
    rows = await source.all(
        _ARRIVED, chain_id=chain_id, token_address=token_address, after=after, last=last
    )
    return sum(int(amount) for (amount,) in rows)


async def uses_of(
    source: Source, *, chain_id: int, tx_hash: str
) -> dict[str, tuple[str | None, str | None]]:
    """Returns the project and deployment that this transaction paid for, by wallet.

    Both are None for a top-up.
    """
    rows = await source.all(_USES, chain_id=chain_id, tx_hash=tx_hash)
    return {wallet: (project_id, deployment_id) for wallet, project_id, deployment_id in rows}


async def add_use(
    tx: Transaction,
    *,
    chain_id: int,
    tx_hash: str,
    wallet: str,
    project_id: str | None,
    deployment_id: str | None,
) -> None:
    """Records what a wallet's transaction paid for. Raises UniqueViolation if that is recorded."""
    await tx.execute(
        _ADD_USE,
        chain_id=chain_id,
        tx_hash=tx_hash,
        wallet=wallet,
        project_id=project_id,
        deployment_id=deployment_id,
    )

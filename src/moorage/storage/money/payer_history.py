"""Queries over a payer's payments, newest first, with what each paid for and what went back."""

from typing import NamedTuple

from sqlalchemy import BigInteger, and_, bindparam, or_, select, tuple_

from moorage.records.payments import Payment, Refund
from moorage.storage.database import Source, Statement, struct_of
from moorage.storage.schema import payment_uses, payments, refunds

_KEY = ("chain_id", "tx_hash", "log_index")
_PAYMENT = [payments.c[name] for name in Payment.__struct_fields__]
_PLACE = (payments.c.claimed_at_ms, *(payments.c[name] for name in _KEY))
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
                tuple_(*_PLACE[1:])
                < tuple_(
                    bindparam("before_chain"),
                    bindparam("before_tx"),
                    bindparam("before_log", type_=BigInteger),  # clients tell it
                ),
            ),
        ),
    )
    .order_by(*(column.desc() for column in _PLACE))
    .limit(bindparam("limit"))
)
_REFUNDS = Statement(
    select(*(refunds.c[name] for name in Refund.__struct_fields__))
    .join_from(refunds, payments, and_(*(refunds.c[name] == payments.c[name] for name in _KEY)))
    .where(
        payments.c.payer == bindparam("payer"),
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


async def page(
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
    found = [(struct_of(Payment, row[:-2]), row[-2], row[-1]) for row in rows]
    if not found:
        return []
    sent_back = await source.all(
        _REFUNDS, payer=payer, from_ms=found[-1][0].claimed_at_ms, to_ms=found[0][0].claimed_at_ms
    )
    by_key: dict[Key, list[Refund]] = {}
    for refund in (struct_of(Refund, row) for row in sent_back):
        by_key.setdefault(key_of(refund), []).append(refund)
    return [
        PaidFor(payment, project_id, deployment_id, tuple(by_key.get(key_of(payment), ())))
        for payment, project_id, deployment_id in found
    ]

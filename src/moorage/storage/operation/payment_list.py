"""Queries over payments as an operator searches them: a page at a time, the newest first."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, exists, func, or_, select

from moorage.records.payments import (
    UNFINISHED,
    UNRESOLVED,
    Finality,
    Payment,
    PaymentStatus,
    Quote,
    Refund,
    RefundStatus,
    Settlement,
)
from moorage.storage.database import Source, Statement, columns_of, given, record_of
from moorage.storage.schema import (
    deployments,
    entries,
    payment_uses,
    payments,
    postings,
    projects,
    quotes,
    refunds,
    settlements,
)

LATE_MS = 30 * 60 * 1000
"""How long after its payment a deploy must come to be late: as long as quotes live."""


class PaymentFilter(StrEnum):
    """Which payments are listed."""

    ALL = "all"
    UNUSUAL = "unusual"  # each of those below, but `provisional` and `refunded`
    HELD = "held"
    UNCLAIMED = "unclaimed"
    PARTIAL = "partial"
    LATE = "late"
    REVERSED = "reversed"
    PROVISIONAL = "provisional"
    REFUNDED = "refunded"  # sent back, or a part of it


class ListedPayment(NamedTuple):
    """A payment, what it was used for, and what went back of it."""

    payment: Payment
    used: bool  # a request named it, for a deploy or a top-up
    deployment_id: str | None
    project_id: str | None
    project: str | None  # the name of what it paid for
    used_at_ms: int | None  # when its deploy came; None for top-ups
    refunded_micro_usd: int  # what goes back, or went
    refunding: bool  # a refund is on its way
    part_of: str | None  # the name that its payer still owes a part for


class ListedEntry(NamedTuple):
    """A part of a posting."""

    posting_id: str
    kind: str
    at_ms: int
    account: str
    amount: int  # micro-USD


_KEY = ("chain_id", "tx_hash", "log_index")
_COLUMNS = columns_of(payments, Payment)
_of_chain = bindparam("of_chain", type_=BigInteger)  # 0: any
_its_refunds = and_(*(refunds.c[name] == payments.c[name] for name in _KEY))
_went_back = (
    select(func.coalesce(func.sum(refunds.c.debited_micro_usd), 0))
    .where(_its_refunds, refunds.c.status != RefundStatus.FAILED)
    .scalar_subquery()
)
_under_way = refunds.c.status.in_((RefundStatus.QUEUED, *UNFINISHED))
_is_going_back = exists().where(_its_refunds, _under_way)
_owed = and_(
    quotes.c.wallet == payments.c.payer,
    quotes.c.expires_at_ms > bindparam("now_ms"),
    quotes.c.received_micro_usd > 0,
    quotes.c.received_micro_usd < quotes.c.price_micro_usd,
)
_owed_name = select(func.min(quotes.c.unique_name)).where(_owed).scalar_subquery()
_unused = and_(payments.c.status == PaymentStatus.CREDITED, payment_uses.c.wallet.is_(None))
_late = and_(
    payments.c.status == PaymentStatus.CREDITED,
    deployments.c.created_at_ms - payments.c.claimed_at_ms > LATE_MS,
)
_is_partial = and_(_unused, exists().where(_owed))
_CONDITIONS: dict[PaymentFilter, ColumnElement[bool] | None] = {
    PaymentFilter.ALL: None,
    PaymentFilter.UNUSUAL: or_(
        payments.c.status.in_([PaymentStatus.HELD, PaymentStatus.REVERSED]), _unused, _late
    ),
    PaymentFilter.HELD: payments.c.status == PaymentStatus.HELD,
    PaymentFilter.UNCLAIMED: _unused,
    PaymentFilter.PARTIAL: _is_partial,
    PaymentFilter.LATE: _late,
    PaymentFilter.REVERSED: payments.c.status == PaymentStatus.REVERSED,
    PaymentFilter.PROVISIONAL: and_(
        payments.c.finality == Finality.PROVISIONAL, payments.c.status != PaymentStatus.REVERSED
    ),
    PaymentFilter.REFUNDED: exists().where(_its_refunds, refunds.c.status != RefundStatus.FAILED),
}


def _list(condition: ColumnElement[bool] | None) -> Statement:
    use = and_(
        payment_uses.c.chain_id == payments.c.chain_id,
        payment_uses.c.tx_hash == payments.c.tx_hash,
        payment_uses.c.wallet == payments.c.payer,
    )
    wanted = select(
        *_COLUMNS,
        payment_uses.c.wallet,
        payment_uses.c.deployment_id,
        payment_uses.c.project_id,
        projects.c.unique_name,
        deployments.c.created_at_ms,
        _went_back,
        _is_going_back,
        _owed_name,
    ).select_from(
        payments.outerjoin(payment_uses, use)
        .outerjoin(projects, projects.c.id == payment_uses.c.project_id)
        .outerjoin(deployments, deployments.c.id == payment_uses.c.deployment_id)
    )
    if condition is not None:
        wanted = wanted.where(condition)
    return Statement(
        wanted.where(
            or_(_of_chain == 0, payments.c.chain_id == _of_chain),
            or_(
                bindparam("text") == "",
                payments.c.payer == bindparam("text"),
                payments.c.tx_hash == bindparam("text"),
            ),
        )
        .order_by(
            payments.c.claimed_at_ms.desc(),
            payments.c.chain_id,
            payments.c.tx_hash,
            payments.c.log_index,
        )
        .limit(bindparam("limit"))
        .offset(bindparam("offset"))
    )


_LISTS = {which: _list(condition) for which, condition in _CONDITIONS.items()}
_REFUND_COLUMNS = columns_of(refunds, Refund)
_REFUNDS = Statement(
    select(*_REFUND_COLUMNS)
    .order_by(refunds.c.created_at_ms.desc(), refunds.c.id)
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_SETTLEMENTS = Statement(
    select(*columns_of(settlements, Settlement))
    .where(settlements.c.status.in_(UNRESOLVED))
    .order_by(settlements.c.created_at_ms)
    .limit(bindparam("limit"))
)
_SETTLED_BY = Statement(
    select(*columns_of(settlements, Settlement)).where(
        *given(settlements, chain_id="of_chain", tx_hash="of_hash")
    )
)
_QUOTES = Statement(
    select(*columns_of(quotes, Quote))
    .where(*given(quotes, wallet="of_wallet"), quotes.c.expires_at_ms > bindparam("now_ms"))
    .order_by(quotes.c.created_at_ms)
)
_ENTRIES = Statement(
    select(
        postings.c.id,
        postings.c.kind,
        postings.c.created_at_ms,
        entries.c.account,
        entries.c.amount_micro_usd,
    )
    .join_from(postings, entries)
    .where(*given(postings, id="of_posting"))
    .order_by(entries.c.place)
)
_COUNT_HELD = Statement(
    select(func.count()).select_from(payments).where(payments.c.status == PaymentStatus.HELD)
)
_COUNT_OPEN_REFUNDS = Statement(select(func.count()).select_from(refunds).where(_under_way))
_BROUGHT = Statement(
    select(payments.c.chain_id, payments.c.token, func.sum(payments.c.credited_micro_usd))
    .where(payments.c.status != PaymentStatus.REVERSED)
    .group_by(payments.c.chain_id, payments.c.token)
)


async def page(
    source: Source,
    which: PaymentFilter,
    *,
    now_ms: int,
    limit: int,
    offset: int = 0,
    chain_id: int = 0,
    text: str = "",
) -> list[ListedPayment]:
    """Returns payments, the newest first; `text` is a payer or a transaction's hash, or empty."""
    rows = await source.all(
        _LISTS[which], now_ms=now_ms, limit=limit, offset=offset, of_chain=chain_id, text=text
    )
    return [_listed(row) for row in rows]


async def all_refunds(source: Source, *, limit: int, offset: int = 0) -> list[Refund]:
    """Returns refunds, the newest first."""
    return await source.records(Refund, _REFUNDS, limit=limit, offset=offset)


async def on_their_way(source: Source, *, limit: int) -> list[Settlement]:
    """Returns authorizations whose outcome is not known yet, the oldest first."""
    return await source.records(Settlement, _SETTLEMENTS, limit=limit)


async def settled_by(source: Source, *, chain_id: int, tx_hash: str) -> list[Settlement]:
    """Returns the authorizations that a transaction settled."""
    return await source.records(Settlement, _SETTLED_BY, of_chain=chain_id, of_hash=tx_hash)


async def quotes_of(source: Source, wallet: str, *, now_ms: int) -> list[Quote]:
    """Returns the quotes that a wallet may pay now."""
    return await source.records(Quote, _QUOTES, of_wallet=wallet, now_ms=now_ms)


async def entries_of(source: Source, posting_ids: Iterable[str]) -> list[ListedEntry]:
    """Returns the entries of postings, of those that there are."""
    return [
        ListedEntry(*row)
        for posting_id in posting_ids
        for row in await source.all(_ENTRIES, of_posting=posting_id)
    ]


async def count_held(source: Source) -> int:
    """Returns how many payments screening holds."""
    return await source.number(_COUNT_HELD)


async def count_open_refunds(source: Source) -> int:
    """Returns how many refunds are on their way."""
    return await source.number(_COUNT_OPEN_REFUNDS)


async def brought(source: Source) -> dict[tuple[int, str], int]:
    """Returns what all payments brought that are not reversed, in micro-USD, by chain and token."""
    return {(chain_id, token): int(total) for chain_id, token, total in await source.all(_BROUGHT)}


def _listed(row: tuple[Any, ...]) -> ListedPayment:
    width = len(_COLUMNS)
    used_by, deployment_id, project_id, project, used_at_ms, back, going, part_of = row[width:]
    return ListedPayment(
        payment=record_of(Payment, row[:width]),
        used=used_by is not None,
        deployment_id=deployment_id,
        project_id=project_id,
        project=project,
        used_at_ms=used_at_ms,
        refunded_micro_usd=int(back),
        refunding=bool(going),
        part_of=part_of,
    )

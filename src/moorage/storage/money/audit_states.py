"""Queries for the audit of states: what is unfinished, and since when."""

from typing import NamedTuple

from sqlalchemy import BindParameter, and_, bindparam, exists, func, or_, select

from moorage.records.payments import (
    UNFINISHED,
    Finality,
    PaymentStatus,
    Quote,
    RefundStatus,
    SettlementStatus,
)
from moorage.storage.database import Statement, Transaction
from moorage.storage.schema import (
    events,
    meters,
    payment_uses,
    payments,
    postings,
    price_changes,
    projects,
    quotes,
    refunds,
    relay_transactions,
    run_intervals,
    settlements,
)


class PricedInterval(NamedTuple):
    """A run interval, with the price it began with and its project's price."""

    id: str
    project_id: str
    started_at_ms: int
    charged_until_ms: int
    is_open: bool
    began_with_micro_usd: int | None  # None for rows older than this column
    monthly_price_micro_usd: int


class CreditedSettlement(NamedTuple):
    """A settlement that is not `settled`, although its own transaction is credited."""

    id: str
    status: str
    claimed_at_ms: int


_is_open = run_intervals.c.ended_at_ms.is_(None)
_UNBILLED = Statement(
    select(projects.c.id).where(
        projects.c.status == "active",
        projects.c.serving_deployment_id.is_not(None),
        projects.c.uncertified_since_ms.is_(None),
        projects.c.down_since_ms.is_(None),  # one that was stopped, to carry its volume
        ~exists().where(run_intervals.c.project_id == projects.c.id, _is_open),
    )
)
_INTERVALS = Statement(
    select(
        run_intervals.c.id,
        projects.c.id,
        run_intervals.c.started_at_ms,
        run_intervals.c.charged_until_ms,
        _is_open,
        run_intervals.c.monthly_price_micro_usd,
        projects.c.monthly_price_micro_usd,
    )
    .join(projects, projects.c.id == run_intervals.c.project_id)
    .order_by(run_intervals.c.started_at_ms)
)
_NEW_PRICES = Statement(
    select(
        price_changes.c.project_id,
        price_changes.c.applied_at_ms,
        price_changes.c.after_micro_usd,
    ).where(price_changes.c.applied_at_ms.is_not(None))
)
_BILLED_UP_TO = Statement(select(func.max(meters.c.billed_ms)))
_UNRESOLVED = Statement(
    select(settlements.c.id, settlements.c.valid_before).where(
        settlements.c.status.in_([SettlementStatus.INTENDED, SettlementStatus.SENT])
    )
)
_CREDITED = Statement(
    select(settlements.c.id, settlements.c.status, payments.c.claimed_at_ms)
    .join(relay_transactions, relay_transactions.c.subject_id == settlements.c.id)
    .join(
        payments,
        and_(
            payments.c.chain_id == relay_transactions.c.chain_id,
            payments.c.tx_hash == relay_transactions.c.tx_hash,
            payments.c.payer == settlements.c.payer,
            payments.c.token_address == settlements.c.token_address,
        ),
    )
    .where(
        settlements.c.status != SettlementStatus.SETTLED,
        payments.c.status != PaymentStatus.REVERSED,
    )
)
_OPEN_REFUNDS = Statement(
    select(refunds.c.id, refunds.c.created_at_ms).where(
        or_(
            refunds.c.status.in_(UNFINISHED),
            and_(
                refunds.c.status == RefundStatus.REFUNDED,
                refunds.c.finality == Finality.PROVISIONAL,
            ),
        )
    )
)
_MISSING_USES = Statement(
    select(payments.c.chain_id, payments.c.tx_hash, payments.c.log_index, payments.c.used_for)
    .where(
        payments.c.used_for.is_not(None),
        ~exists().where(
            payment_uses.c.chain_id == payments.c.chain_id,
            payment_uses.c.tx_hash == payments.c.tx_hash,
            payment_uses.c.wallet == payments.c.payer,
            func.coalesce(payment_uses.c.deployment_id, "") == payments.c.used_for,
        ),
    )
    .order_by(payments.c.chain_id, payments.c.tx_hash, payments.c.log_index)
)
_QUOTES = Statement(select(*(quotes.c[name] for name in Quote.__struct_fields__)))
_PAID = Statement(
    select(payments.c.payer, func.sum(payments.c.credited_micro_usd)).group_by(payments.c.payer)
)
_since: BindParameter[int] = bindparam("since_ms")
_UNTOLD = Statement(
    select(postings.c.id).where(
        postings.c.kind == "release",
        postings.c.created_at_ms > _since,
        ~exists().where(
            events.c.kind == "payment.credited", events.c.created_at_ms == postings.c.created_at_ms
        ),
    )
)


async def unbilled(tx: Transaction) -> list[str]:
    """Returns projects that serve and are not billed."""
    return [project_id for (project_id,) in await tx.all(_UNBILLED)]


async def priced_intervals(tx: Transaction) -> list[PricedInterval]:
    """Returns every run interval, the earliest first."""
    return [PricedInterval(*row) for row in await tx.all(_INTERVALS)]


async def new_prices(tx: Transaction) -> list[tuple[str, int, int]]:
    """Returns new prices in force: the project's id, since when in billed time, and a month's."""
    return [(project_id, at_ms, price) for project_id, at_ms, price in await tx.all(_NEW_PRICES)]


async def billed_up_to(tx: Transaction) -> int | None:
    """Returns the furthest billed time that a gateway has recorded."""
    row = await tx.one(_BILLED_UP_TO)
    return row[0] if row else None


async def unresolved(tx: Transaction) -> list[tuple[str, int]]:
    """Returns settlements without an outcome, and the Unix second their authorization expires."""
    return [(found, int(ends)) for found, ends in await tx.all(_UNRESOLVED)]


async def credited_settlements(tx: Transaction) -> list[CreditedSettlement]:
    """Returns settlements that are not `settled`, although their own transaction is credited."""
    return [CreditedSettlement(*row) for row in await tx.all(_CREDITED)]


async def open_refunds(tx: Transaction) -> list[tuple[str, int]]:
    """Returns refunds that are not final, and when they were made."""
    return [(found, at_ms) for found, at_ms in await tx.all(_OPEN_REFUNDS)]


async def all_quotes(tx: Transaction) -> list[Quote]:
    """Returns every stored quote."""
    return [Quote(*row) for row in await tx.all(_QUOTES)]


async def paid_by_wallet(tx: Transaction) -> dict[str, int]:
    """Returns the worth of all payments of each wallet, of any status, in micro-USD."""
    return dict(await tx.all(_PAID))


async def missing_uses(tx: Transaction) -> list[tuple[str, str]]:
    """Returns payments that were used, without the row that says for what: which, and for what."""
    return [
        (f"{chain_id}:{tx_hash}:{log_index}", used_for)
        for chain_id, tx_hash, log_index, used_for in await tx.all(_MISSING_USES)
    ]


async def untold_releases(tx: Transaction, *, since_ms: int) -> list[str]:
    """Returns postings after `since_ms` that released a held payment without an event."""
    return [posting_id for (posting_id,) in await tx.all(_UNTOLD, since_ms=since_ms)]

"""Queries over all wallets, for whoever runs the gateway."""

from typing import NamedTuple

from sqlalchemy import and_, func, select

from moorage.money import MicroUsd
from moorage.records.payments import PaymentStatus, RefundStatus
from moorage.storage.database import Source, Statement
from moorage.storage.schema import grants, payments, projects, refunds, wallets


class WalletRow(NamedTuple):
    """A wallet that ever paid, or was paid for."""

    address: str
    balance: MicroUsd
    since_ms: int
    blocked_reason: str | None  # why the operator has it suspended


_WALLETS = Statement(
    select(
        wallets.c.address,
        wallets.c.balance_micro_usd,
        wallets.c.created_at_ms,
        wallets.c.blocked_reason,
    )
)
_PAID = Statement(
    select(payments.c.payer, func.sum(payments.c.credited_micro_usd))
    .where(payments.c.status == PaymentStatus.CREDITED)
    .group_by(payments.c.payer)
)
_REFUNDED = Statement(
    select(refunds.c.recipient, func.sum(refunds.c.debited_micro_usd))
    .join(
        payments,
        and_(
            payments.c.chain_id == refunds.c.chain_id,
            payments.c.tx_hash == refunds.c.tx_hash,
            payments.c.log_index == refunds.c.log_index,
        ),
    )
    .where(refunds.c.status != RefundStatus.FAILED, payments.c.status == PaymentStatus.CREDITED)
    .group_by(refunds.c.recipient)
)
_GIVEN = Statement(
    select(grants.c.wallet, func.sum(grants.c.amount_micro_usd))
    .where(grants.c.undone_at_ms.is_(None))
    .group_by(grants.c.wallet)
)
_WITH_PROJECTS = Statement(
    select(projects.c.wallet).where(projects.c.deleted_at_ms.is_(None)).distinct()
)


async def with_projects(source: Source) -> set[str]:
    """Returns every wallet that has a project."""
    return {row[0] for row in await source.all(_WITH_PROJECTS)}


async def every_wallet(source: Source) -> list[WalletRow]:
    """Returns every wallet."""
    return [WalletRow(*row) for row in await source.all(_WALLETS)]


async def paid(source: Source) -> dict[str, int]:
    """Returns what each wallet's credited payments brought, less refunds, in micro-USD."""
    back: dict[str, int] = dict(await source.all(_REFUNDED))
    return {wallet: total - back.get(wallet, 0) for wallet, total in await source.all(_PAID)}


async def given(source: Source) -> dict[str, int]:
    """Returns what each wallet was given by hand, in micro-USD."""
    return dict(await source.all(_GIVEN))

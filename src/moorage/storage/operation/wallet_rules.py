"""Queries over what an operator allows a wallet, and tells all."""

from enum import StrEnum
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, literal, select

from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    record_of,
    upsert_of,
)
from moorage.storage.schema import notices, wallet_rules


class NoticeKind(StrEnum):
    """What a notice does."""

    MAINTENANCE = "maintenance"  # new deploys are refused; all else continues
    ANNOUNCEMENT = "announcement"  # a text for all, which changes nothing


_NOTICES_ALL = Statement(select(notices.c.kind, notices.c.text))
_NOTICES_ONE = Statement(select(notices.c.text).where(*given(notices, "kind")))
_NOTICES_SET = upsert_of(notices)
_REMOVE = Statement(delete(notices).where(*given(notices, "kind")))


async def current_notices(source: Source) -> dict[str, str]:
    """Returns the text of each notice that is in force, by its kind."""
    return dict(await source.all(_NOTICES_ALL))


async def notice_text(source: Source, kind: NoticeKind) -> str | None:
    """Returns a notice's text; None if it is not in force."""
    return await source.value(_NOTICES_ONE, kind=kind)


async def put_notice(tx: Transaction, kind: NoticeKind, words: str, *, now_ms: int) -> None:
    """Puts a notice in force, in place of an earlier one."""
    await tx.execute(_NOTICES_SET, kind=kind, text=words, since_ms=now_ms)


async def remove_notice(tx: Transaction, kind: NoticeKind) -> bool:
    """Ends a notice; returns False when it was not in force."""
    return await tx.execute(_REMOVE, kind=kind) == 1


class WalletRule(msgspec.Struct, frozen=True):
    """What one wallet is allowed."""

    wallet: str
    is_listed: bool = False  # it may deploy where only listed wallets may
    max_projects: int | None = None  # None: as many as any wallet


_COLUMNS = columns_of(wallet_rules, WalletRule)
_ONE = Statement(select(*_COLUMNS).where(*given(wallet_rules, "wallet")))
_one = select(literal(1).label("one")).subquery()
_IN_FORCE = Statement(
    select(notices.c.text, *_COLUMNS)
    .select_from(_one)
    .outerjoin(notices, notices.c.kind == NoticeKind.MAINTENANCE)
    .outerjoin(wallet_rules, wallet_rules.c.wallet == bindparam("wallet"))
)
_ALL = Statement(select(*_COLUMNS).order_by(wallet_rules.c.wallet))
_SET = upsert_of(wallet_rules, WalletRule)


async def wallet_rule(source: Source, wallet: str) -> WalletRule:
    """Returns the rule of a wallet."""
    return await source.record(WalletRule, _ONE, wallet=wallet) or WalletRule(wallet)


class InForce(NamedTuple):
    """What an operator ordered that concerns a deploy of one wallet."""

    maintenance: str | None
    """Why no deploys are taken now; None while they are."""
    rule: WalletRule


async def rule_in_force(source: Source, wallet: str) -> InForce:
    """Returns what concerns a deploy of a wallet now."""
    row = await source.one(_IN_FORCE, wallet=wallet)
    maintenance, *rule = row or (None, None)
    is_ruled = rule[0] is not None
    return InForce(
        maintenance, record_of(WalletRule, tuple(rule)) if is_ruled else WalletRule(wallet)
    )


async def every_wallet_rule(source: Source) -> list[WalletRule]:
    """Returns all rules."""
    return await source.records(WalletRule, _ALL)


async def put_wallet_rule(tx: Transaction, rule: WalletRule) -> None:
    """Replaces the rule of a wallet."""
    await tx.execute(_SET, **msgspec.structs.asdict(rule))

"""Queries over what an operator allows a wallet, and tells all."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, literal, select

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import notices, wallet_rules


class NoticeKind(StrEnum):
    """What a notice does."""

    MAINTENANCE = "maintenance"  # new deploys are refused; all else goes on
    ANNOUNCEMENT = "announcement"  # it is told, and changes nothing


_NOTICES_ALL = Statement(select(notices.c.kind, notices.c.text))
_NOTICES_ONE = Statement(select(notices.c.text).where(notices.c.kind == bindparam("kind")))
_NOTICES_SET = Statement(
    Upsert(
        table=notices,
        values={name: bindparam(name) for name in ("kind", "text", "since_ms")},
        replaced=("text", "since_ms"),
    )
)
_REMOVE = Statement(delete(notices).where(notices.c.kind == bindparam("kind")))


async def current_notices(source: Source) -> dict[str, str]:
    """Returns the text of each notice that is in force, by its kind."""
    return dict(await source.all(_NOTICES_ALL))


async def notice_text(source: Source, kind: NoticeKind) -> str | None:
    """Returns a notice's text; None if it is not in force."""
    row = await source.one(_NOTICES_ONE, kind=kind)
    return row[0] if row else None


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


_FIELDS = WalletRule.__struct_fields__
_COLUMNS = [wallet_rules.c[name] for name in _FIELDS]
_ONE = Statement(select(*_COLUMNS).where(wallet_rules.c.wallet == bindparam("wallet")))
_one = select(literal(1).label("one")).subquery()
_IN_FORCE = Statement(
    select(notices.c.text, *_COLUMNS)
    .select_from(_one)
    .outerjoin(notices, notices.c.kind == NoticeKind.MAINTENANCE)
    .outerjoin(wallet_rules, wallet_rules.c.wallet == bindparam("wallet"))
)
_ALL = Statement(select(*_COLUMNS).order_by(wallet_rules.c.wallet))
_SET = Statement(
    Upsert(
        table=wallet_rules,
        values={name: bindparam(name) for name in _FIELDS},
        replaced=_FIELDS[1:],
    )
)


async def wallet_rule(source: Source, wallet: str) -> WalletRule:
    """Returns the rule of a wallet."""
    row = await source.one(_ONE, wallet=wallet)
    return _rule(row) if row else WalletRule(wallet)


class InForce(NamedTuple):
    """What an operator has said that concerns a deploy of one wallet."""

    maintenance: str | None
    """Why no deploys are taken now; None while they are."""
    rule: WalletRule


async def rule_in_force(source: Source, wallet: str) -> InForce:
    """Returns what concerns a deploy of a wallet now."""
    row = await source.one(_IN_FORCE, wallet=wallet)
    maintenance, *rule = row or (None, None)
    return InForce(maintenance, WalletRule(wallet) if rule[0] is None else _rule(rule))


async def every_wallet_rule(source: Source) -> list[WalletRule]:
    """Returns all rules."""
    return [_rule(row) for row in await source.all(_ALL)]


async def put_wallet_rule(tx: Transaction, rule: WalletRule) -> None:
    """Replaces the rule of a wallet."""
    await tx.execute(
        _SET, wallet=rule.wallet, is_listed=rule.is_listed, max_projects=rule.max_projects
    )


def _rule(row: Sequence[Any]) -> WalletRule:
    wallet, is_listed, max_projects = row
    return WalletRule(wallet, bool(is_listed), max_projects)

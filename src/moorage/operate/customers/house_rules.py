"""`moorage operator maintenance`, `announce`, `allow`: what is told and allowed to customers."""

from collections.abc import Sequence

import msgspec

from moorage.clock import SystemClock
from moorage.errors import InvalidField
from moorage.events import outbox
from moorage.operate.books import OpenBooks, note_act, open_books
from moorage.records.event import EventKind
from moorage.settings import Settings
from moorage.storage.operation import overview, wallet_rules
from moorage.storage.operation.wallet_rules import NoticeKind, WalletRule

MAX_PROJECTS = 999_999
"""The most projects that a wallet may be allowed."""


async def run_maintenance(settings: Settings, *, begin: bool, words: str) -> None:
    """Begins or ends maintenance; `words` are told to whoever would deploy."""
    async with open_books(settings) as books:
        await maintenance(books, begin=begin, words=words)


async def maintenance(books: OpenBooks, *, begin: bool, words: str) -> None:
    """As `run_maintenance`, in open books."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        if begin:
            await wallet_rules.put_notice(tx, NoticeKind.MAINTENANCE, words, now_ms=now_ms)
            await note_act(tx, books.operator, "begin maintenance", "the gateway", reason=words)
        elif await wallet_rules.remove_notice(tx, NoticeKind.MAINTENANCE):
            await note_act(tx, books.operator, "end maintenance", "the gateway")


async def run_notices(settings: Settings) -> dict[str, str]:
    """Returns the text of each notice that is in force, by its kind."""
    async with open_books(settings) as books:
        return await wallet_rules.current_notices(books.db)


async def run_announce(settings: Settings, words: str) -> int:
    """Tells every wallet that has a project, by an event, and shows the words until others come.

    Returns how many wallets are told. Without words, ends what is shown.
    """
    async with open_books(settings) as books:
        return await announce(books, words)


async def announce(books: OpenBooks, words: str) -> int:
    """As `run_announce`, in open books."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        if not words:
            if await wallet_rules.remove_notice(tx, NoticeKind.ANNOUNCEMENT):
                await note_act(tx, books.operator, "end announcement", "all wallets")
            return 0
        await wallet_rules.put_notice(tx, NoticeKind.ANNOUNCEMENT, words, now_ms=now_ms)
        told = sorted(await overview.wallets_with_projects(tx))
        for wallet in told:
            await outbox.record(
                tx, wallet=wallet, kind=EventKind.ANNOUNCEMENT, data={"text": words}, now_ms=now_ms
            )
        await note_act(tx, books.operator, "announce", "all wallets", reason=words)
        return len(told)


async def run_allow(
    settings: Settings, wallet: str, *, listed: bool | None, max_projects: int | None
) -> WalletRule:
    """Changes what a wallet is allowed; None leaves it as it is. -1 projects: as the setting."""
    async with open_books(settings) as books:
        return await allow(books, wallet, listed=listed, max_projects=max_projects)


async def allow(
    books: OpenBooks,
    wallet: str,
    *,
    listed: bool | None,
    max_projects: int | None,
    reason: str = "",
) -> WalletRule:
    """As `run_allow`, in open books. Raises InvalidField for more than MAX_PROJECTS."""
    if max_projects is not None and max_projects > MAX_PROJECTS:
        raise InvalidField("projects", f"must be at most {MAX_PROJECTS:,}")
    async with books.db.transaction(durable=True) as tx:
        rule = await wallet_rules.wallet_rule(tx, wallet)
        if listed is not None:
            rule = msgspec.structs.replace(rule, is_listed=listed)
        if max_projects is not None:
            rule = msgspec.structs.replace(
                rule, max_projects=None if max_projects < 0 else max_projects
            )
        await wallet_rules.put_wallet_rule(tx, rule)
        projects = "as the setting" if rule.max_projects is None else str(rule.max_projects)
        what = f"{wallet}: {'listed' if rule.is_listed else 'not listed'}, projects {projects}"
        await note_act(tx, books.operator, "allow", what, reason=reason)
        return rule


async def run_allowed(settings: Settings) -> Sequence[WalletRule]:
    """Returns the rules of all wallets that have one."""
    async with open_books(settings) as books:
        return await wallet_rules.every_wallet_rule(books.db)

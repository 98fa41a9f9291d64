"""Queries over wallets and the ledger's postings."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Text, bindparam, func, insert, or_, select, update

from moorage.money import MicroUsd
from moorage.storage.database import Database, Source, Statement, Transaction, Upsert
from moorage.storage.schema import entries, postings, wallets

_BALANCE = Statement(
    select(wallets.c.balance_micro_usd).where(wallets.c.address == bindparam("wallet"))
)
_WALLET = Statement(
    select(wallets.c.balance_micro_usd, wallets.c.warned_hours, wallets.c.blocked_reason).where(
        wallets.c.address == bindparam("wallet")
    )
)
_SET_WARNED = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("wallet"))
    .values(warned_hours=bindparam("hours"))
)
_ENSURE_WALLET = Statement(
    Upsert(
        table=wallets,
        values={
            "address": bindparam("wallet"),
            "balance_micro_usd": 0,
            "created_at_ms": bindparam("now_ms"),
        },
    )
)
_LOCK = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("wallet"))
    .values(balance_micro_usd=wallets.c.balance_micro_usd)
)
_ADD_TO_BALANCE = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("wallet"))
    .values(balance_micro_usd=wallets.c.balance_micro_usd + bindparam("amount"))
)
_TAKE_FROM_BALANCE = Statement(
    update(wallets)
    .where(
        wallets.c.address == bindparam("wallet"),
        wallets.c.balance_micro_usd >= bindparam("amount"),
    )
    .values(balance_micro_usd=wallets.c.balance_micro_usd - bindparam("amount"))
)
_ADD_POSTING = Statement(
    insert(postings).values(
        id=bindparam("id"), kind=bindparam("kind"), created_at_ms=bindparam("now_ms")
    )
)
_ADD_ENTRY = Statement(
    insert(entries).values(
        posting_id=bindparam("posting_id"),
        account=bindparam("account"),
        amount_micro_usd=bindparam("amount"),
    )
)
_SUM_OF_ENTRIES = Statement(select(func.coalesce(func.sum(entries.c.amount_micro_usd), 0)))
_SUM_OF_ACCOUNT = Statement(
    select(func.coalesce(func.sum(entries.c.amount_micro_usd), 0)).where(
        entries.c.account == bindparam("account")
    )
)
_EXPORT = Statement(
    select(
        entries.c.place,
        postings.c.created_at_ms,
        postings.c.id,
        postings.c.kind,
        entries.c.account,
        entries.c.amount_micro_usd,
    )
    .join(postings, postings.c.id == entries.c.posting_id)
    .where(
        entries.c.place > bindparam("after"),
        postings.c.created_at_ms >= bindparam("since_ms"),
        postings.c.created_at_ms < bindparam("until_ms"),
        or_(
            bindparam("wallet") == "",
            entries.c.account == "wallet:" + bindparam("wallet", type_=Text),
            entries.c.account == "held:" + bindparam("wallet", type_=Text),
        ),
    )
    .order_by(entries.c.place)
    .limit(bindparam("limit"))
)


async def balance(source: Source, wallet: str) -> MicroUsd:
    """The wallet's balance; a wallet never seen has none."""
    row = await source.one(_BALANCE, wallet=wallet)
    return MicroUsd(row[0] if row else 0)


class WalletRow(NamedTuple):
    """A wallet as it stands."""

    balance: MicroUsd
    warned_hours: int | None
    """The last warning it was given since there was enough."""
    blocked_reason: str | None
    """Why the operator has suspended it, while that is so."""


async def wallet_row(source: Source, wallet: str) -> WalletRow:
    """The wallet; one never seen has no credits."""
    row = await source.one(_WALLET, wallet=wallet)
    return WalletRow(*row) if row else WalletRow(MicroUsd(0), None, None)


async def ensure_wallet(tx: Transaction, wallet: str, *, now_ms: int) -> None:
    """Make the wallet's row, unless there is one."""
    await tx.execute(_ENSURE_WALLET, wallet=wallet, now_ms=now_ms)


async def lock(tx: Transaction, wallet: str) -> None:
    """Has every other transaction that takes this lock wait until this one ends.

    Whoever decides by the wallet's balance and projects what else is admitted takes it first.
    """
    await tx.execute(_LOCK, wallet=wallet)


async def change_balance(tx: Transaction, wallet: str, amount: int) -> bool:
    """Adds `amount` to the balance, unless it takes more than there is; returns whether it did.

    A reversal may have left a balance below zero: what is added to it always is.
    """
    if amount < 0:
        return await tx.execute(_TAKE_FROM_BALANCE, wallet=wallet, amount=-amount) == 1
    return await tx.execute(_ADD_TO_BALANCE, wallet=wallet, amount=amount) == 1


async def take_back(tx: Transaction, wallet: str, amount: int) -> None:
    """Takes `amount` from the balance, below zero if need be."""
    await tx.execute(_ADD_TO_BALANCE, wallet=wallet, amount=-amount)


async def add_posting(
    tx: Transaction, *, posting_id: str, kind: str, amounts: dict[str, int], now_ms: int
) -> None:
    """Append a posting and its entries. Raises UniqueViolation when it was booked before."""
    await tx.execute(_ADD_POSTING, id=posting_id, kind=kind, now_ms=now_ms)
    for account, amount in amounts.items():
        await tx.execute(_ADD_ENTRY, posting_id=posting_id, account=account, amount=amount)


class LedgerEntry(NamedTuple):
    """One entry, and the posting it is part of; `place` is its place in the ledger."""

    place: int
    created_at_ms: int
    posting_id: str
    kind: str
    account: str
    amount_micro_usd: int


async def entries_after(
    tx: Transaction, place: int, *, since_ms: int, until_ms: int, wallet: str, limit: int
) -> list[LedgerEntry]:
    """At most `limit` entries behind `place`, from `since_ms` on and before `until_ms`.

    Those of one wallet, or, without its address, all.
    """
    rows = await tx.all(
        _EXPORT, after=place, since_ms=since_ms, until_ms=until_ms, wallet=wallet, limit=limit
    )
    return [LedgerEntry(*row) for row in rows]


async def add_postings(
    tx: Transaction, *, kind: str, amounts: Mapping[str, Mapping[str, int]], now_ms: int
) -> None:
    """As `add_posting`, for many at once: each one's amounts by account, by the posting's id."""
    await tx.execute_many(
        _ADD_POSTING,
        [{"id": posting_id, "kind": kind, "now_ms": now_ms} for posting_id in amounts],
    )
    await tx.execute_many(
        _ADD_ENTRY,
        [
            {"posting_id": posting_id, "account": account, "amount": amount}
            for posting_id, of_accounts in amounts.items()
            for account, amount in of_accounts.items()
        ],
    )


async def set_warned(tx: Transaction, wallet: str, hours: int | None) -> None:
    """Note the last warning; None when there is enough again."""
    await tx.execute(_SET_WARNED, wallet=wallet, hours=hours)


async def sum_of_entries(db: Database) -> int:
    """The whole ledger's sum: zero at every commit."""
    row = await db.one(_SUM_OF_ENTRIES)
    return int(row[0]) if row else 0


async def sum_of_account(db: Database, account: str) -> int:
    """One account's sum over all entries."""
    row = await db.one(_SUM_OF_ACCOUNT, account=account)
    return int(row[0]) if row else 0

"""Queries over wallets and the ledger's postings."""

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore

from moorage.money import MicroUsd
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import entries, postings, wallets

_BALANCE = Statement(
    select(wallets.c.balance_micro_usd).where(wallets.c.address == bindparam("wallet"))
)
_ENSURE_WALLET = Statement(
    insert_or_ignore(wallets)
    .values(address=bindparam("wallet"), balance_micro_usd=0, created_at_ms=bindparam("now_ms"))
    .on_conflict_do_nothing()
)
_CHANGE_BALANCE = Statement(
    update(wallets)
    .where(
        wallets.c.address == bindparam("wallet"),
        or_(bindparam("amount") >= 0, wallets.c.balance_micro_usd + bindparam("amount") >= 0),
    )
    .values(balance_micro_usd=wallets.c.balance_micro_usd + bindparam("amount"))
)
_OWE = Statement(
    update(wallets)
    .where(wallets.c.address == bindparam("wallet"))
    .values(balance_micro_usd=wallets.c.balance_micro_usd + bindparam("amount"))
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


async def balance(source: Database | Transaction, wallet: str) -> MicroUsd:
    """The wallet's balance; a wallet never seen has none."""
    row = await source.one(_BALANCE, wallet=wallet)
    return MicroUsd(row[0] if row else 0)


async def ensure_wallet(tx: Transaction, wallet: str, *, now_ms: int) -> None:
    """Make the wallet's row, unless there is one."""
    await tx.execute(_ENSURE_WALLET, wallet=wallet, now_ms=now_ms)


async def change_balance(tx: Transaction, wallet: str, amount: int) -> bool:
    """Add `amount` unless it takes what there is not; says whether it did.

    What is added always is, also to a balance that a reversal left below zero.
    """
    return await tx.execute(_CHANGE_BALANCE, wallet=wallet, amount=amount) == 1


async def take_back(tx: Transaction, wallet: str, amount: int) -> None:
    """Take `amount` from the balance, below zero if need be."""
    await tx.execute(_OWE, wallet=wallet, amount=-amount)


async def add_posting(
    tx: Transaction, *, posting_id: str, kind: str, amounts: dict[str, int], now_ms: int
) -> None:
    """Append a posting and its entries. Raises UniqueViolation when it was booked before."""
    await tx.execute(_ADD_POSTING, id=posting_id, kind=kind, now_ms=now_ms)
    for account, amount in amounts.items():
        await tx.execute(_ADD_ENTRY, posting_id=posting_id, account=account, amount=amount)


async def sum_of_entries(db: Database) -> int:
    """The whole ledger's sum: zero at every commit."""
    row = await db.one(_SUM_OF_ENTRIES)
    return int(row[0]) if row else 0


async def sum_of_account(db: Database, account: str) -> int:
    """One account's sum over all entries."""
    row = await db.one(_SUM_OF_ACCOUNT, account=account)
    return int(row[0]) if row else 0

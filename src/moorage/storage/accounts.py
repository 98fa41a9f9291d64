"""Queries over wallets, postings and claimed payments."""

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore

from moorage.money import MicroUsd
from moorage.payments.transfer import Transfer
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.schema import entries, payment_uses, payments, postings, wallets

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
        wallets.c.balance_micro_usd + bindparam("amount") >= 0,
    )
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
_ADD_PAYMENT = Statement(
    insert_or_ignore(payments)
    .values({c.name: bindparam(c.name) for c in payments.c})
    .on_conflict_do_nothing()
)
_CLAIMED = Statement(
    select(payments.c.payer, payments.c.token_address).where(
        payments.c.chain_id == bindparam("chain_id"), payments.c.tx_hash == bindparam("tx_hash")
    )
)
_USES = Statement(
    select(payment_uses.c.wallet, payment_uses.c.project_id, payment_uses.c.deployment_id).where(
        payment_uses.c.chain_id == bindparam("chain_id"),
        payment_uses.c.tx_hash == bindparam("tx_hash"),
    )
)
_ADD_USE = Statement(
    insert(payment_uses).values({c.name: bindparam(c.name) for c in payment_uses.c})
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
    """Add `amount` (either sign) unless the balance would fall below zero; says whether it did."""
    return await tx.execute(_CHANGE_BALANCE, wallet=wallet, amount=amount) == 1


async def add_posting(
    tx: Transaction, *, posting_id: str, kind: str, amounts: dict[str, int], now_ms: int
) -> None:
    """Append a posting and its entries. Raises UniqueViolation when it was booked before."""
    await tx.execute(_ADD_POSTING, id=posting_id, kind=kind, now_ms=now_ms)
    for account, amount in amounts.items():
        await tx.execute(_ADD_ENTRY, posting_id=posting_id, account=account, amount=amount)


async def claim(tx: Transaction, transfer: Transfer, *, credited: MicroUsd, now_ms: int) -> bool:
    """Claim one transfer; False when it was claimed before."""
    touched = await tx.execute(
        _ADD_PAYMENT,
        chain_id=transfer.chain_id,
        tx_hash=transfer.tx_hash,
        log_index=transfer.log_index,
        payer=transfer.payer,
        token=transfer.token,
        token_address=transfer.token_address,
        amount_atomic=str(transfer.amount),
        credited_micro_usd=credited,
        block_number=transfer.block_number,
        block_hash=transfer.block_hash,
        claimed_at_ms=now_ms,
    )
    return touched == 1


async def claimed_in(db: Database, *, chain_id: int, tx_hash: str) -> set[tuple[str, str]]:
    """Payer and token address of each transfer claimed in this transaction."""
    rows = await db.all(_CLAIMED, chain_id=chain_id, tx_hash=tx_hash)
    return {(payer, token_address) for payer, token_address in rows}


async def uses_of(db: Database, *, chain_id: int, tx_hash: str) -> dict[str, tuple[str, str]]:
    """Project and deployment that this transaction paid for, by the wallet that used it."""
    rows = await db.all(_USES, chain_id=chain_id, tx_hash=tx_hash)
    return {wallet: (project_id, deployment_id) for wallet, project_id, deployment_id in rows}


async def add_use(
    tx: Transaction,
    *,
    chain_id: int,
    tx_hash: str,
    wallet: str,
    project_id: str,
    deployment_id: str,
) -> None:
    """Bind a transaction to what it paid for. Raises UniqueViolation when the wallet did before."""
    await tx.execute(
        _ADD_USE,
        chain_id=chain_id,
        tx_hash=tx_hash,
        wallet=wallet,
        project_id=project_id,
        deployment_id=deployment_id,
    )


async def sum_of_entries(db: Database) -> int:
    """The whole ledger's sum: zero at every commit."""
    row = await db.one(_SUM_OF_ENTRIES)
    return int(row[0]) if row else 0


async def sum_of_account(db: Database, account: str) -> int:
    """One account's sum over all entries."""
    row = await db.one(_SUM_OF_ACCOUNT, account=account)
    return int(row[0]) if row else 0

"""Queries that read all the books, for the audit."""

import msgspec
from sqlalchemy import Table, bindparam, exists, func, literal, select, text

from moorage.money import MicroUsd
from moorage.records.payments import Cursor, Payment, Refund
from moorage.storage.database import Record, Statement, Transaction, struct_of, substring
from moorage.storage.money import grants, payments, purses, refunds
from moorage.storage.money.builds import BuildRun
from moorage.storage.money.grants import Grant
from moorage.storage.money.purses import Purse
from moorage.storage.schema import (
    build_runs,
    entries,
    payment_uses,
    postings,
    projects,
    relay_transactions,
    run_intervals,
    settlements,
    wallets,
    watch_cursors,
)
from moorage.storage.schema import refunds as refund_rows

_UUID_CHARACTERS = 36


class Posting(msgspec.Struct, frozen=True):
    """An event of the ledger with all its entries, in micro-USD by account."""

    id: str
    amounts: dict[str, int]


class BilledInterval(msgspec.Struct, frozen=True):
    """A run interval, with the wallet that was charged and the price."""

    id: str
    wallet: str
    project_id: str
    monthly_price_micro_usd: MicroUsd
    started_at_ms: int
    ended_at_ms: int | None
    charged_until_ms: int
    charged_micro_usd: MicroUsd


class Settled(msgspec.Struct, frozen=True):
    """An authorization, and the transaction that settled it."""

    id: str
    chain_id: int
    token_address: str
    payer: str
    status: str
    tx_hash: str | None


class Use(msgspec.Struct, frozen=True):
    """That a wallet has used what it paid in a transaction."""

    chain_id: int
    tx_hash: str
    wallet: str


class RefundTransaction(msgspec.Struct, frozen=True):
    """A transaction that was signed for a refund."""

    subject_id: str  # the refund
    tx_hash: str
    sender: str


class Books(msgspec.Struct, frozen=True):
    """Everything that the audit compares, as of one moment.

    Burns and builds, which are many, are sums; every other posting has its entries.
    """

    unbalanced: dict[str, int]  # postings whose entries do not sum to zero, or that have none
    accounts: dict[str, int]  # each account's sum
    balances: dict[str, int]  # each wallet's cached balance
    purses: tuple[Purse, ...]
    postings: tuple[Posting, ...]  # all but burns and builds
    intervals: tuple[BilledInterval, ...]
    builds: tuple[BuildRun, ...]
    built: dict[str, dict[str, int]]  # sums of builds by account, by build run
    burned: dict[str, dict[str, int]]  # sums of burns by account, by run interval
    payments: tuple[Payment, ...]
    refunds: tuple[Refund, ...]
    refund_transactions: tuple[RefundTransaction, ...]
    grants: tuple[Grant, ...]
    settlements: tuple[Settled, ...]
    uses: tuple[Use, ...]
    cursors: tuple[Cursor, ...]


_amount = entries.c.amount_micro_usd
_UNBALANCED = Statement(
    select(entries.c.posting_id, func.sum(_amount))
    .group_by(entries.c.posting_id)
    .having(func.sum(_amount) != 0)
)
_EMPTY = Statement(
    select(postings.c.id, literal(0)).where(~exists().where(entries.c.posting_id == postings.c.id))
)
_ACCOUNTS = Statement(select(entries.c.account, func.sum(_amount)).group_by(entries.c.account))
_BALANCES = Statement(select(wallets.c.address, wallets.c.balance_micro_usd))
_POSTINGS = Statement(
    select(postings.c.id, entries.c.account, _amount)
    .join(entries, entries.c.posting_id == postings.c.id)
    .where(postings.c.kind.not_in(["burn", "build"]))
)
_BUILT = Statement(  # from "build:" to the character after ":"
    select(
        substring(entries.c.posting_id, len("build:") + 1, _UUID_CHARACTERS),
        entries.c.account,
        func.sum(_amount),
    )
    .where(entries.c.posting_id > "build:", entries.c.posting_id < "build;")
    .group_by(text("1"), entries.c.account)
)
_interval = substring(entries.c.posting_id, len("burn:") + 1, _UUID_CHARACTERS)
_BURNED = Statement(  # one pass, as there are many: from "burn:" to the character after ":"
    select(_interval, entries.c.account, func.sum(_amount))
    .where(entries.c.posting_id > "burn:", entries.c.posting_id < "burn;")
    .group_by(_interval, entries.c.account)
)
_INTERVALS = Statement(
    select(
        run_intervals.c.id,
        projects.c.wallet,
        projects.c.id,
        func.coalesce(run_intervals.c.monthly_price_micro_usd, projects.c.monthly_price_micro_usd),
        run_intervals.c.started_at_ms,
        run_intervals.c.ended_at_ms,
        run_intervals.c.charged_until_ms,
        run_intervals.c.charged_micro_usd,
    ).join(projects, projects.c.id == run_intervals.c.project_id)
)
_HISTORY = Statement(
    select(entries.c.posting_id, _amount)
    .where(entries.c.account == bindparam("account"))
    .order_by(entries.c.place)  # as they were committed: a clock may step back
)


def _every(kind: type[msgspec.Struct], table: Table) -> Statement:
    return Statement(select(*(table.c[name] for name in kind.__struct_fields__)))


_REFUND_TRANSACTIONS = Statement(
    select(
        relay_transactions.c.subject_id, relay_transactions.c.tx_hash, relay_transactions.c.sender
    ).join(refund_rows, refund_rows.c.id == relay_transactions.c.subject_id)
)
_BUILDS = _every(BuildRun, build_runs)
_SETTLEMENTS = _every(Settled, settlements)
_USES = _every(Use, payment_uses)
_CURSORS = _every(Cursor, watch_cursors)


async def books(tx: Transaction) -> Books:
    """Returns the books as `tx`, a snapshot, sees them."""
    return Books(
        unbalanced=dict([*await tx.all(_UNBALANCED), *await tx.all(_EMPTY)]),
        accounts=dict(await tx.all(_ACCOUNTS)),
        balances=dict(await tx.all(_BALANCES)),
        purses=tuple(await purses.every(tx)),
        postings=await _postings(tx),
        intervals=await _rows(tx, _INTERVALS, BilledInterval),
        builds=await _rows(tx, _BUILDS, BuildRun),
        built=await _by_name(tx, _BUILT),
        burned=await _by_name(tx, _BURNED),
        payments=await payments.every(tx),
        refunds=await refunds.every(tx),
        refund_transactions=await _rows(tx, _REFUND_TRANSACTIONS, RefundTransaction),
        grants=await grants.every(tx),
        settlements=await _rows(tx, _SETTLEMENTS, Settled),
        uses=await _rows(tx, _USES, Use),
        cursors=await _rows(tx, _CURSORS, Cursor),
    )


async def history(tx: Transaction, account: str) -> list[tuple[str, int]]:
    """Returns each posting that changed an account, and its amount, in the order of commits."""
    return [(posting_id, amount) for posting_id, amount in await tx.all(_HISTORY, account=account)]


async def _by_name(tx: Transaction, statement: Statement) -> dict[str, dict[str, int]]:
    """Returns sums by account, by the run or interval in the postings' ids."""
    moved: dict[str, dict[str, int]] = {}
    for name, account, amount in await tx.all(statement):
        moved.setdefault(name, {})[account] = amount
    return moved


async def _postings(tx: Transaction) -> tuple[Posting, ...]:
    amounts: dict[str, dict[str, int]] = {}
    for posting_id, account, amount in await tx.all(_POSTINGS):
        amounts.setdefault(posting_id, {})[account] = amount
    return tuple(Posting(posting_id, parts) for posting_id, parts in amounts.items())


async def _rows(tx: Transaction, statement: Statement, kind: type[Record]) -> tuple[Record, ...]:
    return tuple(struct_of(kind, row) for row in await tx.all(statement))

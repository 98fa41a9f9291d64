"""Queries that read all the books and their states, for the audit."""

from typing import NamedTuple

import msgspec
from sqlalchemy import BindParameter, and_, bindparam, case, exists, func, literal, select, text

from moorage.money import MicroUsd
from moorage.records.access import StoredDelegation
from moorage.records.payments import Cursor, Payment, PaymentStatus, Quote, Refund, SettlementStatus
from moorage.storage import delegations
from moorage.storage.database import Statement, Transaction, columns_of, given, substring
from moorage.storage.money import accounts, grants, marks
from moorage.storage.money.accounts import Purse
from moorage.storage.money.billing import Work, WorkKind
from moorage.storage.money.grants import Grant
from moorage.storage.money.payments import every as every_payment
from moorage.storage.money.refunds import every as every_refund
from moorage.storage.money.refunds import not_final
from moorage.storage.schema import (
    entries,
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
    transfers,
    wallets,
)
from moorage.storage.work_schema import work


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
_NEW_PRICES = Statement(
    select(
        price_changes.c.project_id, price_changes.c.applied_at_ms, price_changes.c.after_micro_usd
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
_OPEN_REFUNDS = Statement(select(refunds.c.id, refunds.c.created_at_ms).where(not_final))
_QUOTES = Statement(select(*columns_of(quotes, Quote)))
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
    return await tx.values(_UNBILLED)


async def new_prices(tx: Transaction) -> list[tuple[str, int, int]]:
    """Returns new prices in force: the project's id, since when in billed time, and a month's."""
    return [(project_id, at_ms, price) for project_id, at_ms, price in await tx.all(_NEW_PRICES)]


async def billed_up_to(tx: Transaction) -> int | None:
    """Returns the furthest billed time that a gateway has recorded."""
    return await tx.value(_BILLED_UP_TO)


async def unresolved(tx: Transaction) -> list[tuple[str, int]]:
    """Returns settlements without an outcome, and the Unix second their authorization expires."""
    return [(found, int(ends)) for found, ends in await tx.all(_UNRESOLVED)]


async def credited_settlements(tx: Transaction) -> list[CreditedSettlement]:
    """Returns settlements that are not `settled`, although their own transaction is credited."""
    return await tx.records(CreditedSettlement, _CREDITED)


async def open_refunds(tx: Transaction) -> list[tuple[str, int]]:
    """Returns refunds that are not final, and when they were made."""
    return [(found, at_ms) for found, at_ms in await tx.all(_OPEN_REFUNDS)]


async def all_quotes(tx: Transaction) -> list[Quote]:
    """Returns every stored quote."""
    return await tx.records(Quote, _QUOTES)


async def paid_by_wallet(tx: Transaction) -> dict[str, int]:
    """Returns the worth of all payments of each wallet, of any status, in micro-USD."""
    return dict(await tx.all(_PAID))


async def untold_releases(tx: Transaction, *, since_ms: int) -> list[str]:
    """Returns postings after `since_ms` that released a held payment without an event."""
    return await tx.values(_UNTOLD, since_ms=since_ms)


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
    project_price_micro_usd: MicroUsd  # that its project costs a month in its state, now
    asleep: bool = False
    project_sleeps: bool = False  # now
    at_limit: bool = False  # whether it ended at its project's limit of the month


class Settled(msgspec.Struct, frozen=True):
    """An authorization, and the transaction that settled it."""

    id: str
    chain_id: int
    token_address: str
    payer: str
    status: str
    tx_hash: str | None


class Given(NamedTuple):
    """A project that was given to another wallet."""

    id: str
    project_id: str
    giver: str
    taker: str
    with_purse: bool


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

    Burns, builds and runs, which are many, are sums; every other posting has its entries.
    """

    unbalanced: dict[str, int]  # postings whose entries do not sum to zero, or that have none
    accounts: dict[str, int]  # each account's sum
    balances: dict[str, int]  # each wallet's cached balance
    purses: tuple[Purse, ...]
    postings: tuple[Posting, ...]  # all but burns, builds and runs
    intervals: tuple[BilledInterval, ...]
    work: tuple[Work, ...]
    worked: dict[str, dict[str, int]]  # sums of builds and runs by account, by kind and id
    burned: dict[str, dict[str, int]]  # sums of burns by account, by run interval
    payments: tuple[Payment, ...]
    refunds: tuple[Refund, ...]
    refund_transactions: tuple[RefundTransaction, ...]
    grants: tuple[Grant, ...]
    given: tuple[Given, ...]
    settlements: tuple[Settled, ...]
    uses: tuple[Use, ...]
    delegations: tuple[StoredDelegation, ...]
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
    .where(postings.c.kind.not_in(["burn", *WorkKind]))
)


def _worked(kind: WorkKind) -> Statement:
    """Returns the sums of one kind: from "build:" to the character after ":"."""
    return Statement(
        select(
            substring(entries.c.posting_id, 1, len(kind) + 1 + _UUID_CHARACTERS),
            entries.c.account,
            func.sum(_amount),
        )
        .where(entries.c.posting_id > f"{kind}:", entries.c.posting_id < f"{kind};")
        .group_by(text("1"), entries.c.account)
    )


_WORKED = tuple(map(_worked, WorkKind))
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
        run_intervals.c.monthly_price_micro_usd,
        run_intervals.c.started_at_ms,
        run_intervals.c.ended_at_ms,
        run_intervals.c.charged_until_ms,
        run_intervals.c.charged_micro_usd,
        case(
            (run_intervals.c.asleep, projects.c.asleep_price_micro_usd),
            else_=projects.c.monthly_price_micro_usd,
        ),
        run_intervals.c.asleep,
        projects.c.asleep_since_ms.is_not(None),
        run_intervals.c.at_limit,
    )
    .join(projects, projects.c.id == run_intervals.c.project_id)
    .order_by(run_intervals.c.started_at_ms)
)
_HISTORY = Statement(
    select(entries.c.posting_id, _amount)
    .where(*given(entries, "account"))
    .order_by(entries.c.place)  # as they were committed: a clock may step back
)


_REFUND_TRANSACTIONS = Statement(
    select(
        relay_transactions.c.subject_id, relay_transactions.c.tx_hash, relay_transactions.c.sender
    ).join(refunds, refunds.c.id == relay_transactions.c.subject_id)
)
_GIVEN = Statement(
    select(*columns_of(transfers, Given)).where(transfers.c.accepted_at_ms.is_not(None))
)
_WORK = Statement(select(*columns_of(work, Work)))
_SETTLEMENTS = Statement(select(*columns_of(settlements, Settled)))
_USES = Statement(select(*columns_of(payment_uses, Use)))


async def books(tx: Transaction) -> Books:
    """Returns the books as `tx`, a snapshot, sees them."""
    return Books(
        unbalanced=dict([*await tx.all(_UNBALANCED), *await tx.all(_EMPTY)]),
        accounts=dict(await tx.all(_ACCOUNTS)),
        balances=dict(await tx.all(_BALANCES)),
        purses=tuple(await accounts.every_purse(tx)),
        postings=await _postings(tx),
        intervals=tuple(await billed_intervals(tx)),
        work=tuple(await tx.records(Work, _WORK)),
        worked=await _by_name(tx, *_WORKED),
        burned=await _by_name(tx, _BURNED),
        payments=await every_payment(tx),
        refunds=await every_refund(tx),
        refund_transactions=tuple(await tx.records(RefundTransaction, _REFUND_TRANSACTIONS)),
        grants=await grants.every(tx),
        given=tuple(await tx.records(Given, _GIVEN)),
        settlements=tuple(await tx.records(Settled, _SETTLEMENTS)),
        uses=tuple(await tx.records(Use, _USES)),
        delegations=tuple(await delegations.every(tx)),
        cursors=tuple(await marks.searches(tx)),
    )


async def billed_intervals(tx: Transaction) -> list[BilledInterval]:
    """Returns every run interval, the earliest first."""
    return await tx.records(BilledInterval, _INTERVALS)


async def history(tx: Transaction, account: str) -> list[tuple[str, int]]:
    """Returns each posting that changed an account, and its amount, in the order of commits."""
    return [(posting_id, amount) for posting_id, amount in await tx.all(_HISTORY, account=account)]


async def _by_name(tx: Transaction, *statements: Statement) -> dict[str, dict[str, int]]:
    """Returns sums by account, by the work or interval in the postings' ids."""
    moved: dict[str, dict[str, int]] = {}
    for statement in statements:
        for name, account, amount in await tx.all(statement):
            moved.setdefault(name, {})[account] = amount
    return moved


async def _postings(tx: Transaction) -> tuple[Posting, ...]:
    amounts: dict[str, dict[str, int]] = {}
    for posting_id, account, amount in await tx.all(_POSTINGS):
        amounts.setdefault(posting_id, {})[account] = amount
    return tuple(Posting(posting_id, parts) for posting_id, parts in amounts.items())

"""Queries over balances, purses, the ledger and the statement of an account.

A `holder` of credits is a wallet, by its address, or a project's purse, as `purse_of` names it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Table,
    Text,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
    update,
)

from moorage.acting import ACTING
from moorage.errors import WriteConflict
from moorage.money import MicroUsd
from moorage.storage.database import (
    MAX_IDS,
    Database,
    Row,
    Source,
    Statement,
    Transaction,
    Upsert,
    Value,
    given,
    is_listed,
    listed,
    substring,
)
from moorage.storage.schema import (
    entries,
    postings,
    projects,
    purses,
    relay_transactions,
    run_intervals,
    settlements,
    transfers,
    wallets,
)
from moorage.storage.work_schema import work


class Purse(NamedTuple):
    """One row of `purses`."""

    project_id: str
    wallet: str
    balance: MicroUsd  # below zero only after the reversal of a payment that opened the project
    shared: bool  # whether its project burns its wallet's credits after this
    adopted: bool  # False while a payment alone rules the project: nothing of its wallet's counts
    limit: MicroUsd | None  # the most that its project burns in a calendar month

    @property
    def is_plain(self) -> bool:
        """Whether it is as if there were none: its project burns its wallet's credits alone."""
        return self.shared and self.balance == 0 and self.limit is None


_COLUMNS = (
    purses.c.project_id,
    purses.c.wallet,
    purses.c.balance_micro_usd,
    purses.c.shared,
    purses.c.adopted,
    purses.c.limit_month_micro_usd,
)
_this = purses.c.project_id == bindparam("purse")
_ONE = Statement(select(*_COLUMNS).where(_this))
_OF_WALLET = Statement(
    select(*_COLUMNS)
    .where(*given(purses, wallet="of_wallet"))
    .order_by(purses.c.created_at_ms, purses.c.project_id)
)
_EVERY = Statement(select(*_COLUMNS))
_OF_PROJECTS = Statement(select(*_COLUMNS).where(is_listed(purses.c.project_id)))
_OPEN = Statement(
    Upsert(
        table=purses,
        values={
            "project_id": bindparam("purse"),
            "wallet": bindparam("of_wallet"),
            "balance_micro_usd": 0,
            "shared": bindparam("is_adopted"),
            "adopted": bindparam("is_adopted"),
            "created_at_ms": bindparam("now_ms"),
        },
    )
)
_ADOPT = Statement(
    update(purses)
    .where(_this, or_(purses.c.shared.is_(False), purses.c.balance_micro_usd != 0))
    .values(shared=true(), adopted=true(), warned_hours=null())
)
_LEAVE = Statement(
    update(purses).where(_this).values(shared=false(), adopted=false(), warned_hours=null())
)
_SET_TERMS = Statement(
    update(purses)
    .where(_this)
    .values(
        shared=bindparam("is_shared"),
        adopted=true(),
        limit_month_micro_usd=bindparam("new_limit"),
        warned_hours=null(),
    )
)
_LEFT_BEHIND = Statement(
    select(*_COLUMNS)
    .outerjoin(projects, projects.c.id == purses.c.project_id)
    .where(
        purses.c.balance_micro_usd > 0,
        or_(
            projects.c.deleted_at_ms.is_not(None),
            projects.c.id.is_(None) & (purses.c.created_at_ms <= bindparam("before_ms")),
        ),
    )
)
_FILLED_BY = Statement(
    select(settlements.c.purse)
    .join_from(relay_transactions, settlements, settlements.c.id == relay_transactions.c.subject_id)
    .where(
        *given(relay_transactions, chain_id="of_chain", tx_hash="of_hash"),
        *given(settlements, "payer", "token_address", "amount_atomic"),
        settlements.c.purse.is_not(None),
    )
)


def unadopted(project_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Returns the condition of an outer join that finds the purse of a project which a payment
    alone opened, while its wallet has not adopted it.
    """
    return (purses.c.project_id == project_id) & purses.c.adopted.is_(False)


async def purse(source: Source, project_id: str) -> Purse | None:
    """Returns the purse of a project, if it ever had one."""
    return await source.record(Purse, _ONE, purse=project_id)


async def purses_of_projects(source: Source, ids: Collection[str]) -> dict[str, Purse]:
    """Returns the purses that these projects ever had."""
    left, found = sorted(ids), {}
    for at in range(0, len(left), MAX_IDS):
        part = await source.records(Purse, _OF_PROJECTS, **listed(left[at : at + MAX_IDS]))
        found.update({each.project_id: each for each in part})
    return found


async def purses_of_wallet(source: Source, wallet: str) -> list[Purse]:
    """Returns the purses that a wallet's projects ever had, the oldest first."""
    return await source.records(Purse, _OF_WALLET, of_wallet=wallet)


async def every_purse(source: Source) -> list[Purse]:
    """Returns every purse that there ever was."""
    return await source.records(Purse, _EVERY)


async def purses_left_behind(source: Source, *, before_ms: int) -> list[Purse]:
    """Returns purses with credits of deleted projects, and of none that came since `before_ms`."""
    return await source.records(Purse, _LEFT_BEHIND, before_ms=before_ms)


async def open_purse(
    tx: Transaction, project_id: str, *, wallet: str, adopted: bool, now_ms: int
) -> Purse:
    """Makes a project's purse, unless there is one; `adopted`, it shares its wallet's credits."""
    await tx.execute(_OPEN, purse=project_id, of_wallet=wallet, is_adopted=adopted, now_ms=now_ms)
    found = await purse(tx, project_id)
    if found is None:
        raise WriteConflict
    return found


async def adopt_purse(tx: Transaction, project_id: str) -> bool:
    """Records that the project shares its wallet's credits; the caller moves its purse's rest.

    Returns False if it shares them already, and the purse is empty.
    """
    return await tx.execute(_ADOPT, purse=project_id) == 1


async def leave_purse(tx: Transaction, project_id: str) -> None:
    """Records that the project lives from its purse alone, as a payment alone has opened it."""
    await tx.execute(_LEAVE, purse=project_id)


async def set_terms(
    tx: Transaction, project_id: str, *, shared: bool, limit: MicroUsd | None
) -> None:
    """Records what the project's wallet has ordered: it is adopted by that."""
    await tx.execute(_SET_TERMS, purse=project_id, is_shared=shared, new_limit=limit)


async def purse_filled_by(
    source: Source,
    *,
    chain_id: int,
    tx_hash: str,
    payer: str,
    token_address: str,
    amount_atomic: str,
) -> str | None:
    """Returns the project whose purse a transfer fills, as its authorization was sent for that."""
    return await source.value(
        _FILLED_BY,
        of_chain=chain_id,
        of_hash=tx_hash,
        payer=payer,
        token_address=token_address,
        amount_atomic=amount_atomic,
    )


def _named(kind: str) -> Any:
    """Returns the 36 characters of a posting's id after its kind: of an interval, or of work."""
    return substring(postings.c.id, len(kind) + 2, 36)


_of_run = and_(
    postings.c.kind == "burn",
    run_intervals.c.id == _named("burn"),
)
_of_work = or_(
    and_(postings.c.kind == "build", work.c.id == _named("build")),
    and_(postings.c.kind == "run", work.c.id == _named("run")),
)
_booked = (
    entries.join(postings, postings.c.id == entries.c.posting_id)
    .outerjoin(run_intervals, _of_run)
    .outerjoin(work, _of_work)
)
_used_by = func.coalesce(run_intervals.c.project_id, work.c.project_id)
_asleep = run_intervals.c.asleep
_PAGE = Statement(
    select(
        entries.c.place,
        postings.c.id,
        postings.c.kind,
        postings.c.created_at_ms,
        entries.c.amount_micro_usd,
        _used_by,
    )
    .select_from(_booked)
    .where(*given(entries, "account"), entries.c.place < bindparam("before"))
    .order_by(entries.c.place.desc())
    .limit(bindparam("limit"))
)

MAX_PERIODS = 12
_NEVER_MS = 2**62
_STARTS = [bindparam(f"start_{number}", type_=BigInteger) for number in range(MAX_PERIODS)]
_began = [case((postings.c.created_at_ms >= start, 1), else_=0) for start in _STARTS]
_period = sum(_began, start=literal(0)).label("period")
_of_wallets = transfers.alias()
_booked_sums = (
    select(_period, postings.c.kind, _used_by, _asleep, func.sum(entries.c.amount_micro_usd))
    .select_from(_booked)
    .where(postings.c.created_at_ms < bindparam("until_ms"))
    .group_by("period", postings.c.kind, _used_by, _asleep)
)
_BOOKED = Statement(
    _booked_sums.where(
        entries.c.account.in_(
            union_all(
                select("wallet:" + bindparam("of_wallet", type_=Text)),
                select("project:" + purses.c.project_id).where(
                    *given(purses, wallet="of_wallet"),
                    ~exists().where(
                        transfers.c.project_id == purses.c.project_id,
                        postings.c.id == "transfer:" + transfers.c.id,
                    ),
                ),
            )
        )
    )
)
_BOOKED_BETWEEN = Statement(
    _booked_sums.where(
        entries.c.account == "project:" + bindparam("of_project", type_=Text),
        entries.c.place > bindparam("after"),
        entries.c.place < bindparam("before"),
    )
)
_HANDED_OVER = Statement(
    select(transfers.c.project_id, transfers.c.giver, transfers.c.taker, entries.c.place)
    .join_from(
        transfers,
        entries,
        and_(
            entries.c.posting_id == "transfer:" + transfers.c.id,
            entries.c.account == "wallet:" + transfers.c.giver,
        ),
    )
    .where(
        transfers.c.project_id.in_(
            select(_of_wallets.c.project_id).where(
                or_(
                    _of_wallets.c.giver == bindparam("of_wallet"),
                    _of_wallets.c.taker == bindparam("of_wallet"),
                )
            )
        )
    )
    .order_by(entries.c.place)
)


class BookedSum(NamedTuple):
    """What was booked in a period on a wallet and the purses of its projects."""

    period: int  # 0: before the first; n: from the nth start on
    kind: str
    project_id: str | None  # of burns and builds
    asleep: bool  # of burns: what it burned asleep
    amount: int  # micro-USD; what is taken is negative


async def booked_sums(
    source: Source, wallet: str, *, starts_ms: Sequence[int], until_ms: int
) -> list[BookedSum]:
    """Returns sums of all that was booked before a time, by period; at most 12 `starts_ms`."""
    starts = [*starts_ms, *[_NEVER_MS] * (MAX_PERIODS - len(starts_ms))]
    given = {f"start_{number}": start_ms for number, start_ms in enumerate(starts)}
    rows = await source.all(_BOOKED, of_wallet=wallet, until_ms=until_ms, **given)
    for project_id, after, before in await _had_purses(source, wallet):
        places: dict[str, Value] = {"of_project": project_id, "after": after, "before": before}
        rows += await source.all(_BOOKED_BETWEEN, until_ms=until_ms, **places, **given)
    return [
        BookedSum(int(period), kind, used_by, bool(asleep), int(total))
        for period, kind, used_by, asleep, total in rows
    ]


async def _had_purses(source: Source, wallet: str) -> list[tuple[str, int, int]]:
    """Returns purses of projects that changed hands, and between which places they were a wallet's.

    A purse is its giver's up to the posting of the transfer, and its taker's after it.
    """
    found: list[tuple[str, int, int]] = []
    last: dict[str, tuple[str, int]] = {}
    for project_id, giver, taker, place in await source.all(_HANDED_OVER, of_wallet=wallet):
        if giver == wallet:
            found.append((project_id, last.get(project_id, ("", 0))[1], place))
        last[project_id] = (taker, place)
    now = [(each, place) for each, (taker, place) in last.items() if taker == wallet]
    return found + [(each, place, _NEVER_MS) for each, place in now]


_since = bindparam("since_ms", type_=Text)  # as ids have it
_BURNED_SINCE = Statement(
    select(entries.c.account, -func.sum(entries.c.amount_micro_usd))
    .join_from(
        run_intervals,
        entries,
        and_(
            entries.c.posting_id > "burn:" + run_intervals.c.id + ":" + _since,
            entries.c.posting_id < "burn:" + run_intervals.c.id + ";",
            entries.c.amount_micro_usd < 0,
        ),
    )
    .where(*given(run_intervals, project_id="of_project"))
    .group_by(entries.c.account)
)


async def burned_since(source: Source, project_id: str, since_ms: int) -> dict[str, int]:
    """Returns what a project's running has burned since a billed time, by account.

    It must have been charged up to that time, so that no booking lies on both sides of it.
    """
    rows = await source.all(_BURNED_SINCE, of_project=project_id, since_ms=str(since_ms))
    return {account: int(amount) for account, amount in rows}


_GIVEN = ("grant", "given", "transfer")
_of_this_wallet = entries.c.account == "wallet:" + bindparam("of_wallet", type_=Text)
_first_given = (
    select(func.min(entries.c.place))
    .where(_of_this_wallet, or_(*(entries.c.posting_id.like(f"{kind}:%") for kind in _GIVEN)))
    .scalar_subquery()
)
_since_given = (
    select(
        entries.c.amount_micro_usd,
        case((postings.c.kind.in_(_GIVEN), entries.c.amount_micro_usd), else_=0).label("given"),
        func.sum(entries.c.amount_micro_usd).over(order_by=entries.c.place).label("so_far"),
    )
    .join_from(entries, postings, postings.c.id == entries.c.posting_id)
    .where(
        entries.c.place >= _first_given,
        postings.c.kind.in_([*_GIVEN, "burn", "build", "run", "compensated"]),
        entries.c.account.in_(
            union_all(
                select("wallet:" + bindparam("of_wallet", type_=Text)),
                select("project:" + purses.c.project_id).where(*given(purses, wallet="of_wallet")),
                select("project:" + transfers.c.project_id).where(
                    *given(transfers, giver="of_wallet")
                ),
            )
        ),
    )
    .subquery()
)
_LEFT_OF_GIVEN = Statement(
    select(
        func.coalesce(func.sum(_since_given.c.amount_micro_usd), 0),
        func.coalesce(func.min(_since_given.c.so_far), 0),
        func.coalesce(func.sum(_since_given.c.given), 0),
    )
)
_PURSES_HAVE = Statement(
    select(func.coalesce(func.sum(purses.c.balance_micro_usd), 0)).where(
        *given(purses, wallet="of_wallet"), purses.c.adopted.is_(True)
    )
)


async def left_of_given(source: Source, wallet: str) -> MicroUsd:
    """Returns what is left of the credits that the operator, or another wallet, gave a wallet.

    What its projects burned afterwards was taken from these first.
    """
    ((moved, least, given),) = await source.all(_LEFT_OF_GIVEN, of_wallet=wallet)
    return MicroUsd(max(0, min(int(moved) - min(0, int(least)), int(given))))


async def purses_have(source: Source, wallet: str) -> MicroUsd:
    """Returns what a wallet's projects have in purses that it has a say in."""
    return MicroUsd(await source.number(_PURSES_HAVE, of_wallet=wallet))


class StatementEntry(NamedTuple):
    """One change of a wallet's balance; `place` is its position in the ledger."""

    place: int
    posting_id: str
    kind: str
    created_at_ms: int
    amount: MicroUsd
    project_id: str | None  # of a burn, a build or a run


async def statement_page(
    source: Source, *, account: str, before: int, limit: int
) -> list[StatementEntry]:
    """Returns at most `limit` entries of an account before a place, the newest first."""
    return await source.records(StatementEntry, _PAGE, account=account, before=before, limit=limit)


_COMMITTED = Statement(
    select(func.coalesce(func.sum(-entries.c.amount_micro_usd), 0))
    .join_from(postings, entries, entries.c.posting_id == postings.c.id)
    .where(
        postings.c.acted_by == bindparam("delegate"),
        postings.c.acted_by != "",  # as the index has it
        postings.c.created_at_ms >= bindparam("since_ms"),
        postings.c.kind == "purse",
        entries.c.account == "wallet:" + bindparam("owner", type_=Text),
        entries.c.amount_micro_usd < 0,
    )
)
_WORKED = Statement(
    select(func.coalesce(func.sum(work.c.charged_micro_usd), 0))
    .select_from(work)
    .outerjoin(purses, (purses.c.project_id == work.c.project_id) & purses.c.shared.is_(False))
    .where(
        *given(work, wallet="owner", acted_by="delegate"),
        work.c.started_at_ms >= bindparam("since_ms"),
        purses.c.project_id.is_(None),
    )
)


async def committed_by(source: Source, *, owner: str, delegate: str, since_ms: int) -> MicroUsd:
    """Returns what a delegate has committed of its owner's credits since a time.

    That is what it moved into purses, and what builds and runs that it began since then burned.
    """
    given: dict[str, Any] = {"owner": owner, "delegate": delegate, "since_ms": since_ms}
    moved, worked = await source.number(_COMMITTED, **given), await source.number(_WORKED, **given)
    return MicroUsd(moved + worked)


_PURSE = "project:"


class _Balances(NamedTuple):
    """The statements that read and change the balances, and last warnings, of a table."""

    read: Statement
    warn: Statement
    add: Statement
    take: Statement


def _balances(table: Table, key: ColumnElement[str]) -> _Balances:
    this, balance = key == bindparam("holder"), table.c.balance_micro_usd
    changed = update(table).where(this)
    amount: BindParameter[int] = bindparam("amount")
    return _Balances(
        read=Statement(select(balance, table.c.warned_hours).where(this)),
        warn=Statement(changed.values(warned_hours=bindparam("hours"))),
        add=Statement(changed.values(balance_micro_usd=balance + amount)),
        take=Statement(changed.where(balance >= amount).values(balance_micro_usd=balance - amount)),
    )


_OF_WALLETS = _balances(wallets, wallets.c.address)
_OF_PURSES = _balances(purses, purses.c.project_id)
_WALLET = Statement(
    select(wallets.c.balance_micro_usd, wallets.c.warned_hours, wallets.c.blocked_reason).where(
        *given(wallets, address="wallet")
    )
)
_WITH_CREDITS = Statement(
    select(wallets.c.address).where(wallets.c.balance_micro_usd > 0).order_by(wallets.c.address)
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
    .where(*given(wallets, address="wallet"))
    .values(balance_micro_usd=wallets.c.balance_micro_usd)
)
_ADD_POSTING = Statement(
    insert(postings).values(
        id=bindparam("id"),
        kind=bindparam("kind"),
        created_at_ms=bindparam("now_ms"),
        acted_by=bindparam("acted_by"),
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
    select(func.coalesce(func.sum(entries.c.amount_micro_usd), 0)).where(*given(entries, "account"))
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
            entries.c.account.in_(
                select(_PURSE + purses.c.project_id).where(*given(purses, "wallet"))
            ),
        ),
    )
    .order_by(entries.c.place)
    .limit(bindparam("limit"))
)


def purse_of(project_id: str) -> str:
    """Returns the holder of a project's own credits, which is the name of its account as well."""
    return f"{_PURSE}{project_id}"


def purse_in(holder: str) -> str | None:
    """Returns the project whose purse a holder is; None of a wallet."""
    return holder.removeprefix(_PURSE) if holder.startswith(_PURSE) else None


def _statements(holder: str) -> tuple[_Balances, str]:
    """Returns the statements for a holder, and its key."""
    project_id = purse_in(holder)
    return (_OF_WALLETS, holder) if project_id is None else (_OF_PURSES, project_id)


class HolderQuery(NamedTuple):
    """A query of what a wallet has, with the parameter `wallet`; that of a purse, with `purse`."""

    of_wallet: Statement
    of_purse: Statement

    async def all(self, source: Source, holder: str) -> list[Row]:
        """Returns the rows of a holder."""
        project_id = purse_in(holder)
        if project_id is None:
            return await source.all(self.of_wallet, wallet=holder)
        return await source.all(self.of_purse, purse=project_id)

    async def number(self, source: Source, holder: str) -> int:
        """Returns the sum of a holder."""
        return int((await self.all(source, holder))[0][0])


async def balance(source: Source, holder: str) -> MicroUsd:
    """Returns the holder's balance; that of an unknown one is 0."""
    return (await balance_and_warning(source, holder))[0]


async def balance_and_warning(source: Source, holder: str) -> tuple[MicroUsd, int | None]:
    """Returns the balance and the last warning that it runs out; None when there is enough."""
    statements, key = _statements(holder)
    row = await source.one(statements.read, holder=key)
    return (MicroUsd(row[0]), row[1]) if row else (MicroUsd(0), None)


class WalletRow(NamedTuple):
    """A wallet's balance and state."""

    balance: MicroUsd
    warned_hours: int | None
    """The last warning that its credits run out; None when there are enough."""
    blocked_reason: str | None
    """Why the operator has suspended it; None while it is not."""


async def wallet_row(source: Source, wallet: str) -> WalletRow:
    """Returns the wallet; an unknown one has no credits."""
    row = await source.one(_WALLET, wallet=wallet)
    return WalletRow(*row) if row else WalletRow(MicroUsd(0), None, None)


async def ensure_wallet(tx: Transaction, wallet: str, *, now_ms: int) -> None:
    """Makes the wallet's row, unless there is one."""
    await tx.execute(_ENSURE_WALLET, wallet=wallet, now_ms=now_ms)


async def wallets_with_credits(source: Source) -> list[str]:
    """Returns the wallets that have credits of their own."""
    return await source.values(_WITH_CREDITS)


async def lock(tx: Transaction, wallet: str) -> None:
    """Locks the wallet until the transaction ends; others that lock it wait.

    Take it before deciding by the wallet's balance or projects what else is admitted.
    """
    await tx.execute(_LOCK, wallet=wallet)


async def change_balance(tx: Transaction, holder: str, amount: int) -> bool:
    """Adds `amount` to the balance, unless a negative one would take it below zero.

    Returns whether it did. A positive amount is always added, even to a balance below zero.
    """
    statements, key = _statements(holder)
    if amount < 0:
        return await tx.execute(statements.take, holder=key, amount=-amount) == 1
    return await tx.execute(statements.add, holder=key, amount=amount) == 1


async def take_back(tx: Transaction, holder: str, amount: int) -> None:
    """Subtracts `amount` from the balance, which may go below zero."""
    statements, key = _statements(holder)
    await tx.execute(statements.add, holder=key, amount=-amount)


async def add_posting(
    tx: Transaction, *, posting_id: str, kind: str, amounts: dict[str, int], now_ms: int
) -> None:
    """Appends a posting and its entries, which must sum to zero.

    Raises UniqueViolation when it was booked before.
    """
    _require_balance(amounts)
    by = ACTING.get().by
    await tx.execute(_ADD_POSTING, id=posting_id, kind=kind, now_ms=now_ms, acted_by=by)
    for account, amount in amounts.items():
        await tx.execute(_ADD_ENTRY, posting_id=posting_id, account=account, amount=amount)


class LedgerEntry(NamedTuple):
    """One entry with its posting; `place` is its position in the ledger."""

    place: int
    created_at_ms: int
    posting_id: str
    kind: str
    account: str
    amount_micro_usd: int


async def entries_after(
    tx: Transaction, place: int, *, since_ms: int, until_ms: int, wallet: str, limit: int
) -> list[LedgerEntry]:
    """Returns at most `limit` entries after `place`, from `since_ms` on and before `until_ms`.

    With an empty `wallet`, those of all wallets.
    """
    return await tx.records(
        LedgerEntry,
        _EXPORT,
        after=place,
        since_ms=since_ms,
        until_ms=until_ms,
        wallet=wallet,
        limit=limit,
    )


async def add_postings(
    tx: Transaction, *, kind: str, amounts: Mapping[str, Mapping[str, int]], now_ms: int
) -> None:
    """Appends many postings of one kind; `amounts` has each one's amounts by account, by its id.

    Each must sum to zero.
    """
    for of_accounts in amounts.values():
        _require_balance(of_accounts)
    await tx.execute_many(
        _ADD_POSTING,
        [
            {"id": posting_id, "kind": kind, "now_ms": now_ms, "acted_by": ""}
            for posting_id in amounts
        ],
    )
    await tx.execute_many(
        _ADD_ENTRY,
        [
            {"posting_id": posting_id, "account": account, "amount": amount}
            for posting_id, of_accounts in amounts.items()
            for account, amount in of_accounts.items()
        ],
    )


def _require_balance(amounts: Mapping[str, int]) -> None:
    if sum(amounts.values()) != 0:
        raise ValueError(f"a posting must sum to zero: {amounts}")


async def set_warned(tx: Transaction, holder: str, hours: int | None) -> None:
    """Records the last warning; None when there are enough credits again."""
    statements, key = _statements(holder)
    await tx.execute(statements.warn, holder=key, hours=hours)


async def sum_of_entries(db: Database) -> int:
    """Returns the sum of the whole ledger, which is zero at every commit."""
    return await db.number(_SUM_OF_ENTRIES)


async def sum_of_account(db: Database, account: str) -> int:
    """Returns the sum of an account's entries."""
    return await db.number(_SUM_OF_ACCOUNT, account=account)

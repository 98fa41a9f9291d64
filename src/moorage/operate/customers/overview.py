"""The customers: what they have and run, credits given by hand, and what is told and allowed."""

import re
import uuid
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from moorage.clock import SystemClock, boot_id
from moorage.errors import InvalidField
from moorage.ledger import ledger
from moorage.ledger.metering import BilledTime
from moorage.ledger.running_costs import HOUR_MS, owed, runs_out_at
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.operate.books import OpenBooks, note_act
from moorage.records.event import EventKind
from moorage.records.project import SHARING_STATUSES, ProjectStatus
from moorage.storage import events
from moorage.storage.money import billing, grants
from moorage.storage.money.billing import RunInterval
from moorage.storage.money.grants import Grant
from moorage.storage.operation import overview, wallet_rules
from moorage.storage.operation.overview import ProjectRow, WalletRow
from moorage.storage.operation.wallet_rules import NoticeKind, WalletRule

MAX_PROJECTS = 999_999
"""The most projects that a wallet may be allowed."""

_MOST_GIVEN = 1_000_000 * MICRO_USD_PER_USD
_DOLLARS = re.compile(r"\$?([0-9]+(?:\.[0-9]{0,6})?)")


async def maintenance(books: OpenBooks, *, begin: bool, words: str) -> None:
    """Begins or ends maintenance; `words` are told to whoever would deploy."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        if begin:
            await wallet_rules.put_notice(tx, NoticeKind.MAINTENANCE, words, now_ms=now_ms)
            await note_act(tx, books.operator, "begin maintenance", "the gateway", reason=words)
        elif await wallet_rules.remove_notice(tx, NoticeKind.MAINTENANCE):
            await note_act(tx, books.operator, "end maintenance", "the gateway")


async def notices(books: OpenBooks) -> dict[str, str]:
    """Returns the text of each notice that is in force, by its kind."""
    return await wallet_rules.current_notices(books.db)


async def announce(books: OpenBooks, words: str) -> int:
    """Tells every wallet that has a project, by an event, and shows the words until others come.

    Returns how many wallets are told. Without words, ends what is shown.
    """
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        if not words:
            if await wallet_rules.remove_notice(tx, NoticeKind.ANNOUNCEMENT):
                await note_act(tx, books.operator, "end announcement", "all wallets")
            return 0
        await wallet_rules.put_notice(tx, NoticeKind.ANNOUNCEMENT, words, now_ms=now_ms)
        notified = sorted(await overview.wallets_with_projects(tx))
        for wallet in notified:
            await events.record(
                tx, wallet=wallet, kind=EventKind.ANNOUNCEMENT, data={"text": words}, now_ms=now_ms
            )
        await note_act(tx, books.operator, "announce", "all wallets", reason=words)
        return len(notified)


async def allow(
    books: OpenBooks,
    wallet: str,
    *,
    listed: bool | None,
    max_projects: int | None,
    reason: str = "",
) -> WalletRule:
    """Changes what a wallet is allowed; None leaves it as it is. -1 projects: as the setting.

    Raises InvalidField for more than MAX_PROJECTS.
    """
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


async def allowed(books: OpenBooks) -> Sequence[WalletRule]:
    """Returns the rules of all wallets that have one."""
    return await wallet_rules.every_wallet_rule(books.db)


def granted(field: str, text: str) -> MicroUsd:
    """Returns the dollars to be given that a field names. Raises InvalidField."""
    if not (dollars := _DOLLARS.fullmatch(text.strip())):
        raise InvalidField(field, "must be dollars as a decimal, such as 5 or 0.25")
    amount = Decimal(dollars[1]) * MICRO_USD_PER_USD
    if not 0 < amount <= _MOST_GIVEN:
        raise InvalidField(field, "must be more than 0, and a million at most")
    return MicroUsd(int(amount))


async def grant(
    books: OpenBooks, *, wallet: str, amount: MicroUsd, reason: str, grant_id: str | None = None
) -> Grant:
    """Gives a wallet credits; returns what was recorded.

    Raises UniqueViolation where there is a grant of this id.
    """
    now_ms = SystemClock().now_ms()
    given = Grant(
        id=grant_id or str(uuid.uuid4()),
        wallet=wallet,
        amount_micro_usd=amount,
        reason=reason,
        created_at_ms=now_ms,
    )
    async with books.db.transaction(durable=True) as tx:
        await ledger.grant(tx, given, now_ms=now_ms)
        await note_act(tx, books.operator, "give credits", f"{given.id} to {wallet}", reason=reason)
    return given


async def undo_grant(books: OpenBooks, grant_id: str, *, reason: str = "") -> Grant:
    """Takes a grant back; returns it. Raises InvalidField if it can't be taken back whole."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        given = await grants.one(tx, grant_id)
        if given is None:
            raise InvalidField(
                "--undo", "no grant has this id; `moorage operator credit --list` has them"
            )
        if given.undone_at_ms is not None:
            raise InvalidField("--undo", "it was taken back before; nothing was changed")
        if not await ledger.undo_grant(tx, given, now_ms=now_ms):
            raise InvalidField(
                "--undo", f"{given.wallet} has fewer credits than that; nothing was taken back"
            )
        about = f"{given.id} of {given.wallet}"
        await note_act(tx, books.operator, "take credits back", about, reason=reason)
    return msgspec.structs.replace(given, undone_at_ms=now_ms)


async def all_grants(books: OpenBooks) -> tuple[Grant, ...]:
    """Returns every grant, the oldest first."""
    return await grants.every(books.db)


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet and where it stands; amounts in micro-USD."""

    wallet: str
    balance: MicroUsd  # less what has burned and is not booked yet
    a_month: MicroUsd  # what a month of all that runs costs
    runs_out_at_ms: int | None  # None while nothing burns
    paid: MicroUsd  # all its payments, less refunds
    given: MicroUsd  # by hand
    active: int  # projects that run, or are being deployed
    suspended: int
    projects: int
    since_ms: int
    blocked_reason: str | None


class ProjectUse(msgspec.Struct, frozen=True, kw_only=True):
    """A project of any wallet, and what it used of late."""

    project: ProjectRow
    runs: bool  # whether it is billed now


async def wallets(books: OpenBooks) -> list[Customer]:
    """Returns every wallet that has credits or projects or ever had, the largest burn first."""
    async with books.db.snapshot() as snapshot:
        billed = BilledTime(clock=SystemClock(), boot_id=boot_id(), gateway="")
        await billed.resume(books.db)
        now_ms = billed.now_ms()
        paid, given = (
            await overview.paid_by_wallet(snapshot),
            await overview.given_by_wallet(snapshot),
        )
        burning: defaultdict[str, list[RunInterval]] = defaultdict(list)
        for interval in await billing.every_open(snapshot):
            burning[interval.wallet].append(interval)
        has: defaultdict[str, list[ProjectRow]] = defaultdict(list)
        for project in await overview.every_project(snapshot):
            has[project.wallet].append(project)
        found = []
        for row in await overview.every_wallet(snapshot):
            sharing = [each for each in burning[row.address] if each.shared]
            runs_out = runs_out_at(row.balance, sharing, now_ms=now_ms)
            found.append(
                _customer(
                    row,
                    burning[row.address],
                    has[row.address],
                    now_ms=now_ms,
                    runs_out_at_ms=None if runs_out is None else billed.wall_ms(runs_out),
                    paid=paid.get(row.address, 0),
                    given=given.get(row.address, 0),
                )
            )
    return sorted(found, key=lambda each: (-each.a_month, -each.balance, each.wallet))


async def projects(books: OpenBooks, *, hours: int) -> list[ProjectUse]:
    """Returns every project that is not deleted, those that used most processor time first.

    With what was used in the last hours.
    """
    since_ms = SystemClock().now_ms() - hours * HOUR_MS
    async with books.db.snapshot() as snapshot:
        running = {each.project_id for each in await billing.every_open(snapshot)}
        rows = await overview.every_project(snapshot, used_since_ms=since_ms)
    used = [ProjectUse(project=row, runs=row.id in running) for row in rows]
    return sorted(used, key=lambda each: (-each.project.cpu_ms, each.project.name))


def _customer(
    row: WalletRow,
    burning: list[RunInterval],
    has: list[ProjectRow],
    *,
    now_ms: int,
    runs_out_at_ms: int | None,
    paid: int,
    given: int,
) -> Customer:
    return Customer(
        wallet=row.address,
        balance=MicroUsd(row.balance - owed(burning, at_ms=now_ms)),
        a_month=MicroUsd(sum(each.monthly_price_micro_usd for each in burning)),
        runs_out_at_ms=runs_out_at_ms,
        paid=MicroUsd(paid),
        given=MicroUsd(given),
        active=sum(each.status in SHARING_STATUSES for each in has),
        suspended=sum(each.status == ProjectStatus.SUSPENDED for each in has),
        projects=len(has),
        since_ms=row.since_ms,
        blocked_reason=row.blocked_reason,
    )

"""Metering: projects burn their purses and their wallets' credits by recorded intervals."""

import asyncio
import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from moorage.clock import Clock, iso_utc
from moorage.errors import CommitUnknown, CreditsShort, FailureCause, WriteConflict
from moorage.ledger import ledger
from moorage.ledger.ledger import Burned
from moorage.ledger.running_costs import (
    HOUR_MS,
    MONTH_MS,
    WARNINGS_HOURS,
    Waiting,
    charge_up_to,
    hour_of,
    month_of,
    owed,
    promised_ms,
    resumable,
    runs_out_at,
    warning_hours,
)
from moorage.metrics import record_unbooked
from moorage.money import NOTHING, MicroUsd, usd_number, usd_text
from moorage.records.event import EventData, EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.records.size import Size, SizePrice
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts, billing
from moorage.storage.money.accounts import Purse
from moorage.storage.money.billing import Charge, Reading, RunInterval
from moorage.storage.operation import price_changes
from moorage.storage.operation.price_changes import PriceChange


class BilledTime:
    """Starts from wall time at the very first start, then adds monotonic time.

    Each gateway stores its own, by its id, as each machine stops separately.
    """

    def __init__(self, *, clock: Clock, boot_id: str, gateway: str) -> None:
        self._clock = clock
        self._gateway = gateway
        self._boot_id = boot_id
        self._ahead_ms = clock.now_ms() - self._monotonic_ms()
        self._stopped_at_ms = 0  # how far it had come when the machine was last down

    def now_ms(self) -> int:
        """Returns the billed time now; it never decreases."""
        return self._monotonic_ms() + self._ahead_ms

    def wall_ms(self, billed_ms: int) -> int:
        """Returns the wall time at a billed time, if the machine runs without a stop."""
        return self._clock.now_ms() + billed_ms - self.now_ms()

    def at_wall(self, wall_ms: int) -> int:
        """Returns the billed time at a wall time in the past; of one at which the machine was down,
        the billed time at which it stopped.
        """
        return max(self._stopped_at_ms, self.now_ms() - (self._clock.now_ms() - wall_ms))

    async def resume(self, db: Database) -> int:
        """Goes on from the last stored reading; returns the milliseconds that passed since it."""
        reading = await billing.last_reading(db, self._gateway)
        if reading is None:
            return 0
        monotonic_ms = self._monotonic_ms()
        unread_ms = 0
        if reading.boot_id == self._boot_id:
            unread_ms = max(0, monotonic_ms - reading.monotonic_ms)
        else:
            self._stopped_at_ms = reading.billed_ms
        self._ahead_ms = reading.billed_ms + unread_ms - monotonic_ms
        return unread_ms

    async def note(self, tx: Transaction) -> None:
        """Stores the reading, for the next start."""
        await billing.note_reading(
            tx,
            self._gateway,
            Reading(
                billed_ms=self.now_ms(), monotonic_ms=self._monotonic_ms(), boot_id=self._boot_id
            ),
        )

    def _monotonic_ms(self) -> int:
        return round(self._clock.monotonic_seconds() * 1000)


log = structlog.get_logger()

AT_ONCE = 250
"""How many intervals one transaction charges: other writers and the loop wait no longer."""

_TURN = 50  # wallets checked before other tasks have their turn

_ENOUGH_HOURS = max(WARNINGS_HOURS) + 3  # no warning is due then, whatever is not booked yet


_Due = PriceChange | RunInterval


AT_LIMIT = "It has burned what its limit lets it in this month; it starts again in the next."


class Spent(NamedTuple):
    """The time that a project was billed in one of its states, and what it burned in that."""

    ms: int
    burned: MicroUsd


class PurseChange(msgspec.Struct, frozen=True):
    """What a wallet orders for the purse of one of its projects; None and UNSET leave it."""

    add: MicroUsd = NOTHING
    take: MicroUsd = NOTHING
    shared: bool | None = None
    limit: MicroUsd | UnsetType | None = UNSET


class Metering:
    """Charges run intervals hour by hour, and at their end.

    `boot_id` changes when the machine is restarted, which ends its apps; `gateway` is the id under
    which billed time is stored. `compensates` is whether what lost apps burn is given back.
    """

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        boot_id: str = "",
        gateway: str = "",
        compensates: bool = True,
    ) -> None:
        self._db = db
        self._clock = clock
        self.time = BilledTime(clock=clock, boot_id=boot_id, gateway=gateway)
        self._compensates = compensates
        self._apart: set[str] = set()  # what could not be booked at the last tick

    async def resume(self, serving: Collection[str]) -> None:
        """Continues billing after a start, from where the gateway stopped.

        `serving` are the deployments whose apps run. The others are not billed for the time since
        the gateway last ran, as nobody knows when they ended.
        """
        unread_ms = await self.time.resume(self._db)
        async with self._db.transaction(durable=True) as tx:
            await billing.delay(tx, except_serving=serving, by_ms=unread_ms)
            await self.time.note(tx)

    async def bills(self, source: Source, project_id: str) -> bool:
        """Returns whether a project is being billed."""
        return await billing.open_of(source, project_id) is not None

    async def begin(self, tx: Transaction, project_id: str) -> None:
        """Starts billing a project, unless it is being billed, or free without its certificate.

        Stores billed time too, so that after a crash of the machine it is not before this start.
        """
        project = await projects.by_id(tx, project_id)
        is_free = project is not None and project.uncertified_since_ms is not None
        if not is_free and not await self.bills(tx, project_id):
            await self._open(tx, project_id, self.time.now_ms())
            await self.time.note(tx)

    async def begin_or_suspend(self, tx: Transaction, project: Project) -> bool:
        """Starts billing a project, or suspends it if what it can burn does not pay an hour of it.

        It must not be billed yet, and may be asleep. Returns whether it is served. Its wallet is
        told of a suspension.
        """
        before = await projects.by_id(tx, project.id)
        since_ms = project.suspended_at_ms or self.time.now_ms()
        await projects.suspend(tx, project.id, at_ms=since_ms)
        if not await self.may_resume(tx, project):
            if project.status is not ProjectStatus.SUSPENDED:
                at_limit = await self.is_at_limit(tx, project)
                await self._tell_suspended(tx, project.id, project.wallet, at_limit=at_limit)
            return False
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
        if before is not None and before.asleep_since_ms is not None:
            await projects.sleep_on(tx, project.id, since_ms=before.asleep_since_ms)
        await self.begin(tx, project.id)
        return True

    async def follow(self, tx: Transaction, project: Project) -> bool:
        """Bills an awake project at the price that its row has now, if it is billed; `tx` is
        durable.

        Suspends it instead, and returns False, if what it can burn does not pay an hour at that.
        """
        interval = await billing.outdated_of(tx, project.id)
        if interval is None:
            return True
        await self.end(tx, project.id)
        if not await self.begin_or_suspend(tx, project):
            return False
        await self._warn(tx, [interval])
        return True

    async def price_of(self, source: Source, project: Project, size: Size) -> SizePrice:
        """Returns what a project pays for a size, a month.

        That is what it pays now, or paid when it had that size, while its first months last.
        """
        listed = SizePrice(size.month, size.asleep_month)
        if size.name == project.size:
            return project.price
        kept = price_changes.prices_of(project).get(size.name)
        interval = await billing.open_of(source, project.id)
        ran_ms = await price_changes.ran_ms(source, project.id)
        if interval is not None:
            ran_ms += self.time.now_ms() - interval.started_at_ms
        if kept is None or ran_ms >= project.months * MONTH_MS:
            return listed
        return SizePrice(*map(min, kept, listed))

    async def resize(self, tx: Transaction, project: Project, size: Size) -> None:
        """Gives a project a size and its price, and cancels a new price of the one that it had.

        `follow` bills it so, if it is billed.
        """
        if size.name != project.size:
            price = await self.price_of(tx, project, size)
            await price_changes.resize(tx, project, size.name, price)

    async def wake(self, tx: Transaction, project: Project) -> bool:
        """Marks a project as awake, and bills it so; `tx` is durable.

        Suspends it instead, and returns False, if what it can burn does not pay an hour awake.
        """
        await projects.wake(tx, project.id)
        return await self.follow(tx, project)

    async def fall_asleep(self, tx: Transaction, project: Project, *, serving: str) -> bool:
        """Marks an active project as asleep, and bills it so; `tx` is durable.

        Returns False when it is asleep already, another deployment serves or one is under way; and
        when its credits have run out: then it is suspended.
        """
        at_ms = self._clock.now_ms()
        if not await projects.fall_asleep(tx, project.id, serving=serving, at_ms=at_ms):
            return False
        await self.regain(tx, project)
        interval = await billing.outdated_of(tx, project.id)
        if interval is not None:
            await self._cut(tx, interval)
            await self.time.note(tx)
        current = await projects.by_id(tx, project.id)
        return current is not None and current.asleep_since_ms is not None

    async def end(self, tx: Transaction, project_id: str) -> None:
        """Charges what a project owes and stops billing it."""
        interval = await billing.open_of(tx, project_id)
        if interval is None:
            return
        now_ms = max(self.time.now_ms(), interval.charged_until_ms)
        burned = (await self._charge(tx, {interval: now_ms}))[interval]
        await billing.close(tx, interval.id, at_ms=now_ms, at_limit=burned.at_limit)

    async def lose(self, tx: Transaction, project_id: str) -> None:
        """Begins to give back what a project burns, as the machine or the engine lost its app.

        Its interval ends, and another begins: so each booking is of one side alone.
        """
        interval = await billing.open_of(tx, project_id)
        if self._compensates and interval is not None:
            at_ms = await self._cut(tx, interval)
            await projects.lose(tx, project_id, at_ms=at_ms)
            await self.time.note(tx)

    async def regain(self, tx: Transaction, project: Project) -> None:
        """Gives back what a project has burned since its app was lost, if it was; `tx` is durable.

        It gives back what was booked, to the accounts that paid it.
        """
        since_ms = project.lost_since_ms
        if since_ms is None or not await projects.regain(tx, project.id, since_ms=since_ms):
            return
        interval = await billing.open_of(tx, project.id)
        if interval is not None:
            await self._cut(tx, interval)
            await self.time.note(tx)
        burned = await accounts.burned_since(tx, project.id, since_ms)
        await ledger.compensate(tx, project, burned, since_ms=since_ms, now_ms=self._clock.now_ms())

    async def _cut(self, tx: Transaction, interval: RunInterval) -> int:
        """Charges and ends an interval, and begins another, unless the credits have run out.

        Then the project is suspended. Returns when it ended.
        """
        now_ms = max(self.time.now_ms(), interval.charged_until_ms)
        if not await self._end_or_suspend(tx, interval, now_ms):
            await self._open(tx, interval.project_id, now_ms)
        return now_ms

    async def settle(self, tx: Transaction, holder: str) -> None:
        """Charges all that a holder's credits pay up to now, so that the rest is not owed.

        Each interval ends, and another begins, unless the credits have run out: then the project is
        suspended.
        """
        for interval in await billing.open_of_holder(tx, holder):
            await self._cut(tx, interval)

    async def adopt(self, tx: Transaction, project: Project) -> MicroUsd:
        """Moves the rest of a project's purse to its wallet's credits, which it then shares.

        Returns what moved; what the purse owes, the wallet then owes. Does nothing, and returns
        NOTHING, if the project shares them already.
        """
        purse = await accounts.purse(tx, project.id)
        if purse is None or (purse.shared and not purse.balance):
            return NOTHING
        await self.settle(tx, accounts.purse_of(project.id))
        now_ms = self._clock.now_ms()
        moved = await ledger.empty_purse(tx, project.id, now_ms=now_ms)
        await self.suspend_unpaid(tx, project.wallet)
        await self.time.note(tx)
        data: EventData = {"project_id": project.id, "moved_usd": usd_number(moved)}
        await events.record(
            tx, wallet=project.wallet, kind=EventKind.PROJECT_ADOPTED, data=data, now_ms=now_ms
        )
        return moved

    async def close(self, tx: Transaction, project_id: str) -> None:
        """Stops billing a project that is deleted; the rest of its purse moves to its wallet.

        What the purse owes stays there; nobody owes it.
        """
        await self.end(tx, project_id)
        if await accounts.balance(tx, accounts.purse_of(project_id)) >= 0:
            await ledger.empty_purse(tx, project_id, now_ms=self._clock.now_ms())

    async def change_purse(self, tx: Transaction, project: Project, change: PurseChange) -> Purse:
        """Moves credits between a project's purse and its wallet's, and sets its terms.

        What burned until now is booked first. Suspends projects that have no credits afterwards.
        Raises CreditsShort, with nothing changed, if there is less than is to move.
        """
        now_ms = self._clock.now_ms()
        await accounts.ensure_wallet(tx, project.wallet, now_ms=now_ms)
        await self.settle(tx, project.wallet)
        purse = await accounts.open_purse(
            tx, project.id, wallet=project.wallet, adopted=True, now_ms=now_ms
        )
        if not purse.shared:
            await self.settle(tx, accounts.purse_of(project.id))
        if not purse.adopted and purse.balance < 0:  # its wallet takes it over with what it owes
            await ledger.empty_purse(tx, project.id, now_ms=now_ms)
        wallet, holder = project.wallet, accounts.purse_of(project.id)
        if not await ledger.move(tx, wallet, holder, change.add, now_ms=now_ms):
            has = usd_text(await accounts.balance(tx, project.wallet))
            raise CreditsShort(f"Your credits are {has}: less than add_usd. Nothing was moved.")
        if not await ledger.move(tx, holder, wallet, change.take, now_ms=now_ms):
            has = usd_text(await accounts.balance(tx, accounts.purse_of(project.id)))
            raise CreditsShort(f"The purse has {has}: less than take_usd. Nothing was moved.")
        shared = purse.shared if change.shared is None else change.shared
        limit = purse.limit if isinstance(change.limit, UnsetType) else change.limit
        await accounts.set_terms(tx, project.id, shared=shared, limit=limit)
        await self.suspend_unpaid(tx, project.wallet)
        await self.suspend_unpaid(tx, accounts.purse_of(project.id))
        await self.time.note(tx)
        balance = await accounts.balance(tx, accounts.purse_of(project.id))
        data: EventData = {
            "project_id": project.id,
            "added_usd": usd_number(change.add),
            "taken_usd": usd_number(change.take),
            "balance_usd": usd_number(balance),
        }
        kind = EventKind.PURSE_CHANGED
        await events.record(tx, wallet=project.wallet, kind=kind, data=data, now_ms=now_ms)
        return purse._replace(balance=balance, shared=shared, adopted=True, limit=limit)

    async def tick(self) -> list[str]:
        """Charges every interval that ran another full hour; suspends projects out of credits.

        New prices that are due come first. What can't be booked is tried again at each tick, after
        the others. Last, purses without a project are emptied to their wallets, and stopped
        projects that were lost get back what they burned. Returns the ids of suspended projects.
        """
        now_ms = self.time.now_ms()
        suspended: list[str] = []
        failed: list[_Due] = []
        is_last = False
        while not is_last:
            due: Sequence[_Due] = ()
            alone: Sequence[_Due] = ()
            try:
                async with self._db.transaction(durable=True) as tx:
                    due, is_last = await self._due(tx, now_ms, except_=failed)
                    alone = [each for each in due if _name(each) in self._apart]
                    together = [each for each in due if each not in alone]
                    stopped = await self._book(tx, together, now_ms)
                    if is_last:
                        await self._share_purses_left_behind(tx)
                        await self.time.note(tx)
            except CommitUnknown:
                raise
            except Exception as error:
                if not due:
                    raise
                log.warning("a booking failed: each is tried by itself", error=str(error))
                suspended += await self._book_each(due, now_ms, failed)
            else:
                suspended += stopped
                suspended += await self._book_each(alone, now_ms, failed)
        if failed:
            async with self._db.transaction(durable=True) as tx:
                await self.time.note(tx)
        for lost in await projects.lost_and_over(self._db):
            async with self._db.transaction(durable=True) as tx:
                await self.regain(tx, lost)
        self._apart = {_name(each) for each in failed}
        record_unbooked(len(failed))
        return suspended

    async def _due(
        self, tx: Transaction, now_ms: int, *, except_: Sequence[_Due]
    ) -> tuple[Sequence[_Due], bool]:
        """Returns what is to be booked next, and whether there is no more after it."""
        limit = AT_ONCE + len(except_)
        changes = [
            each
            for each in await price_changes.due(tx, now_ms=self._clock.now_ms(), limit=limit)
            if each not in except_
        ]
        if changes:
            return changes[:AT_ONCE], False
        read = await billing.due(tx, charged_before_ms=now_ms - HOUR_MS, limit=limit)
        due = [each for each in read if each not in except_]
        return due[:AT_ONCE], len(read) < limit

    async def _book(self, tx: Transaction, due: Sequence[_Due], now_ms: int) -> list[str]:
        """Books new prices and full hours; returns the projects that it suspended."""
        suspended: list[str] = []
        for each in due:
            if isinstance(each, PriceChange):
                suspended += await self._reprice(tx, each, now_ms)
        hours = [each for each in due if isinstance(each, RunInterval)]
        return suspended + await self._charge_hours(tx, hours, now_ms)

    async def _book_each(self, due: Sequence[_Due], now_ms: int, failed: list[_Due]) -> list[str]:
        """Books each in a transaction of its own; adds to `failed` what can't be.

        Raises DatabaseUnavailable if it is the database that fails.
        """
        suspended: list[str] = []
        for each in due:
            try:
                async with self._db.transaction(durable=True) as tx:
                    stopped = await self._book(tx, [each], now_ms)
            except CommitUnknown:
                raise
            except Exception:
                await self._db.check()
                log.exception("it cannot be booked", of=_name(each), project=each.project_id)
                failed.append(each)
            else:
                suspended += stopped
        return suspended

    async def _share_purses_left_behind(self, tx: Transaction) -> None:
        now_ms = self._clock.now_ms()
        for purse in await accounts.purses_left_behind(tx, before_ms=now_ms - ledger.MAX_ENTRY_MS):
            await ledger.empty_purse(tx, purse.project_id, now_ms=now_ms)

    async def may_resume(self, source: Source, project: Project) -> bool:
        """Returns whether what it can burn lets a suspended project start again."""
        reach = await ledger.reach(source, project.id, wallet=project.wallet)
        if reach.total <= 0:
            return False
        burning: list[RunInterval] = []
        if reach.wallet is None:
            suspended = await projects.suspended_alone(source, project.id)
        else:
            burning = await billing.open_of_wallet(source, project.wallet)
            suspended = await projects.suspended_of_wallet(source, project.wallet)
        waiting = await self._waiting(source, suspended)
        balance = reach.wallet or NOTHING
        return project.id in resumable(balance, burning, waiting, now_ms=self.time.now_ms())

    async def _waiting(self, source: Source, suspended: Sequence[Project]) -> list[Waiting]:
        """Returns suspended projects with what their purses have, and their limits let them."""
        purses = await accounts.purses_of_projects(source, [each.id for each in suspended])
        found = []
        for each in suspended:
            price, purse = each.monthly_price_micro_usd, purses.get(each.id)
            if purse is None:
                found.append(Waiting(each.id, price))
            else:
                rest = await self.rest_of_month(source, each.id, purse.limit)
                found.append(Waiting(each.id, price, purse.balance, rest))
        return found

    async def rest_of_month(
        self, source: Source, project_id: str, limit: MicroUsd | None
    ) -> MicroUsd | None:
        """Returns what the limit still lets a project burn this month; None without a limit.

        At zero or less the limit is reached.
        """
        if limit is None:
            return None
        month = month_of(self.time.now_ms())
        return MicroUsd(limit - await ledger.spent_in(source, project_id, month))

    async def is_at_limit(self, source: Source, project: Project) -> bool:
        """Returns whether its limit alone lets a suspended project run no more in this month."""
        purse = await accounts.purse(source, project.id)
        limit = None if purse is None else purse.limit
        rest = await self.rest_of_month(source, project.id, limit)
        if rest is None or rest >= max(1, hour_of(project.monthly_price_micro_usd)):
            return False
        return (await ledger.reach(source, project.id, wallet=project.wallet)).total > 0

    async def runs_until(self, source: Source, interval: RunInterval) -> int | None:
        """Returns the first time at which a running project can burn no more; None: never.

        That of its limit counts if it comes in this month.
        """
        now_ms = self.time.now_ms()
        alone = [msgspec.structs.replace(interval, purse=NOTHING)]
        until_ms = runs_out_at(interval.purse, alone, now_ms=now_ms)
        if interval.shared and until_ms is not None:
            balance = await accounts.balance(source, interval.wallet)
            burning = await billing.open_of_wallet(source, interval.wallet)
            until_ms = max(until_ms, runs_out_at(balance, burning, now_ms=now_ms) or until_ms)
        limit_ms = await self._limit_at(source, interval)
        return min((each for each in (until_ms, limit_ms) if each is not None), default=None)

    async def _limit_at(self, source: Source, interval: RunInterval) -> int | None:
        """Returns when a running project reaches its limit, if it does in this month."""
        rest = await self.rest_of_month(source, interval.project_id, interval.limit)
        if rest is None:
            return None
        now_ms = self.time.now_ms()
        alone = [msgspec.structs.replace(interval, purse=NOTHING)]
        at_ms = runs_out_at(rest, alone, now_ms=now_ms)
        return at_ms if at_ms is not None and at_ms < month_of(now_ms).end_ms else None

    async def spent(
        self, source: Source, project_id: str, *, start_ms: int, end_ms: int
    ) -> dict[bool, Spent]:
        """Returns what a project spent between two times of the clock: asleep (True), and awake.

        That is what was booked, and of an interval that is open what it costs until now.
        """
        start_ms, end_ms = self.time.at_wall(start_ms), self.time.at_wall(end_ms)
        now_ms = self.time.now_ms()
        ran, _ = await billing.burned_around(source, project_id, start_ms=start_ms, end_ms=end_ms)
        spent = dict.fromkeys((False, True), Spent(0, NOTHING))
        for each in ran:
            is_open = each.ended_at_ms is None
            until_ms = min(end_ms, now_ms if each.ended_at_ms is None else each.ended_at_ms)
            since_ms = min(max(start_ms, each.started_at_ms), until_ms)
            before, after = (
                charge_up_to(at_ms - each.started_at_ms, monthly_price=each.monthly_price)
                for at_ms in (since_ms, until_ms)
            )
            burned = (
                after - before if is_open else min(each.charged, after) - min(each.charged, before)
            )
            total = spent[each.asleep]
            spent[each.asleep] = Spent(
                total.ms + until_ms - since_ms, MicroUsd(total.burned + burned)
            )
        return spent

    async def owes(self, source: Source, holder: str) -> MicroUsd:
        """Returns what apps have burned of a wallet's credits, or of a purse, and is not charged.

        Of a wallet's that is what their purses do not cover.
        """
        return self.owed(await billing.open_of_holder(source, holder))

    def owed(self, burning: Iterable[RunInterval]) -> MicroUsd:
        """Returns what these have burned until now that is not charged yet."""
        return owed(burning, at_ms=self.time.now_ms())

    async def suspend_unpaid(self, tx: Transaction, holder: str) -> None:
        """Suspends the projects of a holder's credits that have nothing left to burn.

        What a wallet owes is first taken out of its purses; projects that burn only these may be
        suspended too.
        """
        await self._cover_debt(tx, holder)
        for purse in await accounts.purses_of_wallet(tx, holder):
            if not purse.shared and purse.balance <= 0:
                await self.suspend_unpaid(tx, accounts.purse_of(purse.project_id))
        has_credits = await accounts.balance(tx, holder) > 0
        for interval in await billing.open_of_holder(tx, holder):
            if has_credits and interval.limit is None:
                continue
            reach = await ledger.reach(tx, interval.project_id, wallet=interval.wallet)
            rest = await self.rest_of_month(tx, interval.project_id, interval.limit)
            at_limit = rest is not None and rest <= 0
            if reach.total <= 0 or at_limit:
                await self._suspend(tx, interval, at_limit=at_limit and reach.total > 0)

    async def _cover_debt(self, tx: Transaction, wallet: str) -> None:
        """Has a wallet's purses pay what it owes, after what their projects burned until now."""
        if await accounts.balance(tx, wallet) >= 0:
            return
        for purse in await accounts.purses_of_wallet(tx, wallet):
            if purse.adopted and purse.balance > 0:
                await self.settle(tx, accounts.purse_of(purse.project_id))
                await self.time.note(tx)
        await ledger.cover_debt(tx, wallet, now_ms=self._clock.now_ms())

    async def _reprice(self, tx: Transaction, change: PriceChange, now_ms: int) -> list[str]:
        """Bills a project at its new price, from the time at which that counts.

        If its first price is still promised, it is asked about later. Returns its id if it has no
        credits left, and is suspended.
        """
        interval = await billing.open_of(tx, change.project_id)
        ran_ms = await price_changes.ran_ms(tx, change.project_id)
        began_ms = now_ms if interval is None else interval.started_at_ms
        promised = promised_ms(change.months, rises=change.rises)
        kept_until_ms = began_ms + promised - ran_ms
        if kept_until_ms > now_ms:
            later_ms = self._clock.now_ms() + kept_until_ms - now_ms
            await price_changes.postpone(tx, change, look_at_ms=later_ms)
            return []
        counts_ms = min(now_ms, max(self.time.at_wall(change.from_ms), kept_until_ms))
        is_out = interval is not None and await self._end_or_suspend(tx, interval, counts_ms)
        await self._put_in_force(tx, change, counts_ms)
        if interval is not None:
            if not is_out:
                until_ms = max(counts_ms, interval.charged_until_ms)
                await self._open(tx, change.project_id, until_ms)
            await self._warn(tx, [interval])
        return [change.project_id] if is_out else []

    async def _open(self, tx: Transaction, project_id: str, at_ms: int) -> None:
        interval_id = str(uuid.uuid4())
        await billing.open_interval(tx, interval_id=interval_id, project_id=project_id, at_ms=at_ms)

    async def _end_or_suspend(self, tx: Transaction, interval: RunInterval, at_ms: int) -> bool:
        """Charges and ends an interval at a time; suspends its project if no credits are left.

        Returns whether it did that.
        """
        at_ms = max(at_ms, interval.charged_until_ms)
        burned = (await self._charge(tx, {interval: at_ms}))[interval]
        if burned.left <= 0:
            await self._suspend(tx, interval, at_limit=burned.at_limit)
            return True
        if not await billing.close(tx, interval.id, at_ms=at_ms):
            raise WriteConflict
        return False

    async def _put_in_force(self, tx: Transaction, change: PriceChange, at_ms: int) -> None:
        """Gives a project its new price, and tells its wallet."""
        if not await price_changes.apply(tx, change, at_ms=at_ms):
            raise WriteConflict
        await events.record(
            tx,
            wallet=change.wallet,
            kind=EventKind.PRICE_CHANGED,
            data={
                "project_id": change.project_id,
                "before_usd_month": usd_number(change.before_micro_usd),
                "usd_month": usd_number(change.after_micro_usd),
            },
            now_ms=self._clock.now_ms(),
        )

    async def _charge_hours(
        self, tx: Transaction, due: Sequence[RunInterval], now_ms: int
    ) -> list[str]:
        """Charges the full hours up to now; suspends and returns projects out of credits."""
        until_ms = {
            each: each.started_at_ms + (now_ms - each.started_at_ms) // HOUR_MS * HOUR_MS
            for each in due
        }
        burned = await self._charge(tx, until_ms)
        suspended = []
        for interval in due:
            if burned[interval].left <= 0:
                await self._suspend(tx, interval, at_limit=burned[interval].at_limit)
                suspended.append(interval.project_id)
                await asyncio.sleep(0)  # gives other tasks their turn
        await self._warn(tx, due)
        return suspended

    async def _charge(
        self, tx: Transaction, until_ms: dict[RunInterval, int]
    ) -> dict[RunInterval, Burned]:
        """Charges each interval up to a time, in this order; returns what it can burn after that.

        An interval over several months is burned month by month, as each has a limit. One whose
        project can burn nothing more is charged no further. Raises WriteConflict or UniqueViolation
        when one was charged elsewhere meanwhile.
        """
        found: dict[RunInterval, Burned] = {}
        taken = dict.fromkeys(until_ms, NOTHING)
        left = {each: (each.charged_until_ms, until) for each, until in until_ms.items()}
        while left:
            ends = {each: min(until, month_of(at).end_ms) for each, (at, until) in left.items()}
            owed = [
                ledger.Burn(
                    each.project_id,
                    each.wallet,
                    MicroUsd(max(0, _owed(each, end) - taken[each])),
                    f"burn:{each.id}:{end}",
                    left[each][0],
                )
                for each, end in ends.items()
            ]
            burned = await ledger.burn(tx, owed, now_ms=self._clock.now_ms())
            for each, part in zip(ends, burned, strict=True):
                found[each] = part
                taken[each] = MicroUsd(taken[each] + part.taken)
            left = {
                each: (ends[each], until)
                for each, (_, until) in left.items()
                if ends[each] < until and found[each].left > 0
            }
        for each, until in until_ms.items():
            if not await billing.charge(tx, Charge(each, until, taken[each])):
                raise WriteConflict
        return found

    async def _suspend(
        self, tx: Transaction, interval: RunInterval, *, at_limit: bool = False
    ) -> None:
        now_ms = max(self.time.now_ms(), interval.charged_until_ms)
        if not await billing.close(tx, interval.id, at_ms=now_ms, at_limit=at_limit):
            return  # its billing ended since the interval was read
        await projects.suspend(tx, interval.project_id, at_ms=now_ms)
        await self._tell_suspended(tx, interval.project_id, interval.wallet, at_limit=at_limit)

    async def _tell_suspended(
        self, tx: Transaction, project_id: str, wallet: str, *, at_limit: bool
    ) -> None:
        data: EventData = {"project_id": project_id}
        if at_limit:
            data = {**data, "reason": AT_LIMIT, "reason_code": FailureCause.AT_LIMIT.value}
        kind, now_ms = EventKind.PROJECT_SUSPENDED, self._clock.now_ms()
        await events.record(tx, wallet=wallet, kind=kind, data=data, now_ms=now_ms)

    async def _warn(self, tx: Transaction, charged: Sequence[RunInterval]) -> None:
        """Warns of what runs out soon: wallets' credits, and what some projects can burn alone."""
        wallets = dict.fromkeys(each.wallet for each in charged if each.shared)
        for number, wallet in enumerate(wallets):
            await self._warn_of(tx, wallet, wallet)
            if number % _TURN == 0:
                await asyncio.sleep(0)
        for each in charged:
            if each.limit is not None or not each.shared:
                await self._warn_of(tx, accounts.purse_of(each.project_id), each.wallet)

    async def _warn_of(self, tx: Transaction, holder: str, wallet: str) -> None:
        """Records, once each, that it lasts so many more hours: a wallet's credits, or a project.

        That of a project goes by its purse, if it burns that alone, and by its limit.
        """
        balance, warned = await accounts.balance_and_warning(tx, holder)
        project_id = accounts.purse_in(holder)
        now_ms = self.time.now_ms()
        runs_out_ms = limit_ms = None
        if project_id is None:
            a_month = await billing.a_month_of_holder(tx, holder)
            if balance * MONTH_MS < a_month * _ENOUGH_HOURS * HOUR_MS:
                burning = await billing.open_of_holder(tx, holder)
                runs_out_ms = runs_out_at(balance, burning, now_ms=now_ms)
        elif (interval := await billing.open_of(tx, project_id)) is not None:
            limit_ms = await self._limit_at(tx, interval)
            if not interval.shared:
                runs_out_ms = await self.runs_until(tx, interval)
            runs_out_ms = runs_out_ms or limit_ms
        due = warning_hours(runs_out_ms, now_ms=now_ms)
        if due == warned:
            return
        await accounts.set_warned(tx, holder, due)
        if due is not None and runs_out_ms is not None and (warned is None or due < warned):
            data: EventData = {
                "hours": due,
                "runs_out_at": iso_utc(self.time.wall_ms(runs_out_ms)),
                "balance_usd": usd_number(balance),
            }
            if project_id is not None:
                data = {**data, "project_id": project_id}
            if runs_out_ms == limit_ms:
                data = {**data, "reason_code": FailureCause.AT_LIMIT.value}
            await events.record(
                tx,
                wallet=wallet,
                kind=EventKind.CREDITS_LOW,
                data=data,
                now_ms=self._clock.now_ms(),
            )


def _name(due: _Due) -> str:
    return due.id if isinstance(due, RunInterval) else f"price:{due.project_id}"


def _owed(interval: RunInterval, until_ms: int) -> MicroUsd:
    total = charge_up_to(
        until_ms - interval.started_at_ms, monthly_price=interval.monthly_price_micro_usd
    )
    return MicroUsd(max(0, total - interval.charged_micro_usd))

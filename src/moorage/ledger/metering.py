"""What running costs, and its metering: credits burn by recorded intervals."""

import asyncio
import uuid
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import structlog

from moorage.clock import Clock, iso_utc
from moorage.errors import CommitUnknown, WriteConflict
from moorage.ledger import ledger
from moorage.metrics import record_unbooked
from moorage.money import MicroUsd, usd_number
from moorage.records.event import EventData, EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts, billing
from moorage.storage.money.billing import Charge, Reading, RunInterval
from moorage.storage.operation import price_changes
from moorage.storage.operation.price_changes import PriceChange

HOUR_MS = 3_600_000
MONTH_MS = 730 * HOUR_MS
"""A month of billing: a twelfth of 365 days."""

WARNINGS_HOURS = (72, 24, 1)
"""A wallet is warned once for each of these, before its credits run out; longest first."""


class Burning(Protocol):
    """A run interval that is still open; times are billed time."""

    @property
    def monthly_price_micro_usd(self) -> MicroUsd:
        """What a month of it costs."""
        ...

    @property
    def started_at_ms(self) -> int:
        """When it began."""
        ...

    @property
    def charged_micro_usd(self) -> MicroUsd:
        """What was booked of its cost so far."""
        ...


class Suspended(Protocol):
    """A suspended project."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def monthly_price_micro_usd(self) -> MicroUsd:
        """What a month of it costs."""
        ...


def charge_up_to(elapsed_ms: int, *, monthly_price: MicroUsd) -> MicroUsd:
    """Returns what `elapsed_ms` of running costs in all, rounded up to the micro-USD."""
    return MicroUsd(-(-monthly_price * max(0, elapsed_ms) // MONTH_MS))


def owed(burning: Iterable[Burning], *, at_ms: int) -> MicroUsd:
    """Returns what these cost up to `at_ms` and is not booked yet."""
    return MicroUsd(sum(max(0, _burn_owed(each, at_ms)) for each in burning))


def runs_out_at(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int | None:
    """Returns the first time from now on at which these have burned the balance, or None."""
    a_month = sum(each.monthly_price_micro_usd for each in burning)
    if a_month == 0:
        return None
    # Rounding up puts each less than 1 micro-USD above the straight line; that bounds the search.
    bill = _Bill(burning, now_ms=now_ms)
    left = balance - bill.owed(now_ms)
    latest = now_ms + max(0, -(-(left + len(burning)) * MONTH_MS // a_month))
    earliest = max(now_ms, now_ms + (left - len(burning)) * MONTH_MS // a_month)
    while earliest < latest:
        middle = (earliest + latest) // 2
        if bill.owed(middle) >= balance:
            latest = middle
        else:
            earliest = middle + 1
    return earliest


def _burn_owed(interval: Burning, at_ms: int) -> int:
    """Returns what an interval costs up to `at_ms`, less what was booked: negative if more was."""
    before_ms = interval.started_at_ms - at_ms
    cost = -(interval.monthly_price_micro_usd * before_ms // MONTH_MS)
    return cost - interval.charged_micro_usd


class _Bill:
    """What intervals owe at any time from `now_ms` on: asked often, of thousands of a few prices.

    Those of one price owe 1 micro-USD more after equal times. So they owe that often what has
    passed of it in whole, and once more each whose own step, its phase, lies in the part begun.
    """

    def __init__(self, burning: Iterable[Burning], *, now_ms: int) -> None:
        self._paid_ahead = []  # few, if any: whose costs have yet to reach what was booked
        self._booked = 0
        self._phases: defaultdict[int, list[int]] = defaultdict(list)  # by price
        for each in burning:
            if _burn_owed(each, now_ms) < 0:
                self._paid_ahead.append(each)
                continue
            price = each.monthly_price_micro_usd
            steps, phase = divmod(price * each.started_at_ms, MONTH_MS)
            self._booked += steps + each.charged_micro_usd
            self._phases[price].append(phase)
        for phases in self._phases.values():
            phases.sort()

    def owed(self, at_ms: int) -> int:
        """Returns what `owed` does."""
        total = owed(self._paid_ahead, at_ms=at_ms) - self._booked
        for price, phases in self._phases.items():
            steps, phase = divmod(price * at_ms, MONTH_MS)
            total += len(phases) * steps + bisect_left(phases, phase)
        return total


def hour_of(*monthly_prices: MicroUsd) -> MicroUsd:
    """Returns the most that one hour of projects at these prices burns."""
    return MicroUsd(
        sum(
            count * charge_up_to(HOUR_MS, monthly_price=price)
            for price, count in Counter(monthly_prices).items()
        )
    )


def resumable(
    balance: MicroUsd, burning: Sequence[Burning], suspended: Iterable[Suspended], *, now_ms: int
) -> set[str]:
    """Returns the ids of a wallet's suspended projects that may start again.

    `suspended` is sorted, longest suspended first. A project may start if the balance pays an hour
    of it and of all that runs or was chosen before it. One that costs too much is skipped.
    """
    left = _left(balance, burning, now_ms=now_ms)
    chosen = set()
    for project in suspended:
        hour = hour_of(project.monthly_price_micro_usd)
        if 0 < left >= hour:
            left -= hour
            chosen.add(project.id)
    return chosen


def lacking(
    balance: MicroUsd, burning: Sequence[Burning], monthly_price: MicroUsd, *, now_ms: int
) -> MicroUsd:
    """Returns the least payment that makes a suspended project of this price `resumable`."""
    left = _left(balance, burning, now_ms=now_ms)
    return MicroUsd(max(0, hour_of(monthly_price) - left))


def _left(balance: MicroUsd, burning: Sequence[Burning], *, now_ms: int) -> int:
    """Returns the balance less what running projects owe, and less one more hour of them."""
    an_hour = hour_of(*(each.monthly_price_micro_usd for each in burning))
    return balance - owed(burning, at_ms=now_ms) - an_hour


def warning_hours(runs_out_ms: int | None, *, now_ms: int) -> int | None:
    """Returns the shortest warning that comes due before the next full hour is booked, or None.

    So a wallet that is warned of 24 hours still has 24 hours.
    """
    if runs_out_ms is None:
        return None
    left_ms = runs_out_ms - now_ms
    due = [hours for hours in WARNINGS_HOURS if left_ms < (hours + 1) * HOUR_MS]
    return min(due, default=None)


def promised_ms(months: int, *, before: MicroUsd, after: MicroUsd) -> int:
    """Returns how long a project is billed at `before` in all, before `after` may count."""
    if after <= before:
        return 0
    return months * MONTH_MS


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


class Metering:
    """Charges run intervals hour by hour, and at their end.

    `boot_id` changes when the machine is restarted, which ends its apps; `gateway` is the id under
    which billed time is stored.
    """

    def __init__(self, *, db: Database, clock: Clock, boot_id: str = "", gateway: str = "") -> None:
        self._db = db
        self._clock = clock
        self.time = BilledTime(clock=clock, boot_id=boot_id, gateway=gateway)
        self._apart: set[str] = set()  # what could not be booked at the last tick

    async def resume(self, serving: Collection[str]) -> None:
        """Goes on billing after a start, from where the gateway stopped.

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
        """Starts billing a project, or suspends it if the credits do not pay an hour of it.

        It must not be billed yet. Returns whether it is served.
        """
        since_ms = project.suspended_at_ms or self.time.now_ms()
        await projects.suspend(tx, project.id, at_ms=since_ms)
        if not await self.may_resume(tx, project):
            return False
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
        await self.begin(tx, project.id)
        return True

    async def end(self, tx: Transaction, project_id: str) -> None:
        """Charges what a project owes and stops billing it."""
        interval = await billing.open_of(tx, project_id)
        if interval is None:
            return
        now_ms = max(self.time.now_ms(), interval.charged_until_ms)
        await self._charge(tx, {interval: now_ms})
        await billing.close(tx, interval.id, at_ms=now_ms)

    async def settle(self, tx: Transaction, holder: str) -> None:
        """Charges what a holder's credits pay up to now, so that what is left is nobody's yet.

        Each interval ends, and another begins, unless the credits have run out: then the project is
        suspended.
        """
        for interval in await billing.open_of_holder(tx, holder):
            now_ms = max(self.time.now_ms(), interval.charged_until_ms)
            if not await self._end_or_suspend(tx, interval, now_ms):
                await self._open(tx, interval.project_id, now_ms)

    async def adopt(self, tx: Transaction, project: Project) -> MicroUsd:
        """Lets a project live from its wallet's credits, to which what its purse has left moves.

        Returns what moved; what the purse owes, the wallet owes then. Does nothing, and returns
        nothing moved, where the project shares them already.
        """
        holder = await ledger.holder_for(tx, project.id, wallet=project.wallet)
        if holder == project.wallet:
            return MicroUsd(0)
        await self.settle(tx, holder)
        now_ms = self._clock.now_ms()
        moved = await ledger.share_purse(tx, project.id, now_ms=now_ms)
        await self.suspend_unpaid(tx, project.wallet)
        await self.time.note(tx)
        data: EventData = {"project_id": project.id, "moved_usd": usd_number(moved)}
        await events.record(
            tx, wallet=project.wallet, kind=EventKind.PROJECT_ADOPTED, data=data, now_ms=now_ms
        )
        return moved

    async def close(self, tx: Transaction, project_id: str) -> None:
        """Stops billing a project that is deleted; what its purse has left moves to its wallet.

        What the purse owes stays there: it is nobody's.
        """
        await self.end(tx, project_id)
        if await accounts.balance(tx, accounts.purse_of(project_id)) >= 0:
            await ledger.share_purse(tx, project_id, now_ms=self._clock.now_ms())

    async def tick(self) -> list[str]:
        """Charges every interval that ran another full hour; suspends projects out of credits.

        New prices that are due come first. What can't be booked is set apart, so that the others
        are, and tried again at each tick. Last, what purses of no project have left moves to their
        wallets. Returns the ids of the projects that it suspended.
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
            await ledger.share_purse(tx, purse.project_id, now_ms=now_ms)

    async def may_resume(self, source: Source, project: Project) -> bool:
        """Returns whether the credits that it lives from let a suspended project start again."""
        holder = await ledger.holder_for(source, project.id, wallet=project.wallet)
        balance = await accounts.balance(source, holder)
        if balance <= 0:
            return False
        burning = await billing.open_of_holder(source, holder)
        if holder == project.wallet:
            suspended = await projects.suspended_of_wallet(source, project.wallet)
        else:
            suspended = await projects.suspended_alone(source, project.id)
        return project.id in resumable(balance, burning, suspended, now_ms=self.time.now_ms())

    async def owes(self, source: Source, holder: str) -> MicroUsd:
        """Returns what a holder's apps have burned that is not charged yet."""
        return self.owed(await billing.open_of_holder(source, holder))

    def owed(self, burning: Iterable[RunInterval]) -> MicroUsd:
        """Returns what these have burned until now that is not charged yet."""
        return owed(burning, at_ms=self.time.now_ms())

    async def suspend_unpaid(self, tx: Transaction, holder: str) -> None:
        """Suspends the projects that burn a holder's credits if all of these were taken back."""
        if await accounts.balance(tx, holder) > 0:
            return
        for interval in await billing.open_of_holder(tx, holder):
            await self._suspend(tx, interval)

    async def _reprice(self, tx: Transaction, change: PriceChange, now_ms: int) -> list[str]:
        """Bills a project at its new price from the moment on at which that counts.

        While its first price is promised it is looked at again later. Returns its id if it has no
        credits left, and is suspended.
        """
        interval = await billing.open_of(tx, change.project_id)
        ran_ms = await price_changes.ran_ms(tx, change.project_id)
        began_ms = now_ms if interval is None else interval.started_at_ms
        promised = promised_ms(
            change.months, before=change.before_micro_usd, after=change.after_micro_usd
        )
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
            await self._warn(tx, interval.holder, wallet=interval.wallet)
        return [change.project_id] if is_out else []

    async def _open(self, tx: Transaction, project_id: str, at_ms: int) -> None:
        interval_id = str(uuid.uuid4())
        await billing.open_interval(tx, interval_id=interval_id, project_id=project_id, at_ms=at_ms)

    async def _end_or_suspend(self, tx: Transaction, interval: RunInterval, at_ms: int) -> bool:
        """Charges and ends an interval at a time; suspends its project if no credits are left.

        Returns whether it did that.
        """
        at_ms = max(at_ms, interval.charged_until_ms)
        if (await self._charge(tx, {interval: at_ms}))[interval] <= 0:
            await self._suspend(tx, interval)
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
        left = await self._charge(tx, until_ms)
        suspended = []
        for interval in due:
            if left[interval] <= 0:
                await self._suspend(tx, interval)
                suspended.append(interval.project_id)
                await asyncio.sleep(0)  # gives other tasks their turn
        wallets = {each.holder: each.wallet for each in due}
        for number, (holder, wallet) in enumerate(wallets.items()):
            await self._warn(tx, holder, wallet=wallet)
            if number % _TURN == 0:
                await asyncio.sleep(0)
        return suspended

    async def _charge(
        self, tx: Transaction, until_ms: dict[RunInterval, int]
    ) -> dict[RunInterval, MicroUsd]:
        """Charges each interval up to a time, in this order; returns the balance after each.

        Raises WriteConflict or UniqueViolation when one was charged elsewhere meanwhile.
        """
        owed = [
            ledger.Burn(each.holder, _owed(each, until), f"burn:{each.id}:{until}")
            for each, until in until_ms.items()
        ]
        burned = await ledger.burn(tx, owed, now_ms=self._clock.now_ms())
        for (each, until), (taken, _) in zip(until_ms.items(), burned, strict=True):
            if not await billing.charge(tx, Charge(each, until, taken)):
                raise WriteConflict
        return {each: left for each, (_, left) in zip(until_ms, burned, strict=True)}

    async def _suspend(self, tx: Transaction, interval: RunInterval) -> None:
        now_ms = max(self.time.now_ms(), interval.charged_until_ms)
        if not await billing.close(tx, interval.id, at_ms=now_ms):
            return  # its billing ended since the interval was read
        await projects.suspend(tx, interval.project_id, at_ms=now_ms)
        await events.record(
            tx,
            wallet=interval.wallet,
            kind=EventKind.PROJECT_SUSPENDED,
            data={"project_id": interval.project_id},
            now_ms=self._clock.now_ms(),
        )

    async def _warn(self, tx: Transaction, holder: str, *, wallet: str) -> None:
        """Records, once each, that credits last 72, 24 or 1 more hours: a wallet's or a purse's."""
        balance, warned = await accounts.balance_and_warning(tx, holder)
        a_month = await billing.a_month_of_holder(tx, holder)
        runs_out_ms, now_ms = None, self.time.now_ms()
        if balance * MONTH_MS < a_month * _ENOUGH_HOURS * HOUR_MS:
            burning = await billing.open_of_holder(tx, holder)
            runs_out_ms = runs_out_at(balance, burning, now_ms=now_ms)
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
            if (project_id := accounts.purse_in(holder)) is not None:
                data = {**data, "project_id": project_id}
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

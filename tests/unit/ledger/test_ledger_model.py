"""Histories of payments, purses, reversals, apps, restarts and clock steps, and a plain model."""

import asyncio
import calendar
import math
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)
from msgspec import UNSET, UnsetType

from moorage.errors import CreditsShort
from moorage.ledger import ledger
from moorage.ledger.ledger import COMPENSATED, EARNED, Transfer, account_of, held_account
from moorage.ledger.metering import Metering, PurseChange
from moorage.money import MicroUsd
from moorage.operate.audit.rows import Finding, audit_books
from moorage.operate.audit.states import audit_states
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.money import accounts, payments
from support.books.book_model import BookModel, run_histories
from support.books.busy_books import refund_part, stored
from support.books.records_fixture import ALICE, ARBITRUM, BOB, add_project, transfer
from support.books.yielding import YieldingDatabase
from support.gateway.clock import HOUR_MS, START_MS

MONTH_MS = Fraction(365 * 24 * HOUR_MS, 12)
WALLETS = (ALICE, BOB)
PRICES = (0, 1, 730_000, 499_999, 12_345_678)


@dataclass
class Stretch:
    """A stretch of time that the model bills."""

    start: int
    until: int  # billed up to here
    charged: int = 0
    open: bool = True


class App:
    """What the model knows of a project."""

    def __init__(self, project: Project, *, opened_at_ms: int | None = None) -> None:
        self.project = project
        self.is_opened = opened_at_ms is not None  # by a payment alone, and not adopted
        self.shared = opened_at_ms is None
        self.limit: int | None = None
        self.purse_made_ms = opened_at_ms
        self.stretches: list[Stretch] = []
        self.status = ProjectStatus.ACTIVE
        self.is_down = False
        self.lost: Counter[str] | None = None  # what it burned of whom since it was lost

    @property
    def is_lost(self) -> bool:
        return self.lost is not None

    @property
    def purse(self) -> str:
        return accounts.purse_of(self.project.id)

    @property
    def paid_to(self) -> str:
        """Whose a payment is that has opened it, or was added to it."""
        return self.purse if self.is_opened else self.project.wallet

    def burns(self, holder: str) -> bool:
        return holder == self.purse or (self.shared and holder == self.project.wallet)

    def spent(self, month: tuple[int, int]) -> int:
        """What was charged for the time of a month: the first of it is charged first."""
        start_ms, end_ms = month
        return sum(
            min(each.charged, price_of(self.project, end_ms - each.start))
            - min(each.charged, price_of(self.project, start_ms - each.start))
            for each in self.stretches
        )

    def rest(self, at_ms: int) -> int | None:
        return None if self.limit is None else self.limit - self.spent(calendar_month(at_ms))

    @property
    def billed(self) -> Stretch | None:
        return next((stretch for stretch in self.stretches if stretch.open), None)


class Money(BookModel):
    def __init__(self) -> None:
        super().__init__()
        self.boot = 0
        self.metering = self._start(serving=[])
        self.now = self.noted = START_MS  # billed time, and as of its last reading
        self.apps: list[App] = []
        self.sent: list[Transfer] = []
        self.filled: dict[Transfer, App] = {}
        self.balances: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.held = self.refunded = self.compensated = 0
        self.ran_short = False

    # What happens

    @rule(wallet=st.sampled_from(WALLETS), amount=st.integers(1, 50_000))
    def pay(self, wallet: str, amount: int) -> None:
        sent = transfer(wallet, amount)
        assert self.runner.run(self._credit(sent)) == sent.amount
        self.sent.append(sent)
        self.balances[wallet] += amount
        self.paid[wallet] += amount

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def pay_with_the_same_hash_again(self, data: st.DataObject) -> None:
        sent = data.draw(st.sampled_from(self.sent))
        assert self.runner.run(self._credit(sent)) == 0

    @precondition(lambda self: len(self.apps) < 4)
    @rule(wallet=st.sampled_from(WALLETS), price=st.sampled_from(PRICES))
    def become_ready(self, wallet: str, price: int) -> None:
        name = f"app-{len(self.apps)}"
        project = self.runner.run(
            add_project(
                self.db, wallet, name, monthly_price_micro_usd=price, serving_deployment_id=name
            )
        )
        self.apps.append(App(project))
        self._begin(self.apps[-1])

    @precondition(lambda self: len(self.apps) < 4)
    @rule(wallet=st.sampled_from(WALLETS), amount=st.integers(1, 50_000), price=st.integers(0, 9))
    def open_by_a_payment(self, wallet: str, amount: int, price: int) -> None:
        """Its project lives from that alone, unless the wallet has used the money first."""
        sent = transfer(wallet, amount)
        self.sent.append(sent)
        project_id, name = str(uuid.uuid4()), f"app-{len(self.apps)}"
        is_there = self.balances[wallet] >= 0
        assert self.runner.run(self._fill(sent, project_id)) is is_there
        self.paid[wallet] += amount
        if not is_there:
            self.balances[wallet] += amount
            return
        project = self.runner.run(
            add_project(
                self.db,
                wallet,
                name,
                id=project_id,
                monthly_price_micro_usd=price * 100_000,
                serving_deployment_id=name,
            )
        )
        self.apps.append(App(project, opened_at_ms=self.clock.now_ms()))
        self.balances[self.apps[-1].purse] += amount
        self.filled[sent] = self.apps[-1]
        self._begin(self.apps[-1])

    @precondition(lambda self: any(app.is_opened for app in self.apps))
    @rule(data=st.data(), amount=st.integers(1, 50_000))
    def add_to_a_purse(self, data: st.DataObject, amount: int) -> None:
        app = data.draw(st.sampled_from([app for app in self.apps if app.is_opened]))
        wallet = app.project.wallet
        if app.status is ProjectStatus.DELETED or self.balances[wallet] < 0:
            return
        sent = transfer(wallet, amount)
        self.sent.append(sent)
        self.filled[sent] = app
        assert self.runner.run(self._fill(sent, app.project.id))
        self.paid[wallet] += amount
        self.balances[app.purse] += amount

    @precondition(lambda self: any(app.purse_made_ms for app in self.apps))
    @rule(data=st.data())
    def adopt(self, data: st.DataObject) -> None:
        """The wallet takes over what the purse has, or owes, once however often it asks."""
        app = data.draw(st.sampled_from([app for app in self.apps if app.purse_made_ms]))
        if app.status is ProjectStatus.DELETED:
            return
        was_plain = app.shared and not self.balances[app.purse]
        if not was_plain:
            self._settle_model(app.purse)
        moved = self.balances[app.purse]
        found = self.runner.run(self._adopt(app, times=3))
        assert sorted(found) == sorted([moved, 0, 0])
        self._share_model(app)
        if not was_plain:
            self._suspend_model(app.project.wallet)

    @precondition(lambda self: self.apps)
    @rule(
        data=st.data(),
        add=st.sampled_from([0, 1, 700, 30_000]),
        take=st.sampled_from([0, 1, 700, 30_000]),
        shared=st.sampled_from([None, True, False]),
        limit=st.sampled_from([UNSET, None, 0, 900, 25_000]),
    )
    def order(
        self,
        data: st.DataObject,
        add: int,
        take: int,
        shared: bool | None,
        limit: int | UnsetType | None,
    ) -> None:
        """All of it is done after what burned is booked, or nothing."""
        app = data.draw(st.sampled_from(self.apps))
        if app.status is ProjectStatus.DELETED:
            return
        change = PurseChange(
            add=MicroUsd(add),
            take=MicroUsd(take),
            shared=shared,
            limit=limit if limit is None or limit is UNSET else MicroUsd(limit),
        )
        has = {each: self.balances[each] for each in (app.project.wallet, app.purse)}
        made_ms = self.clock.now_ms()
        if not self.runner.run(self._order(app, change)):
            most = sum(
                price_of(each.project, self.now - each.billed.start)
                for each in self.apps
                if each.billed is not None and each.project.wallet == app.project.wallet
            )
            short = add > has[app.project.wallet] - most
            assert short or take > has[app.purse] + add - most
            return
        self._settle_model(app.project.wallet)
        if not app.shared:
            self._settle_model(app.purse)
        if app.is_opened and self.balances[app.purse] < 0:
            self.balances[app.project.wallet] += self.balances.pop(app.purse)
        self.balances[app.project.wallet] += take - add
        self.balances[app.purse] += add - take
        app.shared = app.shared if shared is None else shared
        app.limit = app.limit if isinstance(limit, UnsetType) else limit
        app.is_opened = False
        app.purse_made_ms = app.purse_made_ms or made_ms
        self._suspend_model(app.project.wallet)
        self._suspend_model(app.purse)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), part=st.integers(1, 50_000))
    def refund(self, data: st.DataObject, part: int) -> None:
        """What burned since the last hour is booked first, so it goes back to nobody."""
        sent = data.draw(st.sampled_from(self.sent))
        app = self.filled.get(sent)
        holder = app.paid_to if app else sent.payer
        self._settle_model(holder)
        is_there = self.balances[holder] >= min(part, sent.amount)
        assert self.runner.run(self._refund(sent, holder, min(part, sent.amount))) is is_there
        if is_there:
            self.sent.remove(sent)
            self.balances[holder] -= min(part, sent.amount)
            self.refunded += min(part, sent.amount)
        self._suspend_model(holder)

    @precondition(lambda self: self.apps)
    @rule(data=st.data())
    def redeploy_or_wake(self, data: st.DataObject) -> None:
        app = data.draw(st.sampled_from(self.apps))
        if app.status is not ProjectStatus.DELETED and self._can_burn(app):
            self._begin(app)

    @rule(milliseconds=st.integers(0, 3 * HOUR_MS))
    def let_time_pass(self, milliseconds: int) -> None:
        self._pass(milliseconds)

    @rule(hours=st.sampled_from([1, 2, 730, 20_000]))
    def let_hours_pass(self, hours: int) -> None:
        self._pass(hours * HOUR_MS)

    @rule(milliseconds=st.integers(-30 * HOUR_MS, 30 * HOUR_MS))
    def step_the_clock(self, milliseconds: int) -> None:
        self.clock.step(milliseconds)

    @rule(down=st.integers(0, 3 * HOUR_MS), data=st.data())
    def restart_the_gateway(self, down: int, data: st.DataObject) -> None:
        """Apps go on meanwhile, but for those that have ended when it comes back."""
        alive = [app for app in self.apps if data.draw(st.booleans())]
        self._pass(down)
        self.metering = self._start(serving=[app.project.unique_name for app in alive])
        for stretch in (app.billed for app in self.apps if app not in alive):
            if stretch is not None:
                stretch.start += self.now - self.noted
                stretch.until += self.now - self.noted
        self.noted = self.now

    @rule(down=st.integers(0, 30 * HOUR_MS))
    def crash_the_machine(self, down: int) -> None:
        """Nothing ran since; what ran after the last reading is nobody's to prove."""
        self.clock.reboot(down)
        self.boot += 1
        self.metering = self._start(serving=[])
        self.now = self.noted

    @rule(wallet=st.sampled_from(WALLETS), amount=st.integers(1, 50_000))
    def pay_what_screening_holds(self, wallet: str, amount: int) -> None:
        assert self.runner.run(self._credit(transfer(wallet, amount), held="listed")) == 0
        self.held += amount

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def lose_a_payment_to_a_reorganisation(self, data: st.DataObject) -> None:
        lost = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        app = self.filled.get(lost)
        holder = app.paid_to if app else lost.payer
        assert self.runner.run(self._reverse(lost)) == (lost.amount * (holder == lost.payer))
        self.balances[holder] -= lost.amount
        self.paid[lost.payer] -= lost.amount
        self._suspend_model(holder)

    @precondition(lambda self: any(app.billed for app in self.apps))
    @rule(data=st.data())
    def lose_an_app(self, data: st.DataObject) -> None:
        """By the machine's fault: what it burns comes back, when it is back or stopped."""
        app = data.draw(st.sampled_from([app for app in self.apps if app.billed]))
        self.runner.run(self._lose(app))
        self._cut_model(app)
        if app.status is ProjectStatus.ACTIVE:
            app.is_down = True
            app.lost = Counter() if app.lost is None else app.lost

    @precondition(lambda self: any(app.is_lost and app.billed for app in self.apps))
    @rule(data=st.data(), times=st.integers(1, 3))
    def find_an_app_again(self, data: st.DataObject, times: int) -> None:
        app = data.draw(st.sampled_from([a for a in self.apps if a.is_lost and a.billed]))
        self.runner.run(self._regain(app, times=times))
        self._regain_model(app)

    @rule(times=st.integers(1, 3))
    def tick(self, times: int) -> None:
        if any(app.is_lost for app in self.apps):
            times = 1
        suspended = self.runner.run(self._ticks(times))
        assert sorted(suspended) == sorted(self._tick_model())
        for app in self.apps:  # what came back to a purse of nobody
            if app.status is ProjectStatus.DELETED and self.balances[app.purse] > 0:
                self._share_model(app)
        self.noted = self.now
        for app in self.apps:
            if app.is_lost and not (app.status is ProjectStatus.ACTIVE and app.is_down):
                self._regain_model(app)

    @precondition(lambda self: self.apps)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        app = data.draw(st.sampled_from(self.apps))
        self.runner.run(self._delete(app))
        stretch = app.billed
        if stretch is not None:
            self._charge_model(app, stretch, max(self.now, stretch.until))
            stretch.open = False
        app.status = ProjectStatus.DELETED
        if self.balances[app.purse] >= 0:
            self._share_model(app)

    # What must be so

    @invariant()
    def balances_are_the_models(self) -> None:
        for holder in {*WALLETS, *(accounts.purse_of(app.project.id) for app in self.apps)}:
            held = self.runner.run(accounts.balance(self.db, holder))
            assert held == self.balances[holder]
            booked = accounts.sum_of_account(self.db, account_of(holder))
            assert self.runner.run(booked) == held

    @invariant()
    def books_sum_to_zero_and_what_was_paid_is_held_or_earned(self) -> None:
        assert self.runner.run(accounts.sum_of_entries(self.db)) == 0
        earned = self.runner.run(accounts.sum_of_account(self.db, EARNED))
        came = self.paid.total() + self.compensated
        assert earned + self.refunded + self.balances.total() == came
        given_back = self.runner.run(accounts.sum_of_account(self.db, COMPENSATED))
        assert given_back == -self.compensated
        held = (accounts.sum_of_account(self.db, held_account(wallet)) for wallet in WALLETS)
        assert sum(map(self.runner.run, held)) == self.held

    @invariant()
    def charges_are_the_price_of_the_time_unless_money_ran_short(self) -> None:
        earned = self.runner.run(accounts.sum_of_account(self.db, EARNED))
        cost = sum(
            price_of(app.project, stretch.until - stretch.start)
            for app in self.apps
            for stretch in app.stretches
        )
        assert earned <= cost
        assert self.ran_short or earned == cost

    @invariant()
    def statuses_are_the_models(self) -> None:
        for app in self.apps:
            found = self.runner.run(projects.by_id(self.db, app.project.id))
            assert (found.status if found else ProjectStatus.DELETED) is app.status

    @invariant()
    def audit_finds_nothing_wrong(self) -> None:
        assert self.runner.run(self._audit()) == []

    # The product, in transactions as it has them

    async def _audit(self) -> list[Finding]:
        async with self.db.snapshot() as snapshot:
            _, findings = await audit_books(snapshot, [ARBITRUM])
            findings += await audit_states(snapshot, now_ms=self.clock.now_ms())
        return findings

    def _pass(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)
        self.now += milliseconds

    def _start(self, *, serving: list[str]) -> Metering:
        self.db.close()
        self.db = YieldingDatabase(self.directory / "moorage.db")
        metering = Metering(db=self.db, clock=self.clock, boot_id=str(self.boot))
        self.runner.run(metering.resume(serving))
        return metering

    async def _credit(self, sent: Transfer, held: str | None = None) -> int:
        reasons = {} if held is None else {sent.payer: held}
        async with self.db.transaction(durable=True) as tx:
            gained = await ledger.credit_transfers(
                tx, [sent], held=reasons, now_ms=self.clock.now_ms()
            )
        return gained.get(sent.payer, 0)

    async def _reverse(self, sent: Transfer) -> int:
        async with self.db.transaction(durable=True) as tx:
            payment = await payments.one(tx, (sent.chain_id, sent.tx_hash, sent.log_index))
            assert payment is not None
            holder = await ledger.holder_of(tx, payment)
            lost = await ledger.reverse_payment(tx, payment, now_ms=self.clock.now_ms())
            await self.metering.suspend_unpaid(tx, holder)
        return lost

    async def _fill(self, sent: Transfer, project_id: str) -> bool:
        now_ms = self.clock.now_ms()
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, [sent], now_ms=now_ms)
            paid = await stored(tx, sent)
            return await ledger.fill_purse(tx, paid, project_id, now_ms=now_ms)

    async def _order(self, app: App, change: PurseChange) -> bool:
        """Whether there was as much as is to move."""
        try:
            async with self.db.transaction(durable=True) as tx:
                await self.metering.change_purse(tx, app.project, change)
        except CreditsShort:
            return False
        return True

    async def _adopt(self, app: App, *, times: int) -> list[int]:
        async def once() -> int:
            async with self.db.transaction(durable=True) as tx:
                return await self.metering.adopt(tx, app.project)

        return await asyncio.gather(*(once() for _ in range(times)))

    async def _refund(self, sent: Transfer, holder: str, amount: int) -> bool:
        async with self.db.transaction(durable=True) as tx:
            await self.metering.settle(tx, holder)
            await self.metering.time.note(tx)
            paid = await stored(tx, sent)
            is_there = await refund_part(tx, paid, amount, now_ms=self.clock.now_ms())
            await self.metering.suspend_unpaid(tx, holder)
        return is_there

    async def _lose(self, app: App) -> None:
        async with self.db.transaction(durable=True) as tx:
            name = app.project.unique_name
            await deployments.set_down(tx, app.project.id, serving=name, since_ms=1)
            await self.metering.lose(tx, app.project.id)

    async def _regain(self, app: App, *, times: int) -> None:
        found = await projects.by_id(self.db, app.project.id)
        assert found is not None

        async def once() -> None:
            async with self.db.transaction(durable=True) as tx:
                await self.metering.regain(tx, found)

        await asyncio.gather(*(once() for _ in range(times)))

    def _begin(self, app: App) -> None:
        self.runner.run(self._wake(app))
        app.status, app.is_down = ProjectStatus.ACTIVE, False
        if app.billed is None:
            app.stretches.append(Stretch(start=self.now, until=self.now))
            self.noted = self.now

    async def _wake(self, app: App) -> None:
        async with self.db.transaction(durable=True) as tx:
            await projects.set_status(tx, app.project.id, ProjectStatus.ACTIVE)
            await self.metering.begin(tx, app.project.id)

    async def _ticks(self, times: int) -> list[str]:
        found = await asyncio.gather(*(self.metering.tick() for _ in range(times)))
        return [project_id for suspended in found for project_id in suspended]

    async def _delete(self, app: App) -> None:
        async with self.db.transaction(durable=True) as tx:
            await self.metering.close(tx, app.project.id)
            await projects.set_deleted(tx, app.project.id, at_ms=self.clock.now_ms())

    # The model

    def _tick_model(self) -> list[str]:
        """Whole hours since each start, the longest unbilled first; the ids that run out."""
        due = []
        for app in self.apps:
            stretch = app.billed
            if stretch is not None and self.now - stretch.until >= HOUR_MS:
                due.append((stretch.until, app.project.id, app, stretch))
        suspended = []
        for _, project_id, app, stretch in sorted(due, key=lambda item: item[:2]):
            hours = (self.now - stretch.start) // HOUR_MS
            left = self._charge_model(app, stretch, stretch.start + hours * HOUR_MS)
            if left <= 0:
                stretch.open = False
                app.status = ProjectStatus.SUSPENDED
                suspended.append(project_id)
        return suspended

    def _settle_model(self, holder: str) -> None:
        """Each stretch that burns these credits ends now, and another begins if any are left."""
        self.noted = self.now
        for app in self.apps:
            if app.burns(holder):
                self._cut_model(app)

    def _cut_model(self, app: App) -> None:
        stretch = app.billed
        if stretch is None:
            return
        self.noted = self.now
        until = max(self.now, stretch.until)
        left = self._charge_model(app, stretch, until)
        stretch.open = False
        if left > 0:
            app.stretches.append(Stretch(start=until, until=until))
        else:
            app.status = ProjectStatus.SUSPENDED

    def _regain_model(self, app: App) -> None:
        self._cut_model(app)
        self.balances.update(app.lost)
        self.compensated += app.lost.total() if app.lost else 0
        app.lost = None

    def _share_model(self, app: App) -> None:
        if app.purse_made_ms:
            self.balances[app.project.wallet] += self.balances.pop(app.purse, 0)
            app.is_opened, app.shared = False, True

    def _cover_model(self, wallet: str) -> None:
        """What a wallet owes is taken out of the purses that it has filled, the oldest first.

        After what their projects have burned until now.
        """
        owes = self.balances[wallet] < 0
        for app in [each for each in self.apps if owes and each.project.wallet == wallet]:
            if self.balances[app.purse] > 0 and not app.is_opened:
                self._settle_model(app.purse)
        made = [(app.purse_made_ms, app.project.id, app) for app in self.apps if app.purse_made_ms]
        for _, _, app in sorted(made, key=lambda each: each[:2]):
            if app.project.wallet == wallet and not app.is_opened:
                part = min(max(0, -self.balances[wallet]), self.balances[app.purse])
                self.balances[wallet] += part
                self.balances[app.purse] -= part

    def _reach(self, app: App) -> int:
        shared = max(0, self.balances[app.project.wallet]) if app.shared else 0
        return self.balances[app.purse] + shared

    def _can_burn(self, app: App) -> bool:
        rest = app.rest(self.now)
        return self._reach(app) > 0 and (rest is None or rest > 0)

    def _suspend_model(self, holder: str) -> None:
        self._cover_model(holder)
        for app in self.apps:
            stretch = app.billed
            if app.burns(holder) and stretch is not None and not self._can_burn(app):
                ran_ms = self.now - stretch.start
                self.ran_short |= price_of(app.project, ran_ms) > stretch.charged
                stretch.open = False
                app.status = ProjectStatus.SUSPENDED

    def _charge_model(self, app: App, stretch: Stretch, until: int) -> int:
        """Charges a stretch month by month; returns what its app can burn after that."""
        at, left = stretch.until, 1
        while True:
            end = min(until, calendar_month(at)[1])
            owed = price_of(app.project, end - stretch.start) - stretch.charged
            assert owed >= 0
            rest = app.rest(at)
            taken = max(0, min(owed, self._reach(app), owed if rest is None else rest))
            own = min(taken, max(0, self.balances[app.purse]))
            self.balances[app.purse] -= own
            self.balances[app.project.wallet] -= taken - own
            stretch.charged += taken
            if app.lost is not None:
                app.lost.update({app.purse: own, app.project.wallet: taken - own})
            self.ran_short = self.ran_short or taken < owed
            left = self._reach(app) if rest is None else min(self._reach(app), rest - taken)
            if end == until or left <= 0:
                break
            at = end
        stretch.until = until
        return left


def price_of(project: Project, milliseconds: int) -> int:
    return math.ceil(Fraction(project.monthly_price_micro_usd) * max(0, milliseconds) / MONTH_MS)


def calendar_month(at_ms: int) -> tuple[int, int]:
    """The first millisecond of a month in UTC, and of the next."""
    first = datetime.fromtimestamp(at_ms / 1000, UTC).date().replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return calendar.timegm(first.timetuple()) * 1000, calendar.timegm(following.timetuple()) * 1000


def test_money_agrees_with_a_plain_model_whatever_happens(migrated: Path) -> None:
    run_histories(Money, migrated, histories=40, steps=30)

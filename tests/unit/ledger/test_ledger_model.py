"""Histories of payments, purses, reversals, apps, restarts and clock steps, and a plain model."""

import asyncio
import math
import uuid
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)

from moorage.ledger import ledger
from moorage.ledger.ledger import EARNED, Transfer, account_of, held_account
from moorage.ledger.metering import Metering
from moorage.operate.audit.rows import Finding, audit_books
from moorage.operate.audit.states import audit_states
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
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

    def __init__(self, project: Project, *, has_purse: bool = False) -> None:
        self.project = project
        self.has_purse = has_purse
        self.stretches: list[Stretch] = []
        self.status = ProjectStatus.ACTIVE

    @property
    def holder(self) -> str:
        return accounts.purse_of(self.project.id) if self.has_purse else self.project.wallet

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
        self.held = self.refunded = 0
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
        self.apps.append(App(project, has_purse=True))
        self.balances[self.apps[-1].holder] += amount
        self.filled[sent] = self.apps[-1]
        self._begin(self.apps[-1])

    @precondition(lambda self: any(app.has_purse for app in self.apps))
    @rule(data=st.data(), amount=st.integers(1, 50_000))
    def add_to_a_purse(self, data: st.DataObject, amount: int) -> None:
        app = data.draw(st.sampled_from([app for app in self.apps if app.has_purse]))
        wallet = app.project.wallet
        if app.status is ProjectStatus.DELETED or self.balances[wallet] < 0:
            return
        sent = transfer(wallet, amount)
        self.sent.append(sent)
        self.filled[sent] = app
        assert self.runner.run(self._fill(sent, app.project.id))
        self.paid[wallet] += amount
        self.balances[app.holder] += amount

    @precondition(lambda self: any(app.has_purse for app in self.apps))
    @rule(data=st.data())
    def adopt(self, data: st.DataObject) -> None:
        """The wallet takes over what the purse has, or owes, once however often it asks."""
        app = data.draw(st.sampled_from([app for app in self.apps if app.has_purse]))
        if app.status is ProjectStatus.DELETED:
            return
        self._settle_model(app.holder)
        moved = self.balances[app.holder]
        found = self.runner.run(self._adopt(app, times=3))
        assert sorted(found) == sorted([moved, 0, 0])
        self._share_model(app)
        if self.balances[app.project.wallet] <= 0:
            self._suspend_model(app.project.wallet)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), part=st.integers(1, 50_000))
    def refund(self, data: st.DataObject, part: int) -> None:
        """What burned since the last hour is booked first, so it goes back to nobody."""
        sent = data.draw(st.sampled_from(self.sent))
        app = self.filled.get(sent)
        holder = app.holder if app else sent.payer
        self._settle_model(holder)
        is_there = self.balances[holder] >= min(part, sent.amount)
        assert self.runner.run(self._refund(sent, holder, min(part, sent.amount))) is is_there
        if is_there:
            self.sent.remove(sent)
            self.balances[holder] -= min(part, sent.amount)
            self.refunded += min(part, sent.amount)
        if self.balances[holder] <= 0:
            self._suspend_model(holder)

    @precondition(lambda self: self.apps)
    @rule(data=st.data())
    def redeploy_or_wake(self, data: st.DataObject) -> None:
        app = data.draw(st.sampled_from(self.apps))
        if app.status is not ProjectStatus.DELETED and self.balances[app.holder] > 0:
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
        holder = app.holder if app else lost.payer
        assert self.runner.run(self._reverse(lost)) == (lost.amount * (holder == lost.payer))
        self.balances[holder] -= lost.amount
        self.paid[lost.payer] -= lost.amount
        if self.balances[holder] <= 0:
            self._suspend_model(holder)

    @rule(times=st.integers(1, 3))
    def tick(self, times: int) -> None:
        suspended = self.runner.run(self._ticks(times))
        assert sorted(suspended) == sorted(self._tick_model())
        for app in self.apps:  # what came back to a purse of nobody
            if app.status is ProjectStatus.DELETED and self.balances[app.holder] > 0:
                self._share_model(app)
        self.noted = self.now

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
        if self.balances[app.holder] >= 0:
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
        assert earned + self.refunded + self.balances.total() == self.paid.total()
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
            payment = await payments.one(
                tx, chain_id=sent.chain_id, tx_hash=sent.tx_hash, log_index=sent.log_index
            )
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

    def _begin(self, app: App) -> None:
        self.runner.run(self._wake(app))
        app.status = ProjectStatus.ACTIVE
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
            self._charge_model(app, stretch, stretch.start + hours * HOUR_MS)
            if self.balances[app.holder] <= 0:
                stretch.open = False
                app.status = ProjectStatus.SUSPENDED
                suspended.append(project_id)
        return suspended

    def _settle_model(self, holder: str) -> None:
        """Each stretch that burns these credits ends now, and another begins if any are left."""
        self.noted = self.now
        for app in self.apps:
            stretch = app.billed
            if app.holder == holder and stretch is not None:
                until = max(self.now, stretch.until)
                self._charge_model(app, stretch, until)
                stretch.open = False
                if self.balances[holder] > 0:
                    app.stretches.append(Stretch(start=until, until=until))
                else:
                    app.status = ProjectStatus.SUSPENDED

    def _share_model(self, app: App) -> None:
        if app.has_purse:
            self.balances[app.project.wallet] += self.balances.pop(app.holder, 0)
            app.has_purse = False

    def _suspend_model(self, holder: str) -> None:
        for app in self.apps:
            if app.holder == holder and app.billed is not None:
                self.ran_short = True
                app.billed.open = False
                app.status = ProjectStatus.SUSPENDED

    def _charge_model(self, app: App, stretch: Stretch, until: int) -> None:
        holder = app.holder
        owed = price_of(app.project, until - stretch.start) - stretch.charged
        assert owed >= 0
        taken = max(0, min(owed, self.balances[holder]))
        self.ran_short = self.ran_short or taken < owed
        self.balances[holder] -= taken
        stretch.charged += taken
        stretch.until = until


def price_of(project: Project, milliseconds: int) -> int:
    return math.ceil(Fraction(project.monthly_price_micro_usd) * milliseconds / MONTH_MS)


def test_money_agrees_with_a_plain_model_whatever_happens(migrated: Path) -> None:
    run_histories(Money, migrated, histories=40, steps=30)

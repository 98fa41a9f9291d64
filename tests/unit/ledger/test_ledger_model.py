"""Histories of payments, running apps, restarts and clock steps, beside a plain model of money."""

import asyncio
import math
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clock import HOUR_MS, MovableClock
from moorage.deploy.project import Project, ProjectStatus
from moorage.ledger import ledger
from moorage.ledger.ledger import EARNED, wallet_account
from moorage.ledger.metering import Metering
from moorage.payments.transfer import Transfer
from moorage.storage import accounts, projects
from moorage.storage.database import Database
from records_fixture import ALICE, BOB, add_project, transfer

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

    def __init__(self, project: Project) -> None:
        self.project = project
        self.stretches: list[Stretch] = []
        self.status = ProjectStatus.ACTIVE

    @property
    def billed(self) -> Stretch | None:
        return next((stretch for stretch in self.stretches if stretch.open), None)


class Money(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.db = Database(Path(shutil.copy(self.template, self.directory / "moorage.db")))
        self.clock = MovableClock()
        self.metering = Metering(db=self.db, clock=self.clock)
        self.apps: list[App] = []
        self.sent: list[Transfer] = []
        self.balances: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.ran_short = False

    def teardown(self) -> None:
        self.db.close()
        self.runner.close()
        shutil.rmtree(self.directory)

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
        project = self.runner.run(add_project(self.db, wallet, name, monthly_price_micro_usd=price))
        self.apps.append(App(project))
        self._begin(self.apps[-1])

    @precondition(lambda self: self.apps)
    @rule(data=st.data())
    def redeploy_or_wake(self, data: st.DataObject) -> None:
        app = data.draw(st.sampled_from(self.apps))
        if app.status is not ProjectStatus.DELETED and self.balances[app.project.wallet] > 0:
            self._begin(app)

    @rule(milliseconds=st.integers(0, 3 * HOUR_MS))
    def let_time_pass(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)

    @rule(hours=st.sampled_from([1, 2, 730, 20_000]))
    def let_hours_pass(self, hours: int) -> None:
        self.clock.advance(hours * HOUR_MS)

    @rule(milliseconds=st.integers(-30 * HOUR_MS, 30 * HOUR_MS))
    def step_the_clock(self, milliseconds: int) -> None:
        self.clock.step(milliseconds)

    @rule()
    def restart(self) -> None:
        self.db.close()
        self.db = Database(self.directory / "moorage.db")
        self.metering = Metering(db=self.db, clock=self.clock)

    @rule(times=st.integers(1, 3))
    def tick(self, times: int) -> None:
        suspended = self.runner.run(self._ticks(times))
        assert sorted(suspended) == sorted(self._tick_model())

    @precondition(lambda self: self.apps)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        app = data.draw(st.sampled_from(self.apps))
        self.runner.run(self._delete(app))
        stretch = app.billed
        if stretch is not None:
            self._charge_model(app, stretch, max(self.clock.now_ms(), stretch.until))
            stretch.open = False
        app.status = ProjectStatus.DELETED

    # What must be so

    @invariant()
    def balances_are_the_models(self) -> None:
        for wallet in WALLETS:
            assert self.balances[wallet] >= 0
            held = self.runner.run(accounts.balance(self.db, wallet))
            assert held == self.balances[wallet]
            booked = accounts.sum_of_account(self.db, wallet_account(wallet))
            assert self.runner.run(booked) == held

    @invariant()
    def books_sum_to_zero_and_what_was_paid_is_held_or_earned(self) -> None:
        assert self.runner.run(accounts.sum_of_entries(self.db)) == 0
        earned = self.runner.run(accounts.sum_of_account(self.db, EARNED))
        assert earned + self.balances.total() == self.paid.total()

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

    # The product, in transactions as it has them

    async def _credit(self, sent: Transfer) -> int:
        async with self.db.transaction(durable=True) as tx:
            gained = await ledger.credit_transfers(tx, [sent], now_ms=self.clock.now_ms())
        return gained.get(sent.payer, 0)

    def _begin(self, app: App) -> None:
        self.runner.run(self._wake(app))
        app.status = ProjectStatus.ACTIVE
        if app.billed is None:
            now_ms = self.clock.now_ms()
            app.stretches.append(Stretch(start=now_ms, until=now_ms))

    async def _wake(self, app: App) -> None:
        async with self.db.transaction(durable=True) as tx:
            await projects.set_status(tx, app.project.id, ProjectStatus.ACTIVE)
            await self.metering.begin(tx, app.project.id)

    async def _ticks(self, times: int) -> list[str]:
        found = await asyncio.gather(*(self.metering.tick() for _ in range(times)))
        return [project_id for suspended in found for project_id in suspended]

    async def _delete(self, app: App) -> None:
        async with self.db.transaction(durable=True) as tx:
            await self.metering.end(tx, app.project.id)
            await projects.set_deleted(tx, app.project.id, at_ms=self.clock.now_ms())

    # The model

    def _tick_model(self) -> list[str]:
        """Whole hours since each start, the longest unbilled first; the ids that run out."""
        now_ms = self.clock.now_ms()
        due = []
        for app in self.apps:
            stretch = app.billed
            if stretch is not None and now_ms - stretch.until >= HOUR_MS:
                due.append((stretch.until, app.project.id, app, stretch))
        suspended = []
        for _, project_id, app, stretch in sorted(due, key=lambda item: item[:2]):
            hours = (now_ms - stretch.start) // HOUR_MS
            self._charge_model(app, stretch, stretch.start + hours * HOUR_MS)
            if self.balances[app.project.wallet] == 0:
                stretch.open = False
                app.status = ProjectStatus.SUSPENDED
                suspended.append(project_id)
        return suspended

    def _charge_model(self, app: App, stretch: Stretch, until: int) -> None:
        wallet = app.project.wallet
        owed = price_of(app.project, until - stretch.start) - stretch.charged
        assert owed >= 0
        taken = min(owed, self.balances[wallet])
        self.ran_short = self.ran_short or taken < owed
        self.balances[wallet] -= taken
        stretch.charged += taken
        stretch.until = until


def price_of(project: Project, milliseconds: int) -> int:
    return math.ceil(Fraction(project.monthly_price_micro_usd) * milliseconds / MONTH_MS)


def test_money_agrees_with_a_plain_model_whatever_happens(migrated: Path) -> None:
    Money.template = migrated
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""One project goes from wallet to wallet, beside a plain model of who has it and what they have."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from yard import Yard

from moorage.errors import CreditsShort, MoorageError
from moorage.ledger import ledger
from moorage.ledger.invoice import invoice
from moorage.ledger.metering import PurseChange
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.payments import Finality
from moorage.records.project import Project, Transfer, Variables
from moorage.storage import events
from moorage.storage.apps import deployments, projects
from moorage.storage.money import accounts, payments
from support.books.book_model import BookModel, run_histories
from support.books.busy_books import stored
from support.books.records_fixture import ALICE, ARBITRUM, BOB, CAROL, add_project, transfer
from support.gateway.clock import HOUR_MS

Result = TypeVar("Result")
WALLETS = (ALICE, BOB, CAROL)
AN_HOUR = 1_000
STEP_MS = HOUR_MS // 10  # each costs 100 micro-USD
wallets = st.sampled_from(WALLETS)
amounts = st.sampled_from([700, 5_000, 60_000])


class Handing(BookModel):
    def __init__(self) -> None:
        super().__init__()
        (self.directory / "sources").mkdir()
        self.yard = Yard(self.db, self.clock, self.directory / "sources")
        self.has: Counter[str] = Counter()
        self.provisional: dict[str, Any] = {}
        self.offers: list[Transfer] = []
        self.over: set[str] = set()
        self.owner, self.purse, self.shared, self.variables = ALICE, 0, True, True
        self.moves = 0
        self.pay(ALICE, 60_000, is_final=True)
        self.project = self.run(add_project(self.db, monthly_price_micro_usd=730 * AN_HOUR))
        self.run(self.yard.active(self.project))
        self.run(self._begin())
        self.billed = True

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    @property
    def now(self) -> Project:
        found = self.run(projects.by_id(self.db, self.project.id))
        assert found is not None
        return found

    async def _begin(self) -> None:
        sealed = self.yard.vault.seal(Variables(run={"TOKEN": "hush"}), self.project.id)
        async with self.db.transaction(durable=True) as tx:
            await projects.configure(tx, self.project.id, variables=sealed, health_path="/")
            await self.yard.metering.begin(tx, self.project.id)

    # What happens

    @rule(wallet=wallets, amount=amounts, is_final=st.booleans())
    def pay(self, wallet: str, amount: int, *, is_final: bool) -> None:
        self.run(self._pay(wallet, amount, is_final=is_final))
        self.has[wallet] += amount

    async def _pay(self, wallet: str, amount: int, *, is_final: bool) -> None:
        sent = transfer(wallet, amount)
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, [sent], now_ms=self.clock.now_ms())
            if is_final:
                await payments.set_finality(tx, sent.place, Finality.SAFE)
            else:
                self.provisional[sent.tx_hash] = sent

    @precondition(lambda self: self.provisional)
    @rule(data=st.data(), stays=st.booleans())
    def make_final_or_take_back(self, data: st.DataObject, *, stays: bool) -> None:
        sent = self.provisional.pop(data.draw(st.sampled_from(sorted(self.provisional))))
        self.run(self._conclude(sent, stays=stays))
        if not stays:
            self.has[sent.payer] -= sent.amount
            if sent.payer == self.owner and self.has[self.owner] < 0:
                if self.purse > 0:
                    self._settle()
                part = min(-self.has[self.owner], self.purse)
                self.has[self.owner] += part
                self.purse -= part
            self._suspend()

    async def _conclude(self, sent: Any, *, stays: bool) -> None:
        async with self.db.transaction(durable=True) as tx:
            if stays:
                await payments.set_finality(tx, sent.place, Finality.SAFE)
            else:
                paid = await stored(tx, sent)
                await ledger.reverse_payment(tx, paid, now_ms=self.clock.now_ms())
                await self.yard.metering.suspend_unpaid(tx, sent.payer)

    @rule(steps=st.integers(1, 25))
    def let_time_pass(self, steps: int) -> None:
        self.clock.advance(steps * STEP_MS)
        self.owed += 100 * steps if self.billed else 0

    owed = 0  # since the last booking

    @rule(add=st.sampled_from([0, 3_000, 30_000]), take=st.sampled_from([0, 900]))
    def order(self, add: int, take: int) -> None:
        change = PurseChange(add=MicroUsd(add), take=MicroUsd(take), shared=None)
        try:
            self.run(self._order(change))
        except CreditsShort:
            return
        self._settle()
        self.has[self.owner] += take - add
        self.purse += add - take
        self._suspend()

    async def _order(self, change: PurseChange) -> None:
        project = await self.yard.project(self.project)
        async with self.db.transaction(durable=True) as tx:
            await self.yard.metering.change_purse(tx, project, change)

    @rule(
        to=wallets,
        with_purse=st.booleans(),
        with_variables=st.sampled_from([True, True, False]),
        times=st.sampled_from([1, 1, 25]),
    )
    def offer(self, to: str, *, with_purse: bool, with_variables: bool, times: int) -> None:
        """The last one counts."""
        if to == self.owner:
            return
        for _ in range(times):
            self.over |= {each.id for each in self.offers}
            offered = self.yard.services.transfers.offer(
                self.now,
                taker=to,
                with_purse=with_purse,
                with_variables=with_variables,
                not_after_ms=self.clock.now_ms() + HOUR_MS,
            )
            self.offers.append(self.run(offered))

    @precondition(lambda self: self.offers)
    @rule(by=wallets)
    def withdraw(self, by: str) -> None:
        offer = self.offers[-1]
        may = self._is_open(offer) and by in (offer.giver, offer.taker)
        assert self._does(self.yard.services.transfers.withdraw(offer.id, wallet=by)) is may
        self.over |= {offer.id} if may else set()

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), by=st.none() | wallets, times=st.integers(1, 3))
    def accept(self, data: st.DataObject, by: str | None, times: int) -> None:
        """However often at once, it changes hands once."""
        offer = data.draw(st.sampled_from(self.offers[-3:]))
        by = by or offer.taker
        accepts = self.yard.services.transfers.accept
        done = self.run(self._all(*(accepts(offer.id, wallet=by) for _ in range(times))))
        may = by == offer.taker and self._is_open(offer) and self._may_go(offer)
        has_it = by == offer.taker == self.owner and offer.id in self.over
        if may:
            self._hand_over(offer)
            assert all(done)
        elif not has_it:
            assert not any(done)

    def teardown(self) -> None:
        try:
            self.end_in_a_race_with_its_deletion()
        finally:
            super().teardown()

    def end_in_a_race_with_its_deletion(self) -> None:
        """It is its taker's, or it is gone; what there is of credits stays the same."""
        self.carry_out_deploys()
        before, taker = self.now, next(each for each in WALLETS if each != self.owner)
        self.offer(taker, with_purse=False, with_variables=True, times=1)
        accept = self.yard.services.transfers.accept(self.offers[-1].id, wallet=taker)
        taken, deleted = self.run(self._all(accept, self.yard.deletion.delete(before)))
        assert taken is not deleted
        self._settle()
        self.has[self.owner] += self.purse
        self.purse = 0
        found = {each: self.run(accounts.balance(self.db, each)) for each in WALLETS}
        assert found == {each: self.has[each] for each in WALLETS}
        after = self.run(projects.by_id(self.db, before.id))
        assert (after is None or after.wallet == before.wallet) is deleted
        assert self.run(self._audit()) == []

    def _is_open(self, offer: Transfer) -> bool:
        return offer.id not in self.over and self.clock.now_ms() <= offer.not_after_ms

    def _may_go(self, offer: Transfer) -> bool:
        if self.run(deployments.under_way_of(self.db, self.project.id)):
            return False
        burned = self.owed if self.billed else 0
        purse = self.purse - min(self.purse, burned)
        unsure = any(each.payer == offer.giver for each in self.provisional.values())
        return not (offer.with_purse and purse > 0 and (unsure or self.has[offer.giver] < 0))

    def _hand_over(self, offer: Transfer) -> None:
        self.over.add(offer.id)
        was_billed, had_purse = self.billed, self.run(accounts.purse(self.db, self.project.id))
        self._settle()
        if not offer.with_purse:
            self.has[offer.giver] += self.purse
            self.purse = 0
        else:
            owes = max(0, -self.has[offer.taker])
            self.has[offer.taker] += min(owes, self.purse)
            self.purse -= min(owes, self.purse)
        assert had_purse is None or had_purse.wallet == offer.taker
        self.owner, self.moves = offer.taker, self.moves + 1
        self.variables &= offer.with_variables
        reach = self.purse + max(0, self.has[self.owner])
        self.billed = was_billed and reach >= AN_HOUR

    @rule()
    def carry_out_deploys(self) -> None:
        if self.run(deployments.under_way_of(self.db, self.project.id)):
            self.run(self.yard.deployed())

    # What must be so

    @invariant()
    def one_wallet_has_it_and_each_what_the_model_says(self) -> None:
        assert self.now.wallet == self.owner
        found = {each: self.run(accounts.balance(self.db, each)) for each in WALLETS}
        assert found == {each: self.has[each] for each in WALLETS}
        holder = accounts.purse_of(self.project.id)
        assert self.run(accounts.balance(self.db, holder)) == self.purse
        assert self.run(self.yard.metering.bills(self.db, self.project.id)) is self.billed

    @invariant()
    def invoices_end_with_what_there_is_and_the_audit_finds_nothing(self) -> None:
        for wallet in WALLETS:
            made = invoice(self.db, wallet, months={"": 0}, until_ms=2**50, issuer=[], now_ms=0)
            purse = self.purse if wallet == self.owner else 0
            assert self.run(made).closing_micro_usd == self.has[wallet] + purse
        assert self.run(self._audit()) == []

    @invariant()
    def giver_and_taker_hear_of_each_move_once_and_variables_go_as_was_offered(self) -> None:
        told = [self.run(events.of_wallet(self.db, each, after=0, limit=10**4)) for each in WALLETS]
        moved = [each for of in told for each in of if each.kind == "project.transferred"]
        assert len(moved) == 2 * self.moves
        variables = self.yard.vault.open(self.now.variables, self.project.id)
        assert bool(variables.run) is self.variables

    async def _audit(self) -> list[Any]:
        async with self.db.snapshot() as snapshot:
            return [*(await audit_books(snapshot, [ARBITRUM]))[1]]

    def _does(self, act: Coroutine[Any, Any, Any]) -> bool:
        return self.run(self._all(act))[0]

    async def _all(self, *acts: Coroutine[Any, Any, Any]) -> list[bool]:
        done = await asyncio.gather(*acts, return_exceptions=True)
        assert all(isinstance(each, MoorageError | Project | Transfer | NoneType) for each in done)
        return [not isinstance(each, MoorageError) for each in done]

    def _settle(self) -> None:
        """Its purse burns first, then what it shares of its owner's."""
        due, self.owed = (self.owed if self.billed else 0), 0
        own = min(due, max(0, self.purse))
        self.purse -= own
        self.has[self.owner] -= min(due - own, max(0, self.has[self.owner]))
        self._suspend()

    def _suspend(self) -> None:
        if self.purse + max(0, self.has[self.owner]) <= 0:
            self.billed, self.owed = False, 0


def test_a_project_that_changes_hands_agrees_with_a_plain_model(migrated: Path) -> None:
    run_histories(Handing, migrated, histories=30, steps=30)

"""Histories of payments, gifts, burns, refunds, reorganisations and restores, and plain sums.

The gateway asks one honest node, and sends from a treasury of its own.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from moorage.chains.signing import SigningKey
from moorage.errors import MoorageError, RefundInProgress
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering, PurseChange
from moorage.money import AtomicUnits, MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.payments.relay.refund_requests import (
    RefundAsked,
    RefundLimits,
    RefundQuote,
    RefundRequests,
    Requested,
)
from moorage.payments.relay.refunds import Refunds
from moorage.payments.relay.relayer import treasury_relayer
from moorage.payments.watch.finality import FinalityCheck
from moorage.payments.watch.watcher import Watcher
from moorage.records.payments import Finality, PaymentStatus, Refund, RefundStatus
from moorage.records.project import Project
from moorage.storage.apps import projects
from moorage.storage.database import Transaction
from moorage.storage.money import accounts, payments, refunds
from moorage.storage.money.grants import Grant
from support.books.book_model import AS_FOUND, BookModel, run_histories
from support.books.records_fixture import ALICE, ARBITRUM, BOB, PAY_TO, USDC, add_project
from support.books.yielding import YieldingDatabase
from support.chains.chain_in_memory import Sent
from support.chains.nodes_in_memory import HONEST, NodesInMemory
from support.chains.treasury_in_memory import TreasuryChain

WALLETS = (ALICE, BOB)
CENTS = MicroUsd(10_000)
KEY = SigningKey("46" * 32)
LIMITS = RefundLimits(MicroUsd(60 * CENTS), MicroUsd(90 * CENTS), MicroUsd(120 * CENTS))
amounts = st.sampled_from([9_999, 10_001, 30_000, 400_000, 900_000])
wallets = st.sampled_from(WALLETS)


class Refunding(BookModel):
    def __init__(self) -> None:
        super().__init__()
        self.chain = TreasuryChain(
            ARBITRUM, PAY_TO, treasury=KEY.address, token=USDC, clock=self.clock
        )
        self.paid: dict[str, tuple[str, int]] = {}  # payer and amount, by hash
        self.quotes: list[tuple[str, RefundQuote, bool]] = []  # for whom, and whether it suspends
        self.taken: set[str] = set()
        self.apps: dict[str, Project] = {}
        self.is_restored = False
        self.grants = 0
        self._begin()
        for wallet in WALLETS:
            self.pay(wallet, 900_000, is_final=True)

    def _begin(self) -> None:
        client = NodesInMemory(self.chain).client(self.clock, HONEST)
        shared: dict[str, Any] = {"db": self.db, "client": client, "clock": self.clock}
        self.metering = Metering(db=self.db, clock=self.clock)
        self.watcher = Watcher(**shared, recipients=[PAY_TO], safe_above=MicroUsd(10**12))
        self.finality = FinalityCheck(**shared, recipients=[PAY_TO], metering=self.metering)
        self.sending = Refunds(
            **shared,
            relayer=treasury_relayer(self.db, client, KEY, clock=self.clock),
            sender=KEY.address,
            recipients={PAY_TO},
        )
        self.requests = RefundRequests(
            db=self.db,
            clients={ARBITRUM.name: client},
            metering=self.metering,
            build_time=BuildTime(
                db=self.db, minutes_per_usd=60, monthly_price=CENTS, clock=self.clock
            ),
            senders={ARBITRUM.chain_id: KEY.address},
            pay_to=PAY_TO,
            limits=LIMITS,
            secret=b"secret",
            clock=self.clock,
        )

    # What happens to the credits

    @rule(wallet=wallets, amount=amounts, is_final=st.booleans())
    def pay(self, wallet: str, amount: int, *, is_final: bool) -> None:
        tx_hash = self.chain.fresh_hash()
        self.paid[tx_hash] = (wallet, amount)
        self.chain.mine({tx_hash: (Sent(wallet, USDC, amount),)})
        self.mine(2 if is_final else 0)
        self.tick()

    @rule(wallet=wallets, amount=amounts)
    def give(self, wallet: str, amount: int) -> None:
        self.grants += 1
        given = Grant(f"g{self.grants}", wallet, MicroUsd(amount), "why", self.clock.now_ms())
        self._write(lambda tx: ledger.grant(tx, given, now_ms=self.clock.now_ms()))

    @rule(wallet=wallets)
    def run_an_app(self, wallet: str) -> None:
        if wallet not in self.apps:
            self.apps[wallet] = self.runner.run(
                add_project(self.db, wallet, f"of-{wallet[2]}", monthly_price_micro_usd=730_000)
            )
        self._write(lambda tx: self.metering.begin(tx, self.apps[wallet].id))

    @precondition(lambda self: self.apps)
    @rule(data=st.data(), add=st.sampled_from([0, 20_000]), take=st.sampled_from([0, 7_000]))
    def fill_a_purse(self, data: st.DataObject, add: int, take: int) -> None:
        app = self.apps[data.draw(st.sampled_from(sorted(self.apps)))]
        change = PurseChange(add=MicroUsd(add), take=MicroUsd(take))
        self._write(lambda tx: self.metering.change_purse(tx, app, change))

    @rule(minutes=st.sampled_from([1, 9, 61, 60 * 24]))
    def let_time_pass(self, minutes: int) -> None:
        self.clock.advance(minutes * 60_000)
        self.let(self.metering.tick())

    # What wallets and the operator ask for

    @rule(
        wallet=wallets,
        of_purse=st.booleans(),
        max_=st.none() | amounts,
        suspend=st.booleans(),
        is_taken=st.sampled_from([True, True, False]),
    )
    def ask(
        self, wallet: str, of_purse: bool, max_: int | None, suspend: bool, is_taken: bool
    ) -> None:
        """Each micro-dollar of the balance goes back or is kept; what is asked for now is sent."""
        app = self.apps.get(wallet)
        purse = self.runner.run(accounts.purse(self.db, app.id)) if app and of_purse else None
        project_id = purse.project_id if purse else ""
        most = None if max_ is None else MicroUsd(max_)
        quote = self.runner.run(self.requests.quote(RefundAsked(wallet, project_id, most, suspend)))
        gross = sum(each.gross for each in quote.items)
        has = self._balance(accounts.purse_of(project_id) if project_id else wallet)
        if max_ is None and has >= quote.kept.get("burned_until_now", 0):
            assert gross + sum(quote.kept.values()) == max(0, has)
        assert gross <= max(0, has if max_ is None else max_)
        if quote.items:
            self.quotes.append((wallet, quote, suspend))
        if is_taken and quote.items:
            (found,) = self.runner.run(self._take([self.quotes[-1]]))
            assert isinstance(found, Requested | RefundInProgress)

    @precondition(lambda self: self.quotes)
    @rule(data=st.data())
    def take_some_at_once(self, data: st.DataObject) -> None:
        """Each quote is taken once, and those of a wallet one at a time."""
        chosen = data.draw(st.lists(st.sampled_from(self.quotes), min_size=1, max_size=4))
        found = self.runner.run(self._take(chosen))
        done = [each for each, it in zip(chosen, found, strict=True) if isinstance(it, Requested)]
        assert len({wallet for wallet, _, _ in done}) == len(done)

    async def _take(self, chosen: list[tuple[str, RefundQuote, bool]]) -> list[object]:
        found = await asyncio.gather(
            *(
                self.requests.request(
                    wallet,
                    quote.id,
                    expected=quote.refundable,
                    suspend=self._suspend if suspend else None,
                )
                for wallet, quote, suspend in chosen
            ),
            return_exceptions=True,
        )
        for (wallet, quote, _), answer in zip(chosen, found, strict=True):
            assert isinstance(answer, Requested | MoorageError)
            if isinstance(answer, Requested):
                assert quote.id not in self.taken
                self.taken.add(quote.id)
                await self._is_backed(wallet)
        return list(found)

    async def _suspend(self, tx: Transaction, ids: Collection[str]) -> Callable[[], None]:
        for each in ids:
            await self.metering.end(tx, each)
        return lambda: None

    async def _is_backed(self, wallet: str, final: str = "") -> None:
        """What stays is all that was given and may not be cash, and all that is not final.

        The chain was just asked whether the payment `final` is.
        """
        async with self.db.snapshot() as tx:
            entries = await accounts.entries_after(
                tx, 0, since_ms=0, until_ms=2**60, wallet=wallet, limit=10**6
            )
            paid, back = await payments.every(tx), await refunds.every(tx)
        given: int = 0
        for each in entries:
            if each.kind == "grant" or (each.kind == "burn" and each.amount_micro_usd < 0):
                given = max(0, given + each.amount_micro_usd)
        has = sum(each.amount_micro_usd for each in entries)
        unsure = [
            each
            for each in paid
            if each.payer == wallet
            and each.tx_hash != final
            and (each.status, each.finality) == (PaymentStatus.CREDITED, Finality.PROVISIONAL)
        ]
        left: int = sum(each.credited_micro_usd for each in unsure)
        hashes = {each.tx_hash for each in unsure}
        left -= sum(each.debited_micro_usd for each in standing(back) if each.tx_hash in hashes)
        assert has >= given + left

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), amount=amounts)
    def send_back_by_hand(self, data: st.DataObject, amount: int) -> None:
        tx_hash = data.draw(st.sampled_from(sorted(self.paid)))

        async def nothing(_: Transaction) -> None:
            pass

        async def begin() -> None:
            for each in await payments.by_hash(self.db, tx_hash=tx_hash):
                part = AtomicUnits(min(amount, each.amount))
                await self.sending.begin(each, amount=part, reason="fair", note=nothing)
                await self._is_backed(each.payer, final=tx_hash)

        self.let(begin())

    @rule()
    def decide(self) -> None:
        for each in self.runner.run(refunds.queued(self.db)):
            self._write(partial(refunds.decide, request_id=each.request_id, by="operator"))

    @rule(wallet=wallets, reason=st.sampled_from(["abuse", None]))
    def block(self, wallet: str, reason: str | None) -> None:
        self._write(lambda tx: projects.set_of_wallet(tx, wallet, reason))

    # What happens on the chain, and to the gateway

    @rule(seconds=st.sampled_from([1, 40, 4_000]))
    def tick(self, seconds: int = 1) -> None:
        self.clock.advance(seconds * 1_000)
        for act in (self.watcher.look, self.finality.check, self.sending.resume):
            self.let(act())

    @rule(blocks=st.integers(1, 3))
    def mine(self, blocks: int) -> None:
        for _ in range(blocks):
            self.chain.mine()

    @rule(stays=st.booleans())
    def reorganise(self, stays: bool) -> None:
        """What is safe stays."""
        removed = self.chain.drop(1)
        self.paid = {each: it for each, it in self.paid.items() if stays or each not in removed}
        self.chain.mine()
        if stays:
            self.chain.mine(removed)
        self.tick()

    @rule()
    def forget_what_was_sent(self) -> None:
        self.chain.pool.clear()

    @rule()
    def back_up(self) -> None:
        self._reopen(self.directory / "moorage.db", self.directory / "backup.db")

    @precondition(lambda self: (self.directory / "backup.db").exists())
    @rule()
    def restore(self) -> None:
        self.is_restored = True
        self._reopen(self.directory / "backup.db", self.directory / "moorage.db")
        self.taken.clear()  # as far as the books know
        known = (self.runner.run(projects.by_id(self.db, app.id)) for app in self.apps.values())
        self.apps = {each.wallet: each for each in known if each is not None}
        self.tick()

    def _reopen(self, source: Path, target: Path) -> None:
        self.db.close()
        shutil.copy(source, target)
        self.db = YieldingDatabase(self.directory / "moorage.db")
        self._begin()

    # What must be so

    @invariant()
    def never_more_goes_out_than_came_in_and_to_its_payer_alone(self) -> None:
        out: Counter[str] = Counter()
        for sent in self.chain.sent_back().values():
            out[sent.payer] += sent.amount
        came = Counter[str]()
        for payer, amount in self.paid.values():
            came[payer] += amount
        assert out <= came

    @invariant()
    def audit_finds_nothing_wrong(self) -> None:
        async def findings() -> list[object]:
            async with self.db.snapshot() as snapshot:
                return [*(await audit_books(snapshot, [ARBITRUM]))[1]]

        assert self.runner.run(findings()) == []

    def teardown(self) -> None:
        try:
            self._come_to_rest()
        finally:
            super().teardown()

    def _come_to_rest(self) -> None:
        """All that was asked for is paid or given back, and the books say what the chain does."""
        self.decide()
        for _ in range(10):
            self.tick(1_000)
            self.mine(2)
        self.audit_finds_nothing_wrong()
        found = self.runner.run(refunds.every(self.db))
        arrived = [each for each in found if each.status is RefundStatus.REFUNDED]
        paid = Counter(each.refund_tx_hash for each in arrived)
        assert max(paid.values(), default=1) == 1
        if not self.is_restored:
            assert {each.status for each in found} <= {RefundStatus.REFUNDED, RefundStatus.FAILED}
            assert {*paid} == {*self.chain.sent_back()}

    def _balance(self, holder: str) -> int:
        return self.runner.run(accounts.balance(self.db, holder))

    def _write(self, act: Callable[[Transaction], Any]) -> None:
        async def done() -> None:
            async with self.db.transaction(durable=True) as tx:
                await act(tx)

        self.let(done())


def standing(back: Collection[Refund]) -> list[Refund]:
    return [each for each in back if each.status is not RefundStatus.FAILED]


def test_refunds_agree_with_plain_sums_whatever_happens(migrated: Path) -> None:
    run_histories(Refunding, migrated, histories=30, steps=40, phases=AS_FOUND)

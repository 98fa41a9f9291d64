"""Quotes and claims beside a plain model: promises hold and money counts once, in any order."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gate import PRICE, Gate, attempt, dearer
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)

from moorage.errors import (
    AuthorizationRefused,
    MoorageError,
    NameUnavailable,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentShort,
)
from moorage.hosting.entrance.attempt import Admitted
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.payments.protocols.evidence import Evidence, PaymentMeans
from moorage.payments.taking.payment_required import Demand, PaymentRequired
from moorage.payments.taking.topup import TopUp, TopUpRequest
from moorage.storage.money import accounts
from support.books.book_model import BookModel, run_histories
from support.books.records_fixture import ALICE, ARBITRUM, BOB, USDC, fresh_hash, transfer
from support.gateway.fakes import authorizes

WALLETS, NAMES = [ALICE, BOB], ["hello", "there", "again"]
MINUTE_MS = 60_000
HALF_AN_HOUR_MS = 30 * MINUTE_MS


@dataclass
class Promise:
    """What a wallet was asked for a name, and until when that holds."""

    price: int
    until_ms: int
    begun: bool  # a first part of it was paid


@dataclass
class Sent:
    """A transfer on the chain, and what the model knows became of it."""

    transfer: Transfer
    credited: bool = False
    paid_for: Admitted | None = None
    topped_up: bool = False


class Till(BookModel):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(self.db, self.clock, self.directory)
        self.balances: Counter[str] = Counter()
        self.owners: dict[str, str] = {}
        self.promises: dict[tuple[str, str], list[Promise]] = {}
        self.sent: list[Sent] = []
        self.list_price = PRICE

    # What happens

    @rule(times=st.integers(1, 3))
    def change_the_price_list(self, times: int) -> None:
        self.list_price = PRICE * times
        self.gate.with_prices(dearer(times))

    @rule(minutes=st.sampled_from([1, 10, 16, 31]))
    def let_time_pass(self, minutes: int) -> None:
        self.clock.advance(minutes * MINUTE_MS)

    @rule(wallet=st.sampled_from(WALLETS), name=st.sampled_from(NAMES))
    def ask(self, wallet: str, name: str) -> None:
        balance, price = self.balances[wallet], self.price_for(wallet, name)
        asked_again = self.price_asked_again(wallet, name)
        answer = self.deploy(wallet, name)
        if self.is_anothers(wallet, name):
            assert isinstance(answer, NameUnavailable)
        elif self.owners.get(name) == wallet:
            assert isinstance(answer, Admitted if balance > 0 else PaymentRequired)
        elif isinstance(answer, Admitted):
            assert balance >= price
            assert wallet not in self.owners.values()
            self.owners[name] = wallet
        else:
            assert isinstance(answer, PaymentRequired)
            assert balance < price or wallet in self.owners.values()
            assert 0 < answer.demand.amount <= asked_again

    @rule(
        wallet=st.sampled_from(WALLETS),
        name=st.sampled_from(NAMES),
        times=st.integers(1, 3),
        by_authorization=st.booleans(),
        minutes=st.integers(0, 29),
    )
    def pay_what_is_asked_in_time(
        self, wallet: str, name: str, times: int, by_authorization: bool, minutes: int
    ) -> None:
        """Whatever the price list does meanwhile, that deploys."""
        asked = self.deploy(wallet, name)
        if isinstance(asked, Admitted):
            self.owners[name] = wallet
        if not isinstance(asked, PaymentRequired):
            return
        self.change_the_price_list(times)
        left_ms = asked.demand.expires_at_ms - self.clock.now_ms()
        self.clock.advance(min(minutes * MINUTE_MS, left_ms - 1))
        if by_authorization:
            paid = self.deploy(wallet, name, authorizes(asked.demand.amount, payer=wallet))
            assert isinstance(paid, Admitted), paid
            tx_hash = paid.receipt.tx_hash if paid.receipt else ""
            self.sent.append(Sent(self.gate.chain.transfers_of[tx_hash][0], True, paid))
            self.balances[wallet] += asked.demand.amount
        else:
            sent = self.send(wallet, asked.demand.amount)
            paid = self.present(wallet, name, sent)
            assert isinstance(paid, Admitted), paid
        self.owners[name] = wallet

    @rule(wallet=st.sampled_from(WALLETS), amount=st.integers(1, 4 * PRICE))
    def transfer(self, wallet: str, amount: int) -> None:
        self.send(wallet, amount)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), wallet=st.sampled_from(WALLETS), name=st.sampled_from(NAMES))
    def present_any_transfer(self, data: st.DataObject, wallet: str, name: str) -> None:
        sent = data.draw(st.sampled_from(self.sent))
        is_payer, was_used = sent.transfer.payer == wallet, sent.paid_for or sent.topped_up
        is_anothers = self.is_anothers(wallet, name)
        paid_for = sent.paid_for
        best, is_nearly_over = self.price_for(wallet, name), self.is_nearly_over(wallet, name)
        answer = self.present(wallet, name, sent)
        if is_anothers:
            assert isinstance(answer, NameUnavailable)
        elif was_used:
            assert isinstance(answer, PaymentAlreadyUsed)
            told = (answer.project_id, answer.deployment_id)
            own = paid_for if is_payer else None
            assert told == ((own.project_id, own.deployment_id) if own else (None, None))
        elif not is_payer:
            assert isinstance(answer, PaymentRequired)
            assert isinstance(answer.because, PayerMismatch)
        elif isinstance(answer, PaymentRequired):
            price = answer.demand.amount + self.balances[wallet]
            assert price == best or (price == self.list_price and is_nearly_over)
        else:
            assert isinstance(answer, Admitted)

    @precondition(lambda self: any(not sent.credited for sent in self.sent))
    @rule(data=st.data())
    def watcher_finds_a_transfer(self, data: st.DataObject) -> None:
        sent = data.draw(st.sampled_from([each for each in self.sent if not each.credited]))
        self.runner.run(self._find(sent.transfer))
        self._credited(sent)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def top_up_with_any_transfer(self, data: st.DataObject) -> None:
        sent = data.draw(st.sampled_from(self.sent))
        request = TopUpRequest(
            wallet=sent.transfer.payer,
            amount=MicroUsd(PRICE),
            means=PaymentMeans(ARBITRUM, USDC),
            evidence=attempt(tx=sent.transfer.tx_hash).evidence,
            body_digest="00" * 32,
        )
        try:
            self.runner.run(self._top_up(request))
        except PaymentAlreadyUsed:
            assert sent.paid_for is not None
        else:
            assert sent.paid_for is None
            self._credited(sent)
            sent.topped_up = True

    @rule(wallet=st.sampled_from(WALLETS), name=st.sampled_from(NAMES), short=st.integers(1, PRICE))
    def authorize_less_than_what_is_missing(self, wallet: str, name: str, short: int) -> None:
        if self.is_anothers(wallet, name) or self.owners.get(name) == wallet:
            return
        missing = self.price_for(wallet, name) - self.balances[wallet]
        if missing - short <= 0:
            return
        answer = self.deploy(wallet, name, authorizes(missing - short, payer=wallet))
        assert isinstance(answer, PaymentRequired)
        assert isinstance(answer.because, AuthorizationRefused)

    @rule(payer=st.sampled_from(WALLETS), name=st.sampled_from(NAMES))
    def present_anothers_authorization(self, payer: str, name: str) -> None:
        (thief,) = {*WALLETS} - {payer}
        if self.is_anothers(thief, name):
            return
        answer = self.deploy(thief, name, authorizes(4 * PRICE, payer=payer))
        assert isinstance(answer, PaymentRequired)
        assert isinstance(answer.because, PayerMismatch)

    # What is always so

    @invariant()
    def balances_are_what_arrived(self) -> None:
        for wallet in WALLETS:
            assert self.runner.run(accounts.balance(self.db, wallet)) == self.balances[wallet]

    @invariant()
    def audit_finds_nothing_wrong(self) -> None:
        assert self.runner.run(self._audit()) == []

    # The model

    def is_anothers(self, wallet: str, name: str) -> bool:
        """Whether somebody else has the name, or was promised it."""
        if name in self.owners:
            return self.owners[name] != wallet
        return any(self.living(other, name) for other in WALLETS if other != wallet)

    def living(self, wallet: str, name: str) -> list[Promise]:
        now_ms = self.clock.now_ms()
        promises = self.promises.get((wallet, name), [])
        return [promise for promise in promises if promise.until_ms > now_ms]

    def price_asked_again(self, wallet: str, name: str) -> int:
        """Today's price, or a better promise that leaves time to pay or was begun to be paid."""
        living = self.living(wallet, name)
        least_ms = self.clock.now_ms() + MINUTE_MS
        kept = any(each.begun for each in living)
        return min(
            [self.list_price, *(each.price for each in living if kept or each.until_ms > least_ms)]
        )

    def price_for(self, wallet: str, name: str) -> int:
        """Today's price, or a better one that was promised."""
        return min([self.list_price, *(each.price for each in self.living(wallet, name))])

    def is_nearly_over(self, wallet: str, name: str) -> bool:
        """Whether the better promises leave no time to pay what a first part left."""
        least_ms = self.clock.now_ms() + MINUTE_MS
        better = [each for each in self.living(wallet, name) if each.price < self.list_price]
        return all(each.until_ms <= least_ms for each in better)

    def _credited(self, sent: Sent) -> None:
        if not sent.credited:
            sent.credited = True
            self.balances[sent.transfer.payer] += sent.transfer.amount

    # The product

    def deploy(
        self, wallet: str, name: str, evidence: Evidence | None = None
    ) -> Admitted | MoorageError:
        try:
            answer: Admitted | MoorageError = self.runner.run(self._deploy(wallet, name, evidence))
        except MoorageError as refused:
            answer = refused
        if isinstance(answer, PaymentRequired):
            self._note(wallet, name, answer.demand)
        elif isinstance(answer, Admitted):
            self.promises.pop((wallet, name), None)
        return answer

    def present(self, wallet: str, name: str, sent: Sent) -> Admitted | MoorageError:
        """A request with the transfer's hash, and what the model makes of its answer."""
        answer = self.deploy(wallet, name, attempt(tx=sent.transfer.tx_hash).evidence)
        if not isinstance(answer, NameUnavailable | PaymentAlreadyUsed):
            self._credited(sent)  # to who paid, whoever shows it
        if isinstance(answer, Admitted):
            sent.paid_for = answer
            self.owners[name] = wallet
        return answer

    def send(self, wallet: str, amount: int) -> Sent:
        sent = Sent(transfer(wallet, amount))
        self.gate.chain.pays(sent.transfer)
        self.sent.append(sent)
        return sent

    def _note(self, wallet: str, name: str, demand: Demand) -> None:
        """A demand promises what it asks for; a first part of it, paid, keeps the best promise."""
        begun = isinstance(demand.because, PaymentShort)
        price = demand.amount + demand.balance if begun else self.price_asked_again(wallet, name)
        begun = begun or any(each.begun for each in self.living(wallet, name))
        promised = Promise(price, demand.expires_at_ms, begun)
        self.promises.setdefault((wallet, name), []).append(promised)
        assert self.clock.now_ms() < demand.expires_at_ms
        assert demand.expires_at_ms <= self.clock.now_ms() + HALF_AN_HOUR_MS

    async def _deploy(self, wallet: str, name: str, evidence: Evidence | None) -> Admitted:
        offered = attempt(wallet, name, body=fresh_hash(), evidence=evidence)
        received = self.gate.upload()
        try:
            return await self.gate.admission.admit(offered, received)
        finally:
            received.close()

    async def _top_up(self, request: TopUpRequest) -> None:
        top_up = TopUp(db=self.db, paywall=self.gate.paywall, clock=self.clock)
        await top_up.take(request)

    async def _find(self, found: Transfer) -> None:
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, [found], now_ms=self.clock.now_ms())

    async def _audit(self) -> list[object]:
        async with self.db.snapshot() as snapshot:
            _, findings = await audit_books(snapshot, [ARBITRUM])
        return list(findings)


def test_promises_hold_and_money_counts_once_in_any_order(migrated: Path) -> None:
    run_histories(Till, migrated, histories=25, steps=25)

"""Transactions of several payers that reorganisations move, change and drop, beside a plain model.

The verdict on who paid survives all of it, and in the end everybody has what the chain says.
"""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)

from moorage.errors import PaymentPending
from moorage.ledger.ledger import Transfer, held_account
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.operate.refunds import release
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.payments.taking.verification import Verifier
from moorage.payments.watch.finality import FinalityCheck
from moorage.payments.watch.watcher import Watcher
from moorage.records.payments import PaymentStatus
from moorage.storage.money import accounts, payments
from support.books.book_model import AS_FOUND, BookModel, run_histories
from support.books.records_fixture import ALICE, ARBITRUM, BOB, CAROL, USDC, USDT
from support.chains.chain_in_memory import TAGS, ChainInMemory, Sent
from support.gateway.fakes import paywall_of

PAY_TO = "0x" + "99" * 20
LISTED = BOB  # whom screening refuses, at first
PAYERS = (ALICE, BOB, CAROL)
SAFE_ABOVE = MicroUsd(500)
TOO_MUCH = 10**30  # more than there is: never credited, and nobody's search stops at it

sents = st.builds(
    Sent,
    payer=st.sampled_from(PAYERS),
    token=st.sampled_from((USDC, USDT)),
    amount=st.sampled_from((1, 5, 5, 700, TOO_MUCH)),
)
transactions = st.one_of(
    st.lists(sents, min_size=1, max_size=4).map(tuple),
    st.just((Sent(ALICE, USDC, 5), Sent(BOB, USDC, 5))),
)


class Moves(BookModel):
    def __init__(self) -> None:
        super().__init__()
        self.chain = ChainInMemory(ARBITRUM, PAY_TO)
        self.listed = {LISTED}
        self.silent = False
        self.sent: list[str] = []
        self.released: set[str] = set()
        self.ever_held: set[tuple[str, str]] = set()
        self._begin()
        self.watch()

    def _begin(self) -> None:
        metering = Metering(db=self.db, clock=self.clock)
        self.watcher = Watcher(
            db=self.db,
            client=self.chain.client,
            recipients=[PAY_TO],
            safe_above=SAFE_ABOVE,
            clock=self.clock,
            screen=self._screen,
        )
        self.finality_check = FinalityCheck(
            db=self.db,
            client=self.chain.client,
            recipients=[PAY_TO],
            metering=metering,
            clock=self.clock,
            screen=self._screen,
        )
        verifier = Verifier(
            pay_to=PAY_TO,
            clients={ARBITRUM.name: self.chain.client},
            clock=self.clock,
            safe_above=SAFE_ABOVE,
            pending_wait_seconds=0,
        )
        self.paywall = paywall_of(self.db, verifier, self.clock, ARBITRUM, screen=self._screen)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            super().teardown()

    async def _screen(self, transfer: Transfer) -> str | None:
        if self.silent:
            raise PaymentPending
        return "listed" if transfer.payer in self.listed else None

    # What happens on the chain

    @rule(brings=st.lists(transactions, min_size=1, max_size=2), seen=st.booleans())
    def pay(self, brings: list[tuple[Sent, ...]], seen: bool) -> None:
        holds = {self.chain.fresh_hash(): sent for sent in brings}
        self.sent += holds
        self.chain.mine(holds)
        if seen:
            self.watch()

    def mine(self) -> None:
        self.chain.mine()

    @precondition(lambda self: self.chain.unfinalized)
    @rule(
        blocks=st.integers(1, 4),
        again=st.sampled_from(("watch", "look_again", "nothing")),
        data=st.data(),
    )
    def reorganise(self, blocks: int, again: str, data: st.DataObject) -> None:
        """What was in the newest blocks comes back in others: later, in another order, or not."""
        removed = self.chain.drop(self.chain.unfinalized)
        order = data.draw(st.permutations(list(removed)))
        places = {tx_hash: data.draw(st.integers(0, blocks)) for tx_hash in order}  # `blocks`: none
        for at in range(blocks):
            back = {
                tx_hash: data.draw(st.just(removed[tx_hash]) | transactions)
                for tx_hash in order
                if places[tx_hash] == at
            }
            self.chain.mine(back)
        self.chain.mine()
        if again == "watch":
            self.watch()
        elif again == "look_again":
            self.look_again()

    # What the gateway and its operator do

    @rule()
    def watch(self) -> None:
        self.let(self.watcher.look())

    @rule(after_ms=st.sampled_from((1, 5_000, 1_000_000)))
    def ask_again(self, after_ms: int) -> None:
        self.clock.advance(after_ms)
        self.let(self.watcher.ask_again())

    @rule()
    def restart(self) -> None:
        self._begin()

    @rule()
    def look_again(self) -> None:
        self.let(self.finality_check.check())

    @precondition(lambda self: self.sent)
    @rule(wallet=st.sampled_from(PAYERS), token=st.sampled_from((USDC, USDT)), data=st.data())
    def present(self, wallet: str, token: object, data: st.DataObject) -> None:
        means = PaymentMeans(chain=ARBITRUM, token=token)  # type: ignore[arg-type]
        evidence = TransactionEvidence(means, data.draw(st.sampled_from(self.sent)))
        self.let(self.paywall.take(evidence, wallet=wallet, body_digest="00" * 32))

    @rule(silent=st.booleans())
    def have_screening_fail_or_answer(self, silent: bool) -> None:
        self.silent = silent

    @rule(payer=st.sampled_from((LISTED, CAROL)))
    def change_the_list(self, payer: str) -> None:
        self.listed ^= {payer}

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        tx_hash = data.draw(st.sampled_from(self.sent))
        chain_ids = {ARBITRUM.chain_id}
        done = self.runner.run(
            release(self.db, tx_hash, chain_ids=chain_ids, clock=self.clock, who="ann")
        )
        self.ever_held -= {(tx_hash, payment.payer) for payment in done}

    def come_to_rest(self) -> None:
        """All has its verdict and is final: everybody has what the chain says."""
        self.silent = False
        for _ in range(3 * TAGS["finalized"]):  # the chain may be shorter than it was
            self.chain.mine()
        for _ in range(3):
            self.watch()
            self.ask_again(after_ms=1_000_000)
            self.look_again()
        self.what_is_held_stays_held_until_it_is_released()
        self.books_sum_to_zero_and_agree_with_the_payments()
        assert self._booked() == self._on_chain()

    # What must be so

    @invariant()
    def what_is_held_stays_held_until_it_is_released(self) -> None:
        for tx_hash in self.sent:
            for payment in self._of(tx_hash):
                key = (tx_hash, payment.payer)
                if payment.status is PaymentStatus.HELD:
                    self.ever_held.add(key)
                assert payment.status is not PaymentStatus.CREDITED or key not in self.ever_held

    @invariant()
    def books_sum_to_zero_and_agree_with_the_payments(self) -> None:
        assert self.runner.run(accounts.sum_of_entries(self.db)) == 0
        credited: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for tx_hash in self.sent:
            for one in self._of(tx_hash):
                if one.status is not PaymentStatus.REVERSED:
                    into = held if one.status is PaymentStatus.HELD else credited
                    into[one.payer] += one.credited_micro_usd
        for payer in PAYERS:
            assert self.runner.run(accounts.balance(self.db, payer)) == credited[payer]
            account = accounts.sum_of_account(self.db, held_account(payer))
            assert self.runner.run(account) == held[payer]

    # Two counts of the same money

    def _on_chain(self) -> Counter[tuple[str, str, str]]:
        found: Counter[tuple[str, str, str]] = Counter()
        for block in self.chain.blocks:
            for tx_hash, transfers in block.holds.items():
                for sent in (one for one in transfers if one.amount != TOO_MUCH):
                    found[tx_hash, sent.payer, sent.token.key] += sent.amount
        return found

    def _booked(self) -> Counter[tuple[str, str, str]]:
        found: Counter[tuple[str, str, str]] = Counter()
        for tx_hash in self.sent:
            for one in self._of(tx_hash):
                if one.status is not PaymentStatus.REVERSED:
                    found[tx_hash, one.payer, one.token_address] += one.amount
        return found

    def _of(self, tx_hash: str) -> list:  # type: ignore[type-arg]
        chain_id = ARBITRUM.chain_id
        return self.runner.run(payments.of_transaction(self.db, chain_id=chain_id, tx_hash=tx_hash))


def test_verdicts_survive_every_move_and_nobody_loses_money(migrated: Path) -> None:
    run_histories(Moves, migrated, histories=60, steps=30, phases=AS_FOUND)


@pytest.mark.parametrize("shift", [0, 1])
def test_who_is_held_beside_another_stays_held_when_their_transaction_moves(
    migrated: Path, shift: int
) -> None:
    """One transaction pays for both, and is mined one block later, or one log later."""
    Moves.template = migrated
    moves = Moves()
    tx_hash, other = moves.chain.fresh_hash(), moves.chain.fresh_hash()
    moves.sent += [tx_hash, other]
    moves.chain.mine({tx_hash: (Sent(ALICE, USDC, 5), Sent(BOB, USDC, 5))})
    moves.watch()
    moves.what_is_held_stays_held_until_it_is_released()
    held = moves.chain.drop(1)
    moves.chain.mine()
    moves.chain.mine({other: (Sent(CAROL, USDC, 1),) * shift, **held})
    moves.mine()
    moves.look_again()
    moves.what_is_held_stays_held_until_it_is_released()
    moves.teardown()

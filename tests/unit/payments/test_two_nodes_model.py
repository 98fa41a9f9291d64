"""Two nodes, of which one lies at will in any answer, beside what the honest one shows.

Payments, reorganisations, ticks, claims, refunds and restarts come in any order. Nothing becomes
final, is paid back or is taken back against the honest node, and in the end nothing is lost.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from moorage.errors import MoorageError
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.payments.relay.refunds import Refunds
from moorage.payments.taking.verification import Verifier
from moorage.payments.watch.finality import FinalityCheck
from moorage.payments.watch.watcher import Watcher
from moorage.records.payments import Finality, Payment, PaymentStatus
from moorage.storage.money import accounts, payments
from support.books.book_model import AS_FOUND, BookModel, run_histories
from support.books.records_fixture import ALICE, ARBITRUM, BOB, CAROL, USDC
from support.chains.chain_in_memory import TAGS, ChainInMemory, Sent
from support.chains.nodes_in_memory import HONEST, LIAR, NodesInMemory, Refused, Silent
from support.gateway.fakes import paywall_of

PAY_TO = "0x" + "99" * 20
PAYERS = (ALICE, BOB, CAROL)
AGREE_ABOVE, SAFE_ABOVE = MicroUsd(500), MicroUsd(5_000)
AMOUNTS = (1, 5, 700, 7_000)


class Liar:
    """Answers truly, fails, or makes up what it likes, as `chance` has it."""

    def __init__(self, chain: ChainInMemory) -> None:
        self._chain = chain
        self.chance = Random(0)
        self.share = 0.0  # of answers that are lies
        self.fakes: dict[str, tuple[str, Sent]] = {}  # by hash: the block it shows it in, and what

    def __call__(self, method: str, params: Sequence[Any], result: Any) -> Any:
        told = self._with_fakes(method, params, result)
        if self.chance.random() >= self.share:
            return told
        ways: list[Callable[[], Any]] = [self._fail, self._refuse, lambda: None]
        if method == "eth_getTransactionReceipt" and told:
            ways += [lambda: {**told, "status": "0x0", "logs": []}, lambda: self._moved(told)]
            ways += [lambda: self._paid_by_another(told)] * 2
        if method == "eth_getLogs":
            ways += [list] * 3
        if method == "eth_getBlockByNumber" and told:
            ways += [lambda: {**told, "hash": f"0x{self.chance.getrandbits(256):064x}"}] * 2
            ways += [lambda: {**told, "number": hex(self.chance.randrange(40))}]
        if method == "eth_blockNumber":
            ways = [lambda: hex(self.chance.randrange(100))]
        if method == "eth_chainId":
            ways = [lambda: "0x1"]
        return self.chance.choice(ways)()

    def _fail(self) -> None:
        raise Silent

    def _refuse(self) -> None:
        raise Refused

    def _moved(self, receipt: Any) -> Any:
        block = self.chance.choice(self._chain.blocks)
        number = hex(self._chain.blocks.index(block))
        place = {"blockHash": block.hash, "blockNumber": number}
        return {**receipt, **place, "logs": [{**log, **place} for log in receipt["logs"]]}

    def _paid_by_another(self, receipt: Any) -> Any:
        sender = "0x" + self.chance.choice(PAYERS)[2:].rjust(64, "0")
        logs = [
            {**log, "topics": [log["topics"][0], sender, log["topics"][2]]}
            for log in receipt["logs"]
        ]
        return {**receipt, "logs": logs}

    def _with_fakes(self, method: str, params: Sequence[Any], result: Any) -> Any:
        if self.share == 0:
            return result
        if method == "eth_getTransactionReceipt" and params[0] in self.fakes:
            return self._fake_receipt(params[0])
        if method == "eth_getLogs":
            first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            receipts = [self._fake_receipt(each) for each in self.fakes]
            inside = [
                each for each in receipts if each and first <= int(each["blockNumber"], 16) <= last
            ]
            return [*result, *(log for each in inside for log in each["logs"])]
        return result

    def _fake_receipt(self, tx_hash: str) -> Any:
        block_hash, sent = self.fakes[tx_hash]
        numbers = [at for at, each in enumerate(self._chain.blocks) if each.hash == block_hash]
        if not numbers:
            return None
        place = {"blockHash": block_hash, "blockNumber": hex(numbers[0])}
        sender, to = ("0x" + each[2:].rjust(64, "0") for each in (sent.payer, PAY_TO))
        log = {
            "address": sent.token.key,
            "topics": [_TRANSFER, sender, to],
            "data": f"0x{sent.amount:064x}",
            "transactionHash": tx_hash,
            "logIndex": "0x63",
            **place,
        }
        return {"transactionHash": tx_hash, "status": "0x1", "logs": [log], **place}


def _silent(_method: str, _params: Sequence[Any], _result: Any) -> Any:
    raise Silent


def _truth(_method: str, _params: Sequence[Any], result: Any) -> Any:
    return result


_TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"  # EIP-20


class TwoNodes(BookModel):
    def __init__(self) -> None:
        super().__init__()
        self.chain = ChainInMemory(ARBITRUM, PAY_TO)
        self.nodes = NodesInMemory(self.chain)
        self.liar = Liar(self.chain)
        self.nodes.lies[LIAR] = self.liar
        self.sent: list[str] = []
        self.urls = (LIAR, HONEST)
        self._begin()
        self.tick()

    def _begin(self) -> None:
        client = self.nodes.client(self.clock, *self.urls)
        shared: dict[str, Any] = {"db": self.db, "client": client, "clock": self.clock}
        above: dict[str, Any] = {"safe_above": SAFE_ABOVE, "agree_above": AGREE_ABOVE}
        self.watcher = Watcher(**shared, **above, recipients=[PAY_TO])
        metering = Metering(db=self.db, clock=self.clock)
        self.finality = FinalityCheck(**shared, recipients=[PAY_TO], metering=metering)
        clients = {ARBITRUM.name: client}
        verifier = Verifier(
            pay_to=PAY_TO, clients=clients, clock=self.clock, **above, pending_wait_seconds=0
        )
        self.paywall = paywall_of(self.db, verifier, self.clock, ARBITRUM)
        self.refunds = Refunds(
            **shared, relayer=cast("Any", None), sender=PAY_TO, recipients={PAY_TO}
        )

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            super().teardown()

    # What happens on the chain

    @rule(payer=st.sampled_from(PAYERS), amount=st.sampled_from(AMOUNTS))
    def pay(self, payer: str, amount: int) -> None:
        tx_hash = self.chain.fresh_hash()
        self.sent.append(tx_hash)
        self.chain.mine({tx_hash: (Sent(payer, USDC, amount),)})

    @rule(blocks=st.integers(1, 4))
    def mine(self, blocks: int) -> None:
        for _ in range(blocks):
            self.chain.mine()

    @precondition(lambda self: self.chain.unfinalized)
    @rule(stays=st.booleans())
    def reorganise(self, stays: bool) -> None:
        removed = self.chain.drop(self.chain.unfinalized)
        self.chain.mine()
        if stays:
            self.chain.mine(removed)
        self.mine(5)

    # What the liar does

    @rule(chance=st.randoms(use_true_random=False), share=st.sampled_from((0.0, 0.02, 0.2, 0.6)))
    def lie(self, chance: Random, share: float) -> None:
        self.liar.chance, self.liar.share = Random(chance.getrandbits(64)), share

    @rule(silent=st.booleans())
    def have_the_honest_node_fail_or_answer(self, silent: bool) -> None:
        self.nodes.lies[HONEST] = _silent if silent else _truth

    @rule(payer=st.sampled_from(PAYERS), amount=st.sampled_from(AMOUNTS))
    def fake(self, payer: str, amount: int) -> None:
        tx_hash = self.chain.fresh_hash()
        self.liar.fakes[tx_hash] = (self.chain.blocks[-1].hash, Sent(payer, USDC, amount))
        self.liar.share = max(self.liar.share, 0.01)
        self.let(self.watcher.look())

    # What the gateway and its operator do

    @rule()
    def tick(self) -> None:
        self.let(self.watcher.look())
        self.clock.advance(1_000_000)
        self.let(self.watcher.ask_again())
        self.let(self.finality.check())

    @rule()
    def grow_old(self) -> None:
        """What was paid until now is final, if ever."""
        self.mine(8)
        for _ in range(2):
            self.tick()

    @rule(liar_first=st.booleans())
    def restart(self, liar_first: bool) -> None:
        self.urls = (LIAR, HONEST) if liar_first else (HONEST, LIAR)
        self._begin()

    @precondition(lambda self: self.sent or self.liar.fakes)
    @rule(wallet=st.sampled_from(PAYERS), data=st.data())
    def present(self, wallet: str, data: st.DataObject) -> None:
        tx_hash = data.draw(st.sampled_from([*self.sent, *self.liar.fakes]))
        evidence = TransactionEvidence(PaymentMeans(chain=ARBITRUM, token=USDC), tx_hash)
        self.let(self.paywall.take(evidence, wallet=wallet, body_digest="00" * 32))

    @precondition(lambda self: self.sent or self.liar.fakes)
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        """It is sent, as far as a node decides, if it comes to the relayer, which there is none."""
        tx_hash = data.draw(st.sampled_from([*self.sent, *self.liar.fakes]))
        for payment in self._of(tx_hash):
            begun = self.refunds.begin(payment, amount=None, reason="", note=cast("Any", None))
            try:
                self.runner.run(begun)
            except MoorageError:
                continue
            except AttributeError:
                assert self._is_shown(payment)

    def come_to_rest(self) -> None:
        """The liar is replaced by an honest node: everybody has what the chain says."""
        self.liar.share, self.liar.chance = 0.0, Random(0)
        self.nodes.lies[HONEST] = _truth
        for _ in range(3 * TAGS["finalized"]):
            self.chain.mine()
        for _ in range(6):
            self.tick()
        self.nothing_goes_against_the_honest_node()
        assert self._booked() == self._on_chain()

    # What must be so

    @invariant()
    def nothing_goes_against_the_honest_node(self) -> None:
        for tx_hash in (*self.sent, *self.liar.fakes):
            for payment in self._of(tx_hash):
                if payment.finality is Finality.FINALIZED:
                    assert self._is_shown(payment)
                elif payment.status is PaymentStatus.REVERSED:
                    assert not self._is_shown(payment)
        assert self.runner.run(accounts.sum_of_entries(self.db)) == 0

    def _is_shown(self, payment: Payment) -> bool:
        """Whether the chain has the payment as the books have it."""
        number = payment.block_number
        block = self.chain.blocks[number] if number < len(self.chain.blocks) else None
        if block is None or block.hash != payment.block_hash:
            return False
        sent = block.holds.get(payment.tx_hash, ())
        return (payment.payer, payment.amount) in [(one.payer, one.amount) for one in sent]

    def _on_chain(self) -> Counter[tuple[str, str, int]]:
        return Counter(
            (tx_hash, sent.payer, sent.amount)
            for block in self.chain.blocks
            for tx_hash, transfers in block.holds.items()
            for sent in transfers
        )

    def _booked(self) -> Counter[tuple[str, str, int]]:
        return Counter(
            (payment.tx_hash, payment.payer, payment.amount)
            for tx_hash in (*self.sent, *self.liar.fakes)
            for payment in self._of(tx_hash)
            if payment.status is not PaymentStatus.REVERSED
        )

    def _of(self, tx_hash: str) -> list[Payment]:
        chain_id = ARBITRUM.chain_id
        return self.runner.run(payments.of_transaction(self.db, chain_id=chain_id, tx_hash=tx_hash))


def test_no_single_node_makes_money_or_unmakes_it(migrated: Path) -> None:
    run_histories(TwoNodes, migrated, histories=60, steps=30, phases=AS_FOUND)

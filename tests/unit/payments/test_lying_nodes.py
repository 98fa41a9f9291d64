"""Two nodes, one of which lies, fails or lags, at each stage of a payment's life.

No single node makes money or unmakes it: what it alone shows never becomes final and is never paid
back; what it alone denies is neither lost nor reversed.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from moorage.chains.receipt import TRANSFER_TOPIC
from moorage.errors import ChainUnavailable, MoorageError, RefundRefused
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.operate.audit.chains import audit_chain
from moorage.payments.relay.refunds import Refunds
from moorage.payments.taking.screening import allow
from moorage.payments.taking.verification import Verifier
from moorage.payments.watch.finality import BalanceCheck, FinalityCheck
from moorage.payments.watch.finding import credit_found, find_payments
from moorage.payments.watch.watcher import Watcher
from moorage.records.payments import Finality, Payment, PaymentStatus
from moorage.storage.database import Database
from moorage.storage.money import accounts, audit, payments
from support.books.records_fixture import ALICE, ARBITRUM, BOB, USDC
from support.chains.chain_in_memory import ChainInMemory, Sent
from support.chains.nodes_in_memory import HONEST, LIAR, Lie, NodesInMemory, Refused, Silent
from support.gateway.clock import MovableClock

PAY_TO = "0x" + "99" * 20
FAKE = "0x" + "fa" * 32  # a transaction that no honest node has
FINE, LARGE = 5_000_000, 500_000_000  # below and above what one node may say alone
SAFE_ABOVE = MicroUsd(10**12)
OTHER_HASH = "0x" + "0b" * 32


class Gateway:
    """What a gateway does about payments, over two nodes."""

    def __init__(self, db: Database, clock: MovableClock, *urls: str) -> None:
        self.db, self.clock = db, clock
        self.chain = ChainInMemory(ARBITRUM, PAY_TO)
        self.nodes = NodesInMemory(self.chain)
        self.client = self.nodes.client(clock, *urls)
        self.begin()

    def begin(self) -> None:
        """Start, or start again."""
        shared: dict[str, Any] = {"db": self.db, "client": self.client, "clock": self.clock}
        self.watcher = Watcher(**shared, recipients={PAY_TO}, safe_above=SAFE_ABOVE)
        metering = Metering(db=self.db, clock=self.clock)
        self.finality = FinalityCheck(**shared, recipients={PAY_TO}, metering=metering)
        self.verifier = Verifier(
            pay_to=PAY_TO,
            clients={ARBITRUM.name: self.client},
            clock=self.clock,
            safe_above=SAFE_ABOVE,
            pending_wait_seconds=0,
        )
        self.refunds = Refunds(
            **shared, relayer=cast("Any", None), sender=PAY_TO, recipients={PAY_TO}
        )

    @property
    def lie(self) -> Lie | None:
        return self.nodes.lies.get(LIAR)

    @lie.setter
    def lie(self, lie: Lie) -> None:
        self.nodes.lies[LIAR] = lie

    def be_honest(self) -> None:
        self.nodes.lies.clear()

    def pay(self, amount: int = FINE, *, payer: str = ALICE) -> str:
        tx_hash = self.chain.fresh_hash()
        self.chain.mine({tx_hash: (Sent(payer, USDC, amount),)})
        return tx_hash

    def mine(self, blocks: int) -> None:
        for _ in range(blocks):
            self.chain.mine()

    async def present(self, tx_hash: str) -> None:
        """Credit what a client names, as the paywall would."""
        transfers = await self.verifier.transfers(chain=ARBITRUM, token=USDC, tx_hash=tx_hash)
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, transfers, now_ms=self.clock.now_ms())

    async def let(self, *works: Callable[[], Any], times: int = 1) -> None:
        """Do each; what is put off is for the next time."""
        for _ in range(times):
            for work in works:
                self.clock.advance(20_000)
                try:
                    await work()
                except MoorageError:
                    continue

    async def live(self, times: int = 3) -> None:
        """All that a gateway does by itself, so often, as blocks come."""
        for _ in range(times):
            works = (self.watcher.look, self.watcher.ask_again, self.finality.check)
            await self.let(*works)
            self.chain.mine()

    async def booked(self, tx_hash: str) -> list[tuple[PaymentStatus, Finality]]:
        return [(one.status, one.finality) for one in await self.payments(tx_hash)]

    async def payments(self, tx_hash: str) -> list[Payment]:
        chain_id = ARBITRUM.chain_id
        return await payments.of_transaction(self.db, chain_id=chain_id, tx_hash=tx_hash)

    async def refuses_to_refund(self, tx_hash: str) -> bool:
        """Whether a payment, if it is in the books, is not sent back; nothing is signed here."""
        for payment in await self.payments(tx_hash):
            try:
                await self.refunds.begin(payment, amount=None, reason="", note=cast("Any", None))
            except (RefundRefused, ChainUnavailable):
                continue
            except AttributeError:  # it came as far as the relayer, which there is none of
                return False
        return True


@pytest.fixture
def gateway(db: Database, clock: MovableClock) -> Gateway:
    return Gateway(db, clock)


CREDITED = (PaymentStatus.CREDITED, Finality.PROVISIONAL)
FINAL = (PaymentStatus.CREDITED, Finality.FINALIZED)
REVERSED = (PaymentStatus.REVERSED, Finality.PROVISIONAL)


# The faults: what a node answers in place of the truth.


def silent(_m: str, _p: Sequence[Any], _r: Any) -> Any:
    raise Silent


def refuses(_m: str, _p: Sequence[Any], _r: Any) -> Any:
    raise Refused


def no_receipts(method: str, _p: Sequence[Any], result: Any) -> Any:
    return None if method == "eth_getTransactionReceipt" else result


def no_logs(method: str, _p: Sequence[Any], result: Any) -> Any:
    return [] if method == "eth_getLogs" else result


def reverted(method: str, _p: Sequence[Any], result: Any) -> Any:
    if method == "eth_getTransactionReceipt" and result:
        return {**result, "status": "0x0", "logs": []}
    return result


def another_chain(method: str, _p: Sequence[Any], result: Any) -> Any:
    return "0x1" if method == "eth_chainId" else result


def old_head(method: str, params: Sequence[Any], result: Any) -> Any:
    if method == "eth_blockNumber":
        return "0x6"
    if method == "eth_getBlockByNumber" and (params[0] in ("latest", "safe", "finalized")):
        return {**result, "number": "0x6"}
    return result


def head_of_the_future(method: str, params: Sequence[Any], result: Any) -> Any:
    if method == "eth_getBlockByNumber" and (params[0] in ("latest", "safe", "finalized")):
        return {**result, "number": "0xffffff"}
    return result


def another_block(method: str, _p: Sequence[Any], result: Any) -> Any:
    """It is on a branch of its own, from the block of the tests' payments on."""
    if method == "eth_getBlockByNumber" and result and int(result["number"], 16) >= 8:
        return {**result, "hash": OTHER_HASH}
    return None if method == "eth_getTransactionReceipt" else result


@dataclass
class Changing:
    """Every other answer is a lie."""

    asked: int = 0

    def __call__(self, method: str, params: Sequence[Any], result: Any) -> Any:
        self.asked += method == "eth_getTransactionReceipt"
        return no_receipts(method, params, result) if self.asked % 2 else result


FAULTS: dict[str, Callable[[], Lie]] = {
    "silence": lambda: silent,
    "error": lambda: refuses,
    "empty logs": lambda: no_logs,
    "null receipt": lambda: no_receipts,
    "reverted receipt": lambda: reverted,
    "wrong chain": lambda: another_chain,
    "old head": lambda: old_head,
    "head of the future": lambda: head_of_the_future,
    "other block": lambda: another_block,
    "contradicting between calls": Changing,
}
faults = pytest.mark.parametrize("fault", FAULTS)
orders = pytest.mark.parametrize("urls", [(HONEST, LIAR), (LIAR, HONEST)], ids=["2nd", "1st"])


def faking(chain: ChainInMemory, amount: int, *, number: int, payer: str = BOB) -> Lie:
    """Receipts and logs of this node show a transaction in that block, which is in none."""
    block_hash = chain.blocks[number].hash
    log = {
        "address": USDC.key,
        "topics": [TRANSFER_TOPIC, _word(payer), _word(PAY_TO)],
        "data": f"0x{amount:064x}",
        "transactionHash": FAKE,
        "blockHash": block_hash,
        "blockNumber": hex(number),
        "logIndex": "0x63",
    }
    receipt = {
        "transactionHash": FAKE,
        "blockHash": block_hash,
        "blockNumber": hex(number),
        "status": "0x1",
        "logs": [log],
    }

    def lie(method: str, params: Sequence[Any], result: Any) -> Any:
        if method == "eth_getTransactionReceipt" and params[0] == FAKE:
            return receipt
        if method == "eth_getLogs":
            span = params[0]
            inside = int(span["fromBlock"], 16) <= number <= int(span["toBlock"], 16)
            return [*result, log] if inside else result
        return result

    return lie


def _word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


# Stage by stage: an honest payment beside a node with each fault.


@orders
@faults
async def test_honest_payment_is_credited_and_final_once_the_node_is_honest(
    db: Database, clock: MovableClock, fault: str, urls: tuple[str, str]
) -> None:
    """Credit, safe, finalized: it is never reversed meanwhile, and never lost."""
    gateway = Gateway(db, clock, *urls)
    await gateway.live(1)
    gateway.lie = FAULTS[fault]()
    tx_hash = gateway.pay()
    await gateway.let(lambda: gateway.present(tx_hash), times=2)
    for _ in range(10):
        await gateway.live(1)
        assert all(status is PaymentStatus.CREDITED for status, _ in await gateway.booked(tx_hash))
    gateway.be_honest()
    await gateway.let(lambda: gateway.present(tx_hash))
    await gateway.live(12)
    assert await gateway.booked(tx_hash) == [FINAL]
    assert await accounts.balance(db, ALICE) == FINE


@orders
@pytest.mark.parametrize("fault", ["silence", "error", "empty logs", "wrong chain", "old head"])
async def test_payment_that_nobody_presents_is_found_beside_a_node_that_does_not_tell(
    db: Database, clock: MovableClock, fault: str, urls: tuple[str, str]
) -> None:
    gateway = Gateway(db, clock, *urls)
    await gateway.live(1)
    gateway.lie = FAULTS[fault]()
    tx_hash = gateway.pay()
    await gateway.live(12)
    assert [status for status, _ in await gateway.booked(tx_hash)] == [PaymentStatus.CREDITED]


@orders
@faults
async def test_large_payment_is_credited_on_no_single_nodes_word(
    db: Database, clock: MovableClock, fault: str, urls: tuple[str, str]
) -> None:
    gateway = Gateway(db, clock, *urls)
    await gateway.live(1)
    tx_hash = gateway.pay(LARGE)
    gateway.lie = FAULTS[fault]()
    tells = fault in ("empty logs", "head of the future")
    await gateway.let(lambda: gateway.present(tx_hash))
    if fault != "contradicting between calls":  # it may be right at that moment
        assert bool(await gateway.booked(tx_hash)) is tells
    gateway.be_honest()
    await gateway.let(lambda: gateway.present(tx_hash))
    assert await gateway.booked(tx_hash) == [CREDITED]


@faults
async def test_nothing_is_refunded_that_a_node_does_not_bear_out(
    gateway: Gateway, fault: str
) -> None:
    tx_hash = gateway.pay()
    await gateway.present(tx_hash)
    gateway.mine(8)
    gateway.lie = FAULTS[fault]()
    bears_out = fault in ("empty logs", "head of the future")
    if fault != "contradicting between calls":
        assert await gateway.refuses_to_refund(tx_hash) is not bears_out
    gateway.be_honest()
    assert not await gateway.refuses_to_refund(tx_hash)


# What one node makes up.


@orders
async def test_fake_payment_never_becomes_final_and_is_never_refunded(
    db: Database, clock: MovableClock, urls: tuple[str, str]
) -> None:
    gateway = Gateway(db, clock, *urls)
    await gateway.live(1)
    gateway.mine(1)
    gateway.lie = faking(gateway.chain, FINE, number=len(gateway.chain.blocks) - 1)
    await gateway.let(lambda: gateway.present(FAKE), times=2)
    await gateway.live(10)
    assert await gateway.booked(FAKE) in ([], [CREDITED])
    assert await gateway.refuses_to_refund(FAKE)
    gateway.be_honest()
    await gateway.live(3)
    assert await gateway.booked(FAKE) in ([], [REVERSED])
    assert await accounts.balance(db, BOB) == 0


@orders
async def test_large_fake_payment_is_not_credited(
    db: Database, clock: MovableClock, urls: tuple[str, str]
) -> None:
    gateway = Gateway(db, clock, *urls)
    await gateway.live(1)
    gateway.mine(1)
    gateway.lie = faking(gateway.chain, LARGE, number=len(gateway.chain.blocks) - 1)
    await gateway.let(lambda: gateway.present(FAKE), times=2)
    await gateway.live(10)
    assert await gateway.booked(FAKE) == []


async def test_fake_payment_is_not_final_while_the_honest_node_is_silent(
    gateway: Gateway,
) -> None:
    await gateway.live(1)
    gateway.mine(1)
    gateway.nodes.lies[HONEST] = silent
    gateway.lie = faking(gateway.chain, FINE, number=len(gateway.chain.blocks) - 1)
    await gateway.present(FAKE)
    await gateway.live(10)
    assert [finality for _, finality in await gateway.booked(FAKE)] == [Finality.SAFE]
    assert await gateway.refuses_to_refund(FAKE)


async def test_node_alone_reverses_nothing_while_the_other_is_silent(gateway: Gateway) -> None:
    tx_hash = gateway.pay()
    await gateway.present(tx_hash)
    gateway.nodes.lies[HONEST] = silent
    gateway.lie = another_block
    await gateway.live(8)
    assert [status for status, _ in await gateway.booked(tx_hash)] == [PaymentStatus.CREDITED]


async def test_node_alone_moves_no_credit_to_another_payer(gateway: Gateway) -> None:
    """It shows a credited transaction in a block of its own, where it pays for another wallet."""
    await gateway.live(1)
    tx_hash = gateway.pay()
    await gateway.live(1)
    true = (await gateway.payments(tx_hash))[0]

    def moved(method: str, params: Sequence[Any], result: Any) -> Any:
        if method == "eth_getTransactionReceipt" and result:
            logs = [{**log, "topics": _from(BOB, log)} for log in result["logs"]]
            return _elsewhere({**result, "logs": [_elsewhere(log) for log in logs]})
        if method == "eth_getLogs":
            return [_elsewhere({**log, "topics": _from(BOB, log)}) for log in result]
        if method == "eth_getBlockByNumber" and result and (result["hash"] == true.block_hash):
            return {**result, "hash": OTHER_HASH}
        return result

    gateway.nodes.lies[HONEST], gateway.nodes.lies[LIAR] = moved, lambda _m, _p, result: result
    await gateway.live(10)  # the first URL lies this time
    assert (await gateway.payments(tx_hash))[0].payer == ALICE
    assert await accounts.balance(gateway.db, BOB) == 0


def _elsewhere(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "blockHash": OTHER_HASH}


def _from(payer: str, log: dict[str, Any]) -> list[str]:
    return [log["topics"][0], _word(payer), log["topics"][2]]


# Who is told.


async def test_operator_is_told_that_nodes_disagree(gateway: Gateway) -> None:
    tx_hash = gateway.pay()
    await gateway.present(tx_hash)
    gateway.mine(6)
    gateway.lie = no_receipts
    await gateway.let(gateway.finality.check, times=2)
    with pytest.raises(ChainUnavailable, match=tx_hash):
        await gateway.finality.require_agreement()
    gateway.be_honest()
    await gateway.let(gateway.finality.check, times=2)
    await gateway.finality.require_agreement()


async def test_operator_is_told_of_what_one_node_finds_and_another_denies(
    gateway: Gateway,
) -> None:
    await gateway.live(1)
    gateway.mine(1)
    gateway.lie = faking(gateway.chain, LARGE, number=len(gateway.chain.blocks) - 1)
    await gateway.live(4)
    with pytest.raises(ChainUnavailable, match=FAKE):
        await gateway.watcher.check()
    gateway.be_honest()
    await gateway.live(4)
    await gateway.watcher.check()


@pytest.mark.parametrize("fault", [silent, old_head])
async def test_operator_is_told_of_a_node_that_holds_finality_up(
    gateway: Gateway, fault: Lie
) -> None:
    tx_hash = gateway.pay()
    await gateway.present(tx_hash)
    gateway.mine(20)
    gateway.lie = fault
    await gateway.live(2)
    await gateway.finality.require_agreement()
    gateway.clock.advance(700_000)
    gateway.mine(5_000 if fault is old_head else 1)
    await gateway.live(1)
    gateway.clock.advance(700_000)
    with pytest.raises(ChainUnavailable, match="becomes final"):
        await gateway.finality.require_agreement()
    assert (await gateway.booked(tx_hash))[0][0] is PaymentStatus.CREDITED


async def test_audit_asks_each_node_and_says_which_denies(gateway: Gateway) -> None:
    tx_hash = gateway.pay()
    await gateway.present(tx_hash)
    gateway.mine(3)
    gateway.lie = no_receipts
    async with gateway.db.snapshot() as snapshot:
        books = await audit.books(snapshot)

    async def ask(node: Any) -> Any:
        return await audit_chain(node, books, recipients={PAY_TO}, from_block=0, search=True)

    honest, lying = cast("list[Any]", await gateway.client.every(ask))
    assert honest.findings == []
    assert [one.problem for one in lying.findings] == ["its transaction is not on the chain"]


# What every node keeps back.


async def test_payment_that_every_node_kept_back_shows_in_the_balance_and_can_be_found(
    gateway: Gateway,
) -> None:
    check = BalanceCheck(db=gateway.db, client=gateway.client, recipients={PAY_TO})
    await gateway.live(2)
    await check.check()
    gateway.nodes.lies[HONEST] = gateway.nodes.lies[LIAR] = no_logs
    tx_hash = gateway.pay()
    first = len(gateway.chain.blocks) - 1
    await gateway.live(6)
    assert await gateway.booked(tx_hash) == []
    await check.check()
    with pytest.raises(ChainUnavailable, match=f"{FINE} atomic units more of usdc on arbitrum"):
        await check.require_agreement()

    gateway.be_honest()
    searched = {"recipients": {PAY_TO}, "first": first, "last": first}
    found = await find_payments(gateway.db, gateway.client, **searched)  # type: ignore[arg-type]
    assert [(one.tx_hash, one.why_not) for one in found] == [(tx_hash, "")]
    assert await gateway.booked(tx_hash) == []  # it was only looked at
    for _ in range(2):
        await credit_found(gateway.db, gateway.client, found, screen=allow, clock=gateway.clock)
        assert await accounts.balance(gateway.db, ALICE) == FINE
    assert await find_payments(gateway.db, gateway.client, **searched) == []  # type: ignore[arg-type]
    await check.check()
    await check.require_agreement()


async def test_what_one_node_makes_up_is_found_and_not_credited(gateway: Gateway) -> None:
    gateway.mine(4)
    number = len(gateway.chain.blocks) - 4
    gateway.lie = faking(gateway.chain, FINE, number=number)
    (found,) = await find_payments(
        gateway.db, gateway.client, recipients={PAY_TO}, first=number, last=number
    )
    assert (found.tx_hash, found.why_not) == (FAKE, "its nodes disagree")
    done = credit_found(gateway.db, gateway.client, [found], screen=allow, clock=gateway.clock)
    assert await done == []


async def test_payment_is_found_at_a_node_that_was_down_for_a_day_once_it_is_back(
    gateway: Gateway,
) -> None:
    """The other keeps it back: the cursor of the node that is down stays where it was."""
    await gateway.live(1)
    gateway.nodes.lies[HONEST] = silent
    gateway.lie = no_logs
    tx_hash = gateway.pay()
    await gateway.live(6)
    gateway.begin()
    await gateway.live(2)
    assert await gateway.booked(tx_hash) == []
    del gateway.nodes.lies[HONEST]
    await gateway.live(2)
    assert [status for status, _ in await gateway.booked(tx_hash)] == [PaymentStatus.CREDITED]


async def test_tokens_that_leave_are_accounted_for(gateway: Gateway) -> None:
    check = BalanceCheck(db=gateway.db, client=gateway.client, recipients={PAY_TO})
    gateway.pay()
    await gateway.live(3)
    await check.check()
    await gateway.live(3)
    await check.check()
    await check.require_agreement()


# Dust.


def dust(gateway: Gateway, transfers: int) -> str:
    tx_hash = gateway.chain.fresh_hash()
    gateway.chain.mine({tx_hash: (Sent(BOB, USDC, 1),) * transfers})
    return tx_hash


async def test_flood_of_dust_holds_up_neither_finality_nor_a_reversal(gateway: Gateway) -> None:
    """Twelve hundred payments of one unit, in three transactions, before one that counts."""
    await gateway.live(1)
    floods = [dust(gateway, 400) for _ in range(3)]
    stays, goes = gateway.pay(7), gateway.pay(9, payer=BOB)
    for tx_hash in (*floods, stays, goes):
        await gateway.present(tx_hash)
    gateway.chain.drop(1)
    gateway.mine(8)
    gateway.nodes.asked.clear()
    await gateway.let(gateway.finality.check, times=2)
    assert await gateway.booked(goes) == [REVERSED]
    assert await gateway.booked(stays) == [FINAL]
    assert {one for tx_hash in floods for one in await gateway.booked(tx_hash)} == {FINAL}
    # Five transactions at each node, some again in smaller batches, and what is gone once more.
    assert gateway.nodes.calls("eth_getTransactionReceipt") <= 2 * 20


async def test_check_reads_a_bounded_number_and_starves_nobody(gateway: Gateway) -> None:
    """Three hundred small ones are due at once, and a large one after them."""
    hashes = [gateway.pay(1) for _ in range(300)]
    large = gateway.pay(FINE)
    for tx_hash in (*hashes, large):
        await gateway.present(tx_hash)
    gateway.mine(8)
    gateway.nodes.asked.clear()
    await gateway.finality.check()
    assert await gateway.booked(large) == [FINAL]
    assert gateway.nodes.calls("eth_getTransactionReceipt") <= 2 * 250
    await gateway.let(gateway.finality.check, times=2)
    assert {one for tx_hash in hashes for one in await gateway.booked(tx_hash)} == {FINAL}


async def test_thousands_of_transfers_are_credited_in_parts(gateway: Gateway) -> None:
    """No database transaction books more than a few hundred: others have their turn between."""
    await gateway.live(1)
    dust(gateway, 1_000)
    sizes: list[int] = []
    stop = asyncio.Event()

    async def look_on() -> None:
        while not stop.is_set():
            sizes.append(await accounts.balance(gateway.db, BOB))  # each brings one
            await asyncio.sleep(0)

    watching = asyncio.create_task(look_on())
    await gateway.watcher.look()
    stop.set()
    await watching
    steps = [after - before for before, after in itertools.pairwise([*sizes, 1_000])]
    assert max(steps) <= 256
    assert await accounts.balance(gateway.db, BOB) == 1_000


# What it costs.


async def test_first_credit_asks_one_node_once(gateway: Gateway) -> None:
    tx_hash = gateway.pay()
    gateway.nodes.asked.clear()
    await gateway.present(tx_hash)
    assert len(gateway.nodes.asked) == 1


async def test_first_credit_of_much_asks_both_nodes_at_once(gateway: Gateway) -> None:
    tx_hash = gateway.pay(LARGE)
    gateway.nodes.asked.clear()
    await gateway.present(tx_hash)
    assert [url for url, _ in gateway.nodes.asked] == [HONEST, HONEST, LIAR]


async def test_one_node_alone_is_believed_as_before(db: Database, clock: MovableClock) -> None:
    gateway = Gateway(db, clock, HONEST)
    await gateway.live(1)
    tx_hash = gateway.pay(LARGE)
    await gateway.live(12)
    assert await gateway.booked(tx_hash) == [FINAL]
    assert not await gateway.refuses_to_refund(tx_hash)

"""A refund, each step of it, each fault: it is paid once, and the books agree with the chain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import books
import msgspec
import pytest
import pytest_asyncio
from cell import Cell
from stage import CHAIN, PATIENCE_SECONDS, Stage
from ways import by_transaction

from faults import FAULTS, reorganised
from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.rpc import RpcClient
from moorage.chains.signing import SigningKey
from moorage.clock import SystemClock
from moorage.errors import MoorageError
from moorage.failpoints import armed
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.relay.refund_requests import (
    GAS,
    RefundAsked,
    RefundLimits,
    RefundRequests,
)
from moorage.payments.relay.refunds import Refunds
from moorage.payments.relay.relayer import GWEI, Limits, Relayer
from moorage.records.payments import RefundStatus
from moorage.storage.database import Transaction
from moorage.storage.money import payments, refunds
from moorage.storage.opening import open_database
from support.chains.paying import mine, until_mined
from support.gateway.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.root,
    pytest.mark.spread("step"),
]

AMOUNT = 200_000
BEGUN, MINED = "begun", "mined"
STEPS = (BEGUN, "refund_signed", "refund_sent", MINED)
KILLED, FORGOTTEN = "killed", "forgotten"
OF_REQUESTS = "duplicates"
EVERY = {
    **{name: fault for name, fault in FAULTS.items() if name != OF_REQUESTS},
    FORGOTTEN: reorganised(1, forgets=True),
}


async def _noted(_tx: Transaction) -> None:
    """Notes nothing beside the refund."""


class Ends(BaseException):
    """The operator's command dies here."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage(tmp_path_factory.mktemp("refunds")) as started:
        yield started


class Operator:
    """Who sends a part of a cell's payment back, from a process of their own."""

    def __init__(self, cell: Cell, stack: AsyncExitStack) -> None:
        self._cell = cell
        chain = msgspec.structs.replace(KNOWN_CHAINS[CHAIN], rpc_urls=(cell.stage.rpc.url,))
        self._db = open_database(cell.stage.database)
        stack.callback(self._db.close)
        self._client = RpcClient(chain, timeout_seconds=1)
        stack.push_async_callback(self._client.close)
        self._service = self._refunds()
        self.dies_at = ""

    def _refunds(self) -> Refunds:
        key = SigningKey(self._cell.stage.refund_key)
        limits = Limits(gas=300_000, fee_wei=100 * GWEI, reserve_wei=0, reverted_wei=None)
        clock = SystemClock()
        return Refunds(
            db=self._db,
            client=self._client,
            relayer=Relayer(db=self._db, client=self._client, key=key, limits=limits, clock=clock),
            sender=key.address,
            recipients={each.lower() for each in self._cell.stage.recipients},
            clock=clock,
        )

    def reach(self, step: str) -> None:
        """A failpoint."""
        if step == self.dies_at:
            raise Ends

    async def begin(self) -> None:
        """Send it, unless it is in the books that it was begun, and has not failed."""
        if await self.open():
            return
        wallet = self._cell.wallet.address.lower()
        (payment,) = [
            one
            for one in await payments.of_transaction(
                self._db, chain_id=self._client.chain.chain_id, tx_hash=self._cell.paid_by
            )
            if one.payer == wallet
        ]
        begun = await refunds.of_payment(self._db, payments.key_of(payment))
        if all(one.status is RefundStatus.FAILED for one in begun):  # else it has just ended
            await self._service.begin(
                payment, amount=AtomicUnits(AMOUNT), reason="asked for", note=_noted
            )

    async def ready(self) -> None:
        """Wait until the gateway has seen that the payment is final, as far as this one needs."""

    async def open(self) -> bool:
        """Whether a refund's outcome is open."""
        return bool(await refunds.to_follow(self._db, chain_id=self._client.chain.chain_id))


class Customer(Operator):
    """A wallet that asks for its money back, and the treasury that sends it."""

    async def begin(self) -> None:
        """Ask for it, unless it is asked for, and have the treasury send what is queued."""
        wallet = self._cell.wallet.address.lower()
        asked = [one for one in await refunds.every(self._db) if one.recipient == wallet]
        if all(one.status is RefundStatus.FAILED for one in asked):
            await self._ask(wallet)
        await self._service.resume()

    async def _ask(self, wallet: str) -> None:
        requests = self._requests()
        quote = await requests.quote(RefundAsked(wallet, max_=MicroUsd(AMOUNT + GAS)))
        await requests.request(wallet, quote.id, expected=MicroUsd(AMOUNT), suspend=None)

    async def ready(self) -> None:
        asked = RefundAsked(self._cell.wallet.address.lower())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self._requests().quote(asked)).items:
                await mine(self._cell.rpc_url)
                await asyncio.sleep(0.05)

    def _requests(self) -> RefundRequests:
        clock, plenty = SystemClock(), MicroUsd(10**9)
        return RefundRequests(
            db=self._db,
            clients={CHAIN: self._client},
            metering=Metering(db=self._db, clock=clock),
            build_time=BuildTime(
                db=self._db, minutes_per_usd=60, monthly_price=MicroUsd(1), clock=clock
            ),
            senders={self._client.chain.chain_id: self._service.sender},
            pay_to=self._service.sender,
            limits=RefundLimits(plenty, plenty, plenty),
            secret=b"secret",
            clock=clock,
        )


MATRIX = [
    pytest.param(who, step, fault, id=f"{who.__name__.lower()}-{step}-{fault}")
    for who in (Operator, Customer)
    for step in STEPS
    for fault in (KILLED, *EVERY)
]


@pytest.mark.parametrize(("who", "step", "fault"), MATRIX)
async def test_refund_is_paid_once(
    stage: Stage, who: type[Operator], step: str, fault: str
) -> None:
    await stage.recover()
    cell = Cell(stage)
    await cell.pay(by_transaction)
    await cell.until_ready(await cell.insist())
    await mine(cell.rpc_url, 3)
    async with AsyncExitStack() as stack:
        operator = who(cell, stack)
        await operator.ready()
        stack.enter_context(armed(operator.reach))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await suffer(operator, cell, step, fault)
        await stage.recover()
        await insist(operator, cell)
    assert await books.returned(stage, cell.wallet) == AMOUNT
    await cell.check()


async def insist(operator: Operator, cell: Cell) -> None:
    """Begin it until it is in the books as paid for good; a time-out says what stood in the way."""
    refused: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while books.refunds(cell.stage, cell.wallet) != [("refunded", "safe")]:
                try:
                    await operator.begin()
                except MoorageError as error:
                    refused.append(repr(error))
                await mine(cell.rpc_url)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"{refused[-3:]}\n{cell.stage.log[-5_000:]}")


async def suffer(operator: Operator, cell: Cell, step: str, fault: str) -> None:
    """Have a fault while the refund is at a step, and let the gateway look at it meanwhile."""
    if step in (BEGUN, MINED):
        if step == MINED:
            await operator.begin()
            await until_mined(cell.rpc_url)
            await until(lambda: books.refunds(cell.stage, cell.wallet)[0][0] == "refunded")
    else:
        operator.dies_at = step
        with pytest.raises(Ends):
            await operator.begin()
    if fault == KILLED:
        cell.stage.kill()
        return
    async with EVERY[fault](cell):
        with suppress(MoorageError):
            await operator.begin()
        await asyncio.sleep(0.3)

"""What is asked for and taken when bids are paid by signature, or by wallets that owe."""

import msgspec
import pytest
from gate import PRICE, Gate, bid

from fakes import FakeSettlements, authorizes, paywall_of
from moorage.clock import Clock
from moorage.deploy.admission import Admission
from moorage.deploy.bid import Admitted
from moorage.errors import AuthorizationRefused, PaymentNotFound, PaymentPending, PaymentShort
from moorage.payments.demand import PaymentRequired
from moorage.payments.pricing import PriceList, Size
from moorage.payments.quotes import NAMES_HELD_AT_MOST
from moorage.storage import accounts, quotes
from records_fixture import ALICE, ARBITRUM, add_project, fresh_hash, fund


class Desk:
    """The gate with a relayer that settles whatever it is given."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.settlements = FakeSettlements(gate.chain)
        clock: Clock = gate.clock
        self.admission = Admission(
            db=gate.db,
            quotes=gate.quotes,
            paywall=paywall_of(gate.db, gate.chain, clock, ARBITRUM, settlements=self.settlements),
            prices=PriceList(),
            size=Size(),
            sources=gate.sources,
            reserve_bytes=0,
            clock=clock,
            on_queued=lambda: None,
            on_superseded=lambda _: None,
            on_step=lambda _: None,
        )
        gate.admission = self.admission

    async def deploy(self, amount: int, name: str = "hello") -> Admitted:
        """Deploy with an authorization of `amount` atomic units."""
        received = self.gate.upload()
        try:
            offered = msgspec.structs.replace(bid(name=name), evidence=authorizes(amount))
            return await self.admission.admit(offered, received, record=self.gate.record)
        finally:
            received.close()

    async def refused(self, amount: int) -> PaymentRequired:
        """What a deploy with such an authorization is refused with."""
        with pytest.raises(PaymentRequired) as refused:
            await self.deploy(amount)
        assert isinstance(refused.value.because, AuthorizationRefused)
        assert self.settlements.sent == 0
        return refused.value


@pytest.fixture
def desk(gate: Gate) -> Desk:
    return Desk(gate)


async def owe(gate: Gate, amount: int) -> None:
    """As a reversal leaves a balance whose credits were burned."""
    await fund(gate.db, ALICE, 0)
    async with gate.db.transaction(durable=True) as tx:
        await accounts.take_back(tx, ALICE, amount)


# Settlement costs the gateway gas


@pytest.mark.parametrize("balance", [PRICE, 10 * PRICE])
async def test_dust_is_not_settled_for_a_wallet_whose_credits_suffice(
    desk: Desk, balance: int
) -> None:
    await fund(desk.gate.db, ALICE, balance)
    await desk.refused(1)
    await desk.refused(PRICE - 1)
    await desk.deploy(PRICE)


async def test_dust_is_not_settled_for_a_redeploy(desk: Desk) -> None:
    await fund(desk.gate.db, ALICE, PRICE)
    await add_project(desk.gate.db, ALICE, "hello")
    await desk.refused(1)


async def test_authorization_of_the_remainder_is_settled(desk: Desk) -> None:
    await fund(desk.gate.db, ALICE, PRICE - 200_000)
    await desk.refused(199_999)
    await desk.deploy(200_000)


# A reversal may leave a balance below zero


async def test_wallet_that_owes_is_asked_for_its_debt_and_the_price(desk: Desk) -> None:
    await owe(desk.gate, 300_000)
    demand = await desk.gate.demanded()
    assert (demand.amount, demand.balance) == (300_000 + PRICE, -300_000)
    assert (await desk.refused(PRICE)).amount == 300_000 + PRICE
    await desk.deploy(300_000 + PRICE)


async def test_wallet_that_owes_pays_by_hash_what_it_is_asked_once(desk: Desk) -> None:
    await owe(desk.gate, 300_000)
    asked = (await desk.gate.demanded()).amount
    await desk.gate.deploy(tx=desk.gate.pay(amount=asked))


async def test_project_of_a_wallet_that_owes_is_redeployed_for_what_is_asked(desk: Desk) -> None:
    await owe(desk.gate, 2 * PRICE)
    await add_project(desk.gate.db, ALICE, "hello")
    await desk.deploy((await desk.gate.demanded()).amount)


# While money may be on its way, nobody is asked for more


async def test_payment_that_is_none_asks_for_nothing_while_another_is_being_settled(
    desk: Desk,
) -> None:
    desk.gate.chain.missing = PaymentNotFound("nothing there", looked_for={})
    assert isinstance(await desk.gate.refused(tx=fresh_hash()), PaymentRequired)
    desk.settlements.pending.add(ALICE)
    assert isinstance(await desk.gate.refused(tx=fresh_hash()), PaymentPending)


async def test_short_payment_asks_for_no_remainder_while_another_is_being_settled(
    desk: Desk,
) -> None:
    desk.settlements.pending.add(ALICE)
    tx = desk.gate.pay(amount=PRICE - 1)
    assert isinstance(await desk.gate.refused(tx=tx), PaymentPending)
    desk.settlements.pending.clear()
    demand = await desk.gate.demanded(tx=tx)
    assert isinstance(demand.because, PaymentShort)
    assert demand.amount == 1


# Names are held by those who pay for them


async def test_one_short_payment_holds_no_more_names_than_none(desk: Desk) -> None:
    tx = desk.gate.pay(amount=1)
    for number in range(NAMES_HELD_AT_MOST + 5):
        demand = await desk.gate.demanded(name=f"name-{number}", tx=tx)
        assert demand.amount == PRICE - 1
    async with desk.gate.db.transaction(durable=False) as tx_:
        now_ms, most = desk.gate.clock.now_ms(), NAMES_HELD_AT_MOST
        assert await quotes.holds_names(tx_, wallet=ALICE, now_ms=now_ms, many=most)
        assert not await quotes.holds_names(tx_, wallet=ALICE, now_ms=now_ms, many=most + 1)

"""What is asked for and taken when deploys are paid by signature, or by wallets that owe."""

import msgspec
import pytest
from gate import PRICE, Gate

from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    MoorageError,
    NameUnavailable,
    PaymentAlreadyUsed,
    PaymentNotFound,
    PaymentPending,
    PaymentShort,
    RateLimited,
)
from moorage.payments.price.quotes import MAX_NAMES_HELD
from moorage.payments.taking.payment_required import Demand, PaymentRequired
from moorage.storage.apps import names
from moorage.storage.money import accounts
from support.books.records_fixture import ALICE, BOB, add_project, fresh_hash, fund
from support.gateway.fakes import authorizes


async def deploy(gate: Gate, amount: int) -> None:
    """Deploy with an authorization of `amount` atomic units."""
    await gate.deploy(evidence=authorizes(amount))


async def refused(gate: Gate, amount: int) -> Demand:
    """What a deploy with such an authorization is refused with, unspent."""
    demand = await gate.demanded(evidence=authorizes(amount))
    assert isinstance(demand.because, AuthorizationRefused)
    assert gate.settlements.sent == 0
    return demand


async def owe(gate: Gate, amount: int) -> None:
    """As a reversal leaves a balance whose credits were burned."""
    await fund(gate.db, ALICE, 0)
    async with gate.db.transaction(durable=True) as tx:
        await accounts.take_back(tx, ALICE, amount)


# Settlement costs the gateway gas


@pytest.mark.parametrize("balance", [PRICE, 10 * PRICE])
async def test_dust_is_not_settled_for_a_wallet_whose_credits_suffice(
    gate: Gate, balance: int
) -> None:
    await fund(gate.db, ALICE, balance)
    await refused(gate, 1)
    await refused(gate, PRICE - 1)
    await deploy(gate, PRICE)


async def test_dust_is_not_settled_for_a_redeploy(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    await add_project(gate.db, ALICE, "hello")
    await refused(gate, 1)


async def test_authorization_of_the_remainder_is_settled(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE - 200_000)
    await refused(gate, 199_999)
    await deploy(gate, 200_000)


# Whoever has no wallet headers is named by the payment alone, and holds a name while it is settled


@pytest.mark.parametrize("kind", [RateLimited, ChainUnavailable, PaymentAlreadyUsed])
async def test_payment_that_was_never_begun_holds_no_name(
    gate: Gate, kind: type[MoorageError]
) -> None:
    gate.settlements.fault = RateLimited(5) if kind is RateLimited else kind()
    opened = msgspec.structs.replace(authorizes(PRICE), openly=True)
    assert isinstance(await gate.refused(evidence=opened), kind)
    await gate.demanded(BOB)


async def test_payment_under_way_holds_its_name(gate: Gate) -> None:
    opened = msgspec.structs.replace(authorizes(PRICE), openly=True)
    gate.settlements.fault = PaymentPending()
    assert isinstance(await gate.refused(evidence=opened), PaymentPending)
    assert isinstance(await gate.refused(BOB), NameUnavailable)


# A reversal may leave a balance below zero


async def test_wallet_that_owes_is_asked_for_its_debt_and_the_price(gate: Gate) -> None:
    await owe(gate, 300_000)
    demand = await gate.demanded()
    assert (demand.amount, demand.balance) == (300_000 + PRICE, -300_000)
    assert (await refused(gate, PRICE)).amount == 300_000 + PRICE
    await deploy(gate, 300_000 + PRICE)


async def test_wallet_that_owes_pays_by_hash_what_it_is_asked_once(gate: Gate) -> None:
    await owe(gate, 300_000)
    asked = (await gate.demanded()).amount
    await gate.deploy(tx=gate.pay(amount=asked))


async def test_project_of_a_wallet_that_owes_is_redeployed_for_what_is_asked(gate: Gate) -> None:
    await owe(gate, 2 * PRICE)
    await add_project(gate.db, ALICE, "hello")
    await deploy(gate, (await gate.demanded()).amount)


# While money may be on its way, nobody is asked for more


async def test_payment_that_is_none_asks_for_nothing_while_another_is_being_settled(
    gate: Gate,
) -> None:
    gate.chain.missing = PaymentNotFound("nothing there", looked_for={})
    assert isinstance(await gate.refused(tx=fresh_hash()), PaymentRequired)
    gate.settlements.pending.add(ALICE)
    assert isinstance(await gate.refused(tx=fresh_hash()), PaymentPending)


async def test_short_payment_asks_for_no_remainder_while_another_is_being_settled(
    gate: Gate,
) -> None:
    gate.settlements.pending.add(ALICE)
    tx = gate.pay(amount=PRICE - 1)
    assert isinstance(await gate.refused(tx=tx), PaymentPending)
    gate.settlements.pending.clear()
    demand = await gate.demanded(tx=tx)
    assert isinstance(demand.because, PaymentShort)
    assert demand.amount == 1


# Names are held by those who pay for them


async def test_one_short_payment_holds_no_more_names_than_none(gate: Gate) -> None:
    tx = gate.pay(amount=1)
    for number in range(MAX_NAMES_HELD + 5):
        demand = await gate.demanded(name=f"name-{number}", tx=tx)
        assert demand.amount == PRICE - 1
    async with gate.db.transaction(durable=False) as tx_:
        now_ms, most = gate.clock.now_ms(), MAX_NAMES_HELD
        assert await names.holds(tx_, wallet=ALICE, now_ms=now_ms, limit=most)
        assert not await names.holds(tx_, wallet=ALICE, now_ms=now_ms, limit=most + 1)

"""A payment buys, and never rules: what a deploy gets that nobody signed (protocol 2.5).

An authorization says who pays, and not who asks. A shop that its payer buys from can show it here.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from gate import PRICE, Gate

from moorage.errors import (
    AuthorizationRefused,
    InvalidField,
    NameUnavailable,
    PaymentAlreadyUsed,
    SignatureNeeded,
)
from moorage.hosting.entrance.attempt import Admitted
from moorage.hosting.entrance.capacity import Quotas
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import AuthorizationEvidence
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.payment_required import Demand
from moorage.records.event import EventKind
from moorage.records.size import PriceList
from moorage.storage import events
from moorage.storage.apps import names, projects
from moorage.storage.money import accounts
from moorage.uploads.request import PurseTerms
from support.books.records_fixture import ALICE, BOB, add_project, fund
from support.gateway.fakes import authorizes

RICH = 10 * PRICE
TAKEN = (
    "This name is taken. If it is yours, sign the request with its wallet, or send its "
    "manage_token; nothing was taken."
)


class Killed(BaseException):
    """The gateway is gone."""


def alone(amount: int = PRICE, *, payer: str = ALICE) -> AuthorizationEvidence:
    """A payment that nothing else came with."""
    return msgspec.structs.replace(authorizes(amount, payer=payer), openly=True)


def told(demand: Demand) -> tuple[int, int, int]:
    return demand.amount, demand.balance, demand.active_projects


async def owe(gate: Gate, amount: int) -> None:
    await fund(gate.db, ALICE, 0)
    async with gate.db.transaction(durable=True) as tx:
        await accounts.take_back(tx, ALICE, amount)


# Names


@pytest.mark.parametrize("owner", [ALICE, BOB])
@pytest.mark.parametrize("payer", [ALICE, ""])
async def test_a_taken_name_is_refused_alike_whosever_it_is(
    gate: Gate, owner: str, payer: str
) -> None:
    await fund(gate.db, ALICE, RICH)
    own = await add_project(gate.db, owner, "hello")
    refused = await gate.refused(payer, evidence=alone() if payer else None)
    assert isinstance(refused, NameUnavailable)
    assert (refused.message, refused.openly, refused.held_until_ms) == (TAKEN, True, None)
    assert gate.settlements.sent == 0
    assert await projects.by_id(gate.db, own.id) == own


@pytest.mark.parametrize("holder", [ALICE, BOB])
async def test_a_held_name_is_refused_alike_whoever_holds_it(gate: Gate, holder: str) -> None:
    held = await gate.demanded(holder)
    refused = await gate.refused(evidence=alone())
    assert isinstance(refused, NameUnavailable)
    assert (refused.openly, refused.held_until_ms) == (True, held.expires_at_ms)
    assert gate.settlements.sent == 0


async def test_a_name_that_is_taken_while_the_payment_is_settled_stays_with_who_took_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, taken = gate.settlements.settle, list[str]()

    async def settle_too_late(**given: Any) -> str:
        taken.append((await add_project(gate.db, ALICE, "hello")).id)
        return await settle(**given)

    monkeypatch.setattr(gate.settlements, "settle", settle_too_late)
    payment = alone()
    refused = await gate.refused(evidence=payment)
    monkeypatch.setattr(gate.settlements, "settle", settle)
    again = await gate.refused(evidence=payment)

    assert isinstance(refused, NameUnavailable)
    assert isinstance(refused.receipt, PaymentReceipt)
    assert isinstance(again, NameUnavailable)
    for each in (refused, again):
        assert "unchanged" in each.message
        assert "nothing was taken" not in each.message
    assert (await gate.counts())["deployments"] == 0
    assert await accounts.balance(gate.db, ALICE) == PRICE


# Prices


@pytest.mark.parametrize("amount", [10_000, PRICE - 1])
async def test_the_whole_price_is_due_whatever_credits_its_payer_has(
    gate: Gate, amount: int
) -> None:
    await fund(gate.db, ALICE, RICH)
    await add_project(gate.db, ALICE, "another")
    refused = await gate.demanded(evidence=alone(amount))
    assert isinstance(refused.because, AuthorizationRefused)
    assert told(refused) == (PRICE, 0, 0)
    assert refused.wallet is None
    assert gate.settlements.sent == 0


async def test_the_price_is_no_higher_for_a_payer_who_owes(gate: Gate) -> None:
    await owe(gate, 3 * PRICE)
    assert told(await gate.demanded(evidence=alone(PRICE - 1))) == (PRICE, 0, 0)
    assert not (await gate.deploy(evidence=alone())).again


async def test_a_price_that_was_promised_to_its_payer_is_none_of_a_payment_alone(
    gate: Gate,
) -> None:
    await gate.demanded()
    gate.with_prices(PriceList(minimum_charge=MicroUsd(2 * PRICE)))
    demand = await gate.demanded(name="other", evidence=alone())
    assert told(demand) == (2 * PRICE, 0, 0)


async def test_a_payment_under_way_of_the_same_payer_is_not_told(gate: Gate) -> None:
    gate.settlements.pending.add(ALICE)
    assert told(await gate.demanded(evidence=alone(PRICE - 1))) == (PRICE, 0, 0)


# Once, and for one body


async def test_the_same_payment_and_body_have_the_same_ids(gate: Gate) -> None:
    payment = alone()
    first = await gate.deploy(evidence=payment)
    again = await gate.deploy(evidence=payment)
    assert (first.again, again.again) == (False, True)
    assert (again.project_id, again.deployment_id) == (first.project_id, first.deployment_id)
    assert again.receipt == first.receipt
    assert await gate.counts() == {"projects": 1, "deployments": 1, "jobs": 1, "quotes": 0}
    assert gate.settlements.sent == 1


@pytest.mark.parametrize("name", ["hello", "other"])
async def test_the_same_payment_opens_nothing_for_another_body(gate: Gate, name: str) -> None:
    payment = alone()
    await gate.deploy(evidence=payment)
    refused = await gate.refused(name=name, body="two", evidence=payment)
    assert isinstance(refused, PaymentAlreadyUsed | NameUnavailable)
    assert getattr(refused, "project_id", None) is None
    assert (await gate.counts())["deployments"] == 1


async def test_one_payment_shown_with_two_bodies_at_once_is_used_once(gate: Gate) -> None:
    payment = alone()
    answers = await gate.answers(
        *(gate.deploy(name=body, body=body, evidence=payment) for body in ("one1", "two2"))
    )
    assert sorted(type(each).__name__ for each in answers) == ["Admitted", "PaymentAlreadyUsed"]
    assert (await gate.counts())["projects"] == 1
    assert gate.settlements.sent == 1


async def test_one_payment_shown_with_one_body_many_times_at_once_opens_one_project(
    gate: Gate,
) -> None:
    payment = alone()
    answers = await gate.answers(*(gate.deploy(evidence=payment) for _ in range(5)))
    admitted = [each for each in answers if isinstance(each, Admitted)]
    assert len(admitted) == 5, answers
    assert len({each.deployment_id for each in admitted}) == 1
    assert sum(not each.again for each in admitted) == 1


async def test_a_payment_that_its_wallet_signed_for_is_none_of_who_shows_it_alone(
    gate: Gate,
) -> None:
    """Everybody can read an authorization on the chain once it is settled."""
    payment = authorizes(PRICE)
    await gate.deploy(evidence=payment)
    public = msgspec.structs.replace(payment, openly=True)
    refused = await gate.refused(name="other", evidence=public)
    assert isinstance(refused, PaymentAlreadyUsed)
    assert refused.project_id is None


# Its project lives from it alone


async def left(gate: Gate, project_id: str) -> tuple[int, int]:
    """What the wallet has, and the purse."""
    purse = accounts.purse_of(project_id)
    return await accounts.balance(gate.db, ALICE), await accounts.balance(gate.db, purse)


async def test_its_project_lives_from_what_it_brought_alone(gate: Gate) -> None:
    await fund(gate.db, ALICE, RICH)
    opened = await gate.deploy(evidence=alone(PRICE + 7))
    assert await left(gate, opened.project_id) == (RICH, PRICE + 7)
    assert await projects.sharing_credits(gate.db, ALICE) == 0


async def test_a_debt_of_its_payer_takes_nothing_of_it(gate: Gate) -> None:
    await owe(gate, 300_000)
    opened = await gate.deploy(evidence=alone())
    assert await left(gate, opened.project_id) == (-300_000, PRICE)


async def test_what_opened_nothing_is_its_payers(gate: Gate) -> None:
    async def take_the_name() -> None:
        async with gate.db.transaction(durable=False) as tx:
            await names.release(tx, wallet=ALICE, unique_name="hello")
        await add_project(gate.db, BOB, "hello")

    settle = gate.settlements.settle

    async def settle_while_the_name_is_taken(**given: Any) -> str:
        await take_the_name()
        return await settle(**given)

    gate.settlements.settle = settle_while_the_name_is_taken  # type: ignore[method-assign]
    assert isinstance(await gate.refused(evidence=alone()), NameUnavailable)
    assert await accounts.balance(gate.db, ALICE) == PRICE


async def test_a_crash_between_credit_and_project_loses_and_doubles_nothing(gate: Gate) -> None:
    await fund(gate.db, ALICE, RICH)
    payment = alone()

    def crash(step: str) -> None:
        if step == "credited":
            raise KeyboardInterrupt

    gate.on_step = crash
    with pytest.raises(KeyboardInterrupt):
        await gate.deploy(evidence=payment)
    assert await accounts.balance(gate.db, ALICE) == RICH
    gate.on_step = lambda step: None
    opened = await gate.deploy(evidence=payment)
    assert await left(gate, opened.project_id) == (RICH, PRICE)


@pytest.mark.parametrize("spent", [0, 1])
async def test_what_its_wallet_got_meanwhile_opens_it_if_all_of_it_is_left(
    gate: Gate, spent: int
) -> None:
    payment = alone()
    gate.on_step = lambda step: gate.db.refuse_writes() if step == "credited" else None
    await gate.refused(evidence=payment)
    gate.on_step = lambda step: None
    gate.db.allow_writes()
    gate.clock.advance(600_000)
    await Metering(db=gate.db, clock=gate.clock).tick()
    async with gate.db.transaction(durable=True) as tx:
        await accounts.take_back(tx, ALICE, spent)
    if spent:
        assert isinstance(await gate.refused(evidence=payment), SignatureNeeded)
        assert await accounts.balance(gate.db, ALICE) == PRICE - spent
    else:
        opened = await gate.deploy(evidence=payment)
        assert await left(gate, opened.project_id) == (0, PRICE)


# What it brought, for its wallet and for its project


async def show_and_die(gate: Gate, payment: AuthorizationEvidence) -> None:
    """The gateway dies between the credit and the project."""

    def die(step: str) -> None:
        if step == "credited":
            raise Killed

    gate.on_step = die
    with pytest.raises(Killed):
        await gate.deploy(evidence=payment)
    gate.on_step = lambda step: None


async def drained(gate: Gate) -> str:
    """A project that a payment alone has opened, and that has burned all of it."""
    opened = await gate.deploy(evidence=alone())
    burn = ledger.Burn(opened.project_id, ALICE, MicroUsd(PRICE), "burn:all:1", gate.clock.now_ms())
    async with gate.db.transaction(durable=True) as tx:
        await ledger.burn(tx, [burn], now_ms=gate.clock.now_ms())
    return opened.project_id


@pytest.mark.parametrize("by_hash", [False, True])
async def test_its_wallet_that_signs_pays_with_what_a_payment_alone_has_opened_nothing_with(
    gate: Gate, *, by_hash: bool
) -> None:
    payment = alone()
    await show_and_die(gate, payment)
    tx = await gate.settlements.settled_by(payment.authorization) if by_hash else None

    signed = await gate.deploy(evidence=msgspec.structs.replace(payment, openly=False), tx=tx)

    assert await accounts.balance(gate.db, ALICE) == PRICE
    (purse,) = await accounts.every_purse(gate.db)
    assert (purse.shared, purse.balance) == (True, 0)
    assert signed.receipt is not None


@pytest.mark.parametrize("name", ["hello", "other"])
async def test_what_its_wallet_has_used_a_payment_for_is_not_told_who_showed_it_alone(
    gate: Gate, name: str
) -> None:
    payment = alone()
    await show_and_die(gate, payment)
    signed = msgspec.structs.replace(payment, openly=False)
    await gate.deploy(body="its wallet's", evidence=signed)

    refused = await gate.refused(name=name, evidence=payment)

    assert isinstance(refused, PaymentAlreadyUsed | NameUnavailable)
    assert getattr(refused, "project_id", None) is None
    assert "hello" not in refused.message


@pytest.mark.parametrize("by_hash", [False, True])
async def test_a_payment_of_a_redeploy_reaches_the_purse_that_the_project_lives_from(
    gate: Gate, *, by_hash: bool
) -> None:
    project_id = await drained(gate)
    tx = gate.pay() if by_hash else None

    again = await gate.deploy(body="two", evidence=authorizes(PRICE), tx=tx)

    assert (again.project_id, again.redeploys) == (project_id, True)
    assert await accounts.balance(gate.db, accounts.purse_of(project_id)) == PRICE
    assert await accounts.balance(gate.db, ALICE) == 0


async def test_a_token_pays_for_its_project_by_an_authorization(gate: Gate) -> None:
    project_id = await drained(gate)
    await gate.deploy(body="two", evidence=authorizes(PRICE), managed=project_id)
    assert await accounts.balance(gate.db, accounts.purse_of(project_id)) == PRICE


async def test_a_hash_with_a_token_moves_nothing_of_the_wallet_and_asks_for_nothing_more(
    gate: Gate,
) -> None:
    project_id = await drained(gate)
    refused = await gate.refused(body="two", tx=gate.pay(), managed=project_id)
    assert isinstance(refused, SignatureNeeded)
    assert f"/agent/projects/{project_id}/adopt" in refused.message
    assert "Do not pay again" in refused.message
    assert await accounts.balance(gate.db, ALICE) == PRICE


async def test_what_a_payment_alone_brought_opens_nothing_once_it_has_long_been_its_wallets(
    gate: Gate,
) -> None:
    """Whoever kept the payment would spend what its payer has paid since."""
    payment = alone()
    await show_and_die(gate, payment)
    gate.clock.advance(ledger.MAX_ENTRY_MS + 1)
    await Metering(db=gate.db, clock=gate.clock).tick()
    assert await accounts.balance(gate.db, ALICE) == PRICE

    refused = await gate.refused(evidence=payment)

    assert isinstance(refused, SignatureNeeded)
    assert await accounts.balance(gate.db, ALICE) == PRICE
    assert (await gate.counts()).get("projects", 0) == 0


# What the operator has decided about a wallet


async def limit(gate: Gate) -> None:
    gate.with_prices(PriceList(), quotas=Quotas(projects=1))
    await add_project(gate.db, ALICE, "another")


async def block(gate: Gate) -> None:
    await fund(gate.db, ALICE, RICH)
    async with gate.db.transaction(durable=True) as tx:
        await projects.set_of_wallet(tx, ALICE, "fraud")


@pytest.mark.parametrize("decide", [limit, block])
async def test_what_the_operator_decided_about_its_payer_is_not_told(
    gate: Gate, decide: Callable[[Gate], Any]
) -> None:
    await decide(gate)
    refused = await gate.refused(evidence=alone())
    assert isinstance(refused, SignatureNeeded)
    assert "fraud" not in refused.message
    assert gate.settlements.sent == 0
    await gate.deploy(BOB, evidence=alone(payer=BOB))


# The payer is told


async def test_its_payer_is_told_of_what_a_payment_alone_has_opened(gate: Gate) -> None:
    opened = await gate.deploy(evidence=alone())
    assert opened.receipt is not None
    found = await events.of_wallet(gate.db, ALICE, after=0, limit=10)
    (event,) = [each for each in found if each.kind is EventKind.DEPLOYED_BY_PAYMENT]
    assert event.data == {
        "project_id": opened.project_id,
        "name": "hello",
        "amount_usd": 0.5,
        "chain": "arbitrum",
        "tx_hash": opened.receipt.tx_hash,
    }


async def test_nobody_is_told_of_what_its_wallet_signed_for(gate: Gate) -> None:
    await gate.deploy(evidence=authorizes(PRICE))
    found = await events.of_wallet(gate.db, ALICE, after=0, limit=10)
    assert EventKind.DEPLOYED_BY_PAYMENT not in {each.kind for each in found}


async def test_a_payment_alone_sets_no_terms_of_a_purse(gate: Gate) -> None:
    terms = PurseTerms(amount=MicroUsd(0), shared=True, limit=None)
    refused = await gate.refused(evidence=alone(), purse=terms)
    assert isinstance(refused, InvalidField)
    assert refused.field == "purse"

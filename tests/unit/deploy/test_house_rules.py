"""What the operator allows is asked before anybody pays, and holds for who pays unasked too."""

import asyncio

import pytest
from gate import PRICE, Gate

from moorage.deploy.entrance.capacity import HouseRules
from moorage.errors import Maintenance, TooManyProjects, WalletNotListed
from moorage.payments.price.quotes import PriceList
from moorage.storage.money import accounts
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import NoticeKind, WalletRule
from support.books.records_fixture import ALICE, BOB, add_project, fund
from support.gateway.clock import START_MS

NOTHING = {"projects": 0, "deployments": 0, "jobs": 0, "quotes": 0}


async def maintain(gate: Gate, words: str = "back at noon") -> None:
    async with gate.db.transaction(durable=True) as tx:
        await wallet_rules.put_notice(tx, NoticeKind.MAINTENANCE, words, now_ms=START_MS)


async def rule(
    gate: Gate, wallet: str, *, listed: bool = False, projects: int | None = None
) -> None:
    async with gate.db.transaction(durable=True) as tx:
        await wallet_rules.put_wallet_rule(tx, WalletRule(wallet, listed, projects))


def rules(gate: Gate, *, listed_only: bool = False, projects: int = 0) -> None:
    gate.with_prices(
        PriceList(), house_rules=HouseRules(listed_only=listed_only, projects=projects)
    )


async def test_maintenance_refuses_before_anybody_pays_and_says_why(gate: Gate) -> None:
    await maintain(gate)
    refused = await gate.refused()
    assert isinstance(refused, Maintenance)
    assert "back at noon" in refused.message
    assert await gate.counts() == NOTHING


async def test_maintenance_refuses_who_has_credits_and_keeps_them(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    await maintain(gate)
    assert isinstance(await gate.refused(), Maintenance)
    assert await gate.counts() == NOTHING


async def test_what_was_paid_for_is_carried_out_in_maintenance(gate: Gate) -> None:
    await gate.demanded()
    tx_hash = gate.pay()
    await maintain(gate)
    admitted = await gate.deploy(tx=tx_hash)
    assert gate.kept() == {admitted.deployment_id}


async def test_maintenance_ends_at_once(gate: Gate) -> None:
    await maintain(gate)
    async with gate.db.transaction(durable=True) as tx:
        assert await wallet_rules.remove_notice(tx, NoticeKind.MAINTENANCE)
    await gate.demanded()


async def test_wallet_that_is_not_listed_is_not_asked_to_pay(gate: Gate) -> None:
    rules(gate, listed_only=True)
    await rule(gate, BOB, listed=True)
    assert isinstance(await gate.refused(), WalletNotListed)
    await rule(gate, ALICE, listed=True)
    await gate.demanded()


async def test_wallet_that_is_not_listed_deploys_nothing_by_paying_unasked(gate: Gate) -> None:
    rules(gate, listed_only=True)
    refused = await gate.refused(tx=gate.pay())
    assert isinstance(refused, WalletNotListed)
    assert refused.receipt is not None
    assert await gate.counts() == NOTHING
    assert await accounts.balance(gate.db, ALICE) == PRICE


async def test_without_the_setting_every_wallet_may_deploy(gate: Gate) -> None:
    await rule(gate, ALICE, listed=False)
    await gate.demanded()


@pytest.mark.parametrize(("setting", "of_wallet", "limit"), [(2, None, 2), (5, 2, 2), (0, 2, 2)])
async def test_a_wallet_has_as_many_projects_as_it_may(
    gate: Gate, setting: int, of_wallet: int | None, limit: int
) -> None:
    rules(gate, projects=setting)
    if of_wallet is not None:
        await rule(gate, ALICE, projects=of_wallet)
    await fund(gate.db, ALICE, 10 * PRICE)
    await add_project(gate.db, BOB, "theirs")
    for number in range(limit - 1):
        await add_project(gate.db, ALICE, f"mine-{number}")
    await gate.deploy(use_existing_credits=True)
    refused = await gate.refused(name="another", use_existing_credits=True)
    assert isinstance(refused, TooManyProjects)
    assert refused.limit == limit


async def test_deploys_at_the_same_time_are_no_way_round_the_number(gate: Gate) -> None:
    rules(gate, projects=1)
    await fund(gate.db, ALICE, 10 * PRICE)
    outcomes = await asyncio.gather(
        *(gate.deploy(name=name, use_existing_credits=True) for name in ("one", "two", "three")),
        return_exceptions=True,
    )
    assert sum(isinstance(each, TooManyProjects) for each in outcomes) == 2
    assert (await gate.counts())["projects"] == 1


async def test_payments_are_no_way_round_the_number(gate: Gate) -> None:
    await rule(gate, ALICE, projects=0)
    assert isinstance(await gate.refused(tx=gate.pay()), TooManyProjects)
    assert await accounts.balance(gate.db, ALICE) == PRICE


async def test_a_new_version_is_no_new_project(gate: Gate) -> None:
    rules(gate, projects=1)
    await fund(gate.db, ALICE, 10 * PRICE)
    first = await gate.deploy(use_existing_credits=True)
    again = await gate.deploy(body="two", use_existing_credits=True)
    assert again.project_id == first.project_id


async def test_zero_projects_for_a_wallet_are_none(gate: Gate) -> None:
    await rule(gate, ALICE, projects=0)
    assert isinstance(await gate.refused(), TooManyProjects)

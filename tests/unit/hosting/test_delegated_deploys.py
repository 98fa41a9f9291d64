"""Deploys of delegates: what they open lives from a purse, within a limit that holds exactly."""

import pytest
from gate import PRICE, Gate
from sqlalchemy import select

from moorage.acting import ACTING, Acting
from moorage.errors import DelegateLimit, InvalidField
from moorage.hosting.entrance.attempt import Admitted
from moorage.ledger import ledger
from moorage.ledger.delegated import left_of
from moorage.ledger.running_costs import month_of
from moorage.money import MicroUsd
from moorage.records.access import StoredDelegation
from moorage.storage.apps import deployments
from moorage.storage.database import Statement
from moorage.storage.money import accounts
from moorage.storage.money.accounts import purse_of
from moorage.storage.schema import postings
from moorage.uploads.request import PurseTerms
from support.books.records_fixture import ALICE, CAROL, delegation, fund
from support.gateway.clock import START_MS

MOVES = Statement(select(postings.c.acted_by).where(postings.c.kind == "purse"))


async def opens(gate: Gate, name: str, by: StoredDelegation, *, months: int = 1) -> Admitted:
    ACTING.set(Acting(ALICE, by.delegate))
    return await gate.deploy(
        name=name, body=name, months=months, delegation=by, use_existing_credits=True
    )


async def test_what_a_delegate_opens_lives_from_a_purse_of_its_price_and_says_who_opened_it(
    gate: Gate,
) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    opened = await opens(gate, "shop", delegation(), months=2)
    holder = purse_of(opened.project_id)
    assert await accounts.balance(gate.db, holder) == 2 * PRICE
    assert await accounts.balance(gate.db, ALICE) == 8 * PRICE
    purse = await accounts.purse(gate.db, opened.project_id)
    assert purse is not None
    assert not purse.shared
    deployed = await deployments.by_id(gate.db, opened.deployment_id)
    assert deployed is not None
    assert deployed.acted_by == CAROL
    assert await gate.db.all(MOVES) == [(CAROL,)]


async def test_wallets_own_deploy_says_nothing_of_delegates(gate: Gate) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    admitted = await gate.deploy()
    deployed = await deployments.by_id(gate.db, admitted.deployment_id)
    assert deployed is not None
    assert deployed.acted_by == ""
    assert await accounts.balance(gate.db, ALICE) == 10 * PRICE


async def test_limit_is_for_a_calendar_month_of_all_that_an_owner_signed_for_a_delegate(
    gate: Gate,
) -> None:
    await fund(gate.db, ALICE, 100 * PRICE)
    two, one = delegation(limit_usd_month=2), delegation(limit_usd_month=1, named="d2")
    await opens(gate, "app-one", two, months=3)  # $1.50
    with pytest.raises(DelegateLimit):
        await opens(gate, "app-two", one)
    assert (await gate.counts())["projects"] == 1
    assert await left_of(gate.db, two, now_ms=gate.clock.now_ms()) == 500_000
    await opens(gate, "app-two", two)
    with pytest.raises(DelegateLimit, match=r"leaves \$0\.00"):
        await opens(gate, "app-three", two)

    next_month_ms = month_of(START_MS).end_ms
    gate.clock.advance(next_month_ms - 1 - gate.clock.now_ms())
    with pytest.raises(DelegateLimit):
        await opens(gate, "app-three", two)
    gate.clock.advance(1)
    await opens(gate, "app-three", two)


async def test_redeploy_by_a_delegate_commits_nothing(gate: Gate) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    await gate.deploy()
    nothing = delegation(limit_usd_month=0)
    ACTING.set(Acting(ALICE, CAROL))
    again = await gate.deploy(body="two", delegation=nothing)
    assert again.redeploys
    assert await accounts.balance(gate.db, ALICE) == 10 * PRICE
    with pytest.raises(DelegateLimit):
        await opens(gate, "other", nothing)


async def test_delegate_gives_no_project_that_burns_its_owners_credits_a_dearer_size(
    gate: Gate,
) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    await gate.deploy()
    by = delegation(limit_usd_month=1)
    opened = await opens(gate, "shop", by)
    assert isinstance(await gate.refused(body="two", delegation=by, size="large"), DelegateLimit)
    await gate.deploy(body="two", delegation=by, size="small")
    larger = await gate.deploy(name="shop", body="two", delegation=by, size="large")
    assert larger.project_id == opened.project_id  # which burns its purse alone
    ACTING.set(Acting())
    await gate.deploy(body="three", size="large")


async def test_what_comes_back_of_purses_gives_no_room_again(gate: Gate) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    by = delegation(limit_usd_month=1)
    opened = await opens(gate, "shop", by, months=2)
    async with gate.db.transaction(durable=True) as tx:
        await ledger.empty_purse(tx, opened.project_id, now_ms=gate.clock.now_ms())
    assert await accounts.balance(gate.db, ALICE) == 10 * PRICE
    with pytest.raises(DelegateLimit):
        await opens(gate, "blog", by)


async def test_limit_holds_to_the_micro_dollar_however_many_ask_at_once(gate: Gate) -> None:
    await fund(gate.db, ALICE, 1000 * PRICE)
    by = delegation(limit_usd_month=7)
    answers = await gate.answers(*(opens(gate, f"app-{n:03}", by) for n in range(40)))
    opened = [each for each in answers if isinstance(each, Admitted)]
    assert len(opened) == 7_000_000 // PRICE
    assert {type(each) for each in answers} == {Admitted, DelegateLimit}
    assert await accounts.balance(gate.db, ALICE) == 1000 * PRICE - 7_000_000


async def test_purse_that_a_delegate_names_is_what_it_commits_and_is_never_shared(
    gate: Gate,
) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    by = delegation(limit_usd_month=1)
    ACTING.set(Acting(ALICE, CAROL))
    small = PurseTerms(MicroUsd(100_000), shared=False, limit=None)
    opened = await gate.deploy(delegation=by, purse=small)
    assert await accounts.balance(gate.db, purse_of(opened.project_id)) == 100_000
    assert await left_of(gate.db, by, now_ms=gate.clock.now_ms()) == 900_000
    shared = PurseTerms(MicroUsd(100_000), shared=True, limit=None)
    refused = await gate.refused(name="blog", delegation=by, purse=shared)
    assert isinstance(refused, InvalidField)
    assert refused.field == "purse.shared"

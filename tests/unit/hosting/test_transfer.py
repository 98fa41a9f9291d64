"""A project changes hands by an offer and its acceptance, at one moment, for all that it burns."""

import pytest
from yard import Yard

from moorage.auth.recovery import DAY_MS, Recoveries
from moorage.auth.tokens import ManageTokens
from moorage.engines.engine import Capabilities
from moorage.errors import (
    MoorageError,
    ProjectNotFound,
    RunNotFound,
    TermsChanged,
    TokenInvalid,
    TooManyProjects,
    TransferNotFound,
    TransferRefused,
)
from moorage.hosting.keeping.transfer import MAX_OFFERS, Transfers
from moorage.ledger import ledger
from moorage.ledger.invoice import invoice
from moorage.ledger.running_costs import HOUR_MS, charge_up_to
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.payments import Finality, Payment
from moorage.records.project import Project, ProjectStatus, Transfer, Variables
from moorage.storage import delegations, events
from moorage.storage.apps import deployments, names, projects, runs
from moorage.storage.apps import transfers as stored
from moorage.storage.money import accounts, billing, payments
from moorage.wire.receipts import Invoice
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    CAROL,
    add_project,
    delegation,
    fund,
    transfer,
)
from support.gateway.waiting import until

ENOUGH = 5_000_000


@pytest.fixture
def transfers(yard: Yard) -> Transfers:
    return yard.services.transfers


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    """A project of Alice's that runs on plenty of credits, whose payment is final."""
    deployment = await yard.active(project, micro_usd=ENOUGH)
    async with yard.db.transaction(durable=True) as tx:
        for each in await payments.every(tx):
            await payments.set_finality(tx, each, Finality.SAFE)
    return deployment


async def offer(
    yard: Yard, project: Project, *, to: str = BOB, purse: bool = False, variables: bool = True
) -> Transfer:
    return await yard.services.transfers.offer(
        await yard.project(project),
        taker=to,
        with_purse=purse,
        with_variables=variables,
        not_after_ms=yard.clock.now_ms() + HOUR_MS,
    )


async def balances(yard: Yard) -> tuple[int, int]:
    return (await accounts.balance(yard.db, ALICE), await accounts.balance(yard.db, BOB))


async def test_giver_pays_until_the_acceptance_and_the_taker_from_then_on(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await fund(yard.db, BOB, ENOUGH)
    offered = await offer(yard, project)
    before, _ = await balances(yard)
    yard.clock.advance(HOUR_MS // 2)

    given = await transfers.accept(offered.id, wallet=BOB)
    assert (given.wallet, given.status) == (BOB, ProjectStatus.ACTIVE)
    half = charge_up_to(HOUR_MS // 2, monthly_price=project.monthly_price_micro_usd)
    assert await balances(yard) == (before - half, ENOUGH)

    yard.clock.advance(2 * HOUR_MS)
    await yard.metering.tick()
    two = charge_up_to(2 * HOUR_MS, monthly_price=project.monthly_price_micro_usd)
    assert await balances(yard) == (before - half, ENOUGH - two)
    assert set(yard.runtime.apps) == {serving.id}


async def test_what_the_giver_burned_while_the_app_was_lost_comes_back_to_the_giver(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await fund(yard.db, BOB, ENOUGH)
    offered = await offer(yard, project)
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.lose(tx, project.id)
    before = await balances(yard)
    yard.clock.advance(HOUR_MS // 2)
    await transfers.accept(offered.id, wallet=BOB)
    assert await balances(yard) == before
    assert (await yard.project(project)).lost_since_ms is None


async def test_acceptance_whose_answer_was_lost_is_asked_for_again(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await fund(yard.db, BOB, ENOUGH)
    offered = await offer(yard, project)
    given = await transfers.accept(offered.id, wallet=BOB)
    assert await transfers.accept(offered.id, wallet=BOB) == given
    back = await offer(yard, project, to=ALICE)
    await transfers.accept(back.id, wallet=ALICE)
    with pytest.raises(TransferRefused):  # it is not Bob's any more
        await transfers.accept(offered.id, wallet=BOB)


async def test_name_and_lists_are_the_takers(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    owner = await names.owner(yard.db, project.unique_name, now_ms=yard.clock.now_ms())
    assert owner is not None
    assert owner.wallet == BOB
    assert [each.id for each in await projects.of_wallet(yard.db, BOB)] == [project.id]
    assert await projects.of_wallet(yard.db, ALICE) == []


async def test_app_of_a_taker_without_credits_is_suspended_and_burns_nothing(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    given = await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    assert given.status is ProjectStatus.SUSPENDED
    assert await billing.open_of(yard.db, project.id) is None


async def test_tokens_of_the_giver_open_nothing_any_more(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    tokens = ManageTokens(db=yard.db, clock=yard.clock)
    token = (await tokens.make(project.id)).token
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    with pytest.raises(TokenInvalid):
        await tokens.project_of(token)


async def test_delegates_of_the_giver_for_the_project_end(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    """Or they would open another under its name, for the giver, once the taker has deleted it."""
    now_ms, name = yard.clock.now_ms(), project.unique_name
    async with yard.db.transaction(durable=True) as tx:
        await delegations.add(tx, delegation(project=name))
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    assert await delegations.live_of(yard.db, ALICE, now_ms=now_ms) == []


@pytest.mark.parametrize("wallet", [ALICE, CAROL])
async def test_nobody_but_the_named_wallet_accepts(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers, wallet: str
) -> None:
    offered = await offer(yard, project)
    with pytest.raises(TransferNotFound):
        await transfers.accept(offered.id, wallet=wallet)
    assert (await yard.project(project)).wallet == ALICE


async def test_offer_that_is_over_is_accepted_by_nobody(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    replaced, withdrawn = await offer(yard, project), await offer(yard, project)
    await transfers.withdraw(withdrawn.id, wallet=BOB)
    late = await offer(yard, project)
    yard.clock.advance(HOUR_MS + 1)
    for each in (replaced, withdrawn, late):
        with pytest.raises(TransferRefused):
            await transfers.accept(each.id, wallet=BOB)
    assert (await yard.project(project)).wallet == ALICE


async def test_project_that_is_offered_again_and_again_fills_nobodys_list(
    yard: Yard, project: Project, transfers: Transfers
) -> None:
    for _ in range(MAX_OFFERS + 2):
        newest = await offer(yard, project)
        yard.clock.advance(1)
    listed = await stored.of_wallet(yard.db, BOB, limit=100)
    assert len(listed) == MAX_OFFERS
    assert listed[0].id == newest.id


async def test_what_a_lost_key_offered_is_nobodys_once_its_wallet_was_taken_over(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    recoveries = Recoveries(db=yard.db, clock=yard.clock, billed_ms=yard.clock.now_ms)
    await recoveries.put(ALICE, address=CAROL, wait_days=7)
    offered = await transfers.offer(
        await yard.project(project),
        taker=BOB,
        with_purse=False,
        with_variables=True,
        not_after_ms=yard.clock.now_ms() + 30 * DAY_MS,
    )
    await recoveries.claim(ALICE, by=CAROL)
    yard.clock.advance(7 * DAY_MS)
    await recoveries.tick()
    with pytest.raises(TransferRefused):
        await transfers.accept(offered.id, wallet=BOB)


async def test_offer_of_one_owner_does_not_bind_the_next(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    """Bob, who has it now, offered nothing to Alice."""
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    with pytest.raises(ProjectNotFound):
        await transfers.offer(
            project,  # as Alice knew it
            taker=CAROL,
            with_purse=False,
            with_variables=False,
            not_after_ms=yard.clock.now_ms() + HOUR_MS,
        )


async def test_project_with_a_deployment_under_way_stays_until_that_ends(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    offered = await offer(yard, project)
    await yard.queued(project)
    with pytest.raises(TransferRefused, match="under way"):
        await transfers.accept(offered.id, wallet=BOB)


async def test_taker_has_no_more_projects_than_the_operator_allows(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    yard.services.quotas.change(listed_only=False, projects=1)
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    second = await add_project(yard.db, BOB, "second")
    offered = await transfers.offer(
        second, taker=ALICE, with_purse=False, with_variables=True, not_after_ms=2**50
    )
    await transfers.accept(offered.id, wallet=ALICE)
    back = await offer(yard, project, to=ALICE)
    with pytest.raises(TooManyProjects):
        await transfers.accept(back.id, wallet=ALICE)


async def test_variables_stay_with_the_giver_unless_they_go_along(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await fund(yard.db, BOB, ENOUGH)
    sealed = yard.vault.seal(Variables(run={"TOKEN": "hush"}), project.id)
    async with yard.db.transaction(durable=True) as tx:
        await projects.configure(tx, project.id, variables=sealed, health_path="/")
        await projects.configure_deployment(tx, serving.id, variables=sealed, health_path="/")

    await transfers.accept((await offer(yard, project, variables=False)).id, wallet=BOB)

    found = [(await yard.project(project)).variables]
    found += [each.variables for each in await deployments.of_project(yard.db, project.id)]
    assert len(found) == 3  # the app is started again, without them
    assert [yard.vault.open(each, project.id).run for each in found] == [{}, {}, {}]
    [under_way] = await deployments.under_way_of(yard.db, project.id)
    assert (under_way.copy_of, under_way.status) == (serving.id, DeploymentStatus.QUEUED)


@pytest.mark.parametrize("variables", [True, False])
async def test_app_that_sleeps_sleeps_on_at_its_price_asleep(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers, *, variables: bool
) -> None:
    """Its new owner has no memory that was not sold to it."""
    await fund(yard.db, BOB, ENOUGH)
    async with yard.db.transaction(durable=True) as tx:
        assert await yard.metering.fall_asleep(tx, await yard.project(project), serving=serving.id)
    await transfers.accept((await offer(yard, project, variables=variables)).id, wallet=BOB)
    given = await yard.project(project)
    assert (given.status, given.asleep_since_ms) == (ProjectStatus.ACTIVE, yard.clock.now_ms())
    assert await deployments.under_way_of(yard.db, project.id) == []
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    hour = charge_up_to(HOUR_MS, monthly_price=project.asleep_price_micro_usd)
    assert (await balances(yard))[1] == ENOUGH - hour


async def in_purse(yard: Yard, project: Project, *, finality: Finality = Finality.SAFE) -> Payment:
    """A payment of Alice's that is in the project's purse."""
    paid = transfer(ALICE, 2_000_000)
    async with yard.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [paid], now_ms=yard.clock.now_ms())
        found = await payments.one(tx, (paid.chain_id, paid.tx_hash, paid.log_index))
        assert found is not None
        assert await ledger.fill_purse(tx, found, project.id, now_ms=yard.clock.now_ms())
        await payments.set_finality(tx, found, finality)
    return found


@pytest.mark.parametrize("goes_along", [True, False])
async def test_purse_stays_with_the_giver_unless_it_goes_along(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers, *, goes_along: bool
) -> None:
    await in_purse(yard, project)
    alice, _ = await balances(yard)
    await transfers.accept((await offer(yard, project, purse=goes_along)).id, wallet=BOB)
    purse = await accounts.balance(yard.db, accounts.purse_of(project.id))
    kept = (await balances(yard))[0] - alice
    assert (purse, kept) == ((2_000_000, 0) if goes_along else (0, 2_000_000))


async def test_run_of_the_giver_is_not_paid_from_the_takers_purse_and_not_shown_to_the_taker(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await in_purse(yard, project)
    service, runner = yard.services.runs_of_projects, yard.services.runner
    begun = await service.queue(await yard.project(project), "work", timeout_seconds=60)
    await runner.look()
    await until(lambda: begun.run_id in yard.runtime.apps)
    yard.clock.advance(9_000)  # not booked yet
    await transfers.accept((await offer(yard, project, purse=True)).id, wallet=BOB)
    purse = await accounts.balance(yard.db, accounts.purse_of(project.id))
    await until(lambda: begun.run_id not in yard.runtime.apps)

    async def has_ended() -> bool:
        run = await runs.by_id(yard.db, begun.run_id)
        return run is not None and run.is_over and not run.holds

    await until(has_ended)
    assert await accounts.balance(yard.db, accounts.purse_of(project.id)) == purse
    taken = await yard.project(project)
    assert await runs.page(yard.db, taken, before=None, limit=9) == []
    with pytest.raises(RunNotFound):
        await service.of(taken, begun.run_id)
    async with yard.db.snapshot() as snapshot:
        assert (await audit_books(snapshot, [ARBITRUM]))[1] == []


async def test_purse_with_less_than_its_taker_expects_leaves_all_as_it_was(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    """The giver takes it out at the last moment, or never sends it along."""
    await in_purse(yard, project)
    alone = await offer(yard, project)
    with pytest.raises(TermsChanged):
        await transfers.accept(alone.id, wallet=BOB, expected=MicroUsd(1))
    offered = await offer(yard, project, purse=True)
    with pytest.raises(TermsChanged):
        await transfers.accept(offered.id, wallet=BOB, expected=MicroUsd(2_000_001))
    assert (await yard.project(project)).wallet == ALICE
    assert await accounts.balance(yard.db, accounts.purse_of(project.id)) == 2_000_000
    given = await transfers.accept(offered.id, wallet=BOB, expected=MicroUsd(2_000_000))
    assert given.wallet == BOB


async def invoiced(yard: Yard, wallet: str) -> Invoice:
    now_ms = yard.clock.now_ms()
    return await invoice(
        yard.db, wallet, months={"2026-04": 0}, until_ms=2**50, issuer=[], now_ms=now_ms
    )


@pytest.mark.parametrize("goes_along", [True, False])
async def test_what_the_giver_used_stays_on_its_invoice_and_the_books_agree(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers, *, goes_along: bool
) -> None:
    await fund(yard.db, BOB, ENOUGH)
    await in_purse(yard, project)
    yard.clock.advance(2 * HOUR_MS)
    await yard.metering.tick()
    before = await invoiced(yard, ALICE)
    await transfers.accept((await offer(yard, project, purse=goes_along)).id, wallet=BOB)
    purse = 2_000_000 - before.used_micro_usd if goes_along else 0
    after = await invoiced(yard, ALICE)
    assert (after.used_micro_usd, after.lines) == (before.used_micro_usd, before.lines)
    assert after.other_micro_usd == -purse
    assert after.closing_micro_usd == before.closing_micro_usd - purse
    assert after.closing_micro_usd == await accounts.balance(yard.db, ALICE)

    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    taker = await invoiced(yard, BOB)
    hour = charge_up_to(HOUR_MS, monthly_price=project.monthly_price_micro_usd)
    assert (taker.other_micro_usd, taker.used_micro_usd) == (purse, hour)
    assert taker.closing_micro_usd == ENOUGH + purse - hour
    async with yard.db.snapshot() as snapshot:
        assert (await audit_books(snapshot, [ARBITRUM]))[1] == []


async def test_purse_that_came_from_another_wallet_is_not_cash(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await in_purse(yard, project)
    await transfers.accept((await offer(yard, project, purse=True)).id, wallet=BOB)
    assert await accounts.left_of_given(yard.db, BOB) == 2_000_000
    assert await accounts.left_of_given(yard.db, ALICE) == 0


async def test_credits_of_a_payment_that_may_be_reversed_do_not_go_along(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    """The taker could spend them, and the giver would owe what it never pays."""
    paid = await in_purse(yard, project, finality=Finality.PROVISIONAL)
    offered = await offer(yard, project, purse=True)
    with pytest.raises(TransferRefused, match="not final"):
        await transfers.accept(offered.id, wallet=BOB)
    async with yard.db.transaction(durable=True) as tx:
        await payments.set_finality(tx, paid, Finality.SAFE)
    await transfers.accept(offered.id, wallet=BOB)


async def test_credits_of_a_payment_for_the_giver_that_may_be_reversed_do_not_go_along(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await in_purse(yard, project)
    paid = transfer(CAROL, 2_000_000)
    async with yard.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [paid], now_ms=yard.clock.now_ms())
        (found,) = await payments.by_hash(tx, tx_hash=paid.tx_hash)
        assert await ledger.give(tx, found, ALICE, now_ms=yard.clock.now_ms())
    offered = await offer(yard, project, purse=True)
    with pytest.raises(TransferRefused, match="not final"):
        await transfers.accept(offered.id, wallet=BOB)


async def test_what_is_reversed_of_the_givers_payment_is_owed_by_the_giver(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    paid = await in_purse(yard, project)
    alice, _ = await balances(yard)
    await transfers.accept((await offer(yard, project, purse=True)).id, wallet=BOB)
    async with yard.db.transaction(durable=True) as tx:
        now = await payments.one(tx, payments.key_of(paid))
        assert now is not None
        await ledger.reverse_payment(tx, now, now_ms=yard.clock.now_ms())
    assert (await balances(yard))[0] == alice - 2_000_000
    assert await accounts.balance(yard.db, accounts.purse_of(project.id)) == 2_000_000


async def test_what_the_giver_had_asked_for_does_not_reach_the_takers_project(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    """A request is of the project that it found when it came in."""
    await fund(yard.db, BOB, ENOUGH)
    seen = await yard.project(project)
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    with pytest.raises(ProjectNotFound):
        await projects.living(yard.db, seen)
    with pytest.raises(ProjectNotFound):
        await yard.services.pausing.pause(seen)
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE


async def test_failed_acceptance_changes_nothing(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    offered = await offer(yard, project)
    before = await yard.project(project)
    async with yard.db.transaction(durable=True) as tx:
        await accounts.ensure_wallet(tx, BOB, now_ms=yard.clock.now_ms())
        await projects.set_of_wallet(tx, BOB, "fraud")
    with pytest.raises(MoorageError, match="fraud"):
        await transfers.accept(offered.id, wallet=BOB)
    assert await yard.project(project) == before
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_of_wallet(tx, BOB, None)
    await transfers.accept(offered.id, wallet=BOB)


async def test_both_wallets_have_the_event(
    yard: Yard, project: Project, serving: Deployment, transfers: Transfers
) -> None:
    await transfers.accept((await offer(yard, project)).id, wallet=BOB)
    for wallet in (ALICE, BOB):
        found = await events.of_wallet(yard.db, wallet, after=0, limit=9)
        [data] = [each.data for each in found if each.kind == "project.transferred"]
        assert (data["from"], data["to"], data["project_id"]) == (ALICE, BOB, project.id)


async def test_engine_that_keeps_apps_by_wallet_lets_none_change_hands(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.runtime.capabilities = Capabilities(owners_apart=True)
    with pytest.raises(TransferRefused, match="export"):
        await offer(yard, project)

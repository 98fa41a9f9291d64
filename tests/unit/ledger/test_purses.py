"""Purses: what a project burns first, or alone, and how much of it in a month."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from types import NoneType

import msgspec
import pytest

from moorage.errors import CreditsShort, DeployFailed, FailureCause, WriteConflict
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.ledger import Transfer
from moorage.ledger.metering import Metering, PurseChange
from moorage.ledger.running_costs import month_of
from moorage.ledger.services import PaidWallets
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.event import EventKind
from moorage.records.payments import RelayStatus, RelayTransaction, Settlement, SettlementStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage import delegations, events
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import accounts, billing, payments, relays, settlements
from moorage.storage.money.accounts import Purse, purse_of
from moorage.storage.opening import open_database
from support.books.database_option import ON_SERVER
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    CAROL,
    add_deployment,
    add_project,
    delegation,
    fresh_hash,
    fund,
    transfer,
)
from support.books.yielding import YieldingDatabase
from support.gateway.clock import HOUR_MS, MINUTE_MS, START_MS, MovableClock

HALF_A_DOLLAR = MicroUsd(500_000)


def paid_wallets(db: Database, clock: MovableClock | None = None) -> PaidWallets:
    return PaidWallets(db=db, minimum_charge=HALF_A_DOLLAR, clock=clock or MovableClock())


async def test_wallet_has_paid_once_its_credits_come_to_the_minimum_charge(db: Database) -> None:
    wallets = paid_wallets(db)
    assert not await wallets.has_paid(ALICE)
    await fund(db, ALICE, MicroUsd(499_999))
    assert not await wallets.has_paid(ALICE)
    await fund(db, ALICE, MicroUsd(1))
    assert await wallets.has_paid(ALICE)
    assert not await wallets.has_paid(BOB)


async def test_wallet_whose_payment_was_taken_back_has_not_paid(db: Database) -> None:
    clock, sent = MovableClock(), transfer(ALICE, HALF_A_DOLLAR)
    wallets = paid_wallets(db, clock)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], held={}, now_ms=START_MS)
    assert await wallets.has_paid(ALICE)
    async with db.transaction(durable=True) as tx:
        (payment,) = await payments.of_transaction(tx, chain_id=sent.chain_id, tx_hash=sent.tx_hash)
        await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    clock.advance(5 * MINUTE_MS)  # a yes is remembered for that long
    assert not await wallets.has_paid(ALICE)


async def test_held_payment_is_none(db: Database) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(
            tx, [transfer(ALICE, HALF_A_DOLLAR)], held={ALICE: "listed"}, now_ms=START_MS
        )
    assert not await paid_wallets(db).has_paid(ALICE)


PAID = 500_000
A_MONTH = 730_000  # 1,000 micro-USD an hour
AN_HOUR = 1_000


async def audited(db: Database) -> list[str]:
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    return [f"{each.row} {each.problem}" for each in found]


async def settle_for(db: Database, purse: str, amount: int = PAID) -> Transfer:
    """What an authorization moved that was sent for a purse, as the chain shows it."""
    sent = transfer(ALICE, amount)
    settlement = Settlement(
        id=f"of {sent.tx_hash}",
        chain_id=sent.chain_id,
        token=sent.token,
        token_address=sent.token_address,
        payer=ALICE,
        recipient=sent.recipient,
        amount_atomic=str(amount),
        valid_after="0",
        valid_before="9",
        nonce=fresh_hash(),
        signature="0x",
        from_block=0,
        unique_name="hello",
        status=SettlementStatus.SENT,
        tx_hash=None,
        failure=None,
        created_at_ms=START_MS,
        ended_at_ms=None,
        open_body="digest",
        purse=purse,
    )
    relayed = RelayTransaction(
        chain_id=sent.chain_id,
        tx_hash=sent.tx_hash,
        sender=sent.recipient,
        nonce=0,
        subject_id=settlement.id,
        recipient=sent.token_address,
        data="0x",
        gas_limit=1,
        max_fee_per_gas="1",
        max_priority_fee_per_gas="1",
        raw="0x",
        status=RelayStatus.SIGNED,
        block_number=None,
        signed_at_ms=START_MS,
    )
    async with db.transaction(durable=True) as tx:
        await settlements.add(tx, settlement)
        await relays.add(tx, relayed)
    return sent


async def credit(db: Database, sent: Transfer, held: str | None = None) -> None:
    """As the watcher does, which knows of no request."""
    async with db.transaction(durable=True) as tx:
        reasons = {} if held is None else {sent.payer: held}
        await ledger.credit_transfers(tx, [sent], held=reasons, now_ms=START_MS)


@pytest.fixture
def metering(db: Database, clock: MovableClock) -> Metering:
    return Metering(db=db, clock=clock)


async def opened(db: Database, metering: Metering, amount: int = PAID) -> Project:
    """A project that runs, and that a payment of Alice has opened."""
    project_id = fresh_hash()
    await credit(db, await settle_for(db, project_id, amount))
    project = await add_project(
        db,
        ALICE,
        f"opened-{project_id[-4:]}",
        id=project_id,
        monthly_price_micro_usd=MicroUsd(A_MONTH),
        serving_deployment_id="served",
    )
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    return project


async def status_of(db: Database, project: Project) -> ProjectStatus | None:
    found = await projects.by_id(db, project.id)
    return found.status if found else None


@pytest.mark.parametrize("owed", [0, 300_000])
async def test_whoever_credits_it_first_credits_the_purse(db: Database, owed: int) -> None:
    await fund(db, ALICE, 0)
    async with db.transaction(durable=True) as tx:
        await accounts.take_back(tx, ALICE, owed)
    sent = await settle_for(db, "p")
    await credit(db, sent)
    await credit(db, sent)
    assert await accounts.balance(db, purse_of("p")) == PAID
    assert await accounts.balance(db, ALICE) == -owed


async def test_a_reorganisation_takes_it_from_the_purse_and_brings_it_back(
    db: Database, metering: Metering
) -> None:
    await fund(db, ALICE, PAID)
    project = await opened(db, metering)
    sent = await settle_for(db, project.id, 7)
    await credit(db, sent)
    async with db.transaction(durable=True) as tx:
        moved = msgspec.structs.replace(sent, block_hash=fresh_hash(), log_index=5)
        await ledger.credit_transfers(tx, [moved], now_ms=START_MS)
    assert await accounts.balance(db, purse_of(project.id)) == PAID + 7
    assert await accounts.balance(db, ALICE) == PAID
    assert await audited(db) == []


async def test_what_screening_holds_is_the_wallets_once_it_is_released(db: Database) -> None:
    sent = await settle_for(db, "p")
    await credit(db, sent, held="listed")
    (paid,) = await payments.every(db)
    async with db.transaction(durable=True) as tx:
        await ledger.release(tx, paid, now_ms=START_MS)
    assert await accounts.balance(db, ALICE) == PAID
    assert await audited(db) == []


async def test_a_purse_that_runs_out_suspends_its_project_alone(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100 * PAID)
    project = await opened(db, metering, 2 * AN_HOUR)
    other = await add_project(db, ALICE, "other", monthly_price_micro_usd=MicroUsd(A_MONTH))
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, other.id)
    clock.advance(2 * HOUR_MS)

    assert await metering.tick() == [project.id]

    assert await accounts.balance(db, ALICE) == 100 * PAID - 2 * AN_HOUR  # of the other one
    assert await accounts.balance(db, purse_of(project.id)) == 0
    assert await projects.sharing_credits(db, ALICE) == 1
    found = [each.kind for each in await events.of_wallet(db, ALICE, after=0, limit=20)]
    assert EventKind.PROJECT_SUSPENDED in found
    suspended = await projects.by_id(db, project.id)
    assert suspended is not None
    assert not await metering.may_resume(db, suspended)
    async with db.transaction(durable=True) as tx:
        await metering.adopt(tx, suspended)
    assert await metering.may_resume(db, suspended)
    assert await audited(db) == []


async def test_a_warning_of_a_purse_names_its_project(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100 * PAID)
    project = await opened(db, metering, 24 * AN_HOUR)
    clock.advance(HOUR_MS)
    await metering.tick()
    (warning,) = [
        each.data
        for each in await events.of_wallet(db, ALICE, after=0, limit=20)
        if each.kind is EventKind.CREDITS_LOW
    ]
    assert (warning["hours"], warning["project_id"]) == (24, project.id)


async def test_adoption_moves_what_is_left_once_and_bills_what_burned_before(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await opened(db, metering)
    await fund(db, ALICE, PAID)
    clock.advance(HOUR_MS // 2)

    async def adopt() -> int:
        async with db.transaction(durable=True) as tx:
            return await metering.adopt(tx, project)

    moved = Counter(await asyncio.gather(*(adopt() for _ in range(40))))
    assert moved == {PAID - AN_HOUR // 2: 1, 0: 39}
    assert await accounts.balance(db, ALICE) == 2 * PAID - AN_HOUR // 2
    (interval,) = await billing.open_of_wallet(db, ALICE)
    assert (interval.project_id, interval.purse) == (project.id, 0)
    assert await audited(db) == []


async def test_deletion_gives_what_is_left_to_the_wallet(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await opened(db, metering)
    clock.advance(HOUR_MS)
    async with db.transaction(durable=True) as tx:
        await metering.close(tx, project.id)
        await projects.set_deleted(tx, project.id, at_ms=clock.now_ms())
    assert await accounts.balance(db, ALICE) == PAID - AN_HOUR
    assert await audited(db) == []


async def test_a_purse_that_gets_no_project_is_its_wallets_after_ten_minutes(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await credit(db, await settle_for(db, "never"))
    clock.advance(9 * 60_000)
    await metering.tick()
    assert await accounts.balance(db, ALICE) == 0
    clock.advance(60_000)
    await metering.tick()
    assert await accounts.balance(db, ALICE) == PAID
    assert await audited(db) == []


async def test_a_purse_and_its_wallet_have_allowances_of_their_own(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)  # 30 minutes
    project = await opened(db, metering)  # the same
    built = await add_deployment(db, project)
    time = BuildTime(
        db=db, minutes_per_usd=60, monthly_price=MicroUsd(2_000_000), clock=clock, book_seconds=0.01
    )

    async def work() -> None:
        clock.advance(40 * 60_000)

    await time.spend(work, wallet=ALICE, project_id=project.id, deployment_id=built.id)

    assert (await time.allowance(db, ALICE)).left_ms == 30 * 60_000
    assert (await time.allowance(db, purse_of(project.id))).left_ms == 0
    assert await accounts.balance(db, ALICE) == PAID
    assert await accounts.balance(db, purse_of(project.id)) < PAID
    assert await audited(db) == []


async def test_burns_top_ups_refunds_and_adoptions_at_once_lose_and_double_nothing(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await opened(db, metering)
    top_ups = [await settle_for(db, project.id, 10) for _ in range(10)]
    clock.advance(3 * HOUR_MS)

    async def settle() -> None:
        async with db.transaction(durable=True) as tx:
            await metering.settle(tx, purse_of(project.id))

    async def adopt() -> None:
        async with db.transaction(durable=True) as tx:
            await metering.adopt(tx, project)

    await asyncio.gather(
        *(credit(db, sent) for sent in top_ups),
        *(metering.tick() for _ in range(10)),
        *(settle() for _ in range(10)),
        *(adopt() for _ in range(10)),
    )

    assert await accounts.balance(db, ALICE) == PAID + 100 - 3 * AN_HOUR
    assert await accounts.balance(db, purse_of(project.id)) == 0
    assert await status_of(db, project) is ProjectStatus.ACTIVE
    assert await audited(db) == []


async def running(
    db: Database, metering: Metering, name: str = "hello", monthly: int = A_MONTH
) -> Project:
    """A project of Alice's that runs."""
    project = await add_project(
        db,
        ALICE,
        name,
        monthly_price_micro_usd=MicroUsd(monthly),
        serving_deployment_id=f"of {name}",
    )
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    return project


async def order(db: Database, metering: Metering, project: Project, change: PurseChange) -> Purse:
    async with db.transaction(durable=True) as tx:
        return await metering.change_purse(tx, project, change)


async def have(db: Database, project: Project) -> tuple[int, int]:
    """What the purse has, and the wallet."""
    return (
        await accounts.balance(db, purse_of(project.id)),
        await accounts.balance(db, ALICE),
    )


async def resumes(db: Database, metering: Metering, project: Project) -> bool:
    found = await projects.by_id(db, project.id)
    assert found is not None
    return await metering.may_resume(db, found)


async def test_a_purse_that_runs_dry_within_an_hour_goes_over_to_the_wallet(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(AN_HOUR + 400)))
    clock.advance(2 * HOUR_MS)
    assert await metering.tick() == []
    assert await have(db, project) == (0, PAID - 2 * AN_HOUR)
    assert await audited(db) == []


async def test_a_project_lives_from_its_purse_though_its_wallet_has_nothing(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID)))
    clock.advance(HOUR_MS)
    assert await metering.tick() == []
    (interval,) = await billing.open_of_wallet(db, ALICE)
    async with db.transaction(durable=True) as tx:
        await metering.suspend_unpaid(tx, ALICE)
    assert await status_of(db, project) is ProjectStatus.ACTIVE
    assert await metering.runs_until(db, interval) == START_MS + (PAID - 1) * HOUR_MS // 1_000 + 1


async def test_what_is_taken_back_was_burned_by_nothing_until_this_millisecond(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID), shared=False))
    clock.advance(HOUR_MS // 2)
    with pytest.raises(CreditsShort):
        await order(db, metering, project, PurseChange(take=MicroUsd(PAID - AN_HOUR // 2 + 1)))
    assert await have(db, project) == (PAID, 0)  # nothing was changed
    await order(db, metering, project, PurseChange(take=MicroUsd(PAID - AN_HOUR // 2)))
    assert await have(db, project) == (0, PAID - AN_HOUR // 2)
    assert await status_of(db, project) is ProjectStatus.SUSPENDED
    assert await audited(db) == []


async def test_a_wallet_hears_of_each_change_of_a_purse(db: Database, metering: Metering) -> None:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(50_000)))
    await order(db, metering, project, PurseChange(take=MicroUsd(20_000), limit=None))
    told = [each.data for each in await events.of_wallet(db, ALICE, after=0, limit=20)][-2:]
    assert told == [
        {"project_id": project.id, "added_usd": 0.05, "taken_usd": 0, "balance_usd": 0.05},
        {"project_id": project.id, "added_usd": 0, "taken_usd": 0.02, "balance_usd": 0.03},
    ]


async def test_more_than_the_wallet_has_is_not_added(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    other = await running(db, metering, "other")
    clock.advance(HOUR_MS // 2)
    with pytest.raises(CreditsShort):  # each owes half an hour
        await order(db, metering, project, PurseChange(add=MicroUsd(PAID - AN_HOUR + 1)))
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID - AN_HOUR)))
    assert await have(db, project) == (PAID - AN_HOUR, 0)
    assert await status_of(db, project) is ProjectStatus.ACTIVE
    assert await status_of(db, other) is ProjectStatus.SUSPENDED


LIMIT = MicroUsd(3 * AN_HOUR + 250)


async def limited(db: Database, metering: Metering) -> Project:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(AN_HOUR), limit=LIMIT))
    return project


async def test_a_project_burns_its_limit_and_not_a_micro_dollar_more(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await limited(db, metering)
    clock.advance(3 * HOUR_MS)
    assert await metering.tick() == []
    clock.advance(HOUR_MS)
    assert await metering.tick() == [project.id]
    assert await have(db, project) == (0, PAID - LIMIT)
    told = [each.data for each in await events.of_wallet(db, ALICE, after=0, limit=20)][-1]
    assert (told["project_id"], told["reason_code"]) == (project.id, "limit_reached")
    assert not await resumes(db, metering, project)
    assert await metering.is_at_limit(db, project)
    assert await audited(db) == []


async def test_a_limit_ends_with_its_month_or_when_it_is_raised(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await limited(db, metering)
    clock.advance(4 * HOUR_MS)
    await metering.tick()
    await order(db, metering, project, PurseChange(limit=MicroUsd(LIMIT + AN_HOUR - 1)))
    assert not await resumes(db, metering, project)  # it does not pay an hour
    await order(db, metering, project, PurseChange(limit=MicroUsd(LIMIT + AN_HOUR)))
    assert await resumes(db, metering, project)
    await order(db, metering, project, PurseChange(limit=LIMIT))
    clock.advance(month_of(START_MS).end_ms - clock.now_ms() - 1)
    assert not await resumes(db, metering, project)
    clock.advance(1)
    assert await resumes(db, metering, project)


async def test_a_booking_counts_in_each_month_what_ran_in_it(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    end_ms = month_of(START_MS).end_ms
    clock.advance(end_ms - START_MS - HOUR_MS // 4)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(limit=MicroUsd(AN_HOUR)))
    clock.advance(HOUR_MS)
    assert await metering.tick() == []
    spent = [
        await ledger.spent_in(db, project.id, month_of(at_ms)) for at_ms in (end_ms - 1, end_ms)
    ]
    assert spent == [AN_HOUR // 4, AN_HOUR * 3 // 4]
    clock.advance(HOUR_MS)
    assert await metering.tick() == [project.id]
    assert await ledger.spent_in(db, project.id, month_of(end_ms)) == AN_HOUR
    assert await audited(db) == []


async def test_a_limit_below_what_the_month_has_burned_stops_the_project_at_once(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    project = await running(db, metering)
    clock.advance(2 * HOUR_MS)
    await order(db, metering, project, PurseChange(limit=MicroUsd(2 * AN_HOUR)))
    assert await status_of(db, project) is ProjectStatus.SUSPENDED
    assert await have(db, project) == (0, PAID - 2 * AN_HOUR)


async def test_a_build_burns_no_more_than_the_limit_lets_it(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await limited(db, metering)
    built = await add_deployment(db, project)
    price = MicroUsd(730 * 60_000)  # 1,000 micro-USD a minute
    time = BuildTime(db=db, minutes_per_usd=0, monthly_price=price, clock=clock, book_seconds=0.01)
    ended = asyncio.Event()

    async def work() -> None:
        clock.advance(60_000 * 60)
        await ended.wait()

    with pytest.raises(DeployFailed) as refusal:
        await time.spend(work, wallet=ALICE, project_id=project.id, deployment_id=built.id)
    assert refusal.value.cause is FailureCause.AT_LIMIT
    assert await ledger.spent_in(db, project.id, month_of(clock.now_ms())) == LIMIT
    assert await have(db, project) == (0, PAID - LIMIT)
    await metering.tick()
    assert await have(db, project) == (0, PAID - LIMIT)
    assert await audited(db) == []


async def test_what_lives_from_a_purse_that_a_reversal_emptied_is_suspended_at_once(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, PAID)
    project = await add_project(db)
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID), shared=False))
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
        (paid,) = await payments.every(tx)
        await ledger.reverse_payment(tx, paid, now_ms=clock.now_ms())
        await metering.suspend_unpaid(tx, ALICE)
    assert await have(db, project) == (0, 0)
    assert not await metering.bills(db, project.id)
    assert await audited(db) == []


async def test_a_reversed_payment_is_taken_out_of_the_purses_that_it_filled(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    sent = transfer(ALICE, PAID)
    await credit(db, sent)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID - 1)))
    (paid,) = await payments.every(db)
    async with db.transaction(durable=True) as tx:
        await ledger.reverse_payment(tx, paid, now_ms=clock.now_ms())
        await metering.suspend_unpaid(tx, ALICE)
    assert await have(db, project) == (0, 0)
    assert await status_of(db, project) is ProjectStatus.SUSPENDED
    assert await audited(db) == []


async def test_what_a_project_burned_of_a_purse_is_booked_before_that_pays_a_debt(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    await credit(db, transfer(ALICE, PAID))
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID), shared=False))
    (paid,) = await payments.every(db)
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    clock.advance(HOUR_MS // 2)
    async with db.transaction(durable=True) as tx:
        await ledger.reverse_payment(tx, paid, now_ms=clock.now_ms())
        await metering.suspend_unpaid(tx, ALICE)
    assert await have(db, project) == (0, -AN_HOUR // 2)
    assert await audited(db) == []


async def test_a_payment_that_moves_to_another_block_leaves_purses_as_they_are(
    db: Database, metering: Metering
) -> None:
    sent = transfer(ALICE, PAID)
    await credit(db, sent)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(PAID - 1)))
    before = await have(db, project)
    await credit(db, msgspec.structs.replace(sent, block_hash=fresh_hash()))
    assert await have(db, project) == before


async def test_what_a_payment_alone_has_opened_becomes_its_wallets_by_an_order(
    db: Database, metering: Metering, clock: MovableClock
) -> None:
    project = await opened(db, metering)
    await fund(db, ALICE, PAID)
    await order(db, metering, project, PurseChange(limit=LIMIT))
    purse = await accounts.purse(db, project.id)
    assert purse is not None
    assert (purse.adopted, purse.shared, purse.balance) == (True, False, PAID)
    assert await ledger.allowance_holder(db, project.id, wallet=ALICE) == ALICE
    assert await audited(db) == []


@pytest.fixture
def second_db(request: pytest.FixtureRequest, db: Database) -> Iterator[Database]:
    """Another gateway's connections to the same database."""
    if request.config.getoption("--database") == ON_SERVER:
        second = open_database(request.getfixturevalue("emptied_url"))
    else:
        second = YieldingDatabase(request.getfixturevalue("db_path"))
    yield second
    second.close()


async def test_a_thousand_spends_at_once_on_two_gateways_burn_the_limit_and_no_more(
    db: Database, second_db: Database, metering: Metering, clock: MovableClock
) -> None:
    limit = MicroUsd(123_457)
    await fund(db, ALICE, 100 * PAID)
    project = await running(db, metering)
    await order(db, metering, project, PurseChange(add=MicroUsd(60_000), limit=limit))
    built = await add_deployment(db, project)
    price = MicroUsd(730 * 3_600 * 777)  # 777 micro-USD a second
    gateways = [
        (each, BuildTime(db=each, minutes_per_usd=0, monthly_price=price, clock=clock))
        for each in (db, second_db)
    ]
    places = asyncio.Semaphore(200)  # more would wait longer than a connection is waited for

    async def work() -> None:
        clock.advance(1_000)

    async def spend(number: int) -> None:
        at, builds = gateways[number % 2]
        async with places:
            if number % 10:
                await builds.spend(
                    work, wallet=ALICE, project_id=project.id, deployment_id=built.id
                )
            else:
                async with at.transaction(durable=True) as tx:
                    await Metering(db=at, clock=clock).settle(tx, ALICE)

    found = await asyncio.gather(*map(spend, range(1_000)), return_exceptions=True)

    assert {type(each) for each in found} <= {NoneType, DeployFailed, WriteConflict}
    assert await ledger.spent_in(db, project.id, month_of(START_MS)) == limit
    assert sum(await have(db, project)) == 100 * PAID - limit
    assert await status_of(db, project) is ProjectStatus.SUSPENDED
    assert await audited(db) == []


async def test_builds_at_once_on_two_gateways_burn_a_delegates_limit_and_no_more(
    db: Database, second_db: Database, metering: Metering, clock: MovableClock
) -> None:
    await fund(db, ALICE, 100 * PAID)
    project = await running(db, metering)
    async with db.transaction(durable=True) as tx:
        await delegations.add(tx, delegation(limit_usd_month=1))
    asked = await add_deployment(db, project, acted_by=CAROL)
    price = MicroUsd(730 * 3_600 * 7_777)  # 7,777 micro-USD a second
    gateways = [
        BuildTime(db=each, minutes_per_usd=0, monthly_price=price, clock=clock)
        for each in (db, second_db)
    ]
    places = asyncio.Semaphore(40)

    async def work() -> None:
        clock.advance(1_000)

    async def build(number: int) -> None:
        async with places:
            await gateways[number % 2].spend(
                work, wallet=ALICE, project_id=project.id, deployment_id=asked.id
            )

    found = await asyncio.gather(*map(build, range(200)), return_exceptions=True)

    assert {type(each) for each in found} <= {NoneType, DeployFailed, WriteConflict}
    since_ms = month_of(START_MS).start_ms
    committed = await accounts.committed_by(db, owner=ALICE, delegate=CAROL, since_ms=since_ms)
    assert committed == 1_000_000
    assert await accounts.balance(db, ALICE) == 100 * PAID - 1_000_000


async def test_an_app_that_is_ready_at_its_limit_is_suspended_for_that_reason(
    db: Database, metering: Metering
) -> None:
    await fund(db, ALICE, PAID)
    project = await add_project(db, ALICE, serving_deployment_id="served")
    await order(db, metering, project, PurseChange(limit=MicroUsd(0)))
    async with db.transaction(durable=True) as tx:
        assert not await metering.begin_or_suspend(tx, project)
    told = [each.data for each in await events.of_wallet(db, ALICE, after=0, limit=20)][-1]
    assert (told["project_id"], told["reason_code"]) == (project.id, "limit_reached")

import asyncio
import itertools
import threading
from pathlib import Path

import msgspec
import pytest
from gate import PRICE, Gate, attempt, dearer
from sqlalchemy import bindparam, select

from moorage.errors import (
    ChainUnavailable,
    CommitUnknown,
    CreditsShort,
    DatabaseUnavailable,
    IdempotencyInProgress,
    NameUnavailable,
    NoCapacity,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentNotFound,
    PaymentPending,
    PaymentShort,
    TokenInvalid,
)
from moorage.hosting.entrance import admission
from moorage.hosting.entrance.attempt import Admitted
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS
from moorage.payments.taking.payment_required import PaymentRequired
from moorage.records.deployment import UNDER_WAY, DeploymentStatus, JobStatus
from moorage.records.project import Project, ProjectStatus
from moorage.records.size import PriceList
from moorage.storage import idempotency
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Statement
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts
from moorage.storage.schema import jobs
from moorage.uploads.request import PurseTerms
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import (
    ALICE,
    BOB,
    PLAN,
    add_deployment,
    add_project,
    fresh_hash,
    fund,
)
from support.books.yielding import committing_of

JOB_STATUS = Statement(select(jobs.c.status).where(jobs.c.subject_id == bindparam("subject")))
NOTHING = {"projects": 0, "deployments": 0, "jobs": 0, "quotes": 0}
SHARING = {"active", "building", "deploying", "pending", "queued", "promoting"}
"""What the contract (1.2) calls active."""


def expected(credit: int, active: int, use_existing: bool) -> str:
    """The decision table of contract 1.2."""
    if credit < PRICE:
        return "402"
    if active == 0 or use_existing:
        return "200"
    return "402 with the warning"


@pytest.mark.parametrize(
    ("credit", "active", "use_existing"),
    list(itertools.product([0, 1, PRICE - 1, PRICE, 10 * PRICE], [0, 1, 2], [False, True])),
)
async def test_answer_without_payment_is_the_decision_tables(
    gate: Gate, credit: int, active: int, use_existing: bool
) -> None:
    await fund(gate.db, ALICE, credit)
    await fund(gate.db, BOB, 10 * PRICE)
    await add_project(gate.db, BOB, "theirs")
    for number in range(active):
        await add_project(gate.db, ALICE, f"mine-{number}")

    answer = expected(credit, active, use_existing)
    if answer == "200":
        admitted = await gate.deploy(use_existing_credits=use_existing)
        assert admitted.sharing_with == active
        assert gate.kept() == {admitted.deployment_id}
        return
    demand = await gate.demanded(use_existing_credits=use_existing)
    assert (demand.warning is not None) == (answer == "402 with the warning")
    assert (demand.amount, demand.balance, demand.active_projects) == (PRICE, credit, active)
    assert demand.because is None
    assert ("minimum" in demand.reason) == (0 < credit < PRICE)
    assert gate.kept() == set()


@pytest.mark.parametrize("status", list(ProjectStatus))
async def test_projects_share_credits_in_the_states_the_contract_names(
    gate: Gate, status: ProjectStatus
) -> None:
    await fund(gate.db, ALICE, PRICE)
    await add_project(gate.db, ALICE, "other", status)
    if status in SHARING:
        assert (await gate.demanded()).warning
    else:
        await gate.deploy()


async def test_admitted_deployment_is_queued_with_its_files(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    admitted = await gate.deploy()

    deployment = await deployments.by_id(gate.db, admitted.deployment_id)
    project = await projects.by_name(gate.db, "hello")
    assert project is not None
    assert deployment is not None
    assert (project.id, deployment.project_id) == (admitted.project_id, admitted.project_id)
    assert (project.status, deployment.status) == (ProjectStatus.QUEUED, DeploymentStatus.QUEUED)
    assert (project.wallet, project.monthly_price_micro_usd) == (ALICE, PRICE)
    assert await gate.db.one(JOB_STATUS, subject=deployment.id) == (JobStatus.QUEUED,)
    assert (gate.sources / deployment.id / "index.js").read_bytes() == b"one"
    assert (gate.sources / deployment.id).stat().st_mode & 0o777 == 0o700
    assert gate.queued == 1
    assert await accounts.balance(gate.db, ALICE) == PRICE  # credits are burned, not spent


async def test_secret_of_a_plan_is_made_once_and_stays_with_the_project(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    plan = msgspec.structs.replace(PLAN, secrets=("SECRET_KEY_BASE",))
    values = []
    for body in ("one", "two"):
        admitted = await gate.deploy(body=body, plan=plan)
        deployment = await deployments.by_id(gate.db, admitted.deployment_id)
        assert deployment is not None
        values.append(gate.vault.open(deployment.variables, admitted.project_id).run)
    assert values[0] == values[1]
    assert len(values[0]["SECRET_KEY_BASE"]) == 32


async def test_demand_stores_a_quote_that_holds_the_name_and_nothing_else(gate: Gate) -> None:
    demand = await gate.demanded(months=3)
    assert demand.amount == 3 * PRICE
    assert demand.expires_at_ms == gate.clock.now_ms() + QUOTE_LIFETIME_MS
    assert await gate.counts() == NOTHING | {"quotes": 1}
    assert isinstance(await gate.refused(BOB), NameUnavailable)
    assert gate.kept() == set()
    assert gate.queued == 0


async def test_deploy_uses_up_the_quotes_for_its_name(gate: Gate) -> None:
    await gate.demanded()
    await gate.demanded(name="other")
    admitted = await gate.deploy(tx=gate.pay())
    assert (await gate.counts())["quotes"] == 1
    async with gate.db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, admitted.project_id, at_ms=0)
    await gate.demanded(BOB)  # the name is free as soon as the project is gone


async def test_manage_token_whose_project_was_deleted_meanwhile_makes_no_other(gate: Gate) -> None:
    """A request whose body takes long was authenticated before."""
    await fund(gate.db, ALICE, PRICE)
    first = await gate.deploy()
    again = await gate.deploy(body="two", managed=first.project_id)
    assert again.project_id == first.project_id
    async with gate.db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, first.project_id, at_ms=0)

    assert isinstance(await gate.refused(managed=first.project_id), TokenInvalid)
    second = await gate.deploy()  # the wallet itself may
    assert isinstance(await gate.refused(managed=first.project_id), TokenInvalid)
    assert gate.kept() == {again.deployment_id, second.deployment_id}


# Payment: the contract's table 1.3


async def test_enough_is_credited_in_full_and_deploys(gate: Gate) -> None:
    admitted = await gate.deploy(tx=gate.pay(amount=3 * PRICE))
    assert await accounts.balance(gate.db, ALICE) == 3 * PRICE
    assert gate.kept() == {admitted.deployment_id}


async def test_payment_is_not_asked_whether_it_shares_credits(gate: Gate) -> None:
    await add_project(gate.db, ALICE, "other")
    admitted = await gate.deploy(tx=gate.pay())
    assert admitted.sharing_with == 1


async def test_payment_counts_together_with_the_credits_on_hand(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE - 1)
    await gate.deploy(tx=gate.pay(amount=1))


async def test_short_payment_is_credited_and_the_rest_asked_for_until_it_comes(
    gate: Gate,
) -> None:
    await gate.demanded()
    first = gate.pay(amount=200_000)
    short = await gate.demanded(tx=first)
    assert isinstance(short.because, PaymentShort)
    assert (short.amount, short.credited, short.balance) == (300_000, 200_000, 200_000)
    assert gate.kept() == set()

    assert (await gate.demanded()).amount == 300_000
    again = await gate.demanded(tx=first)
    assert (again.amount, again.credited) == (300_000, 200_000)  # not once more
    more = await gate.demanded(tx=gate.pay(amount=299_999))
    assert (more.amount, more.credited) == (1, 299_999)

    await gate.deploy(tx=gate.pay(amount=1))
    assert await accounts.balance(gate.db, ALICE) == PRICE


async def test_rest_of_a_payment_made_without_a_quote_is_asked_for(gate: Gate) -> None:
    paid = gate.pay(amount=200_000)
    await fund_from(gate, paid)  # credited, then the gateway died before it could answer
    assert (await gate.demanded(tx=paid)).amount == 300_000
    assert (await gate.demanded()).amount == 300_000


async def test_rest_of_a_payment_is_asked_for_by_a_quote_made_before_it_was_shown(
    gate: Gate,
) -> None:
    paid = gate.pay(amount=200_000)
    await fund_from(gate, paid)
    assert (await gate.demanded()).amount == PRICE  # nobody said what the credits are for
    assert (await gate.demanded(tx=paid)).amount == 300_000
    assert (await gate.demanded()).amount == 300_000


async def fund_from(gate: Gate, tx: str) -> None:
    """Credit a transaction without answering the request that showed it."""
    offered = attempt(tx=tx)
    assert offered.evidence is not None
    await gate.paywall.take(
        offered.evidence, wallet=ALICE, body_digest=offered.request_digest, unique_name="hello"
    )


async def test_rest_is_of_the_price_for_the_months_asked_for(gate: Gate) -> None:
    await gate.demanded(months=1)
    short = await gate.demanded(tx=gate.pay(), months=3)
    assert short.amount == 2 * PRICE
    await gate.deploy(tx=gate.pay(amount=2 * PRICE), months=3)


async def test_hash_that_paid_is_answered_with_the_ids_it_paid_for(gate: Gate) -> None:
    paid = gate.pay()
    admitted = await gate.deploy(tx=paid)
    for name in ("hello", "other"):
        used = await gate.refused(name=name, tx=paid)
        assert isinstance(used, PaymentAlreadyUsed)
        assert used.for_another == ("For another project" in used.message) == (name == "other")
        assert (used.project_id, used.deployment_id) == (
            admitted.project_id,
            admitted.deployment_id,
        )
    assert gate.kept() == {admitted.deployment_id}


async def test_forty_requests_with_one_hash_are_credited_and_deployed_once(gate: Gate) -> None:
    paid = gate.pay()
    answers = await gate.answers(*(gate.deploy(tx=paid) for _ in range(40)))
    (admitted,) = [answer for answer in answers if isinstance(answer, Admitted)]
    for answer in answers:
        if answer is not admitted:
            assert isinstance(answer, PaymentAlreadyUsed)
            assert answer.deployment_id == admitted.deployment_id
    assert gate.kept() == {admitted.deployment_id}
    assert (await gate.counts()) == {"projects": 1, "deployments": 1, "jobs": 1, "quotes": 0}
    assert await accounts.balance(gate.db, ALICE) == PRICE


async def test_one_hash_for_two_names_at_once_pays_for_one(gate: Gate) -> None:
    paid = gate.pay()
    answers = await gate.answers(*(gate.deploy(name=f"name-{n}", tx=paid) for n in range(5)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 1
    assert sum(isinstance(answer, PaymentAlreadyUsed) for answer in answers) == 4
    assert len(gate.kept()) == 1


async def test_stranger_who_shows_anothers_payment_is_asked_to_pay(gate: Gate) -> None:
    paid = gate.pay(ALICE)
    stolen = await gate.demanded(BOB, tx=paid)
    assert isinstance(stolen.because, PayerMismatch)
    assert (stolen.amount, stolen.balance) == (PRICE, 0)
    assert await accounts.balance(gate.db, ALICE) == PRICE
    await gate.deploy(ALICE, "other", tx=paid)


async def test_transaction_without_a_payment_is_answered_with_the_price(gate: Gate) -> None:
    gate.chain.missing = PaymentNotFound("Nothing there.", looked_for={})
    demand = await gate.demanded(tx="0x" + "ab" * 32)
    assert isinstance(demand.because, PaymentNotFound)
    assert demand.amount == PRICE
    assert gate.kept() == set()


@pytest.mark.parametrize("fault", [PaymentPending(), ChainUnavailable()])
async def test_what_is_not_known_yet_is_not_asked_to_pay(gate: Gate, fault: Exception) -> None:
    gate.chain.missing = fault
    assert type(await gate.refused(tx="0x" + "ab" * 32)) is type(fault)
    assert await gate.counts() == NOTHING
    assert gate.kept() == set()


# Prices


async def test_quoted_price_is_honoured_after_prices_rose(gate: Gate) -> None:
    await gate.demanded(months=2)
    gate.with_prices(dearer())
    gate.clock.advance(QUOTE_LIFETIME_MS - 1)
    await gate.deploy(tx=gate.pay(amount=2 * PRICE), months=2)


async def test_app_deployed_at_a_quoted_price_runs_for_the_months_it_paid(gate: Gate) -> None:
    await gate.demanded(months=2)
    gate.with_prices(dearer())
    await gate.deploy(tx=gate.pay(amount=2 * PRICE), months=2)
    project = await projects.by_name(gate.db, "hello")
    assert project is not None
    assert project.monthly_price_micro_usd == PRICE


async def test_monthly_price_is_the_lists_where_the_minimum_was_charged(gate: Gate) -> None:
    gate.with_prices(PriceList(memory_gib_month=MicroUsd(50_000)))
    await gate.deploy(tx=gate.pay())
    project = await projects.by_name(gate.db, "hello")
    assert project is not None
    assert project.monthly_price_micro_usd == 275_000


async def test_new_price_holds_once_the_quote_expired(gate: Gate) -> None:
    await gate.demanded()
    gate.with_prices(dearer())
    gate.clock.advance(QUOTE_LIFETIME_MS)
    short = await gate.demanded(tx=gate.pay())
    assert (short.amount, short.credited) == (PRICE, PRICE)


# One's own project


async def deployed(gate: Gate, status: ProjectStatus = ProjectStatus.ACTIVE) -> Project:
    project = await add_project(gate.db, ALICE, "hello", status)
    await add_deployment(
        gate.db, project, DeploymentStatus.READY, serving=status is not ProjectStatus.FAILED
    )
    return project


@pytest.mark.parametrize(
    "status", [ProjectStatus.ACTIVE, ProjectStatus.FAILED, ProjectStatus.SUSPENDED]
)
async def test_redeploy_needs_a_positive_balance_and_no_more(
    gate: Gate, status: ProjectStatus
) -> None:
    project = await deployed(gate, status)
    await add_project(gate.db, ALICE, "another")
    demand = await gate.demanded()
    assert (demand.amount, demand.warning) == (PRICE, None)
    await fund(gate.db, ALICE, 1)

    admitted = await gate.deploy()

    assert (admitted.project_id, admitted.sharing_with) == (project.id, 1)
    after = await projects.by_id(gate.db, project.id)
    assert after is not None
    queued = status is ProjectStatus.FAILED  # what serves nothing is seen to wait
    assert after.status is (ProjectStatus.QUEUED if queued else status)


async def test_redeploy_changes_what_the_project_is_called(gate: Gate) -> None:
    admitted = await gate.deploy(tx=gate.pay(), display_name="Shop", description="sells")
    for body, name, description, expected_names in (
        ("two", "Store", None, ("Store", "sells")),  # what is left out stays
        ("three", "Store", "sells more", ("Store", "sells more")),
        ("four", "Hello", "", ("Hello", "")),
    ):
        await gate.deploy(body=body, display_name=name, description=description)
        project = await projects.by_id(gate.db, admitted.project_id)
        assert project is not None
        assert (project.display_name, project.description) == expected_names


async def test_redeploy_is_told_from_a_first_deploy_and_from_the_same_one_again(gate: Gate) -> None:
    assert not (await gate.deploy(tx=gate.pay())).redeploys
    assert not (await gate.deploy()).redeploys
    assert (await gate.deploy(body="two")).redeploys


async def test_redeploy_may_be_paid_for(gate: Gate) -> None:
    project = await deployed(gate, ProjectStatus.SUSPENDED)
    admitted = await gate.deploy(tx=gate.pay(amount=1))
    assert admitted.project_id == project.id


async def test_same_body_while_it_is_under_way_is_the_same_deployment(gate: Gate) -> None:
    first = await gate.deploy(tx=gate.pay())
    for tx in (None, gate.pay(), None):
        again = await gate.deploy(tx=tx)
        assert (again.project_id, again.deployment_id) == (first.project_id, first.deployment_id)
    assert gate.kept() == {first.deployment_id}
    assert await gate.counts() == {"projects": 1, "deployments": 1, "jobs": 1, "quotes": 0}
    assert gate.superseded == []


async def test_same_body_at_once_is_one_deployment(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    answers = await gate.answers(*(gate.deploy() for _ in range(10)))
    admitted = {answer.deployment_id for answer in answers if isinstance(answer, Admitted)}
    assert len(admitted) == 1
    assert gate.kept() == admitted


@pytest.mark.parametrize("over", [s for s in DeploymentStatus if s not in UNDER_WAY])
async def test_same_body_after_it_ended_is_another_deployment(
    gate: Gate, over: DeploymentStatus
) -> None:
    first = await gate.deploy(tx=gate.pay())
    gate.db.sql("UPDATE deployments SET status = ?", (over,))
    again = await gate.deploy()
    assert again.project_id == first.project_id
    assert again.deployment_id != first.deployment_id


async def test_later_body_takes_the_place_of_what_is_under_way(gate: Gate) -> None:
    first = await gate.deploy(tx=gate.pay(), body="one")
    later = await gate.deploy(body="two")

    earlier = await deployments.by_id(gate.db, first.deployment_id)
    assert earlier is not None
    assert (earlier.status, earlier.reason_code) == (DeploymentStatus.FAILED, "superseded")
    assert later.deployment_id in (earlier.reason or "")
    assert await gate.db.one(JOB_STATUS, subject=first.deployment_id) == (JobStatus.DONE,)
    assert gate.superseded == [first.deployment_id]
    assert gate.kept() == {later.deployment_id}
    assert (await gate.deploy(body="two")).deployment_id == later.deployment_id


async def test_later_bodies_at_once_leave_one_under_way(gate: Gate) -> None:
    await gate.deploy(tx=gate.pay())
    answers = await gate.answers(*(gate.deploy(body=f"body {n}") for n in range(10)))
    assert all(isinstance(answer, Admitted) for answer in answers)
    under_way = await deployments.under_way(gate.db)
    assert len(under_way) == 1
    assert gate.kept() == {under_way[0].id}
    assert len(gate.superseded) == 10


async def test_project_that_is_being_deleted_takes_no_deployment(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    await deployed(gate, ProjectStatus.DELETING)
    before = await gate.counts()
    paid = gate.pay()
    for tx in (None, paid):
        refused = await gate.refused(tx=tx)
        assert isinstance(refused, NameUnavailable)
        assert "in a moment" in refused.message
    assert await gate.counts() == before
    assert gate.kept() == set()


async def test_deletion_that_begins_while_the_payment_is_taken_refuses_the_deployment(
    gate: Gate,
) -> None:
    project = await deployed(gate)

    def delete(step: str) -> None:
        gate.db.sql("UPDATE projects SET status = 'deleting'")

    gate.on_step = delete
    paid = gate.pay()
    refused = await gate.refused(tx=paid)
    assert isinstance(refused, NameUnavailable)
    assert refused.receipt is not None
    async with gate.db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, project.id, at_ms=0)
    gate.on_step = lambda step: None
    await gate.deploy(tx=paid)


async def test_project_that_is_deleted_while_the_payment_is_taken_leaves_no_smaller_price(
    gate: Gate,
) -> None:
    """The new one of its name is of the standard size, which costs twice as much."""
    small = await add_project(gate.db, ALICE, "hello", size="small")

    def delete(step: str) -> None:
        gate.db.sql("UPDATE projects SET status = 'deleted', deleted_at_ms = 1")
        gate.db.sql("DELETE FROM names")

    gate.on_step = delete
    paid = gate.pay(amount=12 * PRICE // 2)
    demand = await gate.demanded(months=12, tx=paid)
    assert demand.amount == 12 * PRICE // 2  # the other half
    gate.on_step = lambda step: None
    admitted = await gate.deploy(months=12, tx=gate.pay(amount=12 * PRICE // 2))
    assert admitted.project_id != small.id
    new = await projects.by_id(gate.db, admitted.project_id)
    assert new is not None
    assert (new.size, new.monthly_price_micro_usd) == ("standard", PRICE)


# At the same time


async def test_of_deploys_at_once_with_credits_for_one_exactly_one_is_admitted(
    gate: Gate,
) -> None:
    await fund(gate.db, ALICE, PRICE)
    answers = await gate.answers(*(gate.deploy(name=f"name-{n}") for n in range(20)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 1
    demands = [answer for answer in answers if isinstance(answer, PaymentRequired)]
    assert len(demands) == 19
    assert all(each.demand.warning for each in demands)
    assert len(gate.kept()) == 1


async def test_two_gateways_on_one_database_admit_as_one_does(
    gate: Gate, db_path: Path, tmp_path: Path
) -> None:
    """One balance admits one deploy, one name is promised to one wallet."""
    await fund(gate.db, ALICE, PRICE)
    other_db = FaultyDatabase(db_path)
    other = Gate(other_db, gate.clock, tmp_path / "other")
    both = (gate, other)
    answers = await gate.answers(
        *(each.deploy(ALICE, f"name-{n}") for n in range(5) for each in both),
        *(each.deploy(f"0x{n:040x}", "wanted") for n in range(5) for each in both),
    )
    other_db.close()
    assert len({a.deployment_id for a in answers[:10] if isinstance(a, Admitted)}) == 1
    assert all(isinstance(answer, Admitted | PaymentRequired) for answer in answers[:10])
    promised = {a.demand.wallet for a in answers[10:] if isinstance(a, PaymentRequired)}
    assert len(promised) == 1
    assert sum(isinstance(answer, NameUnavailable) for answer in answers[10:]) == 8


async def test_of_wallets_that_want_a_name_at_once_one_gets_it(gate: Gate) -> None:
    wallets = [f"0x{number:040x}" for number in range(20)]
    for wallet in wallets:
        await fund(gate.db, wallet, PRICE)
    answers = await gate.answers(*(gate.deploy(wallet) for wallet in wallets))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 1
    assert sum(isinstance(answer, NameUnavailable) for answer in answers) == 19
    assert len(gate.kept()) == 1


async def test_wallets_that_pay_for_a_name_at_once_keep_what_they_paid(gate: Gate) -> None:
    wallets = [f"0x{number:040x}" for number in range(5)]
    hashes = {wallet: gate.pay(wallet) for wallet in wallets}
    answers = await gate.answers(*(gate.deploy(wallet, tx=hashes[wallet]) for wallet in wallets))
    for wallet, answer in zip(wallets, answers, strict=True):
        assert await accounts.balance(gate.db, wallet) == PRICE
        if isinstance(answer, NameUnavailable):
            assert answer.receipt is not None
            await gate.deploy(wallet, f"name-{wallet[-1]}", tx=hashes[wallet])
    assert (await gate.counts())["projects"] == 5


async def test_name_taken_while_the_payment_is_taken_leaves_the_hash_usable(gate: Gate) -> None:
    def take_name(step: str) -> None:
        gate.on_step = lambda step: None
        gate.db.sql(
            "INSERT INTO projects (id, wallet, unique_name, display_name, description, status, "
            "monthly_price_micro_usd, months, created_at_ms) VALUES "
            "('p', ?, 'hello', '', '', 'queued', 1, 1, 0)",
            (BOB,),
        )
        gate.db.sql("INSERT INTO names (unique_name, wallet) VALUES ('hello', ?)", (BOB,))

    gate.on_step = take_name
    paid = gate.pay()
    refused = await gate.refused(tx=paid)
    assert isinstance(refused, NameUnavailable)
    assert refused.receipt is not None
    assert gate.kept() == set()
    await gate.deploy(name="other", tx=paid)


# What fails


@pytest.mark.parametrize("paid", [False, True])
async def test_database_that_is_away_before_any_credit_is_a_503_and_leaves_nothing(
    gate: Gate, paid: bool
) -> None:
    await fund(gate.db, ALICE, PRICE)
    tx = gate.pay() if paid else None
    gate.db.refuse_writes()
    assert isinstance(await gate.refused(tx=tx), DatabaseUnavailable)
    gate.db.allow_writes()
    assert await gate.counts() == NOTHING
    assert gate.kept() == set()
    await gate.deploy(tx=tx)


@pytest.mark.parametrize("amount", [PRICE, PRICE - 1])
async def test_database_that_goes_away_after_the_credit_says_not_to_pay_again(
    gate: Gate, amount: int
) -> None:
    gate.on_step = lambda step: gate.db.refuse_writes()
    paid = gate.pay(amount=amount)
    refused = await gate.refused(tx=paid)
    assert type(refused) is PaymentPending
    assert refused.receipt is not None
    assert gate.kept() == set()

    gate.db.allow_writes()
    gate.on_step = lambda step: None
    assert await accounts.balance(gate.db, ALICE) == amount
    if amount < PRICE:
        assert (await gate.demanded(tx=paid)).amount == 1
    else:
        await gate.deploy(tx=paid)


async def test_files_stay_when_nobody_can_tell_whether_they_were_admitted(gate: Gate) -> None:
    def break_down(step: str) -> None:
        gate.db.refuse_writes()
        gate.db.refuse_reads()  # every read is interrupted

    await fund(gate.db, ALICE, PRICE)
    gate.on_step = break_down
    assert isinstance(await gate.refused(), DatabaseUnavailable)
    assert len(gate.kept()) == 1  # the next start sweeps them
    gate.db.allow_reads()


async def test_upload_that_cannot_be_kept_takes_no_payment(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    received = gate.upload()
    monkeypatch.setattr(received, "materialise", full)
    with pytest.raises(OSError, match="No space"):
        await gate.admission.admit(attempt(tx=gate.pay()), received)
    assert gate.chain.asked == 0
    assert gate.kept() == set()


async def test_without_room_nobody_is_asked_to_pay_but_who_paid_is_served(gate: Gate) -> None:
    gate.with_prices(PriceList(), reserve_bytes=2**62)
    assert isinstance(await gate.refused(), NoCapacity)
    with pytest.raises(NoCapacity):
        await gate.admission.quote(attempt())
    assert await gate.counts() == NOTHING
    await gate.deploy(tx=gate.pay())


# Callers that hang up


async def test_caller_cancelled_while_files_are_written_leaves_none(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fund(gate.db, ALICE, PRICE)
    begun, gone_on = threading.Event(), threading.Event()
    received = gate.upload()
    materialise = received.materialise

    def slowly(destination: Path) -> None:
        begun.set()
        assert gone_on.wait(10)
        materialise(destination)

    monkeypatch.setattr(received, "materialise", slowly)
    asking = asyncio.create_task(gate.admission.admit(attempt(), received))
    assert await asyncio.to_thread(begun.wait, 10)
    asking.cancel()
    for _ in range(20):
        await asyncio.sleep(0.002)
        assert not asking.done(), "the files are still being written"
    gone_on.set()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    assert gate.kept() == set()
    assert await gate.counts() == NOTHING


async def test_caller_cancelled_while_the_payment_is_looked_for_leaves_nothing(
    gate: Gate,
) -> None:
    gate.chain.gate = asyncio.Event()
    paid = gate.pay()
    asking = asyncio.create_task(gate.deploy(tx=paid))
    while gate.chain.asked == 0:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert gate.kept() == set()
    gate.chain.gate.set()
    await gate.deploy(tx=paid)


async def test_caller_cancelled_while_the_credit_is_recorded_keeps_the_credit(
    gate: Gate,
) -> None:
    paid = gate.pay()
    await cancel_while_committing(gate, paid)
    assert await accounts.balance(gate.db, ALICE) == PRICE
    assert gate.kept() == set()
    assert await gate.counts() == NOTHING
    await gate.deploy(tx=paid)


async def test_caller_cancelled_while_the_deployment_is_recorded_still_gets_it(
    gate: Gate,
) -> None:
    paid = gate.pay()
    await fund_from(gate, paid)
    await cancel_while_committing(gate, paid)
    ((deployment_id,),) = gate.db.sql("SELECT id FROM deployments").fetchall()
    assert gate.kept() == {deployment_id}
    assert gate.queued == 1
    used = await gate.refused(tx=paid)
    assert isinstance(used, PaymentAlreadyUsed)
    assert used.deployment_id == deployment_id


async def cancel_while_committing(gate: Gate, tx: str) -> None:
    """Show a payment, and hang up while the next transaction waits for the disk."""
    disk = threading.Event()
    gate.db.delay_commits(disk.wait)
    committing = committing_of(gate.db)
    asking = asyncio.create_task(gate.deploy(tx=tx))
    async with asyncio.timeout(60):
        await committing.wait()
    asking.cancel()
    await asyncio.sleep(0)
    disk.set()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()


# A dry run


@pytest.mark.parametrize(
    ("credit", "active", "use_existing"),
    list(itertools.product([0, PRICE - 1, PRICE], [0, 1], [False, True])),
)
async def test_dry_run_tells_what_a_deploy_would_be_answered_and_changes_nothing(
    gate: Gate, credit: int, active: int, use_existing: bool
) -> None:
    await fund(gate.db, ALICE, credit)
    for number in range(active):
        await add_project(gate.db, ALICE, f"mine-{number}")
    before = await gate.counts()

    offer = await gate.admission.quote(attempt(use_existing_credits=use_existing, months=1))

    answer = expected(credit, active, use_existing)
    assert (offer.amount, offer.balance, offer.active_projects) == (PRICE, credit, active)
    assert (offer.payment_required, offer.shares) == (
        answer != "200",
        answer == "402 with the warning",
    )
    assert await gate.counts() == before
    await gate.quotes.of_name(gate.db, wallet=BOB, unique_name="hello")  # it is still free


async def test_dry_run_of_a_redeploy_costs_nothing_while_there_are_credits(gate: Gate) -> None:
    await deployed(gate, ProjectStatus.ACTIVE)
    without = await gate.admission.quote(attempt())
    assert (without.amount, without.payment_required) == (PRICE, True)
    await fund(gate.db, ALICE, 1)
    offer = await gate.admission.quote(attempt(months=3))
    assert (offer.amount, offer.payment_required, offer.shares) == (0, False, False)


async def test_dry_run_tells_the_rest_of_a_payment_that_was_short(gate: Gate) -> None:
    await gate.demanded(tx=gate.pay(amount=200_000))
    demand = await gate.demanded()
    assert (await gate.admission.quote(attempt())).amount == demand.amount == 300_000


async def test_dry_run_of_a_taken_name_is_refused(gate: Gate) -> None:
    await add_project(gate.db, BOB, "hello")
    with pytest.raises(NameUnavailable):
        await gate.admission.quote(attempt())


async def test_what_is_admitted_is_stored_with_its_key_by_the_transaction_that_admits_it(
    gate: Gate,
) -> None:
    keyed = msgspec.structs.replace(attempt(tx=gate.pay()), claim=await claimed(gate))
    received = gate.upload()
    admitted = await gate.admission.admit(keyed, received)
    received.close()
    kept = await idempotency.find(gate.db, wallet=ALICE, key="key", after_ms=0)
    assert kept is not None
    assert msgspec.json.decode(kept.outcome, type=Admitted) == admitted


async def test_deploy_whose_key_was_lost_to_another_request_is_not_admitted(gate: Gate) -> None:
    lost = await claimed(gate)
    gate.clock.advance(1)
    await claimed(gate)
    received = gate.upload()
    with pytest.raises(IdempotencyInProgress) as refused:
        await gate.admission.admit(
            msgspec.structs.replace(attempt(tx=gate.pay()), claim=lost), received
        )
    received.close()
    assert refused.value.receipt is not None
    assert await accounts.balance(gate.db, ALICE) == PRICE
    assert (await gate.counts())["deployments"] == 0
    assert gate.kept() == set()


async def claimed(gate: Gate) -> Claim:
    """A claim of Alice's key, whose lease is over a millisecond later."""
    claim, now_ms = Claim(ALICE, "key", fresh_hash()), gate.clock.now_ms()
    async with gate.db.transaction(durable=False) as tx:
        assert await idempotency.claim(
            tx, claim, request_digest="", lease_until_ms=now_ms + 1, now_ms=now_ms, after_ms=0
        )
    return claim


async def test_files_stay_where_nobody_can_tell_whether_the_deployment_was_recorded(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: object) -> None:
        raise CommitUnknown

    monkeypatch.setattr(admission, "enter", unknown)
    assert isinstance(await gate.refused(tx=gate.pay()), PaymentPending)
    assert len(gate.kept()) == 1


A_MONTH = 500_000  # of an app, by the price list
AN_HOUR = 685  # of such a month, rounded up


@pytest.mark.parametrize(("balance", "admitted"), [(500_684, False), (500_685, True)])
async def test_credits_that_do_not_pay_an_hour_of_all_that_shares_them_are_short(
    gate: Gate, balance: int, admitted: bool
) -> None:
    dear = MicroUsd(730 * 500_000)  # half a dollar an hour
    await add_project(gate.db, ALICE, "dear", monthly_price_micro_usd=dear)
    await fund(gate.db, ALICE, balance)
    if admitted:
        await gate.deploy(use_existing_credits=True)
        return
    with pytest.raises(PaymentRequired) as demand:
        await gate.deploy(use_existing_credits=True)
    assert not demand.value.demand.warn_of_sharing
    assert demand.value.demand.amount == PRICE
    assert (await gate.counts())["deployments"] == 0


async def test_what_an_hour_lacks_is_asked_for_and_then_admits(gate: Gate) -> None:
    for name in ("dear-one", "dear-two"):
        dear = MicroUsd(730 * 1_000_000)  # a dollar an hour
        await add_project(gate.db, ALICE, name, monthly_price_micro_usd=dear)
    await fund(gate.db, ALICE, 1_000_000)
    with pytest.raises(PaymentRequired) as demand:
        await gate.deploy(use_existing_credits=True)
    lacking = 2 * 1_000_000 + AN_HOUR - 1_000_000
    assert demand.value.demand.amount == lacking
    offer = await gate.admission.quote(attempt(ALICE, "hello", use_existing_credits=True))
    assert (offer.amount, offer.payment_required, offer.shares) == (lacking, True, False)
    await fund(gate.db, ALICE, lacking - 1)
    with pytest.raises(PaymentRequired):
        await gate.deploy(use_existing_credits=True)
    await fund(gate.db, ALICE, 1)
    await gate.deploy(use_existing_credits=True)


async def test_suspended_projects_take_nothing_of_the_hour(gate: Gate) -> None:
    dear = MicroUsd(730 * 1_000_000)
    for status in (ProjectStatus.SUSPENDED, ProjectStatus.FAILED):
        await add_project(gate.db, ALICE, status, status, monthly_price_micro_usd=dear)
    await fund(gate.db, ALICE, PRICE)
    await gate.deploy()


async def test_no_more_apps_are_admitted_than_their_memory_allows(gate: Gate) -> None:
    """Also of requests at once that each saw room."""
    gate.runtime.has_memory_for(3)
    await add_project(gate.db, BOB, "theirs")
    await fund(gate.db, ALICE, 10 * PRICE)
    deploys = [
        gate.deploy(name=f"app-{n}", body=f"{n}", use_existing_credits=True) for n in "12345"
    ]
    answers = await asyncio.gather(*deploys, return_exceptions=True)
    assert sum(isinstance(answer, Admitted) for answer in answers) == 2
    assert sum(isinstance(answer, NoCapacity) for answer in answers) == 3


async def test_without_memory_nobody_is_asked_to_pay(gate: Gate) -> None:
    gate.runtime.has_memory_for(1)
    await add_project(gate.db, BOB, "theirs")
    with pytest.raises(NoCapacity):
        await gate.deploy()
    with pytest.raises(NoCapacity):
        await gate.admission.quote(attempt(ALICE, "hello"))


# Purses of new projects

ALONE = PurseTerms(amount=MicroUsd(2 * PRICE), shared=False, limit=MicroUsd(PRICE))


async def test_what_a_purse_takes_is_paid_for_before_and_moves_with_the_deploy(gate: Gate) -> None:
    await fund(gate.db, ALICE, PRICE)
    demand = await gate.demanded(purse=ALONE)
    assert demand.amount == PRICE  # of 2, as it has 1
    admitted = await gate.deploy(purse=ALONE, tx=gate.pay(amount=PRICE + 7))
    purse = await accounts.purse(gate.db, admitted.project_id)
    assert purse is not None
    assert (purse.balance, purse.shared, purse.limit) == (2 * PRICE, False, PRICE)
    assert await accounts.balance(gate.db, ALICE) == 7


async def test_a_purse_leaves_what_others_burn_in_their_next_hour(gate: Gate) -> None:
    await add_project(gate.db, ALICE, "other", monthly_price_micro_usd=MicroUsd(730_000))
    await fund(gate.db, ALICE, 2 * PRICE + 999)
    demand = await gate.demanded(purse=ALONE, use_existing_credits=True)
    assert demand.amount >= 1
    await fund(gate.db, ALICE, 1)
    await gate.deploy(purse=ALONE, use_existing_credits=True)
    assert await accounts.balance(gate.db, ALICE) == 1_000


async def test_a_redeploy_leaves_the_purse_as_it_is_and_says_so(gate: Gate) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    first = await gate.deploy(purse=ALONE)
    again = await gate.deploy(purse=ALONE)
    assert again.deployment_id == first.deployment_id  # the very same body
    assert [each.field for each in again.warnings] == ["purse"]
    assert await accounts.balance(gate.db, accounts.purse_of(first.project_id)) == 2 * PRICE


async def test_a_redeploy_that_no_payment_would_help_is_refused_before_one(gate: Gate) -> None:
    await fund(gate.db, ALICE, 10 * PRICE)
    first = await gate.deploy(purse=ALONE)
    async with gate.db.transaction(durable=True) as tx:
        holder = accounts.purse_of(first.project_id)
        assert await ledger.move(tx, holder, ALICE, ALONE.amount, now_ms=1)
    assert isinstance(await gate.refused(body="two"), CreditsShort)

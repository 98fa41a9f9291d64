"""What limits new apps: what was promised, not what is free; and the operator's rules."""

import asyncio
from dataclasses import replace

import pytest
from gate import PRICE, Gate
from yard import Yard

from moorage.errors import Maintenance, NoCapacity, TooManyProjects, WalletNotListed
from moorage.hosting.entrance.capacity import Capacity, Quotas
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.records.size import PriceList, SizeSetting
from moorage.storage.apps import projects
from moorage.storage.money import accounts
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import NoticeKind, WalletRule
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project, fund
from support.gateway.clock import START_MS
from support.gateway.fakes import resources, roomy

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
    gate.with_prices(PriceList(), quotas=Quotas(listed_only=listed_only, projects=projects))


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


GIB = 1 << 30
"""The size of an app's disk, and of a volume, in these tests. Space may be promised twice."""


@pytest.fixture
def capacity(yard: Yard) -> Capacity:
    return roomy(yard.db, runtime=yard.runtime, reserve_bytes=GIB)


async def has_room(yard: Yard, capacity: Capacity, *, new_volume: bool = False) -> bool:
    await capacity.measure()
    try:
        await capacity.require(yard.db, new_volume=new_volume)
    except NoCapacity:
        return False
    return True


@pytest.mark.parametrize(
    ("free_gib", "apps", "room"),
    [
        (2.0, 1, True),  # two disks, at half of their size, and the reserve
        (1.99, 1, False),
        (2.0, 2, False),
        (2.5, 2, True),
        (1.5, 0, True),
        (1.49, 0, False),
    ],
)
async def test_what_disks_may_grow_to_is_counted(
    yard: Yard, capacity: Capacity, free_gib: float, apps: int, room: bool
) -> None:
    growth = {f"app-{number}": GIB for number in range(apps)}
    yard.runtime.measured = resources(free_bytes=round(free_gib * GIB), growth=growth)
    assert await has_room(yard, capacity) is room


async def test_volume_counts_whole(yard: Yard, capacity: Capacity) -> None:
    yard.runtime.measured = resources(free_bytes=5 * GIB // 2)
    assert await has_room(yard, capacity, new_volume=True)
    yard.runtime.measured = resources(free_bytes=5 * GIB // 2 - 1)
    assert not await has_room(yard, capacity, new_volume=True)
    yard.runtime.measured = resources(free_bytes=5 * GIB // 2 - 1, volume_growth={"sparse": GIB})
    assert not await has_room(yard, capacity)
    assert await has_room(yard, roomy(yard.db, runtime=yard.runtime, reserve_bytes=GIB - 1))


async def test_nothing_new_comes_before_an_app_that_waits_for_room(
    yard: Yard, capacity: Capacity
) -> None:
    yard.runtime.measured = resources(free_bytes=100 * GIB, held=frozenset({"waits"}))
    assert not await has_room(yard, capacity)


@pytest.mark.parametrize(
    ("status", "asleep_since_ms", "counts"),
    [
        (ProjectStatus.ACTIVE, None, True),
        (ProjectStatus.ACTIVE, START_MS, False),
        (ProjectStatus.QUEUED, None, True),
        (ProjectStatus.BUILDING, None, True),
        (ProjectStatus.DEPLOYING, None, True),
        (ProjectStatus.SUSPENDED, None, False),
        (ProjectStatus.FAILED, None, False),
    ],
)
async def test_memory_counts_of_what_runs_or_is_about_to(
    yard: Yard, capacity: Capacity, status: ProjectStatus, asleep_since_ms: int | None, counts: bool
) -> None:
    yard.runtime.has_memory_for(1)
    assert await has_room(yard, capacity)
    await add_project(yard.db, ALICE, "hello", status, asleep_since_ms=asleep_since_ms)
    assert await has_room(yard, capacity) is not counts


async def test_processors_count_where_each_app_is_promised_its_own(
    yard: Yard, capacity: Capacity
) -> None:
    yard.runtime.has_memory_for(100)
    yard.runtime.measured = replace(yard.runtime.measured, cpu_millis=1_000)
    for name in ("one", "two"):  # each of half a processor
        assert await has_room(yard, capacity)
        await add_project(yard.db, ALICE, name)
    assert not await has_room(yard, capacity)


async def test_new_version_of_what_runs_takes_no_more_memory(
    yard: Yard, capacity: Capacity, project: Project
) -> None:
    """Even where the operator has taken some away; of what sleeps it does."""
    yard.runtime.has_memory_for(0)
    await capacity.require(yard.db, project_id=project.id)
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db)
    sleeping = await add_project(yard.db, ALICE, "sleeping", asleep_since_ms=START_MS)
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db, project_id=sleeping.id)


async def test_what_is_being_started_counts_before_its_row_says_so(
    yard: Yard, capacity: Capacity
) -> None:
    yard.runtime.has_memory_for(1)
    resumed = await add_project(yard.db, ALICE, "resumed", ProjectStatus.SUSPENDED)
    with capacity.starting(resumed.id, "standard"):
        await capacity.require(yard.db, project_id=resumed.id)
        with pytest.raises(NoCapacity):
            await capacity.require(yard.db, project_id="another")
    await capacity.require(yard.db, project_id="another")


async def test_replaced_version_grows_no_more(yard: Yard, capacity: Capacity) -> None:
    project = await add_project(yard.db, ALICE, "hello")
    replaced = await add_deployment(
        yard.db, project, DeploymentStatus.SUPERSEDED, superseded_at_ms=START_MS
    )
    yard.runtime.measured = resources(free_bytes=3 * GIB // 2, growth={replaced.id: GIB})
    assert await has_room(yard, capacity)


@pytest.mark.parametrize("status", [DeploymentStatus.QUEUED, DeploymentStatus.BUILDING])
async def test_what_was_admitted_is_counted_before_its_disk_is_there(
    yard: Yard, capacity: Capacity, project: Project, status: DeploymentStatus
) -> None:
    """And once when it is there."""
    yard.runtime.measured = resources(free_bytes=3 * GIB // 2)
    assert await has_room(yard, capacity)
    coming = await add_deployment(yard.db, project, status)
    assert not await has_room(yard, capacity)
    yard.runtime.measured = resources(free_bytes=2 * GIB)
    assert await has_room(yard, capacity)
    yard.runtime.measured = resources(free_bytes=2 * GIB, growth={coming.id: GIB})
    assert await has_room(yard, capacity)


async def test_volume_that_was_admitted_is_counted_once(
    yard: Yard, capacity: Capacity, project: Project
) -> None:
    await add_deployment(yard.db, project, DeploymentStatus.QUEUED)
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    yard.runtime.measured = resources(free_bytes=3 * GIB - 1)
    assert not await has_room(yard, capacity)
    yard.runtime.measured = resources(free_bytes=3 * GIB)
    assert await has_room(yard, capacity)
    yard.runtime.measured = resources(free_bytes=2 * GIB, volume_growth={project.id: 0})
    assert await has_room(yard, capacity)


async def test_networks_that_are_left_are_for_those_that_were_admitted_first(
    yard: Yard, capacity: Capacity, project: Project
) -> None:
    yard.runtime.measured = resources(free_bytes=100 * GIB)
    yard.runtime.networks = 0
    assert not await has_room(yard, capacity)
    yard.runtime.networks = 1
    assert await has_room(yard, capacity)
    await add_deployment(yard.db, project, DeploymentStatus.QUEUED)
    assert not await has_room(yard, capacity)
    yard.runtime.networks = 2
    assert await has_room(yard, capacity)


async def test_each_app_counts_with_the_memory_of_its_size(yard: Yard, capacity: Capacity) -> None:
    yard.runtime.has_memory_for(5)  # of the standard size
    await add_project(yard.db, ALICE, "large", size="large")
    await capacity.measure()
    await capacity.require(yard.db, "standard")
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db, "large")
    assert (await capacity.room()).memory_sold_bytes == 2 * GIB


async def test_larger_version_under_way_counts_in_place_of_the_one_that_serves(
    yard: Yard, capacity: Capacity, project: Project
) -> None:
    yard.runtime.has_memory_for(4)
    await add_deployment(yard.db, project, status=DeploymentStatus.BUILDING, size="large")
    assert (await capacity.room()).memory_sold_bytes == 2 * GIB
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db, "small")
    await capacity.require(yard.db, "large", project_id=project.id)


async def test_disk_counts_by_size(yard: Yard, capacity: Capacity) -> None:
    yard.runtime.measured = resources(free_bytes=3 * GIB // 2)
    await capacity.measure()
    await capacity.require(yard.db, "standard")  # half of its GiB, and the reserve
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db, "large")  # half of 2 GiB
    assert [await capacity.has_room(it) for it in PriceList().sizes().listed] == [True, True, False]


async def test_volume_that_a_size_makes_larger_counts_by_what_it_grows(
    yard: Yard, project: Project
) -> None:
    """Also while another project's is about to."""
    roomier = SizeSetting(name="roomier", volume_mib=4096)
    capacity = roomy(yard.db, runtime=yard.runtime, sizes=PriceList().sizes(listed=[roomier]))
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    there = {project.id: 0}
    yard.runtime.measured = resources(
        free_bytes=7 * GIB // 2, volume_growth=there
    )  # half a GiB for its disk
    await capacity.measure()
    await capacity.require(yard.db, "roomier", project_id=project.id)
    await add_deployment(yard.db, project, size="roomier")
    yard.runtime.measured = resources(free_bytes=4 * GIB - 1, volume_growth=there)
    await capacity.measure()
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db)
    yard.runtime.measured = resources(free_bytes=7 * GIB // 2 - 1, volume_growth=there)
    await capacity.measure()
    with pytest.raises(NoCapacity):
        await capacity.require(yard.db, "roomier", project_id=project.id)

import asyncio

import pytest
from yard import Yard

from moorage.deploy.keeping.retention import DAY_MS, Retention
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.operation import evictions
from moorage.storage.operation.evictions import Eviction
from records_fixture import ALICE, add_deployment, add_project, fund
from waiting import until


@pytest.fixture
def retention(yard: Yard) -> Retention:
    return Retention(
        db=yard.db,
        deletion=yard.deletion,
        metering=yard.metering,
        suspended_days=30,
        failed_days=7,
        clock=yard.clock,
    )


@pytest.fixture
async def suspended(yard: Yard, project: Project) -> Deployment:
    """A project out of credits since now."""
    serving = await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.suspend(tx, project.id, at_ms=yard.clock.now_ms())
    return serving


async def status_of(yard: Yard, project: Project) -> ProjectStatus:
    found = await projects.by_id(yard.db, project.id)
    return found.status if found else ProjectStatus.DELETED


async def test_suspended_project_is_deleted_after_its_time_and_its_name_is_free(
    yard: Yard, retention: Retention, project: Project, suspended: Deployment
) -> None:
    yard.clock.advance(30 * DAY_MS - 1)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.SUSPENDED
    yard.clock.advance(1)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert await projects.by_name(yard.db, project.unique_name) is None
    assert suspended.id not in yard.runtime.built


async def test_clock_set_forward_deletes_nothing(
    yard: Yard, retention: Retention, project: Project, suspended: Deployment
) -> None:
    yard.clock.step(1000 * DAY_MS)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.SUSPENDED


async def test_project_that_credits_wake_or_that_is_redeployed_is_kept(
    yard: Yard, retention: Retention, project: Project, suspended: Deployment
) -> None:
    yard.clock.advance(31 * DAY_MS)
    newer = await add_deployment(yard.db, project, DeploymentStatus.BUILDING)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.SUSPENDED
    async with yard.db.transaction(durable=True) as tx:
        await deployments.move(tx, newer.id, DeploymentStatus.FAILED, reason="no", at_ms=1)
    await fund(yard.db, ALICE, 100_000)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.SUSPENDED


async def test_project_that_never_served_gives_its_name_back_sooner(
    yard: Yard, retention: Retention, project: Project
) -> None:
    failed = await add_deployment(yard.db, project, DeploymentStatus.BUILDING)
    async with yard.db.transaction(durable=True) as tx:
        now_ms = yard.clock.now_ms()
        await deployments.move(tx, failed.id, DeploymentStatus.FAILED, reason="no", at_ms=now_ms)
        await projects.set_status(tx, project.id, ProjectStatus.FAILED)
    yard.clock.advance(7 * DAY_MS - 1)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.FAILED
    yard.clock.advance(1)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.DELETED


async def test_what_runs_is_kept_for_ever(
    yard: Yard, retention: Retention, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
    yard.clock.advance(1000 * DAY_MS)
    await retention.sweep()
    assert await status_of(yard, project) is not ProjectStatus.DELETED


async def test_evicted_project_is_deleted_when_it_is_due_though_it_runs_and_is_paid(
    yard: Yard, retention: Retention, project: Project
) -> None:
    await fund(yard.db, project.wallet, 5_000_000)
    serving = await yard.serving(project)
    due_ms = yard.clock.now_ms() + DAY_MS
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "this gateway closes", due_ms))
    yard.clock.advance(DAY_MS - 1)
    await retention.evict()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    yard.clock.advance(1)
    await retention.evict()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert serving.id not in yard.runtime.built
    await retention.evict()  # and nothing is left to do


async def test_cancelled_eviction_deletes_nothing(
    yard: Yard, retention: Retention, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "a mistake", yard.clock.now_ms()))
        assert await evictions.cancel(tx, project.id)
    await retention.evict()
    assert await status_of(yard, project) is not ProjectStatus.DELETED


async def test_eviction_cancelled_while_another_is_carried_out_deletes_nothing(
    yard: Yard, retention: Retention, project: Project
) -> None:
    kept = await add_project(yard.db, ALICE, "kept")
    now_ms = yard.clock.now_ms()
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "first", now_ms - 1))
        await evictions.order(tx, Eviction(kept.id, "a mistake", now_ms))

    async def begun() -> bool:
        return await status_of(yard, project) is ProjectStatus.DELETING

    async with yard.apps.held(project.id):
        evicting = asyncio.create_task(retention.evict())
        await until(begun)
        async with yard.db.transaction(durable=True) as tx:
            assert await evictions.cancel(tx, kept.id)
    await evicting
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert await status_of(yard, kept) is ProjectStatus.ACTIVE


async def test_eviction_that_fails_holds_up_no_other(
    yard: Yard, retention: Retention, project: Project
) -> None:
    other = await add_project(yard.db, ALICE, "other")
    now_ms = yard.clock.now_ms()
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "first", now_ms - 1))
        await evictions.order(tx, Eviction(other.id, "second", now_ms))
    await yard.serving(project)
    yard.runtime.faults["remove"] = [OSError("the disk does not answer")]
    await retention.evict()
    assert await status_of(yard, other) is ProjectStatus.DELETED
    await retention.evict()
    assert await status_of(yard, project) is ProjectStatus.DELETED

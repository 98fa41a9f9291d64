import pytest
from yard import Yard

from moorage.hosting.keeping.deletion import DAY_MS, Retention
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from support.books.records_fixture import ALICE, add_deployment, fund


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


async def test_clock_set_forward_deletes_nothing_that_failed(
    yard: Yard, retention: Retention, project: Project
) -> None:
    failed = await add_deployment(yard.db, project, DeploymentStatus.BUILDING)
    async with yard.db.transaction(durable=True) as tx:
        now_ms = yard.clock.now_ms()
        await deployments.move(tx, failed.id, DeploymentStatus.FAILED, reason="no", at_ms=now_ms)
        await projects.set_status(tx, project.id, ProjectStatus.FAILED)
    yard.clock.step(1000 * DAY_MS)
    await retention.sweep()
    assert await status_of(yard, project) is ProjectStatus.FAILED


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

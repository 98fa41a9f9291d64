"""What an owner pauses: billing, credits, retention, deploys, and who may lift what."""

import pytest
from yard import Yard

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import InvalidField, ProjectBlocked, RateLimited
from moorage.hosting.keeping.deletion import DAY_MS, Retention
from moorage.hosting.keeping.suspension import Paused, Pausing, block_project
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.money import billing
from support.books.records_fixture import ALICE, fund


@pytest.fixture
def given_up() -> list[str]:
    return []


@pytest.fixture
def pausing(yard: Yard, given_up: list[str]) -> Pausing:
    return Pausing(
        db=yard.db,
        metering=yard.metering,
        resumptions=MemoryRateLimiter(clock=yard.clock, limit=1, window_seconds=300),
        on_given_up=given_up.append,
        clock=yard.clock,
    )


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    """A project that runs on plenty of credits."""
    return await yard.active(project, micro_usd=5_000_000)


async def told(yard: Yard) -> list[tuple[str, object]]:
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=9)
    return [(each.kind, each.data.get("reason_code")) for each in found]


async def test_paused_app_stops_and_burns_nothing_until_it_is_resumed(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing
) -> None:
    assert await pausing.pause(project) is Paused.PAUSED
    await yard.reconcile()
    yard.clock.advance(DAY_MS)
    await fund(yard.db, ALICE, 5_000_000)
    await yard.reconcile()

    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert (yard.runtime.apps, yard.routes.table) == ({}, {})
    assert await billing.open_of(yard.db, project.id) is None
    assert ("project.suspended", "project_paused") in await told(yard)

    assert await pausing.resume(project) is Paused.RESUMED
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert set(yard.runtime.apps) == {serving.id}
    assert await billing.open_of(yard.db, project.id) is not None
    assert ("project.resumed", None) in await told(yard)


async def test_second_pause_and_second_resumption_change_nothing(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing
) -> None:
    assert await pausing.resume(project) is Paused.AS_BEFORE
    await pausing.pause(project)
    since_ms = (await yard.project(project)).paused_at_ms
    yard.clock.advance(1_000)
    assert await pausing.pause(project) is Paused.AS_BEFORE
    assert (await yard.project(project)).paused_at_ms == since_ms


async def test_project_is_not_resumed_again_and_again_as_it_runs_free_until_it_stops(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing
) -> None:
    for _ in range(2):
        await pausing.pause(project)
        assert await pausing.resume(project) is Paused.RESUMED
        await pausing.pause(project)
        with pytest.raises(RateLimited):
            await pausing.resume(project)
        assert (await yard.project(project)).paused_at_ms is not None
        yard.clock.advance(300_000)
        await yard.reconcile()


async def test_sleeping_app_that_is_paused_is_woken_by_nobody(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing
) -> None:
    async with yard.db.transaction(durable=False) as tx:
        await projects.fall_asleep(tx, project.id, serving=serving.id, at_ms=1)
    await pausing.pause(project)
    assert await projects.sleeping(yard.db) == {}
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED


async def test_what_is_under_way_is_given_up(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing, given_up: list[str]
) -> None:
    queued = await yard.queued(project)
    await pausing.pause(project)
    ended = await yard.deployment(queued.id)
    assert (ended.status, ended.reason_code) == (DeploymentStatus.FAILED, "project_paused")
    assert given_up == [queued.id]


async def test_what_has_never_served_cannot_be_paused(
    yard: Yard, project: Project, pausing: Pausing
) -> None:
    await yard.queued(project)
    with pytest.raises(InvalidField):
        await pausing.pause(project)


async def test_resumption_without_credits_waits_for_them(
    yard: Yard, project: Project, pausing: Pausing
) -> None:
    await yard.serving(project)
    await pausing.pause(project)
    assert await pausing.resume(project) is Paused.WAITING
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    await fund(yard.db, ALICE, 5_000_000)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE


async def test_owner_and_operator_lift_their_own_suspension_alone(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing
) -> None:
    await pausing.pause(project)
    async with yard.db.transaction(durable=False) as tx:
        await block_project(tx, project, "phishing", now_ms=0)
    for act in (pausing.pause, pausing.resume):
        with pytest.raises(ProjectBlocked):
            await act(project)

    async with yard.db.transaction(durable=False) as tx:
        await projects.unblock_project(tx, project.id)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    await pausing.resume(project)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE


async def test_paused_project_is_kept_as_long_as_one_out_of_credits(
    yard: Yard, project: Project, serving: Deployment, pausing: Pausing
) -> None:
    retention = Retention(
        db=yard.db,
        deletion=yard.deletion,
        metering=yard.metering,
        suspended_days=30,
        failed_days=7,
        clock=yard.clock,
    )
    await pausing.pause(project)
    yard.clock.advance(30 * DAY_MS - 1)
    await retention.sweep()
    assert await projects.by_id(yard.db, project.id) is not None
    yard.clock.advance(1)
    await retention.sweep()
    assert await projects.by_id(yard.db, project.id) is None

"""What the operator has suspended: billing, credits, retention, and what lifts it."""

import pytest
from yard import Yard

from moorage.hosting.keeping.deletion import DAY_MS, Retention
from moorage.hosting.keeping.suspension import (
    Suspension,
    block_project,
    block_wallet,
    unblock_wallet,
)
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.money import accounts
from support.books.records_fixture import ALICE, add_deployment, add_project, fund

REASON = "phishing"


@pytest.fixture
def given_up() -> list[str]:
    return []


@pytest.fixture
def blocking(yard: Yard, given_up: list[str]) -> Suspension:
    return Suspension(
        db=yard.db, metering=yard.metering, on_given_up=given_up.append, clock=yard.clock
    )


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    """A project that runs on plenty of credits."""
    return await yard.active(project, micro_usd=5_000_000)


async def block(yard: Yard, project: Project) -> None:
    async with yard.db.transaction(durable=False) as tx:
        await block_project(tx, project, REASON, now_ms=yard.clock.now_ms())


async def unblock(yard: Yard, project: Project) -> None:
    async with yard.db.transaction(durable=False) as tx:
        await projects.unblock_project(tx, project.id)


async def billed(yard: Yard, project: Project) -> list[bool]:
    """Whether each stretch of its billed time goes on."""
    return [ended is None for _, _, ended in await yard.intervals(project)]


async def test_blocked_project_is_stopped_and_burns_nothing_though_it_has_credits(
    yard: Yard, project: Project, serving: Deployment, blocking: Suspension
) -> None:
    await block(yard, project)
    await blocking.enforce()
    await yard.reconcile()
    yard.clock.advance(DAY_MS)
    await yard.reconcile()

    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.runtime.apps == {}
    assert yard.routes.table == {}
    assert await billed(yard, project) == [False]
    told = [
        (e.kind, dict(e.data)) for e in await events.of_wallet(yard.db, ALICE, after=0, limit=9)
    ]
    data = {"project_id": project.id, "reason": REASON, "reason_code": "project_blocked"}
    assert ("project.suspended", data) in told


async def test_what_is_under_way_is_given_up_once(
    yard: Yard, project: Project, serving: Deployment, blocking: Suspension, given_up: list[str]
) -> None:
    queued = await yard.queued(project)
    await block(yard, project)
    for _ in range(2):
        await blocking.enforce()

    ended = await yard.deployment(queued.id)
    assert (ended.status, ended.reason_code) == (DeploymentStatus.FAILED, "project_blocked")
    assert given_up == [queued.id]
    assert await projects.not_enforced(yard.db) == []


async def test_what_ran_out_of_credits_before_is_blocked_all_the_same(
    yard: Yard, project: Project, blocking: Suspension
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=False) as tx:
        await projects.suspend(tx, project.id, at_ms=yard.clock.now_ms())
    await block(yard, project)
    await blocking.enforce()
    await fund(yard.db, ALICE, 5_000_000)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.routes.table == {}


async def test_retention_passes_over_what_is_blocked_and_begins_when_it_is_lifted(
    yard: Yard, project: Project, blocking: Suspension
) -> None:
    await yard.serving(project)
    retention = Retention(
        db=yard.db,
        deletion=yard.deletion,
        metering=yard.metering,
        suspended_days=30,
        failed_days=7,
        clock=yard.clock,
    )
    await block(yard, project)
    await blocking.enforce()
    yard.clock.advance(100 * DAY_MS)
    await retention.sweep()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED

    await yard.metering.tick()  # notes how far billed time has come
    await unblock(yard, project)
    await retention.sweep()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    yard.clock.advance(30 * DAY_MS)
    await retention.sweep()
    assert await projects.by_id(yard.db, project.id) is None


async def test_lifted_project_runs_again_on_its_credits(
    yard: Yard, project: Project, serving: Deployment, blocking: Suspension
) -> None:
    await block(yard, project)
    await blocking.enforce()
    await yard.reconcile()
    await unblock(yard, project)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert set(yard.runtime.apps) == {serving.id}
    assert await billed(yard, project) == [False, True]


async def test_lifted_project_that_never_served_has_failed(
    yard: Yard, project: Project, blocking: Suspension
) -> None:
    await yard.queued(project)
    await block(yard, project)
    await blocking.enforce()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    await unblock(yard, project)
    assert (await yard.project(project)).status is ProjectStatus.FAILED


async def test_lifting_before_it_was_carried_out_leaves_what_runs(
    yard: Yard, project: Project, serving: Deployment, blocking: Suspension
) -> None:
    await block(yard, project)
    await unblock(yard, project)
    await blocking.enforce()
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert set(yard.runtime.apps) == {serving.id}


async def test_wallet_is_blocked_with_all_it_has_and_lifted_with_all_of_it(
    yard: Yard, project: Project, blocking: Suspension
) -> None:
    other = await add_project(yard.db, ALICE, "other", ProjectStatus.FAILED)
    await add_deployment(yard.db, other, DeploymentStatus.FAILED)
    async with yard.db.transaction(durable=False) as tx:
        await block_wallet(tx, ALICE, REASON, now_ms=0)
    await blocking.enforce()
    assert (await accounts.wallet_row(yard.db, ALICE)).blocked_reason == REASON
    assert {each.unique_name for each in await projects.all_blocks(yard.db)} == {
        "",
        project.unique_name,
        "other",
    }

    async with yard.db.transaction(durable=False) as tx:
        lifted = await unblock_wallet(tx, ALICE)
    assert {each.id for each in lifted} == {project.id, other.id}
    assert await projects.all_blocks(yard.db) == []
    assert (await accounts.wallet_row(yard.db, ALICE)).blocked_reason is None


async def test_what_is_being_deleted_is_left_to_that(
    yard: Yard, project: Project, blocking: Suspension
) -> None:
    async with yard.db.transaction(durable=False) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    await block(yard, project)
    await blocking.enforce()
    assert (await yard.project(project)).status is ProjectStatus.DELETING

"""Rolling back: a release that served before is copied, and served again in its own settings."""

import asyncio
from typing import Any

import pytest
from yard import HOST, Yard, socket_of

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import (
    DeployFailed,
    DeploymentNotFound,
    FailureCause,
    MoorageError,
    NoCapacity,
    NoEarlierRelease,
    OutOfCredits,
    ProjectBlocked,
    ProjectNotFound,
    ProjectPaused,
    RateLimited,
    ReleaseGone,
    ReleaseNeverServed,
    ReleaseServing,
)
from moorage.hosting.work.rollback import Rollback
from moorage.records.deployment import UNDER_WAY, Deployment, DeploymentStatus, Origin
from moorage.records.project import Project
from moorage.storage.money import accounts
from support.books.records_fixture import UNLIMITED, add_deployment, add_project
from support.gateway.clock import START_MS
from support.gateway.fakes import roomy


@pytest.fixture
def rollback(yard: Yard) -> Rollback:
    return Rollback(
        db=yard.db,
        runtime=yard.runtime,
        capacity=roomy(yard.db),
        copies=UNLIMITED,
        clock=yard.clock,
        on_queued=yard.worker.wake,
        on_superseded=yard.worker.drop,
    )


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    """The present version of a project whose wallet has credits."""
    return await yard.active(project, micro_usd=500_000, created_at_ms=START_MS - 1)


async def add_release(yard: Yard, project: Project, since_ms: int, **changed: Any) -> Deployment:
    """A release whose files are on the machine."""
    release = await add_deployment(
        yard.db, project, DeploymentStatus.SUPERSEDED, superseded_at_ms=since_ms, **changed
    )
    yard.runtime.built[release.id] = next(iter(yard.runtime.built.values()))
    return release


async def test_rollback_serves_the_releases_files_with_its_settings(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    release = await add_release(yard, project, START_MS, health_path="/alive")

    queued = await rollback.to(project, release.id)
    ready = await yard.deployed()

    assert (ready.id, ready.status) == (queued.deployment_id, DeploymentStatus.READY)
    assert (ready.origin, ready.copy_of) == (Origin.ROLLBACK, release.id)
    assert ready.health_path == "/alive"
    assert yard.runtime.called("build") == []
    assert yard.runtime.called("copy") == [queued.deployment_id]
    assert yard.routes.table == {HOST: socket_of(ready)}
    assert (await yard.deployment(serving.id)).status is DeploymentStatus.SUPERSEDED


async def test_without_a_release_it_is_the_one_replaced_last(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    last = await add_release(yard, project, START_MS + 5)
    await add_release(yard, project, START_MS + 3)
    assert (await rollback.to(project, None)).release_id == last.id


async def test_rolling_back_twice_comes_back_to_where_it_began(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    await add_release(yard, project, START_MS)
    for expected in (None, serving.id):
        yard.clock.advance(1_000)
        queued = await rollback.to(project, None)
        assert expected is None or queued.release_id == expected
        await yard.deployed()


async def test_failed_rollback_leaves_the_present_version_serving(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    await add_release(yard, project, START_MS)
    yard.runtime.faults["copy"] = [DeployFailed(FailureCause.OUT_OF_DISK, "full")]
    await rollback.to(project, None)
    failed = await yard.deployed()
    assert failed.reason_code == FailureCause.OUT_OF_DISK
    assert yard.routes.table == {HOST: socket_of(serving)}
    assert (await yard.project(project)).serving_deployment_id == serving.id


@pytest.mark.parametrize("status", UNDER_WAY)
async def test_rollback_takes_the_place_of_a_deployment_under_way(
    yard: Yard,
    rollback: Rollback,
    project: Project,
    serving: Deployment,
    status: DeploymentStatus,
) -> None:
    await add_release(yard, project, START_MS)
    earlier = await yard.queued(project, status=status)
    later = await rollback.to(project, None)
    given_up = await yard.deployment(earlier.id)
    assert (given_up.status, given_up.reason_code) == (DeploymentStatus.FAILED, "superseded")
    assert later.deployment_id in (given_up.reason or "")
    assert (await yard.deployed()).id == later.deployment_id


async def refused(rollback: Rollback, project: Project, release_id: str | None) -> MoorageError:
    with pytest.raises(MoorageError) as caught:
        await rollback.to(project, release_id)
    return caught.value


async def test_what_cannot_be_served_again_is_refused(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    other = await add_deployment(
        yard.db, await add_project(yard.db, name="other"), DeploymentStatus.SUPERSEDED
    )
    failed = await add_deployment(yard.db, project, DeploymentStatus.FAILED)
    lost = await add_deployment(yard.db, project, DeploymentStatus.SUPERSEDED)
    collected = await add_release(yard, project, START_MS, is_kept=False)
    assert isinstance(await refused(rollback, project, serving.id), ReleaseServing)
    assert isinstance(await refused(rollback, project, failed.id), ReleaseNeverServed)
    assert isinstance(await refused(rollback, project, lost.id), ReleaseGone)
    assert isinstance(await refused(rollback, project, collected.id), ReleaseGone)
    assert isinstance(await refused(rollback, project, other.id), DeploymentNotFound)
    assert isinstance(await refused(rollback, project, "nobodys"), DeploymentNotFound)


async def test_project_that_served_once_only_has_nothing_to_go_back_to(
    rollback: Rollback, project: Project, serving: Deployment
) -> None:
    assert isinstance(await refused(rollback, project, None), NoEarlierRelease)


async def test_rollback_of_a_project_with_a_purse_needs_what_that_has_and_not_its_wallet(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    await add_release(yard, project, START_MS)
    async with yard.db.transaction(durable=True) as tx:
        await accounts.open_purse(tx, project.id, wallet=project.wallet, adopted=False, now_ms=1)
    assert isinstance(await refused(rollback, project, None), OutOfCredits)
    yard.db.sql("UPDATE wallets SET balance_micro_usd = 0")
    yard.db.sql("UPDATE purses SET balance_micro_usd = 500000")
    assert (await rollback.to(project, None)).project_id == project.id


async def test_rollback_needs_a_balance_and_an_operator_who_lets_it_be(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    await add_release(yard, project, START_MS)
    yard.db.sql("UPDATE projects SET blocked_reason = 'phishing'")
    error = await refused(rollback, project, None)
    assert isinstance(error, ProjectBlocked)
    assert "phishing" in error.message
    yard.db.sql("UPDATE projects SET blocked_reason = NULL, paused_at_ms = 1")
    assert isinstance(await refused(rollback, project, None), ProjectPaused)
    yard.db.sql("UPDATE projects SET paused_at_ms = NULL")
    yard.db.sql("UPDATE wallets SET balance_micro_usd = 0")
    assert isinstance(await refused(rollback, project, None), OutOfCredits)
    yard.db.sql("UPDATE projects SET status = 'deleting'")
    assert isinstance(await refused(rollback, project, None), ProjectNotFound)


async def test_release_being_collected_is_copied_whole_or_refused(
    yard: Yard, rollback: Rollback, project: Project, serving: Deployment
) -> None:
    """Rows decide: whoever writes first wins, so no copy is taken of files on their way out."""
    releases = [await add_release(yard, project, START_MS + number) for number in range(4)]
    oldest = releases[0]

    async def roll_back() -> bool:
        try:
            await rollback.to(project, oldest.id)
        except ReleaseGone:
            return False
        return True

    begun, _ = await asyncio.gather(roll_back(), yard.reconciler.reconcile())
    for _ in range(3):
        await yard.tasks_done()
        await yard.reconciler.reconcile()
    assert (oldest.id in yard.runtime.built) is begun


async def test_rollback_needs_room_for_its_copy(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await add_release(yard, project, START_MS)
    cramped = Rollback(
        db=yard.db,
        runtime=yard.runtime,
        capacity=roomy(yard.db, reserve_bytes=1 << 62),
        copies=UNLIMITED,
        clock=yard.clock,
        on_queued=yard.worker.wake,
        on_superseded=yard.worker.drop,
    )
    assert isinstance(await refused(cramped, project, None), NoCapacity)


async def test_rollbacks_have_a_rate_of_their_own(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    """Each copies a whole disk."""
    await add_release(yard, project, START_MS)
    once = Rollback(
        db=yard.db,
        runtime=yard.runtime,
        capacity=roomy(yard.db),
        copies=MemoryRateLimiter(clock=yard.clock, limit=1, window_seconds=300),
        clock=yard.clock,
        on_queued=yard.worker.wake,
        on_superseded=yard.worker.drop,
    )
    await once.to(project, None)
    await yard.deployed()
    refusal = await refused(once, project, None)
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after_seconds == 300

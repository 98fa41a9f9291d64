"""What is kept of deployments that are over: files of the latest releases, logs of failures."""

import itertools

import pytest
from yard import Yard

from moorage.errors import FailureCause
from moorage.hosting.keeping.releases import DRAINING_AT_ONCE
from moorage.hosting.limits import RELEASES_KEPT
from moorage.records.deployment import UNDER_WAY, Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, jobs
from support.books.records_fixture import BOB, add_deployment, add_project
from support.gateway.clock import START_MS

_numbers = itertools.count(1)


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    return await yard.active(project, created_at_ms=START_MS - 1)


async def add_over(
    yard: Yard,
    project: Project,
    status: DeploymentStatus = DeploymentStatus.SUPERSEDED,
    reason_code: FailureCause | None = None,
) -> Deployment:
    """A deployment that is over, later than all before it, with its files on the machine."""
    since = START_MS + next(_numbers)
    over = await add_deployment(
        yard.db, project, status, superseded_at_ms=since, reason_code=reason_code
    )
    yard.runtime.discarded.add(over.id)
    return over


async def settle(yard: Yard) -> None:
    """Reconcile until nothing changes any more."""
    for _ in range(4):
        await yard.reconcile()
        yard.clock.advance(120_000)


async def test_latest_releases_are_kept_and_the_rest_is_removed(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    over = [await add_over(yard, project) for _ in range(5)]
    await settle(yard)
    latest = {deployment.id for deployment in over[-RELEASES_KEPT:]}
    assert await yard.runtime.known() == {serving.id, *latest}
    kept = [deployment for deployment in over if (await yard.deployment(deployment.id)).is_kept]
    assert {deployment.id for deployment in kept} == latest


async def test_failed_deployments_keep_their_logs_within_a_cap_of_their_own(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    releases = [await add_over(yard, project) for _ in range(RELEASES_KEPT)]
    failed = [await add_over(yard, project, DeploymentStatus.FAILED) for _ in range(4)]
    await settle(yard)
    expected = {item.id for item in [serving, *releases, *failed[-RELEASES_KEPT:]]}
    assert await yard.runtime.known() == expected


@pytest.mark.parametrize("given_up", [FailureCause.SUPERSEDED, FailureCause.CANCELLED])
async def test_what_its_owner_gave_up_pushes_out_no_failures_log(
    yard: Yard, project: Project, serving: Deployment, given_up: FailureCause
) -> None:
    """Deployed again and again, a project would lose what its failed build wrote."""
    why = FailureCause.BUILD_FAILED
    failed = [
        await add_over(yard, project, DeploymentStatus.FAILED, why) for _ in range(RELEASES_KEPT)
    ]
    later = [
        await add_over(yard, project, DeploymentStatus.FAILED, given_up)
        for _ in range(RELEASES_KEPT + 2)
    ]
    await settle(yard)
    expected = {item.id for item in [serving, *failed, *later[-RELEASES_KEPT:]]}
    assert await yard.runtime.known() == expected


async def test_each_project_has_releases_of_its_own(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    other = await add_project(yard.db, BOB, "other", status=ProjectStatus.FAILED)
    over = [await add_over(yard, item) for item in [project, other] * RELEASES_KEPT]
    await settle(yard)
    assert await yard.runtime.known() == {serving.id, *(item.id for item in over)}


async def test_row_says_first_that_a_release_is_gone_then_its_files_are_removed(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    over = [await add_over(yard, project) for _ in range(RELEASES_KEPT + 1)]
    yard.runtime.faults["remove"] = [OSError("busy")] * 3

    def row_says_so(method: str, subject: str) -> None:
        if method == "remove":
            (kept,) = yard.db.sql(
                "SELECT is_kept FROM deployments WHERE id = ?", (subject,)
            ).fetchone()
            assert not kept

    yard.runtime.on_call = row_says_so
    await settle(yard)
    assert over[0].id in await yard.runtime.known()
    for _ in range(3):
        await settle(yard)
    assert over[0].id not in await yard.runtime.known()


@pytest.mark.parametrize("status", UNDER_WAY)
async def test_release_that_is_being_copied_is_kept_until_the_copy_is_over(
    yard: Yard, project: Project, serving: Deployment, status: DeploymentStatus
) -> None:
    oldest = await add_over(yard, project)
    for _ in range(RELEASES_KEPT):
        await add_over(yard, project)
    copy = await add_deployment(yard.db, project, status, copy_of=oldest.id)
    await settle(yard)
    assert oldest.id in await yard.runtime.known()

    async with yard.db.transaction(durable=True) as tx:
        await deployments.move(tx, copy.id, DeploymentStatus.FAILED, at_ms=START_MS)
    await settle(yard)
    assert oldest.id not in await yard.runtime.known()


async def test_release_that_still_drains_is_collected_only_afterwards(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    oldest = await add_over(yard, project)
    for _ in range(RELEASES_KEPT):
        await add_over(yard, project)
    yard.runtime.discarded.discard(oldest.id)
    yard.runtime.built[oldest.id] = yard.runtime.built[serving.id]
    yard.runtime.apps[oldest.id] = yard.runtime.apps[serving.id]
    yard.runtime.open_connections[oldest.id] = 1
    for _ in range(10):
        await yard.reconcile()
        yard.clock.advance(2_000)
    assert oldest.id in yard.runtime.apps
    await settle(yard)
    assert oldest.id not in await yard.runtime.known()


async def test_project_that_is_deployed_again_and_again_has_few_versions_that_drain(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    """Else whoever holds a connection to each runs many versions, and pays for one."""
    over = [await add_over(yard, project) for _ in range(DRAINING_AT_ONCE + 2)]
    other = await add_project(yard.db, BOB, "other", status=ProjectStatus.FAILED)
    elsewhere = await add_over(yard, other)
    for each in (*over, elsewhere):
        yard.runtime.discarded.discard(each.id)
        yard.runtime.built[each.id] = yard.runtime.built[serving.id]
        yard.runtime.apps[each.id] = yard.runtime.apps[serving.id]
        yard.runtime.open_connections[each.id] = 1

    await yard.reconcile()

    latest = {each.id for each in over[-DRAINING_AT_ONCE:]}
    assert yard.runtime.apps.keys() == {serving.id, elsewhere.id, *latest}


@pytest.mark.parametrize("has_served", [False, True])
async def test_volume_of_a_project_is_cleared_while_none_of_its_deployments_has_served(
    yard: Yard, has_served: bool
) -> None:
    """Else each attempt that fails would leave a disk that nobody pays for."""
    project = await add_project(yard.db, status=ProjectStatus.FAILED, volume=True)
    if has_served:
        await yard.serving(project, created_at_ms=START_MS - 1)
    await add_over(yard, project, DeploymentStatus.FAILED)
    await settle(yard)
    assert yard.runtime.called("clear_volume") == ([] if has_served else [project.id])


async def test_volume_that_is_filled_for_the_next_version_is_not_cleared_for_a_failed_one(
    yard: Yard,
) -> None:
    """What an export brought, or the version before has written, is nowhere else by then."""
    project = await add_project(yard.db, status=ProjectStatus.FAILED, volume=True)
    failed = await add_over(yard, project, DeploymentStatus.FAILED)
    await yard.queued(project)
    job = await yard.claim()
    async with yard.db.transaction(durable=True) as tx:
        await jobs.hold(tx, job, jobs.MOVING)
    await settle(yard)
    assert yard.runtime.called("discard") == [failed.id]
    assert yard.runtime.called("clear_volume") == []


async def test_files_that_a_crash_left_of_a_failed_deployment_are_discarded_once(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    failed = await add_deployment(yard.db, project, DeploymentStatus.FAILED)
    yard.runtime.built[failed.id] = yard.runtime.built[serving.id]
    yard.runtime.faults["discard"] = [OSError("busy")]
    await settle(yard)
    assert failed.id not in yard.runtime.built
    assert failed.id in await yard.runtime.known()  # its logs
    assert yard.runtime.called("discard") == [failed.id] * 2

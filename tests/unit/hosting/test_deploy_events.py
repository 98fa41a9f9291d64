"""What a wallet is told of its deployments and projects, and how often."""

import pytest
from yard import Yard

from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from support.books.records_fixture import ALICE, add_project, fund


async def told(yard: Yard) -> list[tuple[str, dict[str, object]]]:
    """Alice's events, but for those of the payments that tests begin with."""
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=100)
    return [
        (event.kind, dict(event.data)) for event in found if not event.kind.startswith("payment")
    ]


async def test_deployment_that_serves_is_told_with_its_address(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, 500_000)
    await yard.queued(project)
    ready = await yard.deployed()

    endpoint = {"endpoint": "https://hello.example.com"}
    ids = {"project_id": project.id, "deployment_id": ready.id}
    assert await told(yard) == [("deployment.ready", ids | endpoint)]


async def test_project_whose_first_hour_nobody_can_pay_is_told_to_be_suspended(
    yard: Yard, project: Project
) -> None:
    await yard.queued(project)
    await yard.deployed()

    assert [kind for kind, _ in await told(yard)] == ["deployment.ready", "project.suspended"]


async def test_deployment_that_fails_is_told_with_its_reason(yard: Yard, project: Project) -> None:
    await yard.queued(project)
    yard.runtime.faults["build"] = [DeployFailed(FailureCause.BUILD_FAILED, "It did not build.")]
    failed = await yard.deployed()

    ids = {"project_id": project.id, "deployment_id": failed.id}
    why = {"reason": "It did not build.", "reason_code": "build_failed"}
    assert await told(yard) == [("deployment.failed", ids | why)]


async def test_reason_that_is_told_ends_with_the_last_error_of_the_log(
    yard: Yard, project: Project
) -> None:
    await yard.queued(project)
    log = "compiling\nError: no such module\nat line 1\n"
    failure = DeployFailed(FailureCause.BUILD_FAILED, "It did not build.", log_tail=log)
    yard.runtime.faults["build"] = [failure]
    await yard.deployed()

    ((_, said),) = await told(yard)
    assert said["reason"] == "It did not build. Its log: Error: no such module"


@pytest.mark.parametrize("status", [ProjectStatus.ACTIVE, ProjectStatus.SUSPENDED])
async def test_project_that_wakes_is_told_and_one_that_ran_is_not(
    yard: Yard, status: ProjectStatus
) -> None:
    await fund(yard.db, ALICE, 500_000)
    project = await add_project(yard.db, status=status)
    deployment = await yard.serving(project)
    del yard.runtime.apps[deployment.id]

    await yard.reconcile()

    resumed = [("project.resumed", {"project_id": project.id})]
    assert await told(yard) == (resumed if status is ProjectStatus.SUSPENDED else [])


async def test_deployment_wakes_a_suspended_project(yard: Yard) -> None:
    await fund(yard.db, ALICE, 500_000)
    project = await add_project(yard.db, status=ProjectStatus.SUSPENDED)
    await yard.serving(project)
    await yard.queued(project)
    await yard.deployed()

    assert [kind for kind, _ in await told(yard)] == ["deployment.ready", "project.resumed"]


async def test_deletion_is_told_once_and_nothing_of_what_it_stopped(yard: Yard) -> None:
    project = await add_project(yard.db)
    await yard.serving(project)
    under_way = await yard.queued(project)

    await yard.deletion.delete(project)
    await yard.reconciler.delete(project)

    assert (await yard.deployment(under_way.id)).status is DeploymentStatus.STOPPED
    assert await told(yard) == [("project.deleted", {"project_id": project.id})]

import asyncio

import pytest
from yard import HOST, Yard, socket_of

from moorage.auth.tokens import ManageTokens
from moorage.errors import DatabaseUnavailable
from moorage.records.deployment import Deployment, DeploymentStatus, JobStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.money import accounts
from support.books.records_fixture import ALICE, BOB, add_project
from support.gateway.clock import HOUR_MS
from support.gateway.waiting import until


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """A project's deployment that serves, runs and is billed."""
    return await yard.active(project, micro_usd=500_000)


async def is_gone(yard: Yard, project: Project) -> bool:
    return await projects.by_id(yard.db, project.id) is None


async def test_deleted_project_leaves_nothing_but_unspent_credits(
    yard: Yard, project: Project, app: Deployment
) -> None:
    (yard.sources / app.id).mkdir()
    yard.clock.advance(HOUR_MS // 2)

    await yard.deletion.delete(project)

    assert await is_gone(yard, project)
    assert (yard.runtime.apps, yard.runtime.built, yard.routes.table) == ({}, {}, {})
    assert list(yard.sources.iterdir()) == []
    assert (await yard.deployment(app.id)).status is DeploymentStatus.STOPPED
    ((_, _, ended_at_ms),) = await yard.intervals(project)
    assert ended_at_ms == yard.clock.now_ms()
    # Half an hour of 730 at half a dollar a month, rounded up: 342.46…
    assert await accounts.balance(yard.db, ALICE) == 500_000 - 343


async def test_tokens_of_a_deleted_project_are_not_kept(
    yard: Yard, project: Project, app: Deployment
) -> None:
    other = await add_project(yard.db, ALICE, "other")
    tokens = ManageTokens(db=yard.db, clock=yard.clock)
    for each in (project, project, other):
        await tokens.make(each.id)

    await yard.deletion.delete(project)

    assert [await tokens.revoke(each.id) for each in (project, other)] == [0, 1]


async def test_name_of_a_deleted_project_is_free_at_once(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await yard.deletion.delete(project)
    again = await add_project(yard.db, BOB, project.unique_name)
    assert again.id != project.id


@pytest.mark.parametrize("method", ["build", "start"])
async def test_deployment_under_way_ends_before_its_files_are_removed(
    yard: Yard, project: Project, method: str
) -> None:
    queued = await yard.queued(project)
    yard.runtime.gates[method] = asyncio.Event()
    working = asyncio.create_task(yard.worker.run())
    await until(lambda: yard.runtime.called(method) == [queued.id])

    def worker_has_ended(called: str, _: str) -> None:
        jobs = [task for task in asyncio.all_tasks() if task.get_name() == f"job {queued.id}"]
        assert called != "remove" or jobs == []

    yard.runtime.on_call = worker_has_ended
    await yard.deletion.delete(project)

    assert await is_gone(yard, project)
    assert yard.runtime.calls[-1] == ("remove", queued.id)
    assert (await yard.deployment(queued.id)).status is DeploymentStatus.STOPPED
    assert await yard.job_status(queued) == JobStatus.DONE
    assert list(yard.sources.iterdir()) == []
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_restart_under_way_ends_before_its_files_are_removed(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    await yard.reconciler.reconcile()
    await until(lambda: yard.runtime.called("start") == [app.id])

    await yard.deletion.delete(project)

    assert yard.apps.under_way() == []
    yard.runtime.gates.clear()
    await yard.reconcile()
    assert yard.runtime.apps == {}
    assert yard.routes.table == {}


async def test_two_deletions_at_once_are_one(yard: Yard, project: Project, app: Deployment) -> None:
    gate = yard.runtime.gates["remove"] = asyncio.Event()
    both = [asyncio.create_task(yard.deletion.delete(project)) for _ in range(2)]
    await until(lambda: yard.runtime.called("remove") == [app.id])
    gate.set()
    await asyncio.gather(*both)
    assert yard.runtime.called("remove") == [app.id]
    assert await is_gone(yard, project)


async def test_late_deletion_of_a_deleted_project_does_not_touch_the_names_next_owner(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await yard.deletion.delete(project)
    successor = await add_project(yard.db, BOB, project.unique_name)
    theirs = await yard.serving(successor)

    await yard.deletion.delete(project)  # asked for before, carried out now

    assert yard.routes.table == {HOST: socket_of(theirs)}
    assert set(yard.runtime.apps) == {theirs.id}
    assert not await is_gone(yard, successor)


async def test_deletion_goes_on_when_its_caller_hangs_up(
    yard: Yard, project: Project, app: Deployment
) -> None:
    gate = yard.runtime.gates["remove"] = asyncio.Event()
    asking = asyncio.create_task(yard.deletion.delete(project))
    await until(lambda: yard.runtime.called("remove") == [app.id])
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    gate.set()
    await until(lambda: is_gone(yard, project))


async def test_reconciler_finishes_a_deletion_that_failed(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.faults["remove"] = [OSError("busy")]
    with pytest.raises(OSError, match="busy"):
        await yard.deletion.delete(project)
    assert (await yard.project(project)).status is ProjectStatus.DELETING
    assert yard.routes.table == {}

    await yard.reconcile()

    assert await is_gone(yard, project)


async def test_deletion_that_failed_can_be_asked_for_again(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.faults["remove"] = [OSError("busy")]
    with pytest.raises(OSError, match="busy"):
        await yard.deletion.delete(project)
    await yard.deletion.delete(project)
    assert await is_gone(yard, project)


async def test_deletion_without_a_database_changes_nothing(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.db.refuse_writes()
    with pytest.raises(DatabaseUnavailable):
        await yard.deletion.delete(project)
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert yard.routes.table == {HOST: socket_of(app)}
    assert set(yard.runtime.apps) == {app.id}


async def test_comparison_under_way_does_not_undo_a_deletion(
    yard: Yard, project: Project, app: Deployment
) -> None:
    gate = yard.runtime.gates["running"] = asyncio.Event()
    comparing = asyncio.create_task(yard.reconciler.reconcile())
    await until(lambda: yard.runtime.called("running") == [""])
    await yard.deletion.delete(project)
    gate.set()
    await comparing
    await yard.tasks_done()
    assert yard.runtime.called("start") == []
    assert yard.routes.table == {}


async def test_deleted_project_takes_its_volume_along(yard: Yard, project: Project) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    with_volume = await yard.project(project)
    await yard.serving(with_volume)
    yard.runtime.kept_volumes = {project.id, "another"}

    await yard.deletion.delete(with_volume)

    assert yard.runtime.kept_volumes == {"another"}
    ended = [call for call in yard.runtime.calls if call[0] in ("remove", "delete_volume")]
    assert ended[-1] == ("delete_volume", project.id)  # once no app has it


async def test_start_removes_volumes_of_deleted_projects_and_no_others(
    yard: Yard, project: Project, app: Deployment
) -> None:
    gone = await add_project(yard.db, ALICE, "gone")
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, gone.id, at_ms=yard.clock.now_ms())
    yard.runtime.kept_volumes = {project.id, gone.id, "nobody-knows"}
    await yard.reconciler.sweep()
    assert yard.runtime.kept_volumes == {project.id, "nobody-knows"}

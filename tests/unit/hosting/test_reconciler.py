import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from yard import APP_LIMITS, HOST, Yard, socket_of

from moorage.engines.engine import Instance, InstanceSpec, Limits
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.database import Statement
from support.books.faulty_database import FaultyDatabase
from support.books.overtaken import OvertakenDatabase
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project, fund
from support.gateway.clock import MovableClock
from support.gateway.fakes import app_address
from support.gateway.waiting import until


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """A project's deployment that serves, runs and is billed."""
    return await yard.active(project, micro_usd=500_000)


async def set_status(yard: Yard, project: Project, status: ProjectStatus) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, status)


async def suspend(yard: Yard, project: Project) -> None:
    """As metering does when the credits are spent."""
    yard.clock.advance(731 * 3_600_000)
    assert await yard.metering.tick() == [project.id]


async def test_what_runs_and_should_is_left_alone(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(3):
        await yard.reconcile()
    assert {name for name, _ in yard.runtime.calls} == {"known", "running"}
    assert yard.routes.changes == []
    assert await yard.down() == set()
    assert yard.reconciler.running == 1


@pytest.mark.parametrize("others_sleep", [False, True])
async def test_comparison_asks_the_database_as_often_however_many_apps_there_are(
    yard: Yard,
    project: Project,
    app: Deployment,
    others_sleep: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Statement] = []
    for name in ("one", "all"):
        ask = getattr(FaultyDatabase, name)

        def noted(
            db: FaultyDatabase, *given: Any, ask: Callable[..., Any] = ask, **also: Any
        ) -> Any:
            asked.append(given[0])
            return ask(db, *given, **also)

        monkeypatch.setattr(FaultyDatabase, name, noted)
    await yard.reconcile()
    with_one = list(asked)
    for number in range(20):
        await add_other(yard, f"other-{number}", sleeps=others_sleep)
    yard.routes.table[HOST] = socket_of(app)
    asked.clear()
    await yard.reconcile()
    assert asked == with_one
    assert yard.reconciler.asleep == (20 if others_sleep else 0)
    assert await yard.down() == set()


async def add_other(yard: Yard, name: str, *, sleeps: bool) -> None:
    """Another project, whose app runs or sleeps."""
    project = await add_project(yard.db, name=name)
    serving = await yard.serving(project)
    yard.routes.table[f"{name}.example.com"] = socket_of(serving)
    if sleeps:
        yard.runtime.die(serving.id)
        async with yard.db.transaction(durable=False) as tx:
            await projects.fall_asleep(tx, project.id, serving=serving.id, at_ms=1)


async def test_dead_app_is_started_again(yard: Yard, project: Project, app: Deployment) -> None:
    yard.runtime.die(app.id)

    await yard.reconciler.reconcile()
    assert await yard.down() == {app.id}
    await yard.tasks_done()
    await yard.reconciler.reconcile()

    assert yard.runtime.called("start") == [app.id]
    assert await yard.down() == set()
    assert yard.routes.table == {HOST: socket_of(app)}


async def test_lost_route_is_made_again(yard: Yard, project: Project, app: Deployment) -> None:
    yard.routes.table.clear()
    await yard.reconcile()
    assert yard.routes.table == {HOST: socket_of(app)}


async def test_app_that_died_after_a_calm_while_is_started_at_once(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(8):
        yard.runtime.die(app.id)
        await yard.until_restarted(app.id)
        yard.clock.advance(1_000)
    await yard.reconcile()
    yard.clock.advance(660_001)
    for expected in (1, 2):
        yard.runtime.die(app.id)
        before = len(yard.runtime.called("start"))
        await yard.reconcile()
        assert len(yard.runtime.called("start")) == before + 1
        yard.clock.advance(expected * 1_000)


async def test_what_no_row_owns_is_removed(yard: Yard, project: Project, app: Deployment) -> None:
    over = await add_deployment(yard.db, project, DeploymentStatus.SUPERSEDED, is_kept=False)
    for stray in ("nobodys", over.id):
        yard.runtime.built[stray] = yard.runtime.built[app.id]
    await yard.reconcile()
    assert sorted(yard.runtime.called("remove")) == sorted(["nobodys", over.id])
    assert set(yard.runtime.built) == {app.id}


@pytest.mark.parametrize(
    "status", [DeploymentStatus.QUEUED, DeploymentStatus.BUILDING, DeploymentStatus.DEPLOYING]
)
async def test_what_is_under_way_is_never_removed(
    yard: Yard, project: Project, app: Deployment, status: DeploymentStatus
) -> None:
    other = await add_deployment(yard.db, project, status)
    yard.runtime.built[other.id] = yard.runtime.built[app.id]
    await yard.reconcile()
    assert yard.runtime.called("remove") == []


async def test_removal_that_takes_long_or_fails_holds_nobody_up(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.built["stuck"] = yard.runtime.built[app.id]
    gate = yard.runtime.gates["remove"] = asyncio.Event()
    yard.runtime.faults["remove"] = [OSError("busy")]
    yard.runtime.die(app.id)

    async def all_run() -> bool:
        await yard.reconciler.reconcile()
        return await yard.down() == set() and app.id in yard.runtime.apps

    await until(all_run)
    assert yard.runtime.called("remove") == ["stuck"]

    gate.set()
    await yard.tasks_done()
    assert "stuck" in yard.runtime.built
    yard.clock.advance(1_000)
    await yard.reconcile()
    assert "stuck" not in yard.runtime.built


async def test_one_app_that_starts_slowly_holds_nobody_up(
    yard: Yard, project: Project, app: Deployment
) -> None:
    gate = yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    async with asyncio.timeout(60):
        for _ in range(3):
            await yard.reconciler.reconcile()
    await until(lambda: yard.runtime.called("start") == [app.id])
    gate.set()
    await yard.tasks_done()


async def test_app_of_a_suspended_project_is_stopped_and_its_address_leads_nowhere(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)

    await yard.reconcile()

    assert yard.runtime.called("stop") == [app.id]
    assert yard.runtime.called("remove") == []
    assert yard.routes.table == {}
    for _ in range(3):
        yard.clock.advance(60_000)
        await yard.reconcile()
    assert yard.runtime.called("start") == []
    assert await yard.down() == set()


async def test_credits_for_less_than_an_hour_wake_nothing(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)
    await yard.reconcile()
    await fund(yard.db, ALICE, 684)  # an hour at $0.50 a month is 685 micro-USD
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.runtime.called("start") == []
    await fund(yard.db, ALICE, 1)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE


async def test_credits_resume_no_more_apps_than_their_memory_allows(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)
    await yard.reconcile()
    yard.runtime.has_memory_for(1)
    other = await add_project(yard.db, BOB, "theirs")
    await fund(yard.db, ALICE, 100_000)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.runtime.called("start") == []
    async with yard.db.transaction(durable=False) as tx:
        await projects.set_status(tx, other.id, ProjectStatus.FAILED)
    yard.clock.advance(60_000)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE


async def test_suspended_project_knows_since_when_until_it_wakes(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)
    assert (await yard.project(project)).suspended_at_ms == yard.clock.now_ms()
    await fund(yard.db, ALICE, 100_000)
    await yard.reconcile()
    assert (await yard.project(project)).suspended_at_ms is None


async def test_top_up_wakes_a_suspended_project_and_bills_it_from_then_on(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)
    await yard.reconcile()
    yard.clock.advance(3_600_000)
    await fund(yard.db, ALICE, 100_000)

    await yard.reconcile()

    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, app.id)
    assert yard.routes.table == {HOST: socket_of(app)}
    before, after = await yard.intervals(project)
    assert before[2] is not None
    assert after[1:] == (yard.clock.now_ms(), None)


async def test_project_whose_credits_are_spent_again_while_it_wakes_stays_suspended(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)
    await yard.reconcile()
    await fund(yard.db, ALICE, 100_000)
    gate = yard.runtime.gates["start"] = asyncio.Event()
    await yard.reconciler.reconcile()
    yard.db.sql("UPDATE wallets SET balance_micro_usd = 0")
    gate.set()
    await yard.tasks_done()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.routes.table == {}

    yard.clock.advance(60_000)
    await yard.reconcile()
    assert yard.runtime.apps == {}


async def test_project_that_another_gateway_deletes_while_it_wakes_is_not_billed_again(
    db_path: Path, clock: MovableClock, tmp_path: Path
) -> None:
    with closing(OvertakenDatabase(db_path)) as db:
        yard = Yard(db, clock, tmp_path / "sources")
        project = await add_project(db)
        await fund(db, ALICE, 500_000)
        app = await yard.serving(project)
        async with db.transaction(durable=True) as tx:
            await yard.metering.begin(tx, project.id)
        await suspend(yard, project)
        await fund(db, ALICE, 100_000)
        with closing(FaultyDatabase(db_path)) as others:

            async def overtaking() -> None:
                async with others.transaction(durable=True) as tx:
                    await projects.set_status(tx, project.id, ProjectStatus.DELETING)

            db.overtaking = overtaking
            await yard.reconciler.start(project.id, app.id)
        assert not await yard.metering.bills(db, project.id)


async def test_wake_that_cannot_be_recorded_is_tried_again(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await suspend(yard, project)
    await yard.reconcile()
    await fund(yard.db, ALICE, 100_000)
    yard.db.refuse_writes()
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.routes.table == {}
    yard.db.allow_writes()
    yard.clock.advance(60_000)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE


@pytest.mark.parametrize("status", [DeploymentStatus.QUEUED, DeploymentStatus.BUILDING])
async def test_while_a_new_version_is_built_the_old_one_is_kept_running_and_routed(
    yard: Yard, project: Project, app: Deployment, status: DeploymentStatus
) -> None:
    await add_deployment(yard.db, project, status)
    yard.runtime.die(app.id)
    yard.routes.table.clear()  # the machine was started again
    await yard.reconcile()
    assert yard.routes.table == {HOST: socket_of(app)}


async def test_address_is_not_taken_from_a_version_about_to_be_ready(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await add_deployment(yard.db, project, DeploymentStatus.DEPLOYING)
    theirs = yard.routes.table[HOST] = app_address("new")
    for _ in range(3):
        await yard.reconcile()
    yard.runtime.die(app.id)
    await yard.reconcile()
    assert yard.routes.table == {HOST: theirs}
    assert yard.routes.changes == []


async def test_address_that_leads_nowhere_leads_to_the_old_version_while_the_new_one_starts(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await add_deployment(yard.db, project, DeploymentStatus.DEPLOYING)
    yard.routes.table.clear()  # the machine was started again
    await yard.reconcile()
    assert yard.routes.table == {HOST: socket_of(app)}


async def test_version_that_became_ready_during_the_comparison_is_not_dead(
    yard: Yard, project: Project, app: Deployment
) -> None:
    new = await add_deployment(yard.db, project, DeploymentStatus.DEPLOYING)
    yard.runtime.built[new.id] = yard.runtime.built[app.id]

    def become_ready(method: str, _: str) -> None:
        if method == "running":  # after what runs was looked up, before the rows are read
            yard.runtime.apps[new.id] = Instance(
                deployment_id=new.id, address=socket_of(new), port=3000
            )
            yard.db.sql(f"UPDATE projects SET serving_deployment_id = '{new.id}'")
            yard.db.sql(f"UPDATE deployments SET status = 'ready' WHERE id = '{new.id}'")
            yard.db.sql(f"UPDATE deployments SET status = 'superseded' WHERE id = '{app.id}'")

    yard.runtime.on_call = become_ready
    await yard.reconciler.reconcile()

    assert await yard.down() == set()
    assert yard.runtime.called("start") == []


async def test_app_replaced_while_it_is_restarted_does_not_take_the_address(
    yard: Yard, project: Project, app: Deployment
) -> None:
    gate = yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    await yard.reconciler.reconcile()
    new = await add_deployment(yard.db, project, DeploymentStatus.READY, serving=True)
    await set_status(yard, project, ProjectStatus.ACTIVE)
    theirs = yard.routes.table[HOST] = socket_of(new)
    gate.set()
    await yard.tasks_done()
    assert yard.routes.table == {HOST: theirs}


async def test_app_whose_deletion_began_while_it_is_restarted_does_not_take_the_address(
    yard: Yard, project: Project, app: Deployment
) -> None:
    gate = yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    yard.routes.table.clear()
    await yard.reconciler.reconcile()
    await set_status(yard, project, ProjectStatus.DELETING)
    gate.set()
    await yard.tasks_done()
    assert yard.routes.table == {}


@pytest.mark.parametrize(
    "status", [ProjectStatus.QUEUED, ProjectStatus.BUILDING, ProjectStatus.FAILED]
)
async def test_projects_that_serve_nothing_are_left_alone(
    yard: Yard, project: Project, status: ProjectStatus
) -> None:
    await set_status(yard, project, status)
    await yard.reconcile()
    assert {name for name, _ in yard.runtime.calls} == {"known", "running"}
    assert yard.routes.changes == []


async def test_half_deleted_project_is_finished(
    yard: Yard, project: Project, app: Deployment
) -> None:
    (yard.sources / app.id).mkdir()
    await set_status(yard, project, ProjectStatus.DELETING)
    await yard.reconcile()
    assert await projects.by_id(yard.db, project.id) is None
    assert yard.runtime.built == {}
    assert yard.routes.table == {}
    assert list(yard.sources.iterdir()) == []
    assert await add_project(yard.db, name=project.unique_name)  # the name is free


async def test_deletion_that_fails_is_finished_later(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await set_status(yard, project, ProjectStatus.DELETING)
    yard.runtime.faults["remove"] = [OSError("busy")]
    await yard.reconcile()
    assert await projects.by_id(yard.db, project.id) is not None
    yard.clock.advance(1_000)
    await yard.reconcile()
    assert await projects.by_id(yard.db, project.id) is None


async def test_deletion_that_somebody_sees_to_is_left_to_them(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await set_status(yard, project, ProjectStatus.DELETING)
    yard.runtime.gates["remove"] = asyncio.Event()
    deleting = asyncio.create_task(yard.deletion.delete(project))
    await until(lambda: yard.runtime.called("remove") != [])
    for _ in range(3):
        await yard.reconciler.reconcile()
        yard.clock.advance(60_000)
    assert await projects.by_id(yard.db, project.id) is not None
    yard.runtime.gates["remove"].set()
    await deleting
    assert yard.runtime.called("remove") == [app.id]


async def test_uploads_that_nobody_admitted_are_swept(yard: Yard, project: Project) -> None:
    queued = await yard.queued(project)
    over = await add_deployment(yard.db, project, DeploymentStatus.FAILED)
    for stray in ("nobodys", over.id):
        (yard.sources / stray).mkdir()
        (yard.sources / stray / "index.js").touch()
    await yard.reconciler.sweep()
    assert [path.name for path in yard.sources.iterdir()] == [queued.id]


async def test_backoff_of_what_is_gone_is_forgotten(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for number in range(20):
        yard.runtime.built[f"stray {number}"] = yard.runtime.built[app.id]
    await yard.reconcile()
    await yard.reconcile()
    yard.runtime.built["stray 7"] = yard.runtime.built[app.id]
    await yard.reconcile()  # at once, as if for the first time
    assert yard.runtime.called("remove").count("stray 7") == 2


@pytest.mark.parametrize("method", ["known", "running"])
async def test_loop_outlives_what_fails(
    yard: Yard,
    project: Project,
    app: Deployment,
    method: str,
) -> None:
    yard.runtime.faults[method] = [OSError("no"), RuntimeError("no")]
    loop = asyncio.create_task(yard.keep())
    yard.runtime.die(app.id)
    await until(lambda: app.id in yard.runtime.apps)
    assert not loop.done()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_loop_outlives_a_database_that_is_away(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.db.refuse_reads()
    loop = asyncio.create_task(yard.keep())
    await until(lambda: yard.db.refused_reads > 1)
    yard.db.allow_reads()
    yard.runtime.die(app.id)
    await until(lambda: app.id in yard.runtime.apps)
    assert not loop.done()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_tasks_end_with_the_loop(yard: Yard, project: Project, app: Deployment) -> None:
    yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    loop = asyncio.create_task(yard.keep())
    await until(lambda: yard.runtime.called("start") == [app.id])
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert yard.apps.under_way() == []


async def test_restarted_app_has_the_limits_of_an_app(
    yard: Yard, project: Project, app: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.runtime.die(app.id)
    specs: list[tuple[Limits, float]] = []
    start = yard.runtime.start

    async def spy(spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        specs.append((spec.limits, timeout_seconds))
        return await start(spec, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(yard.runtime, "start", spy)
    await yard.reconcile()
    assert specs == [(APP_LIMITS, 20)]

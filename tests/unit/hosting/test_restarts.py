"""Apps that end are started again; those that do not last are shown to be in a crash loop."""

import asyncio

import pytest
from yard import Yard

from moorage.engines.engine import AppExit
from moorage.errors import DeployFailed, FailureCause
from moorage.hosting.keeping.apps import Apps
from moorage.hosting.keeping.restarts import CrashLoop, Restarts, crash_loop
from moorage.records.deployment import Deployment
from moorage.records.project import Project
from moorage.storage import events
from support.books.records_fixture import ALICE
from support.gateway.waiting import until


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """A project's app that serves and runs."""
    return await yard.active(project, micro_usd=500_000, billed=False)


async def crash(yard: Yard, app: Deployment, *, exit_code: int = 1, oom: bool = False) -> None:
    """The app ends, and is started again as soon as that is due."""
    yard.runtime.die(app.id, exit_code=exit_code)
    yard.runtime.exits[app.id] = AppExit(exit_code=exit_code, out_of_memory=oom)
    await yard.until_restarted(app.id)


async def loop_of(yard: Yard, app: Deployment) -> CrashLoop | None:
    return await crash_loop(yard.db, app.id, now_ms=yard.clock.now_ms())


async def crash_loops_told(yard: Yard) -> list[object]:
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=100)
    return [event.data for event in found if event.kind == "project.crash_looping"]


async def test_app_that_ended_five_times_in_ten_minutes_is_in_a_crash_loop(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(4):
        await crash(yard, app)
        assert await loop_of(yard, app) is None
    await crash(yard, app, exit_code=3)
    loop = await loop_of(yard, app)
    assert loop is not None
    assert (loop.restarts, loop.exit_code, loop.out_of_memory) == (5, 3, False)
    assert loop.next_try_ms > yard.clock.now_ms()


async def test_crash_loop_is_told_once(yard: Yard, project: Project, app: Deployment) -> None:
    for _ in range(8):
        await crash(yard, app)
    (told,) = await crash_loops_told(yard)
    assert isinstance(told, dict)
    assert told["project_id"] == project.id
    assert told["deployment_id"] == app.id
    assert "exit code 1" in told["reason"]


async def test_every_restart_is_noted_in_the_apps_log_with_how_it_ended(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await crash(yard, app, exit_code=7)
    await crash(yard, app, exit_code=137, oom=True)
    first, second = yard.runtime.notes[app.id]
    assert "exit code 7" in first
    assert "memory limit" in second


async def test_run_that_lasts_ends_the_crash_loop_and_the_next_end_is_no_loop(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(6):
        await crash(yard, app)
    yard.clock.advance(3_600_000)
    await yard.reconciler.reconcile()
    assert await loop_of(yard, app) is None
    began = yard.clock.now_ms()
    await crash(yard, app)
    assert yard.clock.now_ms() == began  # at once, as after a calm while
    assert await loop_of(yard, app) is None


async def test_redeploy_ends_the_crash_loop(yard: Yard, project: Project, app: Deployment) -> None:
    for _ in range(6):
        await crash(yard, app)
    new = await yard.queued(project)
    await yard.deployed()
    await yard.reconcile()
    assert await loop_of(yard, new) is None


async def test_deaths_far_apart_are_no_crash_loop(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(12):
        await crash(yard, app)
        yard.clock.advance(150_001)  # so that a fifth is never within ten minutes
        await yard.reconciler.reconcile()
    assert await crash_loops_told(yard) == []


async def test_end_is_seen_to_at_once_without_a_comparison(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await yard.reconciler.reconcile()
    loop = asyncio.create_task(yard.reconciler.run(yard.services.space.handle))
    yard.runtime.die(app.id)
    await until(lambda: app.id in yard.runtime.apps)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert yard.runtime.notes[app.id] == [
        "The app ended with exit code 1; it is started again, restart 1 within ten minutes."
    ]


async def test_ends_of_apps_that_serve_nothing_start_nothing(
    yard: Yard, project: Project, app: Deployment
) -> None:
    new = await yard.queued(project)
    for ended in (new.id, "never heard of"):
        await yard.reconciler.look(ended)
    await yard.tasks_done()
    assert yard.runtime.called("start") == []


async def test_app_that_a_look_found_dead_is_dead_though_a_comparison_began_before(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.gates["start"] = asyncio.Event()
    looks: list[asyncio.Task[None]] = []

    def die(method: str, _: str) -> None:
        if method == "running":  # after what runs was looked up, before the rows are read
            yard.runtime.die(app.id)
            looks.append(asyncio.create_task(yard.reconciler.look(app.id)))

    yard.runtime.on_call = die
    yard.runtime.gates["running"] = asyncio.Event()
    comparison = asyncio.create_task(yard.reconciler.reconcile())
    await until(lambda: looks != [] and looks[0].done())
    yard.runtime.gates["running"].set()
    await comparison
    assert await yard.down() == {app.id}
    yard.runtime.gates["start"].set()
    await yard.tasks_done()
    assert await yard.down() == set()


async def test_app_that_was_started_meanwhile_is_not_counted_as_a_restart(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.reconciler.restarts.begin(project, app.id, yard.reconciler.start)
    await yard.tasks_done()
    assert app.id not in yard.runtime.notes


async def recalled(yard: Yard) -> Restarts:
    """What the next gateway knows."""
    restarts = Restarts(
        db=yard.db,
        runtime=yard.runtime,
        apps=Apps(clock=yard.clock),
        clock=yard.clock,
    )
    await restarts.recall()
    return restarts


async def test_crash_loop_is_one_for_the_next_gateway_and_waits_as_long(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(6):
        await crash(yard, app, exit_code=3)
    yard.clock.advance(7_000)
    before, wait_seconds = await loop_of(yard, app), yard.reconciler.restarts.wait_seconds(app.id)
    assert before is not None
    assert wait_seconds > 0
    there = await recalled(yard)
    assert await loop_of(yard, app) == before
    assert there.wait_seconds(app.id) == wait_seconds


async def test_next_gateway_counts_on_and_tells_a_loop_once(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for crashes in range(1, 8):
        there = await recalled(yard)
        there.begin(project, app.id, yard.reconciler.start)
        yard.runtime.die(app.id)
        await until(lambda: app.id in yard.runtime.apps)
        assert (await loop_of(yard, app) is not None) is (crashes >= 5)
        yard.clock.advance(70_000)
    assert len(await crash_loops_told(yard)) == 1


async def test_run_that_lasted_is_no_loop_for_the_next_gateway(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(6):
        await crash(yard, app)
    yard.clock.advance(600_001)
    there = await recalled(yard)
    assert await loop_of(yard, app) is None
    assert there.wait_seconds(app.id) == 0


async def test_clock_set_back_makes_nobody_wait_longer(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(6):
        await crash(yard, app)
    pause = yard.reconciler.restarts.wait_seconds(app.id)
    yard.clock.step(-86_400_000)
    assert (await recalled(yard)).wait_seconds(app.id) == pause


async def test_crash_loop_lasts_though_its_tries_grow_rare(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(6):
        await crash(yard, app)
    yard.runtime.die(app.id)
    yard.runtime.faults["start"] = [DeployFailed(FailureCause.CRASHED, "no")] * 1000
    for _ in range(20):
        await yard.reconcile()
        assert await loop_of(yard, app) is not None
        yard.clock.advance(300_000)
    assert len(await crash_loops_told(yard)) == 1

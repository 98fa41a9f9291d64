"""Which requests for an app that ended are held, until when, and what is said to the others."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from yard import HOST, SETTINGS, Yard, socket_of

from moorage.errors import DeployFailed, FailureCause
from moorage.hosting import limits
from moorage.records.deployment import Deployment
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from support.books.faulty_database import FaultyDatabase
from support.gateway.clock import MovableClock
from support.gateway.waiting import until

CRASHED = DeployFailed(FailureCause.CRASHED, "no")


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """A project's app that serves, and ran for a while."""
    return await serving_app(yard, project)


async def serving_app(yard: Yard, project: Project) -> Deployment:
    return await yard.active(project, micro_usd=500_000, billed=False)


async def crash_and_restart(yard: Yard, app: Deployment, times: int) -> None:
    for _ in range(times):
        yard.runtime.die(app.id)
        await yard.until_restarted(app.id)
        yard.clock.advance(1_000)


async def test_request_that_finds_the_app_gone_has_it_started_and_waits(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.die(app.id)  # and no comparison has seen it yet
    gate = yard.runtime.gates["start"] = asyncio.Event()
    asked = asyncio.create_task(yard.wake.host(HOST))
    await until(lambda: yard.runtime.called("start") == [app.id])
    assert not asked.done()
    gate.set()
    assert await asked
    assert yard.routes.table == {HOST: socket_of(app)}
    assert yard.asked == ["/"]  # it is well before it is asked again


async def test_restart_that_a_request_began_counts_as_any_other(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.die(app.id, exit_code=7)
    assert await yard.wake.host(HOST)
    (note,) = yard.runtime.notes[app.id]
    assert "exit code 7" in note


async def test_fifty_requests_at_once_start_it_once(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.die(app.id)
    answers = await asyncio.gather(*(yard.wake.host(HOST) for _ in range(50)))
    assert answers == [True] * 50
    assert yard.runtime.called("start") == [app.id]


async def test_living_app_is_neither_waited_for_nor_started(
    yard: Yard, project: Project, app: Deployment
) -> None:
    assert await yard.wake.host(HOST)
    assert yard.runtime.called("start") == []
    assert yard.asked == []


async def test_request_waits_for_a_next_try_that_is_due_soon(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.faults["start"] = [CRASHED] * 3
    yard.runtime.die(app.id)
    for _ in range(3):
        assert not await yard.wake.host(HOST)
    assert await yard.wake.host(HOST)
    assert yard.pauses == [1, 2, 4]
    assert yard.runtime.called("start") == [app.id] * 4


async def test_project_suspended_while_a_request_waits_for_its_next_try_is_not_started(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async def suspend() -> None:
        async with yard.db.transaction(durable=True) as tx:
            await projects.set_status(tx, project.id, ProjectStatus.SUSPENDED)

    yard.on_pause = suspend
    yard.runtime.faults["start"] = [CRASHED]
    yard.runtime.die(app.id)
    assert not await yard.wake.host(HOST)
    assert not await yard.wake.host(HOST)
    assert yard.runtime.called("start") == [app.id]


async def test_app_whose_next_try_is_far_off_is_not_waited_for_and_says_when_it_is_due(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.faults["start"] = [CRASHED] * 4
    yard.runtime.die(app.id)
    for _ in range(4):
        assert not await yard.wake.host(HOST)
    yard.pauses.clear()
    assert not await yard.wake.host(HOST)
    assert yard.pauses == []
    assert yard.runtime.called("start") == [app.id] * 4
    assert yard.reconciler.restarts.wait_seconds(app.id) == 8
    yard.clock.advance(8_000)
    assert yard.reconciler.restarts.wait_seconds(app.id) == 0
    assert await yard.wake.host(HOST)  # a request needs no comparison to begin what is due


async def test_crash_loop_is_not_waited_for_however_soon_its_next_try_is_due(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await crash_and_restart(yard, app, times=5)
    yard.runtime.die(app.id)
    yard.clock.advance(round(yard.reconciler.restarts.wait_seconds(app.id) * 1000) - 1)
    assert not await yard.wake.host(HOST)
    assert yard.pauses == []
    assert yard.runtime.called("start") == [app.id] * 5


async def test_app_in_a_crash_loop_is_not_waited_for(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await crash_and_restart(yard, app, times=5)
    yard.clock.advance(120_000)  # the next try would be due
    assert await yard.wake.host(HOST)  # while it lives it is asked
    gate = yard.runtime.gates["start"] = asyncio.Event()
    yard.runtime.die(app.id)
    async with asyncio.timeout(60):
        assert not await yard.wake.host(HOST)  # it is tried, as that is due
        assert not await yard.wake.host(HOST)  # nor later, while it is
    gate.set()
    await yard.tasks_done()
    assert await yard.wake.host(HOST)
    assert yard.runtime.called("start") == [app.id] * 6


async def test_first_restart_after_a_long_run_is_at_once_and_later_ones_wait_ever_longer(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await crash_and_restart(yard, app, times=3)
    yard.clock.advance(3_600_000)
    yard.runtime.faults["start"] = [CRASHED] * 12
    yard.runtime.die(app.id)
    waits = []
    for _ in range(12):
        await yard.reconciler.look(app.id)
        await yard.tasks_done()
        waits.append(yard.reconciler.restarts.wait_seconds(app.id))
        yard.clock.advance(round(waits[-1] * 1000))
    assert len(yard.runtime.called("start")) == 3 + 12
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_hold_is_bounded(
    db: FaultyDatabase,
    clock: MovableClock,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the settings: here a start may take no time at all."""
    monkeypatch.setattr(limits, "STOP_SECONDS", 0)
    settings = msgspec.structs.replace(SETTINGS, listen_seconds=0)
    hasty = Yard(db, clock, tmp_path, settings=settings)
    app = await serving_app(hasty, project)
    hasty.runtime.gates["start"] = asyncio.Event()
    hasty.runtime.die(app.id)
    assert not await hasty.wake.host(HOST)

"""Falling asleep and being woken: rows, routes and apps, whatever happens in between."""

import asyncio

import pytest
from yard import HOST, Yard, socket_of

from moorage.errors import DeployFailed, FailureCause
from moorage.hosting.entrance.configuration import Change, Changed, Effect
from moorage.hosting.keeping.restarts import history_of
from moorage.hosting.keeping.sleep import Sleep
from moorage.records.deployment import Deployment
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.records.usage import UsageHour
from moorage.storage.apps import projects, usage
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import BOB, add_project
from support.gateway.waiting import until

SLEEP_AFTER_SECONDS = 3_600
A_SECOND = 1  # as their owner may choose where the operator's least is as low


@pytest.fixture
async def project(db: FaultyDatabase) -> Project:
    return await add_project(
        db,
        status=ProjectStatus.QUEUED,
        sleep_after_seconds=SLEEP_AFTER_SECONDS,
    )


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """A project's deployment that serves, runs, is billed, and was used just now."""
    serving = await yard.active(project, micro_usd=500_000)
    await yard.reconcile()
    return serving


def pass_time(yard: Yard, seconds: float = SLEEP_AFTER_SECONDS) -> None:
    yard.clock.advance(int(seconds * 1000))


async def choose(yard: Yard, project: Project, seconds: int | None) -> None:
    """Its owner has it sleep after so long."""
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_sleep_after(tx, project.id, seconds)


async def put_to_sleep(yard: Yard, project: Project) -> None:
    pass_time(yard)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is not None
    assert yard.runtime.apps == {}


async def test_unused_app_falls_asleep_and_is_left_so(
    yard: Yard, project: Project, app: Deployment
) -> None:
    pass_time(yard, SLEEP_AFTER_SECONDS - 1)
    await yard.reconcile()
    assert yard.runtime.called("stop") == []
    pass_time(yard, 1)
    for _ in range(3):
        await yard.reconcile()
    assert yard.runtime.called("stop") == [app.id]
    assert yard.routes.table == {}
    assert yard.runtime.called("start") == []
    assert await yard.down() == set()
    asleep = await yard.project(project)
    assert (asleep.status, asleep.asleep_since_ms) == (ProjectStatus.ACTIVE, yard.clock.now_ms())


async def test_apps_log_says_that_it_slept_and_was_woken(
    yard: Yard, project: Project, app: Deployment
) -> None:
    """Else it shows a SIGTERM and a new start, and nothing of why."""
    written: list[int] = []

    def before_it_stops(method: str, _: str) -> None:
        if method == "stop":
            written.append(len(yard.runtime.notes.get(app.id, [])))

    yard.runtime.on_call = before_it_stops
    await put_to_sleep(yard, project)
    assert written == [1]
    await asyncio.gather(*(yard.wake.host(HOST) for _ in range(10)))
    asleep, awake = yard.runtime.notes[app.id]
    assert "asleep" in asleep
    assert "awake" in awake


async def test_used_app_stays_awake(yard: Yard, project: Project, app: Deployment) -> None:
    for _ in range(3):
        pass_time(yard, SLEEP_AFTER_SECONDS - 1)
        yard.sleep.use(app.id)
        await yard.reconcile()
    assert yard.runtime.called("stop") == []


async def test_open_connection_keeps_an_app_awake(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.open_connections[app.id] = 1
    pass_time(yard)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None
    yard.runtime.open_connections.clear()
    pass_time(yard, SLEEP_AFTER_SECONDS - 1)  # it was in use until a moment ago
    await yard.reconcile()
    assert yard.runtime.called("stop") == []


async def test_app_that_was_connected_for_long_sleeps_as_soon_as_any_other(
    yard: Yard, project: Project, app: Deployment
) -> None:
    sleep = Sleep(
        db=yard.db,
        runtime=yard.runtime,
        addresses=yard.addresses,
        apps=yard.apps,
        metering=yard.metering,
        min_seconds=A_SECOND,
        clock=yard.clock,
    )

    async def a_second_later() -> bool:
        pass_time(yard, 1)
        sleep.keeps_asleep(await yard.project(project), yard.runtime.apps[app.id])
        await yard.tasks_done()
        return (await yard.project(project)).asleep_since_ms is not None

    await choose(yard, project, A_SECOND)
    sleep.use(app.id)
    yard.runtime.open_connections[app.id] = 1
    for _ in range(10):
        assert not await a_second_later()
    yard.runtime.open_connections.clear()
    assert await a_second_later()


async def test_app_that_another_gateway_wakes_by_its_row_is_started_and_counts_no_restart(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    pass_time(yard)
    async with yard.db.transaction(durable=True) as tx:
        await projects.wake(tx, project.id)
    for _ in range(2):
        await yard.reconcile()
    assert yard.runtime.called("start") == [app.id]
    assert yard.routes.table == {HOST: socket_of(app)}
    assert (await yard.project(project)).asleep_since_ms is None
    assert (await history_of(yard.db, app.id, now_ms=yard.clock.now_ms())).times_ms == []


async def test_visits_at_other_gateways_keep_an_app_awake(
    yard: Yard, project: Project, app: Deployment
) -> None:
    sleep = Sleep(
        db=yard.db,
        runtime=yard.runtime,
        addresses=yard.addresses,
        apps=yard.apps,
        metering=yard.metering,
        min_seconds=A_SECOND,
        clock=yard.clock,
        several_proxies=True,
    )

    async def falls_asleep(*, visited: bool) -> bool:
        if visited:
            async with yard.db.transaction(durable=True) as tx:
                await usage.add(tx, UsageHour(project_id=project.id, hour_ms=0, requests=1))
        pass_time(yard, 1)
        sleep.keeps_asleep(await yard.project(project), yard.runtime.apps[app.id])
        await yard.tasks_done()
        return (await yard.project(project)).asleep_since_ms is not None

    await choose(yard, project, A_SECOND)
    sleep.use(app.id)
    for _ in range(3):
        assert not await falls_asleep(visited=True)
    assert await falls_asleep(visited=False)


async def test_app_that_does_not_come_up_sleeps_when_nobody_asks_for_it(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.die(app.id)
    yard.runtime.faults["start"] = [DeployFailed(FailureCause.CRASHED, "no")]
    await yard.reconcile()
    await put_to_sleep(yard, project)
    await yard.reconcile()
    assert yard.runtime.called("start") == [app.id]


async def test_project_being_deployed_stays_awake(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await yard.queued(project)
    pass_time(yard)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None
    assert yard.runtime.called("stop") == []


async def test_request_wakes_the_app(yard: Yard, project: Project, app: Deployment) -> None:
    await put_to_sleep(yard, project)
    assert await yard.wake.host(HOST)
    assert yard.routes.table == {HOST: socket_of(app)}
    assert (await yard.project(project)).asleep_since_ms is None
    assert yard.asked == [project.health_path]  # before anybody is let in
    await yard.reconcile()
    assert app.id in yard.runtime.apps


async def test_many_requests_at_once_wake_once(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    answers = await asyncio.gather(*(yard.wake.host(HOST) for _ in range(50)))
    assert answers == [True] * 50
    assert yard.runtime.called("start") == [app.id]


async def test_sleeping_app_is_woken_however_often_it_slept(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for _ in range(5):
        await put_to_sleep(yard, project)
        assert await yard.wake.host(HOST)
    await put_to_sleep(yard, project)
    yard.runtime.faults["start"] = [DeployFailed(FailureCause.CRASHED, "no")]
    assert not await yard.wake.host(HOST)
    await put_to_sleep(yard, project)
    assert await yard.wake.host(HOST)


async def test_app_that_does_not_wake_is_the_reconcilers_to_start(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    yard.runtime.faults["start"] = [DeployFailed(FailureCause.CRASHED, "no")]
    assert not await yard.wake.host(HOST)
    assert yard.runtime.called("start") == [app.id]
    await yard.reconcile()
    assert await yard.down() == {app.id}
    pass_time(yard, 2)
    await yard.reconcile()
    assert await yard.wake.host(HOST)


async def test_request_waits_for_an_app_that_is_being_started_again(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.die(app.id)
    yard.routes.table.clear()
    yard.runtime.gates["start"] = asyncio.Event()
    await yard.reconciler.reconcile()
    asked = asyncio.create_task(yard.wake.host(HOST))
    await until(lambda: yard.runtime.called("start") == [app.id])
    assert not asked.done()
    yard.runtime.gates["start"].set()
    assert await asked


@pytest.mark.parametrize("moment", ["connections", "stop"])
async def test_request_while_the_app_falls_asleep_is_answered(
    yard: Yard, project: Project, app: Deployment, moment: str
) -> None:
    """It waits until the app is stopped, which is then started again."""
    pass_time(yard)
    gate = yard.runtime.gates[moment] = asyncio.Event()
    begun = asyncio.Event()
    yard.runtime.on_call = lambda method, _: begun.set() if _is(yard, method, moment) else None
    await yard.reconciler.reconcile()
    if moment == "connections":  # the first look comes before the row says that it sleeps
        await until(lambda: yard.runtime.called("connections") == [app.id])
        gate.set()
        gate.clear()
    await begun.wait()
    asked = asyncio.create_task(yard.wake.host(HOST))
    waited, _ = await asyncio.wait([asked], timeout=0.05)
    assert waited == set()
    gate.set()
    assert await asked
    await yard.tasks_done()
    await yard.reconcile()
    assert app.id in yard.runtime.apps
    assert yard.routes.table == {HOST: socket_of(app)}


def _is(yard: Yard, method: str, moment: str) -> bool:
    return method == moment and not (moment == "connections" and yard.routes.table)


async def test_who_came_last_is_served_to_the_end(
    yard: Yard, project: Project, app: Deployment
) -> None:
    """A connection made just before the route was taken away, and kept open, keeps the app."""
    pass_time(yard)
    looks = 0

    def arrive(method: str, _: str) -> None:
        nonlocal looks
        if method == "connections":
            looks += 1
            yard.clock.advance(1_000)
            yard.runtime.open_connections[app.id] = 0 if looks == 1 else 1

    yard.runtime.on_call = arrive
    await yard.reconcile()
    assert yard.runtime.called("stop") == []
    assert (await yard.project(project)).asleep_since_ms is None
    await yard.reconcile()
    assert yard.routes.table == {HOST: socket_of(app)}


async def test_app_whose_connections_nothing_counts_may_end_its_last_requests(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.open_connections[app.id] = None
    pass_time(yard)
    begun, stopped = yard.clock.monotonic_seconds(), 0.0

    def look(method: str, _: str) -> None:
        nonlocal stopped
        if method == "connections":
            yard.clock.advance(1_000)
        elif method == "stop":
            stopped = yard.clock.monotonic_seconds()

    yard.runtime.on_call = look
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is not None
    assert 5 <= stopped - begun <= 8


async def test_what_the_proxy_passes_on_keeps_an_app_awake_whose_connections_nothing_counts(
    yard: Yard, project: Project, app: Deployment
) -> None:
    """A WebSocket, a stream, a long request."""
    yard.runtime.open_connections[app.id] = None
    yard.routes.under_way[HOST] = 1
    pass_time(yard)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None
    yard.routes.under_way[HOST] = 0
    pass_time(yard, SLEEP_AFTER_SECONDS - 1)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None


async def test_falling_asleep_goes_on_after_a_crash(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        assert await projects.fall_asleep(tx, project.id, serving=app.id, at_ms=1)
    await yard.reconcile()
    assert yard.runtime.called("stop") == [app.id]
    assert yard.routes.table == {}


async def test_route_that_a_crash_left_to_a_sleeping_app_is_removed(
    yard: Yard, project: Project, app: Deployment
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await projects.fall_asleep(tx, project.id, serving=app.id, at_ms=1)
    yard.runtime.die(app.id)
    await yard.addresses.sweep()
    await yard.reconcile()
    assert yard.routes.table == {}
    assert await yard.wake.host(HOST)


async def test_new_version_of_a_sleeping_project_serves(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    await yard.queued(project)
    deployed = await yard.deployed()
    assert (await yard.project(project)).asleep_since_ms is None
    assert yard.routes.table == {HOST: socket_of(deployed)}
    await yard.reconcile()
    assert yard.runtime.called("stop") == [app.id]  # when it fell asleep


async def test_suspension_ends_sleep_and_no_request_wakes_it(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.suspend(tx, project.id, at_ms=yard.clock.now_ms())
    assert (await yard.project(project)).asleep_since_ms is None
    assert not await yard.wake.host(HOST)
    assert yard.runtime.called("start") == []


async def test_never_wakes_what_sleeps(yard: Yard, project: Project, app: Deployment) -> None:
    await put_to_sleep(yard, project)
    await yard.services.configuration.change(project, Change(sleep_after_seconds=None))
    await yard.reconcile()
    assert yard.runtime.called("start") == [app.id]
    pass_time(yard, 10 * SLEEP_AFTER_SECONDS)
    await yard.reconcile()
    assert app.id in yard.runtime.apps


async def test_owner_changes_when_it_sleeps_without_a_new_deployment(
    yard: Yard, project: Project, app: Deployment
) -> None:
    changed = await yard.services.configuration.change(project, Change(sleep_after_seconds=600))
    assert changed == Changed(Effect.AT_ONCE)
    pass_time(yard, 600)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is not None
    again = await yard.services.configuration.change(project, Change(sleep_after_seconds=600))
    assert again == Changed(Effect.NONE)


async def test_worker_never_sleeps(yard: Yard, project: Project, app: Deployment) -> None:
    """Nothing would wake it."""
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_serving(tx, project.id, app.id, kind=Kind.WORKER)
    pass_time(yard)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None


async def test_no_app_sleeps_sooner_than_the_operator_lets_it(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await choose(yard, project, A_SECOND)  # as it was allowed before
    pass_time(yard, 59)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None
    pass_time(yard, 1)
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is not None


async def test_sleeping_project_can_be_deleted(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    await yard.reconciler.delete(await yard.project(project))
    assert not await yard.wake.host(HOST)
    assert yard.runtime.built == {}


async def test_unknown_host_is_not_waited_for(yard: Yard) -> None:
    assert not await yard.wake.host("nobody.example.com")
    assert not await yard.wake.host("nobody.elsewhere.example")


async def test_app_that_the_machine_has_no_memory_for_sleeps_on_until_it_has(
    yard: Yard, project: Project, app: Deployment
) -> None:
    await put_to_sleep(yard, project)
    yard.runtime.has_memory_for(1)
    awake = await add_project(yard.db, BOB, "theirs")
    assert not await yard.services.capacity.has_memory(project)
    assert not await yard.wake.host(HOST)
    assert (await yard.project(project)).asleep_since_ms is not None
    assert yard.runtime.called("start") == []
    async with yard.db.transaction(durable=False) as tx:
        await projects.set_status(tx, awake.id, ProjectStatus.FAILED)
    assert await yard.services.capacity.has_memory(project)
    assert await yard.wake.host(HOST)
    assert yard.runtime.called("start") == [app.id]

"""Apps that were ended for want of disk: unbilled and told of, and started again when they fit."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from yard import Yard

from moorage.engines.engine import Incident, IncidentKind
from moorage.errors import NoCapacity
from moorage.hosting.keeping.deletion import DAY_MS, Retention
from moorage.hosting.keeping.space import VOLUME_LOST, ReservedDiskFile, Space
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from support.books.records_fixture import ALICE, add_deployment, add_project
from support.gateway.fakes import resources, roomy
from support.gateway.waiting import until, until_read

GIB = 1 << 30


@pytest.fixture
def space(yard: Yard, tmp_path: Path) -> Space:
    return Space(
        db=yard.db,
        runtime=yard.runtime,
        metering=yard.metering,
        capacity=roomy(yard.db, runtime=yard.runtime, reserve_bytes=GIB),
        ballast=ReservedDiskFile(tmp_path / "ballast", 0),
        clock=yard.clock,
    )


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    """A project that runs on plenty of credits."""
    return await yard.active(project, micro_usd=5_000_000)


def ended(deployment: Deployment) -> Incident:
    return Incident(deployment.id, IncidentKind.NO_SPACE)


async def told(yard: Yard) -> list[tuple[str, str | int | float | None]]:
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=99)
    return [
        (e.kind, e.data.get("reason_code"))
        for e in found
        if "suspend" in e.kind or "resumed" in e.kind or "volume" in e.kind
    ]


async def test_app_that_was_ended_burns_nothing_and_stays_down(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    yard.runtime.measured = resources(free_bytes=GIB, held=frozenset({serving.id}))
    yard.runtime.die(serving.id)
    await space.handle(ended(serving))
    await space.look()
    yard.clock.advance(DAY_MS)
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert yard.runtime.called("start") == []
    assert [end is None for _, _, end in await yard.intervals(project)] == [False]
    assert await told(yard) == [("project.suspended", "no_capacity")]
    assert any("disk is nearly full" in text for text in yard.runtime.notes[serving.id])


async def test_it_runs_again_once_its_disk_fits_above_the_reserve(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    yard.runtime.die(serving.id)
    await space.handle(ended(serving))
    growth = {serving.id: GIB // 2}
    yard.runtime.measured = resources(free_bytes=3 * GIB // 2 - 1, growth=growth)
    await space.look()
    await yard.reconcile()
    assert yard.runtime.apps == {}
    yard.runtime.measured = resources(free_bytes=3 * GIB // 2, growth=growth)
    await space.look()
    await yard.reconcile()
    assert set(yard.runtime.apps) == {serving.id}
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert [end is None for _, _, end in await yard.intervals(project)] == [False, True]
    assert await told(yard) == [("project.suspended", "no_capacity"), ("project.resumed", None)]


async def test_what_the_runtime_holds_is_suspended_although_nobody_told(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    """The database may have been full as well."""
    yard.runtime.measured = resources(free_bytes=GIB, held=frozenset({serving.id, "a-build"}))
    await space.look()
    await space.look()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert await told(yard) == [("project.suspended", "no_capacity")]


async def test_room_goes_to_those_that_have_waited_longest(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    later = await add_project(yard.db, ALICE, "later")
    second = await yard.serving(later)
    async with yard.db.transaction(durable=False) as tx:
        await projects.set_status(tx, later.id, ProjectStatus.ACTIVE)
    for deployment in (serving, second):
        yard.runtime.die(deployment.id)
        await space.handle(ended(deployment))
        yard.clock.advance(1)
    growth = {serving.id: GIB, second.id: GIB}
    yard.runtime.measured = resources(free_bytes=3 * GIB - 1, growth=growth)
    await space.look()
    await yard.reconcile()
    assert set(yard.runtime.apps) == {serving.id}


async def test_retention_passes_over_what_waits_for_room(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    await space.handle(ended(serving))
    yard.clock.advance(100 * DAY_MS)
    retention = Retention(
        db=yard.db,
        deletion=yard.deletion,
        metering=yard.metering,
        suspended_days=30,
        failed_days=7,
        clock=yard.clock,
    )
    await retention.sweep()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED


async def test_build_or_replaced_version_that_was_ended_leaves_the_project_alone(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    other = await add_deployment(yard.db, project, DeploymentStatus.BUILDING)
    await space.handle(ended(other))
    await space.handle(Incident("unknown", IncidentKind.NO_SPACE))
    assert (await yard.project(project)).status is ProjectStatus.ACTIVE
    assert await told(yard) == []


async def test_owner_is_told_of_a_volume_that_was_mended(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    await space.handle(Incident(serving.id, IncidentKind.VOLUME_REPAIRED))
    assert await told(yard) == [("volume.mended", None)]


async def test_project_whose_volume_is_gone_is_suspended_once_and_waits_for_the_operator(
    yard: Yard, project: Project, space: Space
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id, is_empty=True)
    app = await yard.active(project, micro_usd=5_000_000)
    keeping = asyncio.create_task(yard.keep())
    yard.runtime.die(app.id)  # and the runtime has no volume
    await until(lambda: VOLUME_LOST in yard.runtime.notes.get(app.id, ()))
    await yard.services.suspension.enforce()
    await space.handle(Incident(app.id, IncidentKind.VOLUME_LOST))
    assert await told(yard) == [("project.suspended", "project_blocked"), ("volume.lost", None)]
    assert (await yard.project(project)).blocked_reason == VOLUME_LOST
    assert [end is None for _, _, end in await yard.intervals(project)] == [False]
    assert (yard.runtime.apps, yard.runtime.kept_volumes) == ({}, set())

    async with yard.db.transaction(durable=True) as tx:
        await projects.unblock_project(tx, project.id)
    yard.clock.advance(60_000)  # the pause after a start that failed
    await until(lambda: app.id in yard.runtime.apps)
    await until_read(lambda: yard.project(project), lambda it: not it.volume_missing)
    assert yard.runtime.kept_volumes == {project.id}
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_volume_that_is_gone_is_not_made_before_the_operator_resumes_its_project(
    yard: Yard, project: Project, space: Space
) -> None:
    """Its suspension is recorded first, and carried out a moment later."""
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id, is_empty=True)
    app = await yard.active(project, micro_usd=5_000_000)
    await yard.runtime.stop(app.id)
    await space.handle(Incident(app.id, IncidentKind.VOLUME_LOST))
    await yard.reconcile()
    assert (yard.runtime.apps, yard.runtime.kept_volumes) == ({}, set())
    assert (await yard.project(project)).volume_missing


async def test_running_app_is_not_stopped_as_its_next_version_finds_no_volume(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    """It has the files still: they would end with it."""
    version = await add_deployment(yard.db, project, DeploymentStatus.FAILED)
    with capture_logs() as lines:
        await space.handle(Incident(version.id, IncidentKind.VOLUME_LOST))
    assert [line["log_level"] for line in lines] == ["error"]
    found = await yard.project(project)
    assert (found.blocked_reason, found.volume_missing) == (None, False)


async def test_volume_that_went_with_its_project_is_not_reported(
    yard: Yard, project: Project, serving: Deployment, space: Space
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    await yard.runtime.stop(serving.id)
    await space.handle(Incident(serving.id, IncidentKind.VOLUME_LOST))
    assert (await yard.project(project)).blocked_reason is None
    assert await told(yard) == []


async def test_volume_is_not_recorded_as_made_by_an_app_that_runs_without(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    """It was started before, and is still running when its project resumes."""
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id, is_empty=True)
    await yard.reconciler.start(project.id, serving.id)
    assert (await yard.project(project)).volume_missing


async def test_volume_that_is_to_begin_empty_is_made_by_the_next_start(
    yard: Yard, project: Project
) -> None:
    app = await yard.active(project, micro_usd=5_000_000)
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id, is_empty=True)
    await yard.runtime.stop(app.id)
    await yard.reconcile()
    assert set(yard.runtime.apps) == {app.id}
    assert yard.runtime.kept_volumes == {project.id}


async def test_readiness_tells_that_the_reserve_is_touched(yard: Yard) -> None:
    capacity = roomy(yard.db, runtime=yard.runtime, reserve_bytes=GIB)
    yard.runtime.measured = resources(free_bytes=GIB)
    await capacity.check()
    yard.runtime.measured = resources(free_bytes=GIB - 1)
    with pytest.raises(NoCapacity):
        await capacity.check()

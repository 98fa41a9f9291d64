"""A project's volume goes along to another engine: one copy counts at each moment, and which."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
import structlog
from starlette.types import ASGIApp, Message
from yard import APP_LIMITS, ENGINE, HOST, SETTINGS, Yard, socket_of

from moorage.auth.rate_limit import TrustedProxies
from moorage.engines.engine import BuildSpec, Instance, InstanceSpec
from moorage.errors import (
    ClusterUnavailable,
    CommitUnknown,
    DatabaseUnavailable,
    DeployFailed,
    FailureCause,
)
from moorage.failpoints import armed
from moorage.gateway.assembly import Rooms
from moorage.gateway.pages import pages_app
from moorage.hosting.limits import capacity_policy
from moorage.hosting.work.moving import queue_move
from moorage.hosting.work.workflow import MAX_ATTEMPTS
from moorage.operate.audit.states import audit_states
from moorage.records.deployment import Deployment, DeploymentStatus, LostJob, Origin
from moorage.records.project import Project, ProjectStatus
from moorage.records.run import RunStatus
from moorage.records.size import SizeSetting
from moorage.storage.apps import deployments, jobs, projects, runs
from moorage.storage.database import Source
from moorage.storage.money import accounts
from moorage.storage.operation import evictions, exports
from moorage.storage.operation.evictions import Eviction
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, PLAN, add_deployment, add_project, fund
from support.gateway.clock import HOUR_MS, MINUTE_MS, START_MS, MovableClock
from support.gateway.fakes import FakeRuntime, app_address, tree_of
from support.gateway.waiting import until

LEFT = "left"
ROOMIER = SizeSetting(name="roomier", volume_mib=4096)
KEPT = "what the app has stored"
STAGES = ("read_volume", "write_volume", "start")
STEPS = ("volume held", "volume exported", "volume moved", "health", "ready")


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def leaving() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def yard(
    db: FaultyDatabase, clock: MovableClock, tmp_path: Path, leaving: FakeRuntime
) -> Iterator[Yard]:
    settings = msgspec.structs.replace(SETTINGS, sizes=(ROOMIER,))
    made = Yard(db, clock, tmp_path / "sources", leaving=leaving, settings=settings)
    made.sources.mkdir()
    with armed(made.reach):
        yield made


@pytest.fixture
async def project(yard: Yard) -> Project:
    made = await add_project(yard.db, status=ProjectStatus.ACTIVE)
    await fund(yard.db, ALICE, 500_000)
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, made.id)
    return await yard.project(made)


@pytest.fixture
async def serving(yard: Yard, project: Project, leaving: FakeRuntime) -> Deployment:
    """The version that serves, on the engine that is left, with what it has stored."""
    made = await add_deployment(
        yard.db,
        project,
        DeploymentStatus.READY,
        serving=True,
        created_at_ms=START_MS - 1,
        engine=LEFT,
    )
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.begin(tx, project.id)
    leaving.built[made.id] = BuildSpec(
        deployment_id=made.id,
        source=yard.sources,
        plan=PLAN,
        limits=APP_LIMITS,
        timeout_seconds=1,
    )
    leaving.apps[made.id] = Instance(deployment_id=made.id, address=app_address(made.id), port=3000)
    leaving.kept_volumes.add(project.id)
    leaving.data[project.id] = KEPT
    yard.routes.table[HOST] = socket_of(made)
    return made


async def queued(yard: Yard, project: Project, serving: Deployment) -> Deployment:
    async with yard.db.transaction(durable=True) as tx:
        return await queue_move(tx, await yard.project(project), serving, ENGINE, now_ms=START_MS)


async def test_volume_goes_along_with_its_app_and_the_old_one_is_removed(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    moved = await queued(yard, project, serving)
    ready = await yard.deployed()

    assert (ready.id, ready.status) == (moved.id, DeploymentStatus.READY)
    assert yard.runtime.data == {project.id: KEPT}
    assert (leaving.kept_volumes, leaving.apps) == (set(), {})
    assert yard.routes.table == {HOST: socket_of(ready)}
    assert "volume was moved" in ready.note
    (told,) = yard.db.sql("SELECT data FROM events WHERE kind = 'deployment.ready'").fetchall()
    assert "volume was moved" in told[0]
    assert not list((yard.sources.parent / "apps" / "moving").iterdir())


async def test_nothing_is_routed_to_the_new_app_before_its_copy_counts(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    """What a visitor had it store before would be lost if it failed."""
    seen: list[tuple[str, bool, bool]] = []

    def look(step: str) -> None:
        seen.append((step, HOST in yard.routes.table, serving.id in leaving.apps))

    yard.on_step = look
    await queued(yard, project, serving)
    await yard.deployed()
    found = {step: state for step, *state in seen}
    assert found["volume held"] == [False, True]
    for step in ("volume exported", "volume moved", "health", "ready", "volume counts"):
        assert found[step] == [False, False], step


async def test_run_that_writes_to_the_volume_is_ended_before_the_volume_is_read(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    current, runner = await yard.project(project), yard.services.runner
    run = await yard.services.runs_of_projects.queue(current, "work", timeout_seconds=60)
    working = asyncio.create_task(runner.run())
    await until(lambda: run.run_id in leaving.apps)
    writing: list[bool] = []

    def look(method: str, _: str) -> None:
        if method == "read_volume":
            writing.append(run.run_id in leaving.apps)

    leaving.on_call = look
    await queued(yard, project, serving)
    assert (await yard.deployed()).status is DeploymentStatus.READY
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert writing == [False]
    ended = await runs.by_id(yard.db, run.run_id)
    assert ended is not None
    assert (ended.status, "moved" in ended.reason) == (RunStatus.CANCELLED, True)


@pytest.mark.parametrize("stage", STAGES)
async def test_old_volume_counts_and_its_app_runs_again_when_anything_fails(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime, stage: str
) -> None:
    failing = leaving if stage == "read_volume" else yard.runtime
    failing.faults[stage] = [DeployFailed(FailureCause.OUT_OF_DISK, "It does not fit.")]
    moved = await queued(yard, project, serving)

    failed = await yard.deployed()
    await yard.reconcile()

    assert (failed.status, failed.reason) == (DeploymentStatus.FAILED, "It does not fit.")
    assert leaving.data == {project.id: KEPT}
    assert yard.runtime.kept_volumes == set()
    assert moved.id not in yard.runtime.apps
    assert serving.id in leaving.apps
    assert yard.routes.table == {HOST: socket_of(serving)}
    assert "ended" not in "".join(leaving.notes.get(serving.id, []))  # it is no restart


@pytest.mark.parametrize("step", STEPS)
async def test_crash_on_the_way_loses_nothing_and_no_app_runs_on_the_other_copy(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime, step: str
) -> None:
    """Without its database nothing that the process still does counts, as if it had ended."""
    moved = await queued(yard, project, serving)
    await crashed(yard, step)

    assert await jobs.is_moving(yard.db, project.id)
    await yard.reconcile()
    assert leaving.called("start") == []  # until the deployment is tried again, or given up

    async with yard.db.transaction(durable=True) as tx:
        await jobs.expire_leases(tx, "")
    yard.clock.advance(61_000)
    ready = await yard.deployed()
    assert (ready.id, ready.status) == (moved.id, DeploymentStatus.READY)
    assert yard.runtime.data == {project.id: KEPT}
    assert (leaving.kept_volumes, leaving.apps) == (set(), {})


async def test_crash_after_the_switch_leaves_the_new_copy_alone(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    moved = await queued(yard, project, serving)
    await crashed(yard, "volume counts")
    assert yard.routes.table == {}
    await yard.reconcile()
    moves = yard.services.volume_moves
    await moves.tidy()
    assert yard.routes.table == {HOST: socket_of(moved)}
    assert yard.runtime.data == {project.id: KEPT}
    assert (leaving.kept_volumes, leaving.called("start")) == (set(), [])


async def test_new_app_ends_before_the_old_one_may_be_started_when_every_attempt_crashes(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    moved = await queued(yard, project, serving)
    for _ in range(MAX_ATTEMPTS):
        await crashed(yard, "health")
        yard.clock.advance(61_000)
    assert moved.id in yard.runtime.apps
    moving: list[bool] = []

    def look(method: str, subject: str) -> None:
        if (method, subject) == ("stop", moved.id):
            rows = yard.db.sql("SELECT step, status FROM jobs").fetchall()
            moving.append(rows == [("moving", "running")])

    yard.runtime.on_call = look
    failed = await yard.deployed()
    await yard.reconcile()
    assert failed.status is DeploymentStatus.FAILED
    assert moving[0]
    assert serving.id in leaving.apps
    assert leaving.data == {project.id: KEPT}


async def test_new_app_ends_before_the_old_one_may_be_started_when_its_rows_were_not_to_be_read(
    yard: Yard,
    project: Project,
    serving: Deployment,
    leaving: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = await queued(yard, project, serving)
    by_id, away, moving = projects.by_id, list[bool](), list[bool]()

    async def found(source: Source, project_id: str) -> Project | None:
        if away:
            away.clear()
            raise DatabaseUnavailable
        return await by_id(source, project_id)

    async def go_away() -> None:
        away.append(True)

    def look(method: str, subject: str) -> None:
        if (method, subject) == ("stop", moved.id) and moved.id in yard.runtime.apps:
            moving.append(yard.db.sql("SELECT step FROM jobs").fetchall() == [("moving",)])

    monkeypatch.setattr(projects, "by_id", found)
    yard.before_healthy, yard.runtime.on_call = go_away, look
    yard.unhealthy = [DeployFailed(FailureCause.UNHEALTHY, "It does not answer.")]
    failed = await yard.deployed()
    assert (failed.status, moving) == (DeploymentStatus.FAILED, [True])
    assert moved.id not in yard.runtime.apps
    assert not await jobs.is_moving(yard.db, project.id)


async def crashed(yard: Yard, step: str) -> None:
    """Carries the waiting job out up to a step."""

    def crash(reached: str) -> None:
        if reached == step:
            yard.db.refuse_writes()
            yard.db.refuse_reads()
            raise Crash

    yard.on_step = crash
    with pytest.raises((Crash, DatabaseUnavailable)):
        await yard.deployed()
    yard.db.allow_writes()
    yard.db.allow_reads()
    yard.on_step = lambda _: None


async def test_copy_that_counts_by_a_commit_that_nobody_told_of_stays(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    """A server may still be committing when the connection to it is lost."""

    def lose_the_answer(step: str) -> None:
        yard.db.commits_late = step == "ready"

    yard.on_step = lose_the_answer
    moved = await queued(yard, project, serving)
    with pytest.raises(CommitUnknown):
        await yard.deployed()
    assert (await yard.project(project)).serving_deployment_id == moved.id
    assert yard.runtime.data == {project.id: KEPT}
    assert moved.id in yard.runtime.apps


async def evicted(yard: Yard, project: Project) -> None:
    async with yard.db.transaction(durable=True) as tx:
        at_ms = yard.clock.now_ms() + HOUR_MS
        await evictions.order(tx, Eviction(project.id, "closing", at_ms))


async def test_export_is_put_off_while_the_volume_is_on_its_way(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    leaving.gates["read_volume"] = asyncio.Event()
    await queued(yard, project, serving)
    await evicted(yard, project)
    moving = asyncio.create_task(yard.deployed())
    await until(lambda: bool(leaving.called("read_volume")))
    await yard.services.evictions.tick()
    assert leaving.called("read_volume") == [project.id]  # by the move
    assert await exports.of_project(yard.db, project.id) is None
    leaving.gates["read_volume"].set()
    assert (await moving).status is DeploymentStatus.READY

    yard.clock.advance(MINUTE_MS)
    await yard.services.evictions.tick()
    assert yard.runtime.called("read_volume") == [project.id]
    assert await exports.of_project(yard.db, project.id) is not None


async def test_move_waits_for_an_export_of_the_volume(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    """Each would end the other's pod."""
    leaving.gates["read_volume"] = asyncio.Event()
    await evicted(yard, project)
    exporting = asyncio.create_task(yard.services.evictions.tick())
    await until(lambda: bool(leaving.called("read_volume")))
    await queued(yard, project, serving)
    with structlog.testing.capture_logs() as logged:
        moving = asyncio.create_task(yard.deployed())
        await until(lambda: any("waits for an export" in each["event"] for each in logged))
    assert leaving.called("stop") == []
    leaving.gates["read_volume"].set()
    assert (await moving).status is DeploymentStatus.READY
    await exporting
    assert await exports.of_project(yard.db, project.id) is not None


async def test_time_of_the_copy_is_not_billed(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    def pass_time(step: str) -> None:
        if step in ("volume held", "volume moved"):  # its app runs; its app is stopped
            yard.clock.advance(10 * MINUTE_MS)

    yard.on_step = pass_time
    await queued(yard, project, serving)
    yard.clock.advance(5 * MINUTE_MS)
    await yard.deployed()
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await billed_minutes(yard, project) == [15, 60]
    await expect_sound(yard)


@pytest.mark.parametrize("step", ["volume exported", "volume moved", "health"])
async def test_app_that_comes_back_is_billed_from_its_start_on(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime, step: str
) -> None:
    def fail(reached: str) -> None:
        if reached == step:
            yard.clock.advance(10 * MINUTE_MS)
            raise DeployFailed(FailureCause.UNHEALTHY, "It does not answer.")

    yard.on_step = fail
    await queued(yard, project, serving)
    yard.clock.advance(5 * MINUTE_MS)
    await yard.deployed()
    await expect_sound(yard)
    yard.clock.advance(3 * MINUTE_MS)  # until it is noticed
    await yard.reconcile()
    assert serving.id in leaving.apps
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await billed_minutes(yard, project) == [5, 60]
    assert (await yard.project(project)).down_since_ms is None
    await expect_sound(yard)


async def test_app_that_comes_back_is_billed_although_its_start_was_cut_off(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    leaving.faults["read_volume"] = [DeployFailed(FailureCause.OUT_OF_DISK, "It does not fit.")]
    await queued(yard, project, serving)
    await yard.deployed()
    leaving.apps[serving.id] = Instance(  # by a gateway that ended at this moment
        deployment_id=serving.id, address=app_address(serving.id), port=3000
    )
    await yard.reconcile()
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await billed_minutes(yard, project) == [0, 60]
    assert (await yard.project(project)).down_since_ms is None
    await expect_sound(yard)


async def test_app_that_comes_back_after_long_is_not_put_to_sleep(
    db: FaultyDatabase,
    clock: MovableClock,
    tmp_path: Path,
    yard: Yard,
    project: Project,
    serving: Deployment,
    leaving: FakeRuntime,
) -> None:
    sleepy = Yard(db, clock, tmp_path / "sources", leaving=leaving)
    async with db.transaction(durable=False) as tx:
        await projects.set_sleep_after(tx, project.id, 3_600)

    def pack(method: str, subject: str) -> None:
        if method == "read_volume":
            clock.advance(2 * HOUR_MS)

    await sleepy.reconcile()  # its app is in use
    leaving.on_call = pack
    leaving.faults["read_volume"] = [DeployFailed(FailureCause.OUT_OF_DISK, "It does not fit.")]
    await queued(sleepy, project, serving)
    await sleepy.deployed()
    await sleepy.reconcile()
    assert serving.id in leaving.apps
    assert (await sleepy.project(project)).asleep_since_ms is None
    await expect_sound(sleepy)


async def test_app_that_comes_back_without_credits_is_suspended(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    leaving.faults["read_volume"] = [DeployFailed(FailureCause.OUT_OF_DISK, "It does not fit.")]
    await queued(yard, project, serving)
    await yard.deployed()
    async with yard.db.transaction(durable=True) as tx:
        assert await accounts.change_balance(tx, ALICE, -await accounts.balance(tx, ALICE))
    await yard.reconcile()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert await billed_minutes(yard, project) == [0]


async def test_sleeping_app_is_billed_on_while_its_volume_is_moving(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        assert await projects.fall_asleep(tx, project.id, serving=serving.id, at_ms=START_MS)
    await queued(yard, project, serving)
    await yard.deployed()
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await billed_minutes(yard, project) == [60]


@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "comes back"])
async def test_certificate_that_comes_on_the_way_is_charged_from_the_start_of_an_app(
    yard: Yard, project: Project, serving: Deployment, arrives: bool
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.end(tx, project.id)
        await projects.set_uncertified(tx, project.id, since_ms=START_MS)

    async def certify() -> None:
        await yard.certify(HOST)
        await yard.services.uncertified.look()
        yard.clock.advance(10 * MINUTE_MS)
        if not arrives:
            raise DeployFailed(FailureCause.UNHEALTHY, "It does not answer.")

    yard.before_healthy = certify
    await queued(yard, project, serving)
    await yard.deployed()
    await yard.reconcile()
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await billed_minutes(yard, project) == [0, 60]
    assert (await yard.project(project)).uncertified_since_ms is None
    await expect_sound(yard)


async def test_crash_on_the_way_bills_nothing_until_an_app_runs(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await queued(yard, project, serving)
    await crashed(yard, "volume moved")
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    await expect_sound(yard)
    async with yard.db.transaction(durable=True) as tx:
        await jobs.expire_leases(tx, "")
    await yard.deployed()
    yard.clock.advance(HOUR_MS)
    await yard.metering.tick()
    assert await billed_minutes(yard, project) == [0, 60]


async def billed_minutes(yard: Yard, project: Project) -> list[float]:
    """For how long the project was charged, interval by interval."""
    found = yard.db.sql(
        "SELECT charged_until_ms - started_at_ms FROM run_intervals WHERE project_id = ?"
        " ORDER BY started_at_ms",
        (project.id,),
    )
    return [each / MINUTE_MS for (each,) in found.fetchall()]


async def expect_sound(yard: Yard) -> None:
    async with yard.db.snapshot() as rows:
        assert await audit_states(rows, now_ms=yard.clock.now_ms()) == []


async def test_cluster_that_goes_away_gives_the_old_app_back(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    yard.runtime.faults["write_volume"] = [ClusterUnavailable("away")]
    yard.runtime.faults["delete_volume"] = [ClusterUnavailable("away")]
    await queued(yard, project, serving)
    with pytest.raises(ClusterUnavailable):
        await yard.deployed()
    assert not await jobs.is_moving(yard.db, project.id)
    await yard.reconcile()
    assert serving.id in leaving.apps
    assert leaving.data == {project.id: KEPT}


async def test_copy_that_could_not_be_removed_is_removed_later(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    yard.runtime.kept_volumes.add(project.id)
    moves = yard.services.volume_moves
    await moves.tidy()
    assert (yard.runtime.kept_volumes, leaving.kept_volumes) == (set(), {project.id})


async def test_old_volume_that_stays_holds_up_no_other(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    other = await add_project(yard.db, name="other", status=ProjectStatus.ACTIVE)
    second = await add_deployment(yard.db, other, DeploymentStatus.READY, serving=True)
    leaving.built[second.id] = leaving.built[serving.id]
    volumes = {project.id, other.id}
    yard.runtime.kept_volumes, leaving.kept_volumes = set(volumes), set(volumes)
    yard.runtime.faults["delete_volume"] = [OSError("busy")]
    moves = yard.services.volume_moves
    await moves.tidy()
    assert len(yard.runtime.kept_volumes) == 1
    await moves.tidy()
    assert (yard.runtime.kept_volumes, leaving.kept_volumes) == (set(), volumes)


async def test_archive_of_a_move_that_was_cut_off_and_given_up_is_removed(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    """It has what an app has stored, whose project may be deleted by then."""
    archives = yard.sources.parent / "apps" / "moving"
    (archives / "deleted").mkdir(parents=True)
    (archives / "deleted" / "archive").write_text(KEPT)
    under_way: list[bool] = []
    moves = yard.services.volume_moves

    async def tidy() -> None:
        (archives / project.id).mkdir(exist_ok=True)
        await moves.tidy()
        under_way.append((archives / project.id).exists())

    yard.before_healthy = tidy
    await queued(yard, project, serving)
    await yard.deployed()
    assert under_way == [True]
    assert not (archives / "deleted").exists()
    await moves.tidy()
    assert list(archives.iterdir()) == []


@pytest.mark.parametrize(("size", "mib"), [("standard", 1024), ("roomier", 4096)])
async def test_archive_takes_nothing_that_is_kept_free_or_promised_to_another(
    yard: Yard,
    project: Project,
    serving: Deployment,
    leaving: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    size: str,
    mib: int,
) -> None:
    """What it took would be missing to apps of others, which would be ended for it."""
    yard.db.sql("UPDATE deployments SET size = ?", (size,))
    serving = msgspec.structs.replace(serving, size=size)
    reserve = capacity_policy(SETTINGS).reserve_bytes
    free = [reserve + mib * 1024**2 - 1]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    await queued(yard, project, serving)
    refused = await yard.deployed()
    assert "no room for an archive" in (refused.reason or "")
    assert leaving.called("stop") == []  # it is refused while the app runs
    free[0] += 1
    await queued(yard, project, serving)
    assert (await yard.deployed()).status is DeploymentStatus.READY


async def test_volume_of_an_unknown_project_is_left_alone(yard: Yard, leaving: FakeRuntime) -> None:
    yard.runtime.kept_volumes, leaving.kept_volumes = {"unknown"}, {"unknown"}
    moves = yard.services.volume_moves
    await moves.tidy()
    assert (yard.runtime.kept_volumes, leaving.kept_volumes) == ({"unknown"}, {"unknown"})


async def test_rollback_to_the_old_engine_takes_the_volume_back_as_it_is_now(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    await queued(yard, project, serving)
    moved = await yard.deployed()
    yard.runtime.data[project.id] = "stored since"
    back = await yard.services.rollback.to(await yard.project(project), serving.id)
    ready = await yard.deployed()
    assert (ready.id, ready.status) == (back.deployment_id, DeploymentStatus.READY)
    assert ready.origin is Origin.ROLLBACK
    assert leaving.data == {project.id: "stored since"}
    assert (yard.runtime.kept_volumes, moved.id in yard.runtime.apps) == (set(), False)


async def test_what_failed_before_it_served_leaves_no_volume_behind(
    yard: Yard, project: Project, leaving: FakeRuntime
) -> None:
    leaving.kept_volumes.add(project.id)  # cleared, and empty
    await yard.queued(project)
    ready = await yard.deployed()
    assert ready.status is DeploymentStatus.READY
    assert (yard.runtime.kept_volumes, leaving.kept_volumes) == ({project.id}, set())
    assert yard.runtime.called("write_volume") == []


async def test_visitor_waits_while_the_volume_is_on_its_way(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    moved = await queued(yard, project, serving)
    job = await yard.claim()
    async with yard.db.transaction(durable=True) as tx:
        await jobs.hold(tx, job, jobs.MOVING)
    yard.routes.table.clear()
    leaving.apps.clear()

    async def over() -> None:
        async with yard.db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, "built")

    yard.on_pause = over
    assert await yard.wake.host(HOST)
    await yard.tasks_done()
    assert len(yard.pauses) == 1
    assert leaving.called("start") == [serving.id]
    assert moved.id not in yard.runtime.apps


@pytest.mark.parametrize(
    ("status", "told"),
    [(ProjectStatus.ACTIVE, "app_moving"), (ProjectStatus.SUSPENDED, "app_suspended")],
)
async def test_visitor_is_told_that_it_comes_back_only_if_it_does(
    yard: Yard, project: Project, serving: Deployment, status: ProjectStatus, told: str
) -> None:
    """What is out of credits moves as well, and is back when its owner has paid."""
    await queued(yard, project, serving)
    job = await yard.claim()
    async with yard.db.transaction(durable=True) as tx:
        await jobs.hold(tx, job, jobs.MOVING)
        await projects.set_status(tx, project.id, status)
    hosts = SimpleNamespace(base_domain="example.com")
    platform = SimpleNamespace(hosts=hosts, gateway_url="https://gateway.example")
    api = SimpleNamespace(proxies=TrustedProxies(()))
    rooms = SimpleNamespace(
        deploy=yard.services,
        ledger=SimpleNamespace(metering=yard.metering),
        core=yard.core,
        platform=platform,
        api=api,
    )
    assert await page_at(pages_app(cast("Rooms", rooms))) == told


async def page_at(app: ASGIApp) -> str:
    """The code of what a visitor of the project's host gets."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", HOST.encode())],
    }
    await app(scope, receive, send)
    return str(json.loads(sent[1]["body"])["code"])


async def test_app_that_uses_the_old_volume_is_not_started_on_its_way(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    refused: list[str] = []

    def begin(method: str, _: str) -> None:
        if method == "read_volume":
            spec = InstanceSpec(
                deployment_id=serving.id,
                plan=PLAN,
                limits=APP_LIMITS,
                volume=project.id,
            )
            starting = yard.engine.start(spec, timeout_seconds=1)
            yard.before_healthy = lambda: outcome(starting)

    async def outcome(starting: object) -> None:
        try:
            await starting  # type: ignore[misc]
        except DeployFailed as failure:
            refused.append(failure.reason)

    leaving.on_call = begin
    await queued(yard, project, serving)
    await yard.deployed()
    assert len(refused) == 1
    assert leaving.called("start") == []


async def test_deployment_that_is_given_up_on_the_way_gives_the_old_app_back(
    yard: Yard, project: Project, serving: Deployment, leaving: FakeRuntime
) -> None:
    moved = await queued(yard, project, serving)

    def give_up(step: str) -> None:
        if step == "volume exported":
            yard.db.sql("UPDATE jobs SET status = 'done', fence = fence + 1")

    yard.on_step = give_up
    with pytest.raises(LostJob):
        await yard.deployed()
    assert (await yard.project(project)).serving_deployment_id == serving.id
    assert not await jobs.is_moving(yard.db, project.id)
    assert leaving.data == {project.id: KEPT}
    assert yard.runtime.kept_volumes == set()
    assert moved.id not in yard.runtime.apps
    assert await deployments.by_id(yard.db, moved.id) is not None
    assert await projects.by_id(yard.db, project.id) is not None


async def test_new_project_begins_with_the_volume_that_an_export_brought(
    db: FaultyDatabase, clock: MovableClock, tmp_path: Path
) -> None:
    yard = Yard(db, clock, tmp_path / "sources")
    yard.sources.mkdir()
    project = await add_project(db, status=ProjectStatus.QUEUED, volume=True)
    queued_one = await yard.queued(project)
    tree_of(KEPT, yard.sources / f"{queued_one.id}.volume")
    ready = await yard.deployed()
    assert ready.status is DeploymentStatus.READY
    assert yard.runtime.data == {project.id: KEPT}
    assert "began with what the export had" in ready.note
    assert yard.runtime.called("write_volume") == [project.id]
    assert not list(yard.sources.glob("*.volume"))

import msgspec
import pytest
from yard import APP_LIMITS, HOST, Yard, socket_of

from moorage.engines.engine import AppExit
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.hosting.work.switch import wait_until_healthy
from moorage.planning.plan import Plan
from moorage.records.deployment import DeploymentStatus, LogKind, Origin, ReleaseStep
from moorage.records.project import Kind, Project, ProjectStatus
from support.books.records_fixture import PLAN, fund

MIGRATE = "python manage.py migrate"
RELEASING: Plan = msgspec.structs.replace(PLAN, release=MIGRATE)
WORKING: Plan = msgspec.structs.replace(PLAN, kind=Kind.WORKER)
WELL = AppExit(exit_code=0, out_of_memory=False)


async def test_release_command_runs_after_the_build_before_the_app(
    yard: Yard, project: Project
) -> None:
    yard.runtime.ends[MIGRATE] = WELL
    queued = await yard.queued(project, RELEASING)
    ready = await yard.deployed()
    assert (ready.status, ready.release_step) == (DeploymentStatus.READY, ReleaseStep.DONE)
    assert [it for it in yard.steps if it != "ready"] == [
        *("build", "built", "start", "releasing", "released", "health", "route")
    ]
    calls = [it for it, of in yard.runtime.calls if of == queued.id and it in ("start", "stop")]
    assert calls[:3] == ["start", "stop", "start"]
    assert yard.runtime.logs[queued.id, LogKind.BUILD] == f"$ {MIGRATE}\n"
    assert yard.db.sql("SELECT count(*) FROM work WHERE kind = 'build'").fetchone() == (2,)


async def test_release_command_is_run_as_the_app_is(yard: Yard, project: Project) -> None:
    yard.runtime.faults["start"] = [DeployFailed(FailureCause.INTERRUPTED, "seen")]
    seen = []
    start = yard.runtime.start

    async def spy(spec, *, timeout_seconds):  # type: ignore[no-untyped-def]
        seen.append(spec)
        return await start(spec, timeout_seconds=timeout_seconds)

    yard.runtime.start = spy  # type: ignore[method-assign]
    await yard.queued(project, RELEASING)
    await yard.deployed()
    (spec,) = seen
    assert (spec.command, spec.listens, spec.log) == (MIGRATE, False, LogKind.BUILD)
    assert (spec.limits, spec.owner) == (APP_LIMITS, project.wallet)


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (AppExit(exit_code=3, out_of_memory=False), "failed with exit code 3"),
        (AppExit(exit_code=137, out_of_memory=True), "ran out of its"),
        (AppExit(exit_code=None, out_of_memory=False), "an unknown exit code"),
    ],
)
async def test_failed_release_fails_the_deployment_and_the_old_version_serves_on(
    yard: Yard, project: Project, ended: AppExit, says: str
) -> None:
    serving = await yard.active(project, micro_usd=1_000_000)
    yard.runtime.ends[MIGRATE] = ended
    await yard.queued(project, RELEASING)
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (
        DeploymentStatus.FAILED,
        FailureCause.RELEASE_FAILED,
    )
    assert says in (failed.reason or "")
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, serving.id)
    assert yard.routes.table == {HOST: socket_of(serving)}
    assert serving.id in yard.runtime.apps


async def test_release_that_never_ends_is_stopped_at_the_limit(
    yard: Yard, project: Project
) -> None:
    def a_minute(method: str, _: str) -> None:
        if method == "inspect":
            yard.clock.advance(60_000)

    yard.runtime.on_call = a_minute
    queued = await yard.queued(project, RELEASING)
    failed = await yard.deployed()
    assert failed.reason_code == FailureCause.RELEASE_FAILED
    assert "took longer than 100 s" in (failed.reason or "")
    assert queued.id not in yard.runtime.apps


async def test_release_whose_end_is_unknown_is_never_run_again(
    yard: Yard, project: Project
) -> None:
    serving = await yard.active(project, micro_usd=1_000_000)
    queued = await yard.queued(project, RELEASING)

    def crash(step: str) -> None:
        if step == "releasing":
            raise KeyboardInterrupt

    yard.on_step = crash
    with pytest.raises(KeyboardInterrupt):
        await yard.deployed()
    yard.on_step = lambda step: None
    yard.clock.advance(120_000)  # its lease has run out
    failed = await yard.deployed()
    assert (failed.reason_code, failed.release_step) == (
        FailureCause.INTERRUPTED,
        ReleaseStep.BEGUN,
    )
    assert "look at your data" in (failed.reason or "")
    assert queued.id not in yard.runtime.specs
    assert (await yard.project(project)).serving_deployment_id == serving.id


async def test_release_that_has_run_is_not_run_again_after_a_crash(
    yard: Yard, project: Project
) -> None:
    yard.runtime.ends[MIGRATE] = WELL
    queued = await yard.queued(project, RELEASING)

    def crash(step: str) -> None:
        if step == "health":
            raise KeyboardInterrupt

    yard.on_step = crash
    with pytest.raises(KeyboardInterrupt):
        await yard.deployed()
    yard.on_step = lambda step: None
    yard.clock.advance(120_000)
    assert (await yard.deployed()).status is DeploymentStatus.READY
    assert yard.runtime.logs[queued.id, LogKind.BUILD].count(MIGRATE) == 1


async def test_cluster_that_is_away_for_a_moment_ends_no_release(
    yard: Yard, project: Project
) -> None:
    yard.runtime.ends[MIGRATE] = WELL
    yard.runtime.faults["inspect"] = [ClusterUnavailable("away")]
    await yard.queued(project, RELEASING)
    assert (await yard.deployed()).status is DeploymentStatus.READY


async def test_copies_run_no_release(yard: Yard, project: Project) -> None:
    serving = await yard.active(project, micro_usd=1_000_000)
    copied = {"copy_of": serving.id, "origin": Origin.ROLLBACK}
    queued = await yard.queued(project, RELEASING, **copied)
    assert (await yard.deployed()).release_step is None
    assert yard.runtime.specs[queued.id].listens


async def test_worker_has_no_route_and_no_certificate(yard: Yard, project: Project) -> None:
    yard.gives_certificates = False
    await fund(yard.db, project.wallet, 1_000_000)
    queued = await yard.queued(project, WORKING)
    ready = await yard.deployed()
    assert (ready.status, ready.note) == (DeploymentStatus.READY, "")
    now = await yard.project(project)
    assert (now.status, now.kind) == (ProjectStatus.ACTIVE, Kind.WORKER)
    assert yard.routes.table == {}
    assert not yard.runtime.specs[queued.id].listens
    assert await yard.wake.host(HOST) is False
    await yard.reconciler.reconcile()
    assert (list(yard.runtime.apps), yard.routes.table) == ([queued.id], {})


async def test_route_goes_and_comes_as_a_project_turns_into_a_worker_and_back(
    yard: Yard, project: Project
) -> None:
    await yard.active(project, micro_usd=1_000_000)
    await yard.queued(project, WORKING)
    await yard.deployed()
    assert yard.routes.table == {}
    queued = await yard.queued(project)
    await yard.deployed()
    assert yard.routes.table == {HOST: socket_of(queued)}
    assert (await yard.project(project)).kind is Kind.WEB


async def test_worker_that_ends_early_fails_and_the_route_stays(
    yard: Yard, project: Project
) -> None:
    serving = await yard.active(project, micro_usd=1_000_000)
    queued = await yard.queued(project, WORKING)

    async def ends() -> None:
        yard.runtime.die(queued.id, exit_code=4)

    yard.before_healthy = ends
    yard.unhealthy.append(DeployFailed(FailureCause.CRASHED, "The worker ended at once."))
    failed = await yard.deployed()
    assert failed.reason_code == FailureCause.CRASHED
    assert "ended with exit code 4 within its first 10 s" in (failed.reason or "")
    assert yard.routes.table == {HOST: socket_of(serving)}
    assert (await yard.project(project)).kind is Kind.WEB


async def test_worker_is_well_once_it_has_lived_for_the_time() -> None:
    looks = []

    async def lives() -> bool:
        looks.append(1)
        return False

    async def dies() -> bool:
        return True

    await wait_until_healthy(None, host="", path="", timeout_seconds=0.01, has_ended=lives)
    assert looks
    with pytest.raises(DeployFailed):
        await wait_until_healthy(None, host="", path="", timeout_seconds=60, has_ended=dies)

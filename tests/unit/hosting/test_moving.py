"""Moving a project from the engine that has its files to the gateway's own."""

import msgspec
import pytest
from yard import ENGINE, HOST, Yard, socket_of

from moorage.errors import ConfigurationInvalid, DeployFailed, FailureCause
from moorage.gateway.engine_choice import require_open_engines
from moorage.hosting.work.moving import INSTALLED, queue_move
from moorage.operate.engines import move_project
from moorage.planning.plan import Stack
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from support.books.records_fixture import ALICE, PLAN, add_deployment, fund
from support.gateway.clock import START_MS

LEFT = "left"
PLAN_JSON = msgspec.json.encode(PLAN).decode()
INSTALLING = msgspec.json.encode(msgspec.structs.replace(PLAN, install="npm ci")).decode()


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    """The version that serves, on the engine that is left."""
    return await yard.active(project, micro_usd=500_000, created_at_ms=START_MS - 1, engine=LEFT)


async def queued(yard: Yard, project: Project, serving: Deployment, to: str = ENGINE) -> Deployment:
    current = await yard.project(project)
    async with yard.db.transaction(durable=True) as tx:
        return await queue_move(tx, current, serving, to, now_ms=START_MS)


async def begun(yard: Yard, to: str = ENGINE) -> str:
    """Why the project's move can't be queued, or ""."""
    (placed,) = await deployments.placed(yard.db)
    return await move_project(yard.db, placed, to)


async def test_moved_project_is_built_from_its_files_and_served_from_the_other_engine(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    assert [each.engine for each in await deployments.placed(yard.db)] == [LEFT]

    moved = await queued(yard, project, serving)
    ready = await yard.deployed()

    assert (ready.id, ready.status, ready.copy_of) == (moved.id, DeploymentStatus.READY, serving.id)
    assert yard.runtime.called("export_files") == [serving.id]
    assert yard.runtime.called("build") == [moved.id]
    assert yard.runtime.called("copy") == []
    assert yard.routes.table == {HOST: socket_of(ready)}
    assert [each.engine for each in await deployments.placed(yard.db)] == [ENGINE]
    replaced = await deployments.by_id(yard.db, serving.id)
    assert replaced is not None
    assert replaced.status is DeploymentStatus.SUPERSEDED


async def test_owner_pays_nothing_for_the_build_of_a_move(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await queued(yard, project, serving)
    await yard.deployed()
    assert yard.db.sql("SELECT count(*) FROM work").fetchone() == (0,)


@pytest.mark.parametrize(("plan", "left_out"), [(PLAN_JSON, set()), (INSTALLING, set(INSTALLED))])
async def test_move_leaves_out_what_the_install_makes_anew(
    yard: Yard, project: Project, serving: Deployment, plan: str, left_out: set[str]
) -> None:
    moved = await queued(yard, project, msgspec.structs.replace(serving, plan=plan))
    seen: list[str] = []

    def look(method: str, _: str) -> None:
        if method == "build":
            seen.append((yard.sources / moved.id / "without").read_text())

    yard.runtime.on_call = look
    await yard.deployed()
    assert set(seen[0].split()) == left_out


async def test_dockerfile_does_not_move_where_none_is_built(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    plan = msgspec.json.encode(msgspec.structs.replace(PLAN, stack=Stack.DOCKERFILE)).decode()
    await queued(yard, project, msgspec.structs.replace(serving, plan=plan))
    failed = await yard.deployed()
    assert failed.status is DeploymentStatus.FAILED
    assert "Dockerfile" in (failed.reason or "")
    assert yard.runtime.called("export_files") == []


@pytest.mark.parametrize("stage", ["export_files", "build", "start"])
async def test_version_on_the_old_engine_serves_on_when_its_move_fails(
    yard: Yard, project: Project, serving: Deployment, stage: str
) -> None:
    failure = DeployFailed(FailureCause.BUILD_FAILED, "It can't be built there.")
    yard.runtime.faults[stage] = [failure]
    await queued(yard, project, serving)

    failed = await yard.deployed()

    assert (failed.status, failed.reason) == (DeploymentStatus.FAILED, failure.reason)
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, serving.id)
    assert yard.routes.table == {HOST: socket_of(serving)}
    (placed,) = await deployments.placed(yard.db)
    assert (placed.engine, placed.move) == (LEFT, DeploymentStatus.FAILED)
    assert placed.reason == failure.reason


async def test_copy_of_what_is_on_the_old_engine_stays_there(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    copy = await queued(yard, project, serving, to=LEFT)
    await yard.deployed()
    assert yard.runtime.called("copy") == [copy.id]
    assert [each.engine for each in await deployments.placed(yard.db)] == [LEFT]


async def test_move_to_an_engine_that_the_gateway_no_longer_has_fails(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await queued(yard, project, serving, to="another")
    failed = await yard.deployed()
    assert failed.status is DeploymentStatus.FAILED
    assert "another" in (failed.reason or "")


async def test_upload_is_noted_to_be_on_the_gateways_own_engine(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, 500_000)
    await yard.queued(project)
    await yard.deployed()
    assert [each.engine for each in await deployments.placed(yard.db)] == [ENGINE]


async def test_operators_move_is_queued_once(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    assert await begun(yard) == ""
    (move,) = await deployments.under_way_of(yard.db, project.id)
    assert (move.copy_of, move.engine) == (serving.id, ENGINE)
    assert "under way" in await begun(yard)


async def test_move_is_refused_where_there_is_nothing_to_move(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    assert "already" in await begun(yard, to=LEFT)
    async with yard.db.transaction(durable=True) as tx:
        await projects.block_project(tx, project.id, "spam")
    assert "suspended" in await begun(yard)
    assert not await deployments.under_way_of(yard.db, project.id)


@pytest.mark.parametrize(
    ("engine", "way"),
    [
        ("docker", 'set moving_from = "docker"'),
        ("rootless", "does not have it.*moorage operator evict"),
    ],
)
async def test_gateway_without_the_engine_of_a_serving_project_does_not_start(
    yard: Yard, project: Project, engine: str, way: str
) -> None:
    await yard.serving(project, engine=engine)
    await require_open_engines(yard.db, {ENGINE: yard.runtime, engine: yard.runtime})
    with pytest.raises(ConfigurationInvalid, match=way):
        await require_open_engines(yard.db, {ENGINE: yard.runtime})


async def test_releases_alone_on_another_engine_hinder_no_start(
    yard: Yard, project: Project
) -> None:
    await yard.serving(project, engine=ENGINE)
    await add_deployment(yard.db, project, DeploymentStatus.SUPERSEDED, engine=LEFT)
    await require_open_engines(yard.db, {ENGINE: yard.runtime})

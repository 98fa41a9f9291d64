"""At a gateway that does not keep the apps: its proxy's routes follow rows and engine."""

import asyncio

import pytest
from yard import HOST, Yard, socket_of

from moorage.engines.engine import Instance
from moorage.errors import IsolationMissing
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.addresses.routes import FollowedRoutes
from moorage.hosting.keeping.wake import WakeElsewhere
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.domain import Domain, DomainStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import domains, jobs, projects
from moorage.storage.database import Source
from support.books.records_fixture import add_deployment
from support.gateway.fakes import FakeRoutes
from support.gateway.waiting import until

DOMAIN = "shop.example.net"


@pytest.fixture
def routes() -> FakeRoutes:
    """Of this gateway's own proxy."""
    return FakeRoutes()


@pytest.fixture
def followed(yard: Yard, routes: FakeRoutes) -> FollowedRoutes:
    hosts = Hosts(base_domain="example.com", scheme="https", port=None)
    return FollowedRoutes(db=yard.db, instances=yard.runtime, routes=routes, hosts=hosts)


@pytest.fixture
def wake(yard: Yard, followed: FollowedRoutes) -> WakeElsewhere:
    return WakeElsewhere(
        db=yard.db,
        addresses=yard.addresses,
        routes=followed,
        capacity=yard.services.capacity,
        metering=yard.metering,
        timeout_seconds=60,
        clock=yard.clock,
    )


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    return await yard.active(project, micro_usd=500_000, billed=False)


async def replaced(yard: Yard, project: Project, *, runs: bool) -> Deployment:
    """Another version serves now, by its row."""
    newer = await add_deployment(yard.db, project, DeploymentStatus.READY, serving=True)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
    if runs:
        run(yard, newer)
    return newer


def run(yard: Yard, deployment: Deployment) -> None:
    yard.runtime.apps[deployment.id] = Instance(
        deployment_id=deployment.id, address=socket_of(deployment), port=3000
    )


async def test_hosts_are_routed_to_what_serves_and_to_the_next_version_once_it_runs(
    yard: Yard, project: Project, app: Deployment, followed: FollowedRoutes, routes: FakeRoutes
) -> None:
    verified = Domain(
        host=DOMAIN,
        project_id=project.id,
        token="t",
        status=DomainStatus.VERIFIED,
        created_at_ms=1,
    )
    async with yard.db.transaction(durable=True) as tx:
        await domains.add(tx, verified)
    await followed.follow()
    assert routes.table == {HOST: socket_of(app), DOMAIN: socket_of(app)}

    newer = await replaced(yard, project, runs=False)
    await followed.follow()
    assert routes.table[HOST] == socket_of(app)  # it runs on until the newer one is seen
    run(yard, newer)
    await followed.follow()
    assert routes.table == {HOST: socket_of(newer), DOMAIN: socket_of(newer)}


async def test_address_of_an_app_that_ended_is_routed_no_more(
    yard: Yard, app: Deployment, followed: FollowedRoutes, routes: FakeRoutes
) -> None:
    await followed.follow()
    yard.runtime.apps.clear()
    await followed.follow()
    assert routes.table == {}


@pytest.mark.parametrize(
    "status", [ProjectStatus.SUSPENDED, ProjectStatus.DELETING], ids=lambda status: status.value
)
async def test_projects_that_are_not_served_have_no_route(
    yard: Yard,
    project: Project,
    app: Deployment,
    followed: FollowedRoutes,
    routes: FakeRoutes,
    status: ProjectStatus,
) -> None:
    await followed.follow()
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, status)
    await followed.follow()
    assert routes.table == {}
    assert yard.runtime.apps


async def test_engine_that_does_not_know_what_runs_changes_no_route(
    yard: Yard,
    app: Deployment,
    followed: FollowedRoutes,
    routes: FakeRoutes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await followed.follow()

    async def unknown() -> dict[str, Instance]:
        raise IsolationMissing(("the cluster",))

    monkeypatch.setattr(yard.runtime, "running", unknown)
    with pytest.raises(IsolationMissing):
        await followed.follow()
    assert routes.table == {HOST: socket_of(app)}


async def test_visitor_of_a_sleeping_app_waits_until_the_leader_has_started_it(
    yard: Yard, project: Project, app: Deployment, wake: WakeElsewhere, routes: FakeRoutes
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        assert await projects.fall_asleep(tx, project.id, serving=app.id, at_ms=1)
    yard.runtime.apps.clear()

    waiting = [asyncio.create_task(wake.host(HOST)) for _ in range(3)]

    async def is_awake() -> bool:
        return (await yard.project(project)).asleep_since_ms is None

    await until(is_awake)
    assert not any(task.done() for task in waiting)
    run(yard, app)
    assert await asyncio.gather(*waiting) == [True] * 3
    assert routes.table == {HOST: socket_of(app)}


async def test_app_whose_volume_moves_is_not_wanted_until_it_has_come(
    yard: Yard,
    project: Project,
    app: Deployment,
    wake: WakeElsewhere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
        assert await projects.fall_asleep(tx, project.id, serving=app.id, at_ms=1)
    await yard.queued(project)
    yard.db.sql("UPDATE jobs SET step = 'moving'")
    yard.runtime.apps.clear()
    looked, carries = list[bool](), jobs.is_moving

    async def told(source: Source, project_id: str) -> bool:
        looked.append(await carries(source, project_id))
        return looked[-1]

    monkeypatch.setattr(jobs, "is_moving", told)
    waiting = asyncio.create_task(wake.host(HOST))

    async def has_looked() -> bool:
        return len(looked) > 2

    async def is_awake() -> bool:
        return (await yard.project(project)).asleep_since_ms is None

    await until(has_looked)
    assert not await is_awake()
    yard.db.sql("UPDATE jobs SET step = 'built'")
    await until(is_awake)
    run(yard, app)
    assert await waiting


async def test_visitor_of_no_app_or_of_one_that_is_not_served_does_not_wait(
    yard: Yard, project: Project, app: Deployment, wake: WakeElsewhere
) -> None:
    assert not await wake.host("nobody.example.com")
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.SUSPENDED)
    assert not await wake.host(HOST)

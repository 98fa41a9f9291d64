"""Routes to apps of a cluster that does not answer: after a while they may lead to another app."""

import pytest
from yard import HOST, Yard

from moorage.errors import ClusterUnavailable
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.addresses.routes import UNSEEN_SECONDS, FollowedRoutes, UnseenRoutes
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRoutes, FakeRuntime, app_address

OTHER = "other.example.com"


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def routes() -> FakeRoutes:
    routes = FakeRoutes()
    routes.table.update({HOST: app_address("one"), OTHER: app_address("other")})
    return routes


def silent(runtime: FakeRuntime, *, times: int) -> None:
    runtime.faults["running"] = [ClusterUnavailable("it does not answer") for _ in range(times)]


async def test_routes_go_when_nobody_knows_for_long_where_apps_run(
    runtime: FakeRuntime, routes: FakeRoutes, clock: MovableClock
) -> None:
    unseen = UnseenRoutes(instances=runtime, routes=routes, clock=clock)
    silent(runtime, times=3)
    await unseen.look()
    clock.advance(round(UNSEEN_SECONDS * 1000))
    await unseen.look()
    assert set(routes.table) == {HOST, OTHER}
    clock.advance(1)
    await unseen.look()
    assert routes.table == {}


async def test_an_answer_in_between_keeps_all_routes(
    runtime: FakeRuntime, routes: FakeRoutes, clock: MovableClock
) -> None:
    unseen = UnseenRoutes(instances=runtime, routes=routes, clock=clock)
    for _ in range(3):
        silent(runtime, times=1)
        await unseen.look()
        clock.advance(round(UNSEEN_SECONDS * 1000) - 1)
        await unseen.look()
    assert set(routes.table) == {HOST, OTHER}


@pytest.mark.parametrize("keeps", [True, False])
async def test_routes_are_back_when_the_cluster_answers_again(
    yard: Yard, project: Project, routes: FakeRoutes, keeps: bool
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
    hosts = Hosts(base_domain="example.com", scheme="https", port=None)
    followed = FollowedRoutes(db=yard.db, instances=yard.runtime, routes=routes, hosts=hosts)
    route, table = (yard.reconciler.reconcile, yard.routes) if keeps else (followed.follow, routes)
    unseen = UnseenRoutes(instances=yard.runtime, routes=table, clock=yard.clock)
    await route()
    silent(yard.runtime, times=1)
    yard.clock.advance(round(UNSEEN_SECONDS * 1000) + 1)
    await unseen.look()
    assert table.table == {}
    await route()
    assert set(table.table) == {HOST}

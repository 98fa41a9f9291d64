"""What one process knows of apps, and the locks of projects."""

import asyncio

import pytest
from yard import HOST, Yard, socket_of

from moorage.hosting.keeping.apps import Apps
from moorage.records.deployment import Deployment
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from support.books.records_fixture import BOB, add_project, fund


@pytest.fixture
def apps(yard: Yard) -> Apps:
    return yard.apps


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    """A project's app that serves and runs."""
    return await yard.active(project, micro_usd=500_000, billed=False)


async def test_lock_is_one_holders_at_a_time(apps: Apps) -> None:
    inside = 0

    async def hold() -> None:
        nonlocal inside
        async with apps.held("a"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(hold() for _ in range(20)))


async def test_two_that_need_the_same_locks_do_not_wait_for_each_other_for_ever(apps: Apps) -> None:
    async def hold(*names: str) -> None:
        async with apps.held(*names):
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(hold("a", "b") for _ in range(9)), *(hold("b", "a") for _ in range(9))
        )


async def test_lock_that_is_held_is_not_forgotten(apps: Apps) -> None:
    async with apps.held("a"):
        apps.forget(keep=[])
        waiting = asyncio.create_task(apps.project("a").held().__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_project_that_somebody_holds_holds_up_no_other(
    yard: Yard, project: Project, app: Deployment
) -> None:
    other = await add_project(yard.db, wallet=BOB, unique_name="other")
    await fund(yard.db, BOB, 500_000)
    theirs = await yard.serving(other)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, other.id, ProjectStatus.ACTIVE)
    yard.runtime.apps.clear()
    async with yard.apps.held(project.id), asyncio.timeout(60):
        await yard.reconcile()
        assert yard.runtime.called("start") == [theirs.id]
    await yard.reconcile()
    assert yard.runtime.called("start") == [theirs.id, app.id]


async def test_app_is_not_routed_to_while_somebody_else_acts_on_its_project(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.routes.table.clear()
    async with yard.apps.held(project.id):
        look = asyncio.create_task(yard.reconciler.look(app.id))
        await asyncio.wait([look], timeout=0.05)
        assert yard.routes.table == {}
    await look
    assert yard.routes.table == {HOST: socket_of(app)}

"""Rows of projects, deployments and toolchains: how they move, and how they are listed."""

import itertools

import msgspec
import pytest

from moorage.errors import UniqueViolation
from moorage.records.deployment import TRANSITIONS, UNDER_WAY, DeploymentStatus
from moorage.records.project import ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.apps.deployments import toolchains_in_use
from moorage.storage.apps.projects import NEWEST, Place, ProjectQuery
from moorage.storage.database import Database
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, BOB, PLAN, add_deployment, add_project

TITLES = {"shop": "My Shop 100%", "blog": "A_Blog", "wiki": "Wiki"}


@pytest.fixture
async def ids(db: Database) -> dict[str, str]:
    """Three projects of ALICE, all made in one millisecond, and one of BOB."""
    made = {name: await add_project(db, name=name, display_name=TITLES[name]) for name in TITLES}
    await add_project(db, name="other", wallet=BOB)
    return {name: project.id for name, project in made.items()}


async def found(db: Database, **wanted: object) -> set[str]:
    query = ProjectQuery(ALICE, **wanted)  # type: ignore[arg-type]
    listed = await projects.project_page(db, query, limit=100)
    assert await projects.count_projects(db, query) == len(listed)
    return {each.unique_name for each in listed}


async def test_pages_hold_each_project_once_also_of_one_millisecond(
    db: Database, ids: dict[str, str]
) -> None:
    seen, before = [], NEWEST
    for _ in range(len(ids)):
        (each,) = await projects.project_page(db, ProjectQuery(ALICE), before=before, limit=1)
        seen.append(each.id)
        before = Place(each.created_at_ms, each.id)
    assert sorted(seen) == sorted(ids.values())
    assert await projects.project_page(db, ProjectQuery(ALICE), before=before, limit=1) == []
    whole = await projects.project_page(db, ProjectQuery(ALICE), limit=100)
    assert [each.id for each in whole] == seen[::-1]  # oldest first


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", {"shop", "blog", "wiki"}),
        ("SHO", {"shop"}),
        ("my shop", {"shop"}),
        ("%", {"shop"}),
        ("_", {"blog"}),
        ("\\", set()),
        ("other", set()),  # another wallet's
    ],
    ids=["nothing", "name", "title", "percent", "underscore", "backslash", "another"],
)
async def test_words_are_found_in_name_and_title_as_they_stand(
    db: Database, ids: dict[str, str], text: str, names: set[str]
) -> None:
    assert await found(db, text=text) == names


async def test_projects_are_found_by_state_and_not_once_they_are_deleted(
    db: Database, ids: dict[str, str]
) -> None:
    async with db.transaction(durable=False) as tx:
        await projects.set_status(tx, ids["shop"], ProjectStatus.FAILED)
        await projects.set_deleted(tx, ids["blog"], at_ms=2)
    assert await found(db, status="failed") == {"shop"}
    assert await found(db) == {"shop", "wiki"}
    assert await found(db, ids=(ids["blog"],)) == set()


async def test_ids_find_the_wallets_own_projects_alone(db: Database, ids: dict[str, str]) -> None:
    others = await projects.by_name(db, "other")
    assert others is not None
    assert await found(db, ids=(ids["shop"], others.id, "no such id")) == {"shop"}
    assert await found(db, ids=tuple(ids.values()), text="wiki") == {"wiki"}


def plan(**toolchains: str) -> str:
    return msgspec.json.encode(msgspec.structs.replace(PLAN, toolchains=toolchains)).decode()


async def test_toolchains_of_what_serves_may_again_or_is_under_way_are_in_use(
    db: Database,
) -> None:
    project = await add_project(db)
    ready, failed = DeploymentStatus.READY, DeploymentStatus.FAILED
    await add_deployment(db, project, ready, plan=plan(node="22.0.0"), is_kept=True)
    replaced = DeploymentStatus.SUPERSEDED
    await add_deployment(db, project, replaced, plan=plan(node="20.0.0", pnpm="9.0.0"))
    await add_deployment(db, project, failed, plan=plan(node="14.0.0"), is_kept=True)  # its logs
    await add_deployment(db, project, plan=plan(bun="1.0.0"), is_kept=False)  # queued
    await add_deployment(db, project, failed, plan=plan(deno="2.0.0"), is_kept=False)
    await add_deployment(db, project, ready, plan=plan(), is_kept=True)
    assert await toolchains_in_use(db) == {
        ("node", "22.0.0"), ("node", "20.0.0"), ("pnpm", "9.0.0"), ("bun", "1.0.0"),
    }  # fmt: skip


LIFE = ["queued", "building", "deploying", "ready", "superseded", "stopped"]
ENDING = {
    "failed": {"queued", "building", "deploying"},
    "stopped": {"queued", "building", "deploying", "ready", "failed", "superseded"},
}
REAL = [status for status in ProjectStatus if status is not ProjectStatus.DELETED]


def legal(origin: str, target: str) -> bool:
    """Deployments go on to the next stage, end in `failed` before `ready`, or are stopped."""
    if target in ENDING:
        return origin in ENDING[target]
    return (origin, target) in itertools.pairwise(LIFE)


@pytest.mark.parametrize("origin", list(DeploymentStatus))
@pytest.mark.parametrize("target", list(DeploymentStatus))
async def test_deployments_move_as_the_table_allows_and_not_otherwise(
    db: FaultyDatabase, origin: DeploymentStatus, target: DeploymentStatus
) -> None:
    assert (target in TRANSITIONS[origin]) == legal(origin, target)
    if target is DeploymentStatus.QUEUED:
        return  # nothing moves back to it, so there is no such statement
    deployment = await add_deployment(db, await add_project(db), origin)
    async with db.transaction(durable=False) as tx:
        moved = await deployments.move(tx, deployment.id, target, reason="why")
    after = await deployments.by_id(db, deployment.id)
    assert after is not None
    assert moved == legal(origin, target)
    assert after.status is (target if moved else origin)
    assert after.reason == ("why" if moved else None)


async def test_move_keeps_what_it_is_not_told(db: FaultyDatabase) -> None:
    deployment = await add_deployment(
        db, await add_project(db), DeploymentStatus.READY, note="a note", log_tail="a tail"
    )
    async with db.transaction(durable=False) as tx:
        await deployments.move(tx, deployment.id, DeploymentStatus.SUPERSEDED)
    after = await deployments.by_id(db, deployment.id)
    assert after is not None
    assert (after.note, after.log_tail) == ("a note", "a tail")


async def test_volume_that_a_serving_project_is_given_begins_with_its_next_deployment(
    db: FaultyDatabase,
) -> None:
    project = await add_project(db)
    serving = await add_deployment(db, project, DeploymentStatus.READY)
    async with db.transaction(durable=False) as tx:
        await projects.set_serving(tx, project.id, serving.id)
        await projects.give_volume(tx, project.id)
    view = await deployments.view(db, serving.id)
    assert view is not None
    assert view.volume_begins


@pytest.mark.parametrize("status", list(ProjectStatus))
async def test_deleting_is_final_but_for_deleted(db: FaultyDatabase, status: ProjectStatus) -> None:
    project = await add_project(db, status=status)
    going = status in (ProjectStatus.DELETING, ProjectStatus.DELETED)
    async with db.transaction(durable=False) as tx:
        assert await projects.set_status(tx, project.id, ProjectStatus.ACTIVE) is not going
        assert await projects.set_serving(tx, project.id, "d") is not going
    after = await projects.by_id(db, project.id)
    assert after is not None
    assert after.status is (status if going else ProjectStatus.ACTIVE)


@pytest.mark.parametrize("status", REAL)
async def test_living_name_is_unique_and_free_once_deleted(
    db: FaultyDatabase, status: ProjectStatus
) -> None:
    project = await add_project(db, ALICE, "hello", status)
    with pytest.raises(UniqueViolation):
        await add_project(db, BOB, "hello")
    async with db.transaction(durable=False) as tx:
        await projects.set_deleted(tx, project.id, at_ms=1)
    successor = await add_project(db, BOB, "hello")
    assert await projects.by_name(db, "hello") == successor
    assert await projects.by_id(db, project.id) is None
    assert await projects.of_wallet(db, ALICE) == []
    assert await projects.awake(db) == [successor]


async def test_deleting_twice_keeps_the_first_time(db: FaultyDatabase) -> None:
    project = await add_project(db)
    for at_ms in (1, 2):
        async with db.transaction(durable=False) as tx:
            await projects.set_deleted(tx, project.id, at_ms=at_ms)
    assert db.sql("SELECT deleted_at_ms FROM projects").fetchall() == [(1,)]


@pytest.mark.parametrize("status", list(DeploymentStatus))
async def test_what_is_under_way_is_found(db: FaultyDatabase, status: DeploymentStatus) -> None:
    project = await add_project(db)
    deployment = await add_deployment(db, project, status)
    found = [item.id for item in await deployments.under_way(db)]
    assert found == ([deployment.id] if status in UNDER_WAY else [])
    starting = await deployments.is_starting(db, project.id)
    assert starting == (status is DeploymentStatus.DEPLOYING)
    assert not await deployments.is_starting(db, "another")


async def test_projects_are_listed_oldest_first_and_deployments_newest_first(
    db: FaultyDatabase,
) -> None:
    for number in (3, 1, 2):
        await add_project(db, name=f"name-{number}", created_at_ms=number)
    await add_project(db, BOB, "theirs")
    listed = await projects.of_wallet(db, ALICE)
    assert [project.unique_name for project in listed] == ["name-1", "name-2", "name-3"]
    for number in (1, 3, 2):
        await add_deployment(db, listed[0], DeploymentStatus.FAILED, created_at_ms=number)
    deployed = await deployments.of_project(db, listed[0].id)
    assert [deployment.created_at_ms for deployment in deployed] == [3, 2, 1]


async def test_project_has_one_deployment_under_way(db: FaultyDatabase) -> None:
    project = await add_project(db)
    await add_deployment(db, project, DeploymentStatus.READY)
    await add_deployment(db, project, DeploymentStatus.BUILDING)
    with pytest.raises(UniqueViolation):
        await add_deployment(db, project, DeploymentStatus.QUEUED)

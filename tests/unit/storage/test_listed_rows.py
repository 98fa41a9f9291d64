"""A wallet's projects are found a page at a time, each once, by words, state and id."""

import pytest

from moorage.records.project import ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.apps.projects import NEWEST, Place, ProjectQuery
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, add_project

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

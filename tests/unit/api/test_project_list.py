"""`GET /agent/projects` gives all of a wallet's projects, or those that are asked for, by pages."""

from typing import Any

import pytest

from moorage.api.http.caller import answered
from moorage.api.projects import list_projects
from moorage.errors import InvalidField
from moorage.storage.database import Database
from support.books.records_fixture import add_project
from support.gateway.believed import HOSTS, Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock


class Asking(Believed):
    """Asks for ALICE's projects."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        super().__init__(db, clock, hosts=HOSTS)

    async def __call__(self, query: str = "") -> dict[str, Any]:
        return body_of(await answered(list_projects, self.room, request_of(query)))


@pytest.fixture
async def ask(db: Database, clock: MovableClock) -> Asking:
    for number in range(5):
        await add_project(db, name=f"app-{number}", created_at_ms=START_MS + number)
    return Asking(db, clock)


def names(body: dict[str, Any]) -> list[str]:
    return [each["name"] for each in body["projects"]]


async def test_all_are_given_oldest_first_unless_fewer_are_asked_for(ask: Asking) -> None:
    body = await ask()
    assert names(body) == [f"app-{number}" for number in range(5)]
    assert (set(body), body["count"]) == ({"wallet", "count", "projects"}, 5)


async def test_pages_go_from_the_newest_back_and_end(ask: Asking) -> None:
    first = await ask("limit=2")
    assert names(first) == ["app-3", "app-4"]
    second = await ask(f"limit=2&before={first['next']}")
    last = await ask(f"limit=2&before={second['next']}")
    assert names(second) + names(last) == ["app-1", "app-2", "app-0"]
    assert [each["count"] for each in (first, second, last)] == [5, 5, 5]
    assert "next" not in last


async def test_page_that_holds_the_last_ones_has_none_that_follows(ask: Asking) -> None:
    assert "next" not in await ask("limit=5")


async def test_search_counts_what_it_finds_on_all_pages(ask: Asking) -> None:
    body = await ask("search=APP&limit=1")
    assert (body["count"], names(body)) == (5, ["app-4"])
    assert (await ask("search=app-2"))["count"] == 1
    assert (await ask("status=failed"))["count"] == 0


async def test_ids_are_looked_up(ask: Asking) -> None:
    listed = (await ask())["projects"]
    asked = ",".join(each["id"] for each in listed[:2])
    assert names(await ask(f"ids={asked}")) == ["app-0", "app-1"]
    assert names(await ask("ids=")) == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=x", "before=x", "before=-", "before=1-"),
        *("before=9999999999999999-a", "status=gone", "status=deleted", "ids=" + "a," * 100),
    ],
    ids=lambda query: query[:20],
)
async def test_what_cannot_be_is_refused(ask: Asking, query: str) -> None:
    with pytest.raises(InvalidField):
        await ask(query)

"""The first page of a wallet: until when it runs, what runs, what happens then."""

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from page_asker import (
    HOSTILE,
    PROJECT,
    READER,
    WALLET,
    Asker,
    account,
    item,
    of_wallet,
    project_list,
)

from moorage.clock import iso_utc
from moorage.pages.wallet.overview import PROJECTS_A_PAGE
from moorage.records.event import EventKind
from moorage.records.project import ProjectStatus
from moorage.wire.events import EventItem, EventPage
from moorage.wire.projects import ProjectList
from moorage.wire.public import LinkList
from support.gateway.clock import START_MS

DAY_MS = 86_400_000


async def page(**answers: Any) -> str:
    return await Asker(of_wallet(**answers)).text("/wallet")


async def test_headline_is_until_when_apps_run_and_what_happens_then() -> None:
    html = await page()
    assert "Your apps run for 30 days" in html
    assert iso_utc(START_MS + 30 * DAY_MS) in html  # when they stop
    assert iso_utc(START_MS + 60 * DAY_MS) in html  # when they are deleted: 30 days later
    assert "$10.00" in html
    assert "$7.30 a month" in html


async def test_wallet_without_running_apps_is_told_that_credits_last() -> None:
    html = await page(
        account=account(runs_out_at=None, burn_per_hour_micro_usd=0, burning=[]),
        projects=project_list(item(status=ProjectStatus.FAILED)),
    )
    assert "No app is running" in html
    assert "cost nothing while no app runs" in html


async def test_empty_wallet_is_told_how_to_begin() -> None:
    html = await page(
        account=account(runs_out_at=None, burn_per_hour_micro_usd=0, burning=[]),
        projects=project_list(),
    )
    assert "Nothing is deployed yet" in html
    assert "https://moor.example.com/llms.txt" in html


async def test_end_that_is_near_is_a_warning() -> None:
    html = await page(account=account(runs_out_at=iso_utc(START_MS + 2 * DAY_MS)))
    assert "Credits run out soon" in html
    assert "Credits run out soon" not in await page()


async def test_stopped_projects_are_counted() -> None:
    stopped = item(status=ProjectStatus.SUSPENDED, id="b", name="b")
    html = await page(projects=lambda query: project_list(*([stopped] * ("suspended" in query))))
    assert "Stopped: 1 project" in html
    assert "Stopped: " not in await page(projects=lambda _: project_list())


@pytest.mark.parametrize("kind", EventKind)
async def test_each_event_is_told_in_words(kind: EventKind) -> None:
    event = EventItem(
        id="e", sequence=1, type=kind, timestamp=iso_utc(START_MS), data={"project_id": PROJECT}
    )
    assert kind not in await page(events=EventPage(events=[event], last_sequence=1))


async def test_archive_of_a_project_that_goes_is_one_press_away() -> None:
    event = EventItem(
        id="e",
        sequence=1,
        type=EventKind.PROJECT_EXPORTED,
        timestamp=iso_utc(START_MS),
        data={"project_id": PROJECT, "path": "/exports/abc"},
    )
    html = await page(events=EventPage(events=[event], last_sequence=1))
    assert 'href="/exports/abc"' in html


async def test_names_of_strangers_are_text() -> None:
    event = EventItem(
        id="e",
        sequence=1,
        type=EventKind.DEPLOYMENT_FAILED,
        timestamp=iso_utc(START_MS),
        data={"project_id": PROJECT, "reason": HOSTILE},
    )
    html = await page(
        projects=project_list(item(display_name=HOSTILE, url="javascript:alert(1)")),
        events=EventPage(events=[event], last_sequence=1),
        account=account(announcement=HOSTILE),
    )
    assert "<script>alert" not in html
    assert 'href="javascript:' not in html
    assert "{{7*7}}" in html


async def test_many_projects_are_asked_for_and_shown_a_page_at_a_time() -> None:
    many = ProjectList(wallet=WALLET, count=10_000, projects=[item()], next="12-abc")
    asker = Asker(of_wallet(projects=many))
    html = await asker.text("/wallet", search="my app", status="active", before="99-x")
    assert "1 of 10,000 projects" in html
    assert 'href="/wallet?search=my+app&amp;status=active&amp;before=12-abc"' in html  # older
    assert 'href="/wallet?search=my+app&amp;status=active"' in html  # newest
    asked = f"limit={PROJECTS_A_PAGE}&search=my+app&status=active&before=99-x"
    assert f"GET /projects?{asked}" in asker.api.asked


async def test_search_without_a_match_says_so() -> None:
    asker = Asker(
        of_wallet(projects=lambda query: project_list(*[item()] * ("<" not in unquote(query))))
    )
    html = await asker.text("/wallet", search=HOSTILE)
    assert "No project fits this search" in html
    assert "<script>alert" not in html


async def test_state_that_does_not_exist_is_not_asked_for() -> None:
    asker = Asker(of_wallet())
    assert "my-app" in await asker.text("/wallet", status="x")
    assert not any("status=x" in each for each in asker.api.asked)


async def test_link_for_one_project_leads_to_it() -> None:
    asker = Asker(of_wallet(), replace(READER, project_id=PROJECT))
    response = await asker.get("/wallet")
    assert response.status_code == 303
    assert response.headers["location"] == f"/wallet/projects/{PROJECT}"
    assert asker.api.asked == []


async def test_the_api_is_asked_as_the_person_of_the_session() -> None:
    asker = Asker(of_wallet(), READER)
    await asker.get("/wallet")
    assert set(asker.api.people) == {READER.person}


async def test_link_names_its_project_where_there_are_too_many_to_pick_from() -> None:
    few = {"GET /links": LinkList(links=[])} | of_wallet()
    assert '<option value="" selected>All of the wallet' in await Asker(few).text("/wallet/links")
    many = few | {"GET /projects": ProjectList(wallet=WALLET, count=51, projects=[], next="1-a")}
    html = await Asker(many).text("/wallet/links", project="my-app")
    assert "<select" not in html
    assert '<input id="field-project" name="project" type="text" value="my-app"' in html

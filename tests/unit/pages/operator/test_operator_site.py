"""Operators' pages are for whoever has a session, and change nothing for a forged form."""

from dataclasses import replace

import pytest
from msgspec import structs

from moorage.gateway.alert_channels import alert_document
from moorage.pages.operator.site import HOME, PAGES
from moorage.storage.database import Database
from moorage.storage.operation import audit_log, wallet_rules
from moorage.storage.operation.alerts import Alert
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone
from support.books.records_fixture import ALICE, add_project, fund
from support.gateway.clock import MovableClock
from support.gateway.operator_pages import ANN, HOST, WELL, OperatorPages

CHANGES = sorted({path for method, path, _ in PAGES if method == "POST"})
SHOWN = sorted(
    path
    for method, path, _ in PAGES
    if method == "GET" and "{" not in path and not path.endswith(".csv")
)


def filled(path: str) -> str:
    """A page's address, with something in its blanks."""
    blanks = {
        "{chain_id}": "42161",
        "{tx_hash}": "0x1",
        "{log_index}": "0",
        "{wallet}": ALICE,
        "{name}": "hello",
        "{grant_id}": "1",
    }
    for blank, value in blanks.items():
        path = path.replace(blank, value)
    return HOME + path


@pytest.mark.parametrize("path", [filled(path) for _, path, _ in PAGES])
async def test_without_a_session_each_page_leads_to_the_sign_in(
    pages: OperatorPages, path: str
) -> None:
    pages.session = None
    answers = [await pages.get(path), await pages.post(path)]
    allowed = [answer for answer in answers if answer.status != 405]
    assert allowed
    assert {answer.location for answer in allowed} == {"/operator/sign-in"}


async def test_a_part_of_a_page_leads_the_whole_page_to_the_sign_in(pages: OperatorPages) -> None:
    pages.session = None
    answer = await pages.get(f"{HOME}/glance", hx_request="true")
    assert (answer.status, answer.headers["hx-redirect"]) == (401, "/operator/sign-in")


@pytest.mark.parametrize("path", [filled(path) for path in SHOWN])
async def test_each_page_is_shown_where_there_is_nothing_yet(
    pages: OperatorPages, path: str
) -> None:
    assert "<h1>" in await pages.shown(path) or path.endswith(("glance", "table"))


@pytest.mark.parametrize("path", [filled(path) for path in CHANGES])
@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf": "guessed"}, {"origin": f"http://{HOST}"}),
        ({}, {"origin": f"http://{HOST}"}),
        ({"csrf": ANN.csrf}, {"origin": "http://evil.localhost:8080"}),
        ({"csrf": ANN.csrf}, {"sec-fetch-site": "same-site", "origin": f"http://{HOST}"}),
    ],
    ids=["guessed", "none", "another origin", "a sibling"],
)
async def test_a_forged_form_changes_nothing(
    pages: OperatorPages,
    db: Database,
    path: str,
    fields: dict[str, str],
    headers: dict[str, str],
) -> None:
    await fund(db, ALICE, 500_000)
    await add_project(db)
    sent = {"reason": "why", "words": "no", "usd": "1", "confirmed": "true"} | fields
    answer = await pages.send(path, sent, **headers)
    assert answer.status == 400
    assert await audit_log.since(db, 0) == []
    assert await wallet_rules.current_notices(db) == {}
    assert pages.audits.last is None


async def test_pages_may_not_be_framed_or_stored(pages: OperatorPages) -> None:
    headers = (await pages.get(HOME)).headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


async def test_the_first_page_names_what_is_wrong(db: Database, clock: MovableClock) -> None:
    ill = structs.replace(WELL, parts={"database": "ok", "disk": "nearly full"})
    text = await OperatorPages(db, clock, health=ill).shown(HOME)
    assert "disk: nearly full" in text
    assert "All is well" not in text


async def test_the_first_page_lists_alerts_and_what_to_do(
    db: Database, clock: MovableClock
) -> None:
    alert = Alert(
        id="alr_1",
        gateway="two",
        rule="MoorageNodeDown",
        labels='{"chain":"base","node":"2"}',
        summary="node 2 of base does not answer",
        began_ms=clock.now_ms(),
        fired_ms=clock.now_ms(),
    )
    health = structs.replace(WELL, alerts=[alert_document(alert)])
    text = await OperatorPages(db, clock, health=health).shown(HOME)
    for words in ("firing", "ticket", "two", alert.summary, "before the next one fails"):
        assert words in text
    assert "All is well" not in text
    assert 'id="alerts"' not in await OperatorPages(db, clock).shown(HOME)


async def test_the_first_page_tells_of_off_site_backups_where_they_are_to_be_made(
    db: Database, clock: MovableClock
) -> None:
    sent = UpkeepDone(kind=Upkeep.OFFSITE, at_ms=clock.now_ms(), size_bytes=5 * 2**20)
    drilled = UpkeepDone(kind=Upkeep.DRILL, at_ms=0, problem="the bucket is away")
    health = structs.replace(WELL, offsite=[sent, drilled])
    text = await OperatorPages(db, clock, health=health).shown(HOME)
    for words in ("Last off-site backup", "5 MiB", "Last drill", "failed", "the bucket is away"):
        assert words in text
    assert "off-site" not in await OperatorPages(db, clock).shown(HOME)


async def test_acts_bear_the_name_of_whoever_is_signed_in(
    pages: OperatorPages, db: Database
) -> None:
    pages.session = replace(ANN, who="0x" + "ab" * 20)
    await pages.post(f"{HOME}/notices/maintenance", words="new disks", confirmed="true")
    assert [(act.who, act.act) for act in await audit_log.since(db, 0)] == [
        ("0x" + "ab" * 20, "begin maintenance")
    ]


async def test_the_address_of_the_port_leads_to_the_pages(pages: OperatorPages) -> None:
    assert (await pages.get("/")).location == HOME

"""Wallets and projects as an operator sees them, and what is done about them."""

import re
import uuid

import pytest

from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.pages.operator.view import PER_PAGE
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import ProjectStatus
from moorage.records.usage import UsageHour
from moorage.storage.apps import projects, usage
from moorage.storage.database import Database
from moorage.storage.money import accounts, billing, grants
from moorage.storage.money.grants import Grant
from moorage.storage.operation import audit_log, evictions, wallet_rules
from moorage.storage.operation.evictions import FailedTry
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project, fund
from support.gateway.clock import START_MS
from support.gateway.operator_pages import OperatorPages

HOSTILE = '"><script>alert(1)</script>\x1b[31m\u202e'


async def burn(db: Database, project_id: str) -> None:
    async with db.transaction(durable=True) as tx:
        await billing.open_interval(
            tx, interval_id=str(uuid.uuid4()), project_id=project_id, at_ms=START_MS
        )


async def done(db: Database) -> list[tuple[str, str, str]]:
    return [(act.act, act.subject, act.reason) for act in await audit_log.since(db, 0)]


async def test_wallets_that_burn_most_come_first(pages: OperatorPages, db: Database) -> None:
    await fund(db, ALICE, 9_000_000)
    await fund(db, BOB, 1_000_000)
    await burn(db, (await add_project(db, BOB, "his")).id)
    text = await pages.shown("/operator/wallets")
    assert text.index(f"/wallets/{BOB}") < text.index(f"/wallets/{ALICE}")
    assert "2026-" in text  # until when his credits last


async def test_act_that_failed_unexpectedly_may_have_been_done(
    pages: OperatorPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(ledger, "grant", broken)
    form = {"id": str(uuid.uuid4()), "usd": "1", "reason": "why", "confirmed": "true"}
    answer = await pages.post(f"/operator/wallets/{ALICE}/credits", **form)
    assert (answer.status, "may have been done" in answer.text) == (500, True)


async def test_credits_of_one_form_are_given_once(pages: OperatorPages, db: Database) -> None:
    await fund(db, ALICE, 1)
    path = f"/operator/wallets/{ALICE}"
    found = re.search(r'name="id" value="([^"]+)"', await pages.shown(path))
    assert found
    form = {"id": found[1], "usd": "2.50", "reason": "an outage", "confirmed": "true"}
    answers = [await pages.post(f"{path}/credits", **form) for _ in range(2)]
    assert [answer.location for answer in answers] == [
        f"{path}?done=given",
        f"{path}?done=given-before",
    ]
    assert await accounts.balance(db, ALICE) == 2_500_001
    (given,) = await grants.every(db)
    assert await done(db) == [("give credits", f"{given.id} to {ALICE}", "an outage")]
    elsewhere = f"/operator/wallets/{BOB}/credits/{given.id}/undo"
    assert (await pages.post(elsewhere, reason="too much")).status == 400
    await pages.post(f"{path}/credits/{given.id}/undo", reason="too much")
    assert await accounts.balance(db, ALICE) == 1


async def test_credits_given_by_hand_are_shown_a_page_at_a_time(
    pages: OperatorPages, db: Database
) -> None:
    await fund(db, ALICE, 1)
    async with db.transaction(durable=True) as tx:
        for number in range(51):
            given = Grant(f"{number}", ALICE, MicroUsd(1), f"why-{number}-", number)
            await grants.add(tx, given)
    path = f"/operator/wallets/{ALICE}"
    first, second = [await pages.shown(f"{path}?page={number}") for number in (1, 2)]
    assert "why-50-" in first
    assert "why-0-" not in first
    assert second.count("why-") == 1


@pytest.mark.parametrize("usd", ["0", "-1", "0.0000001", "nan", "Infinity", "1e9", "two"])
async def test_an_amount_that_is_none_gives_nothing(
    pages: OperatorPages, db: Database, usd: str
) -> None:
    await fund(db, ALICE, 1)
    form = {"id": str(uuid.uuid4()), "usd": usd, "reason": "why", "confirmed": "true"}
    assert (await pages.post(f"/operator/wallets/{ALICE}/credits", **form)).status == 400
    assert await accounts.balance(db, ALICE) == 1


async def test_a_wallet_is_suspended_and_resumed(pages: OperatorPages, db: Database) -> None:
    await fund(db, ALICE, 1)
    project = await add_project(db)
    path = f"/operator/wallets/{ALICE}"
    assert (await pages.post(f"{path}/suspend", reason="abuse")).status == 400  # not confirmed
    await pages.post(f"{path}/suspend", reason="abuse", confirmed="true")
    assert (await accounts.wallet_row(db, ALICE)).blocked_reason == "abuse"
    assert "abuse" in await pages.shown(path)
    await pages.post(f"{path}/resume", reason="they wrote")
    assert (await accounts.wallet_row(db, ALICE)).blocked_reason is None
    assert await done(db) == [("suspend", ALICE, "abuse"), ("resume", ALICE, "they wrote")]
    assert project.unique_name in await pages.shown(path)


async def test_what_a_wallet_may_do_is_changed(pages: OperatorPages, db: Database) -> None:
    await fund(db, ALICE, 1)
    path = f"/operator/wallets/{ALICE}/rules"
    await pages.post(path, listed="true", max_projects="3", reason="a friend")
    rule = await wallet_rules.wallet_rule(db, ALICE)
    assert (rule.is_listed, rule.max_projects) == (True, 3)
    await pages.post(path, max_projects="", reason="not any more")
    rule = await wallet_rules.wallet_rule(db, ALICE)
    assert (rule.is_listed, rule.max_projects) == (False, None)


async def test_projects_that_use_most_come_first(pages: OperatorPages, db: Database) -> None:
    calm, busy = await add_project(db, ALICE, "calm"), await add_project(db, BOB, "busy")
    async with db.transaction(durable=False) as tx:
        for project, cpu_ms, requests in ((calm, 5, 900), (busy, 5_000, 1)):
            hour = UsageHour(
                project_id=project.id, hour_ms=START_MS, cpu_ms=cpu_ms, requests=requests
            )
            await usage.add(tx, hour)
    by_cpu = await pages.shown("/operator/projects")
    by_requests = await pages.shown("/operator/projects?by=requests")
    assert by_cpu.index("/projects/busy") < by_cpu.index("/projects/calm")
    assert by_requests.index("/projects/calm") < by_requests.index("/projects/busy")
    assert "/projects/calm" not in await pages.shown(f"/operator/projects?q={BOB}")
    assert "/projects/calm" not in await pages.shown("/operator/projects?q=bus")
    assert "/projects/calm" not in await pages.shown("/operator/projects?q=c%25m")


async def test_many_projects_are_listed_a_page_at_a_time(
    pages: OperatorPages, db: Database
) -> None:
    await fund(db, ALICE, 1)
    for number in range(PER_PAGE + 1):
        await add_project(db, ALICE, f"app-{number:02}", created_at_ms=START_MS + number)
    first, second = [
        await pages.shown(f"/operator/projects?by=newest&page={number}") for number in (1, 2)
    ]
    assert f"{PER_PAGE + 1} in all" in first
    assert "/projects/app-00" not in first
    assert second.count("/projects/app-") == 1
    wallet = await pages.shown(f"/operator/wallets/{ALICE}")
    assert f"The newest {PER_PAGE} of {PER_PAGE + 1}" in wallet
    assert "/projects/app-00" not in wallet


async def test_a_project_is_suspended_for_a_reason(pages: OperatorPages, db: Database) -> None:
    await fund(db, ALICE, 1)
    project = await add_project(db)
    await pages.post("/operator/projects/hello/suspend", reason="phishing", confirmed="true")
    stored = await projects.by_id(db, project.id)
    assert stored is not None
    assert stored.blocked_reason == "phishing"
    await pages.post("/operator/projects/hello/resume", reason="it was not")
    assert await done(db) == [
        ("suspend", "hello", "phishing"),
        ("resume", "hello", "it was not"),
    ]


async def test_what_strangers_wrote_is_shown_and_does_nothing(
    pages: OperatorPages, db: Database
) -> None:
    await fund(db, ALICE, 1)
    await add_project(
        db,
        display_name=HOSTILE,
        description=HOSTILE,
        blocked_reason=HOSTILE,
        status=ProjectStatus.SUSPENDED,
        monthly_price_micro_usd=MicroUsd(1),
    )
    for path in ("/projects/hello", "/projects", f"/wallets/{ALICE}"):
        text = await pages.shown(f"/operator{path}")
        assert "<script>alert" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_words_are_announced_and_shown_until_they_end(
    pages: OperatorPages, db: Database
) -> None:
    await add_project(db)
    path = "/operator/notices"
    assert (await pages.post(f"{path}/announcement", words="we move")).status == 400
    await pages.post(f"{path}/announcement", words="we move", confirmed="true")
    assert await wallet_rules.current_notices(db) == {"announcement": "we move"}
    assert "we move" in await pages.shown(path)
    await pages.post(f"{path}/announcement/end")
    assert await wallet_rules.current_notices(db) == {}


async def test_a_name_that_is_none_is_said_to_be_unknown(pages: OperatorPages) -> None:
    for path in ("projects/none", f"wallets/{ALICE}", "wallets/nobody"):
        assert (await pages.get(f"/operator/{path}")).status == 400


async def test_a_project_is_shown_with_its_deployments(pages: OperatorPages, db: Database) -> None:
    project = await add_project(db)
    await add_deployment(db, project, DeploymentStatus.FAILED, reason="it did not listen")
    assert "it did not listen" in await pages.shown("/operator/projects/hello")


async def test_project_is_deleted_after_notice_unless_it_is_kept_after_all(
    pages: OperatorPages, db: Database
) -> None:
    await add_project(db, ALICE, "hers")
    path = "/operator/projects/hers"
    form = {"reason": HOSTILE, "days": "14"}
    for name in ("", "her", "others"):
        assert (await pages.post(f"{path}/evict", **form, name=name)).status == 400
    for days in ("-1", "4000", "x", "0000014"):
        wrong = form | {"days": days, "name": "hers"}
        assert (await pages.post(f"{path}/evict", **wrong)).status == 400
    answer = await pages.post(f"{path}/evict", **form, name="hers")
    assert answer.location == f"{path}?done=evicted"
    for page in (path, "/operator/projects"):
        text = await pages.shown(page)
        assert "to be deleted" in text
        assert HOSTILE not in text
    assert (await pages.post(f"{path}/keep", reason="they paid")).location.endswith("done=kept")
    assert "to be deleted" not in await pages.shown("/operator/projects")
    assert [act for act, _, _ in await done(db)] == ["evict", "cancel eviction"]


async def fail(db: Database, why: str) -> None:
    (ordered,) = await evictions.ordered(db)
    async with db.transaction(durable=True) as tx:
        await evictions.note_failure(tx, ordered, FailedTry(START_MS, why))


async def test_why_a_deletion_waits_is_shown_with_what_to_do(
    pages: OperatorPages, db: Database
) -> None:
    await add_project(db, ALICE, "hers")
    path = "/operator/projects/hers"
    form = {"reason": "closing", "days": "0", "name": "hers"}
    await pages.post(f"{path}/evict", **form)
    for page in (path, "/operator/projects"):
        assert "exported" not in await pages.shown(page)
    await fail(db, f"no room {HOSTILE}")
    for page in (path, "/operator/projects"):
        text = await pages.shown(page)
        assert "no room" in text
        assert HOSTILE not in text
    shown = await pages.shown(path)
    assert "Nothing of it is deleted" in shown
    fields = dict(re.findall(r'type="hidden" name="(days|without_export)" value="([^"]+)"', shown))
    await pages.post(f"{path}/evict", **fields, reason="closing", name="hers")
    assert [each.with_export for each in await evictions.ordered(db)] == [False]
    for page in (path, "/operator/projects"):
        assert "no room" not in await pages.shown(page)


async def test_deletion_that_has_begun_and_failed_is_not_offered_to_be_cancelled(
    pages: OperatorPages, db: Database
) -> None:
    project = await add_project(db, ALICE, "hers")
    path = "/operator/projects/hers"
    await pages.post(f"{path}/evict", reason="closing", days="0", name="hers")
    async with db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    await fail(db, "the disk does not answer")
    shown = await pages.shown(path)
    assert "can't be cancelled" in shown.replace("&#39;", "'")
    assert f'action="{path}/keep"' not in shown
    assert f'action="{path}/evict"' not in shown


@pytest.mark.parametrize(("box", "expected"), [({}, True), ({"without_export": "true"}, False)])
async def test_project_is_deleted_without_an_archive_only_where_it_is_said(
    pages: OperatorPages, db: Database, box: dict[str, str], *, expected: bool
) -> None:
    await add_project(db, ALICE, "hers")
    form = {"reason": "it fills the disk", "days": "0", "name": "hers"}
    await pages.post("/operator/projects/hers/evict", **form, **box)
    assert [each.with_export for each in await evictions.ordered(db)] == [expected]

"""What is done on a project's pages: variables pasted, logs searched, steps told, CSV written."""

import re
import time
from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import parse_qsl

import pytest
from msgspec import UNSET, structs
from page_asker import (
    DEPLOYMENT,
    NOW,
    PROJECT,
    WALLET,
    Asker,
    deployment_shown,
    of_project,
    of_wallet,
)
from rich_answers import TX, everything, lines, usage

from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.pages.sessions.sign_in import Unconfirmed
from moorage.pages.wallet.actions import read_env, steps
from moorage.pages.wallet.logs import MAX_MATCHES, PAGES_SEARCHED
from moorage.records.deployment import DeploymentStatus
from moorage.wire.credits import CreditEntry, Purse, PurseChanged
from moorage.wire.projects import ExportItem, ProjectChanged
from support.gateway.clock import START_MS

BASE = f"/wallet/projects/{PROJECT}"


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("A=1\nB=two words", {"A": "1", "B": "two words"}),
        ("# a comment\n\nexport A = 1 # why", {"A": "1"}),
        ("A='$x \\n #y'", {"A": "$x \\n #y"}),
        ('A="one\\ntwo \\"quoted\\" \\$x"', {"A": 'one\ntwo "quoted" $x'}),
        ('KEY="-----BEGIN\nabc\n-----END"', {"KEY": "-----BEGIN\nabc\n-----END"}),
        ("A=\nB=''", {"A": "", "B": ""}),
        ("A=1\nA=2", {"A": "2"}),
        ("URL=postgres://u:p@h/db?x=1#frag", {"URL": "postgres://u:p@h/db?x=1#frag"}),
    ],
)
def test_env_files_are_read_as_their_authors_mean_them(
    pasted: str, expected: dict[str, str]
) -> None:
    assert read_env(pasted) == expected


async def test_metrics_say_how_quick_the_app_is_and_what_waited_for_it() -> None:
    html = unescape(await Asker(everything("words")).text(f"{BASE}/metrics"))
    assert "95 of 100 requests within 180 ms, the slowest 2.40 s" in html
    assert "requests, for 750 ms on average, not counted in the time to answer" in html
    assert "Time until the app began to answer" in html


async def test_metrics_of_an_app_that_nobody_asked_say_nothing_of_its_answers() -> None:
    answers = everything("words")
    used = usage()
    idle = structs.replace(used.totals, requests=0, latency=UNSET, held=0, held_ms=0)
    hours = [structs.replace(each, requests=0, latency=UNSET) for each in used.hours]
    answers[f"GET /projects/{PROJECT}/usage"] = structs.replace(used, totals=idle, hours=hours)
    html = await Asker(answers).text(f"{BASE}/metrics")
    assert "Usual time to answer</p>" not in html
    assert "Waited for the app" not in html


@pytest.mark.parametrize("pasted", ["secret", "A=1\n2B=x", 'A="open', "A='x' y"])
def test_line_that_is_wrong_is_named_by_its_number_and_not_shown(pasted: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_env(pasted)
    assert refused.value.field.startswith("line ")
    assert "secret" not in refused.value.message


async def test_pasted_variables_are_set_and_never_shown() -> None:
    changed = ProjectChanged(project_id=PROJECT, status="deploying", message="")
    asker = Asker(of_project() | {f"PATCH /projects/{PROJECT}": changed})
    response = await asker.post(f"{BASE}/variables", kind="build", pasted="TOKEN=hunter2")
    assert asker.api.bodies == [{"buildVars": {"TOKEN": "hunter2"}}]
    assert response.headers["location"] == f"{BASE}/variables?told=saved-restarting"


async def test_paste_that_cannot_be_read_changes_nothing() -> None:
    asker = Asker(of_project())
    response = await asker.post(f"{BASE}/variables", kind="run", pasted="hunter2")
    assert response.status_code == 400
    assert not any(each.startswith("PATCH") for each in asker.api.asked)
    assert "hunter2" not in bytes(response.body).decode()


async def test_removed_variable_is_taken_away_alone() -> None:
    changed = ProjectChanged(project_id=PROJECT, status="changed", message="")
    asker = Asker(of_project() | {f"PATCH /projects/{PROJECT}": changed})
    await asker.post(f"{BASE}/variables/remove", kind="run", name="MODE")
    assert asker.api.bodies == [{"runEnvs": {"MODE": None}}]


async def test_search_looks_at_no_more_than_a_few_pages_and_offers_to_go_on() -> None:
    asker = Asker(everything("endless words"))
    html = await asker.text(f"{BASE}/logs", search="WORDS 3: endless")
    read = [each for each in asker.api.asked if f"/projects/{PROJECT}/logs" in each]
    assert len(read) == PAGES_SEARCHED
    assert "Search on" in html


async def test_search_goes_on_by_itself_and_adds_up() -> None:
    asker = Asker(everything("words"))
    begun = await asker.text(f"{BASE}/logs", search="words")
    on = re.search(r'hx-get="([^"]*/logs/search[?][^"]*)"', begun)
    assert on is not None
    path, _, query = unescape(on[1]).partition("?")
    part = await asker.text(path, **dict(parse_qsl(query)))
    one, two = (re.search(r"(\d+) lines of (\d+) hold", each) for each in (begun, part))
    assert one is not None
    assert two is not None
    assert [int(each) for each in two.groups()] == [2 * int(each) for each in one.groups()]
    assert "<h1>" not in part
    assert any("after=" in each for each in asker.api.asked)


async def test_search_that_found_much_waits_to_be_told_to_go_on() -> None:
    html = await Asker(everything("words")).text(f"{BASE}/logs", search="words", matches="499")
    assert "there is more to search" in html
    assert "/logs/search?" not in html


async def test_search_told_to_go_on_does_so_by_itself_again() -> None:
    found = [lines("needle", 3), lines("other", 3)]
    asker = Asker(everything("x") | {f"GET /projects/{PROJECT}/logs": found})
    html = await asker.text(f"{BASE}/logs", search="needle", matches="500", searched="9000")
    assert "503 lines of 9,006 hold" in html
    assert "/logs/search?" in html


async def test_search_says_how_many_of_the_found_lines_are_not_shown() -> None:
    found = [lines("needle", MAX_MATCHES + 70), lines("", 0)]
    asker = Asker(everything("x") | {f"GET /projects/{PROJECT}/logs": found})
    html = await asker.text(f"{BASE}/logs", search="needle")
    assert "570 lines of 570 hold" in html
    assert "70 of them follow" in html
    assert html.count(": needle</div>") == MAX_MATCHES


async def test_search_whose_last_part_has_nothing_keeps_what_was_found_before() -> None:
    asker = Asker(everything("x") | {f"GET /projects/{PROJECT}/logs": lines("", 0)})
    html = await asker.text(f"{BASE}/logs", search="needle", matches="3", searched="40")
    assert "3 lines of 40 hold" in html
    assert "None of" not in html


async def test_search_that_reached_the_end_says_what_it_found() -> None:
    found = [lines("needle", 3), lines("", 0)]
    asker = Asker(everything("x") | {f"GET /projects/{PROJECT}/logs": found})
    html = await asker.text(f"{BASE}/logs", search="NEEDLE")
    assert "3 lines of 3 hold" in html
    assert "Search on" not in html


async def test_lines_of_one_stream_are_shown_alone() -> None:
    asker = Asker(everything("words"))
    html = await asker.text(f"{BASE}/logs", stream="err")
    assert 'class="err"' in html
    assert 'class="out"' not in html


def titles(**changed: Any) -> list[tuple[str, str]]:
    return [(each["title"], each["state"]) for each in steps(deployment_shown(**changed))]


def test_steps_under_way_tell_what_is_over_and_what_comes() -> None:
    assert titles(status=DeploymentStatus.BUILDING, build_started_at=NOW, ended_at=None) == [
        ("Accepted", "done"),
        ("Built", "busy"),
        ("Started and checked", "waiting"),
        ("Ready", "waiting"),
    ]


def test_steps_of_a_failed_build_end_with_the_failure() -> None:
    found = titles(
        status=DeploymentStatus.FAILED,
        build_started_at=NOW,
        build_seconds=2.0,
        reason="it broke",
        reason_code="build_failed",
    )
    assert found == [("Accepted", "done"), ("Built", "failed"), ("Failed", "failed")]


def test_replaced_version_tells_when() -> None:
    found = steps(
        deployment_shown(
            status=DeploymentStatus.SUPERSEDED, superseded_at=iso_utc(START_MS + 9_000)
        )
    )
    assert found[-1]["title"] == "Replaced by a later version"
    assert found[-1]["at_ms"] == START_MS + 9_000


def test_time_to_read_pasted_variables_grows_no_faster_than_they_do() -> None:
    """Each line and each space was looked at again for every one after it."""
    taken = []
    for times in (1, 16):
        begun = time.thread_time()
        for pasted in ('A="' + "x\n" * 2_000 * times, "A=x" + " " * 4_000 * times + "y"):
            with suppress(InvalidField):
                read_env(pasted)
        taken.append(time.thread_time() - begun)
    assert taken[1] < 64 * taken[0]


async def test_formulas_in_csv_are_text_and_amounts_are_numbers() -> None:
    entry = CreditEntry(
        id="=cmd|x", kind="burn", amount_usd=-0.1, amount_micro_usd=-100_000, at=NOW
    )
    account = of_wallet()["GET /credits"]
    account = type(account)(**{**_fields(account), "ledger": [entry]})
    response: Any = await Asker(of_wallet(account=account)).get("/wallet/credits.csv")
    text = "".join([each async for each in response.body_iterator])
    assert f"{NOW},burn,-0.10,,,,'=cmd|x" in text


async def test_invoice_is_a_file_of_lines_and_sums_for_a_spreadsheet() -> None:
    asker = Asker(everything("words"))
    response: Any = await asker.get("/wallet/invoice.csv", **{"from": "2026-04", "to": "2026-04"})
    assert "".join([each async for each in response.body_iterator]).split("\r\n") == [
        "month,project,what,usd",
        "2026-04,hello,running,0.000685",
        ",,Credits at the beginning,1.00",
        ",,Paid,2.00",
        ",,Given by the operator,0.00",
        ",,Paid back,-0.50",
        ",,Other,0.00",
        ",,Used,-0.000685",
        ",,Credits at the end,2.499315",
        "",
    ]
    assert asker.api.asked[-1] == "GET /invoice?from=2026-04&to=2026-04"


async def test_receipt_of_what_was_never_paid_is_not_found() -> None:
    asker = Asker(everything("words"))
    assert (await asker.get(f"/wallet/payments/{TX}")).status_code == 200
    assert (await asker.get("/wallet/payments/0x" + "00" * 32)).status_code == 404


async def test_deployment_page_asks_for_its_own_log_alone() -> None:
    asker = Asker(everything("words"))
    await asker.get(f"{BASE}/deployments/{DEPLOYMENT}")
    assert any("kind=build" in each and DEPLOYMENT in each for each in asker.api.asked)


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("making", "being made"),
        ("ready", 'href="https://gateway.example/exports/ab"'),
        ("failed", "could not be made: no room"),
    ],
)
async def test_export_is_asked_for_on_the_settings_page_which_says_how_far_it_is(
    state: Any, said: str
) -> None:
    made = ExportItem(
        id="ab",
        project_id=PROJECT,
        state=state,
        url="https://gateway.example/exports/ab",
        expires_at=NOW,
        reason="no room",
    )
    asker = Asker(everything("words") | {f"POST /projects/{PROJECT}/exports": made})
    answer = await asker.post(f"{BASE}/settings/export")
    assert said in unescape(bytes(answer.body).decode())
    assert asker.api.bodies[0] == {}


async def test_what_a_wallet_confirmed_has_a_key_of_its_signature_and_is_done_once_by_it() -> None:
    answers = {f"DELETE /projects/{PROJECT}/tokens": {"projectId": PROJECT, "revoked": 2}}
    asker = Asker(answers)
    path = f"/wallet/projects/{PROJECT}/settings/revoke-tokens"
    with pytest.raises(Unconfirmed, match="Revoke all manage tokens of the project"):
        await asker.post(path)
    for nonce in ("first", "first", "second"):
        await asker.post(path, signature="0x01", nonce=nonce)
    keys = [headers["idempotency-key"] for headers in asker.api.headers]
    assert all(person.has_confirmed for person in asker.api.people)
    assert keys[0] == keys[1] != keys[2]


async def test_delegates_are_listed_and_each_ends_by_a_signed_sentence_that_names_it() -> None:
    delegate = "0x" + "de" * 20
    listed = {
        "epoch": 0,
        "host": "moor.example.com",
        "delegates": [
            {
                "id": "d1",
                "owner": WALLET,
                "delegate": delegate,
                "project": "shop",
                "scopes": ["read", "deploy"],
                "limitUsdMonth": 20,
                "expiresAt": NOW,
                "createdAt": NOW,
            }
        ],
    }
    ended = {"id": "d1", "status": "ended"}
    asker = Asker({"GET /delegates": listed, "DELETE /delegates/d1": ended})
    html = await asker.text("/wallet/delegates")
    assert all(said in html for said in (delegate, "read, deploy", "shop", "$20"))
    with pytest.raises(Unconfirmed, match=f"End what {delegate} may do"):
        await asker.post("/wallet/delegates/d1/end")
    await asker.post("/wallet/delegates/d1/end", signature="0x01", nonce="n")
    assert asker.api.asked[-1] == "DELETE /delegates/d1"
    assert asker.api.people[-1].has_confirmed
    with pytest.raises(Unconfirmed, match="End all delegations"):
        await asker.post("/wallet/delegates/end-all")


async def test_wallet_signs_how_much_goes_back_to_it() -> None:
    quote: dict[str, Any] = {
        "id": "q.1",
        "refundable_usd": 1.98,
        "items": [
            {
                "chain": "base",
                "token": "usdc",
                "payment": "0x" + "12" * 32,
                "log_index": 0,
                "to": WALLET,
                "gross": "1.990000",
                "gas": "0.010000",
                "net": "1.980000",
            }
        ],
        "kept": [{"why": "running_apps", "usd": 0.01}],
        "ends": [],
        "expires_at": NOW,
        "message": "It goes back to who paid.",
    }
    waits = {"state": "held", "because": "gas costs more"}
    asked = {"id": "r", "state": "held", "refundable_usd": 1.98, "decided_by": "gateway"}
    asked |= {"created_at": NOW, "items": [{**quote["items"][0], **waits}]}
    listed = {"refunds": [asked], "next": None}
    asker = Asker({"GET /refunds": listed, "POST /refunds/quote": quote})
    html = await asker.text("/wallet/refunds")
    shown = ("$1.98 can go back", "1.980000 USDC", "an hour of what runs", "gas costs more")
    assert all(said in html for said in shown)
    form = {"quote": "q.1", "refundable_usd": "1.98"}
    with pytest.raises(Unconfirmed, match=r"Have \$1.98 of unused credits sent back to 0x"):
        await asker.post("/wallet/refunds", **form)
    assert "POST /refunds" not in asker.api.asked
    odd = {"quote": "q.1", "refundable_usd": "1.98 and all else"}
    assert (await asker.post("/wallet/refunds", **odd)).status_code == 400


def with_purse(**parts: Any) -> dict[str, Any]:
    """A project that has $2.50 of its own, and burned 1 of 10 in this month."""
    answers = everything("words")
    terms = {"balance_usd": 2.5, "shared": False, "limit_usd_month": 10, "burned_usd_month": 1}
    purse = Purse(**{**terms, "runs_out_at": NOW, **parts})
    shown = answers[f"GET /projects/{PROJECT}"]
    return answers | {f"GET /projects/{PROJECT}": structs.replace(shown, purse=purse)}


@pytest.mark.parametrize("path", [BASE, f"{BASE}/settings"])
async def test_what_a_project_has_of_its_own_and_its_limit_are_shown(path: str) -> None:
    html = await Asker(with_purse()).text(path)
    assert all(said in html for said in ("$2.50", "$1.00 of $10.00"))
    await Asker(with_purse(limit_usd_month=None, burned_usd_month=UNSET)).text(path)


async def test_wallet_signs_what_becomes_of_a_purse() -> None:
    changed = PurseChanged(
        balance_usd=4, shared=True, runs_out_at=None, project_id=PROJECT, credits_usd=1
    )
    asker = Asker(with_purse() | {f"PUT /projects/{PROJECT}/purse": changed})
    path, form = f"{BASE}/settings/purse", {"add_usd": "1.5", "shared": "true"}
    signed = r"\$1.5 from the wallet's credits into it; no limit of a month; then the wallet's"
    with pytest.raises(Unconfirmed, match=signed):
        await asker.post(path, **form)
    await asker.post(path, **form, signature="0x01", nonce="n")
    assert asker.api.bodies[0] == {"add_usd": "1.5", "limit_usd_month": None, "shared": True}


@pytest.mark.parametrize("amount", ["-1", "1e3", "0.0000001", "1\nURI: x", "NaN"])
async def test_amount_that_is_none_is_not_put_before_the_wallet(amount: str) -> None:
    answer = await Asker(with_purse()).post(f"{BASE}/settings/purse", add_usd=amount)
    assert b"Amounts are dollars" in bytes(answer.body)

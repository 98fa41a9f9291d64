"""Every page of a wallet: strangers' words are text, readers get no form, all is one person's."""

import re
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl

import pytest
from page_asker import HOSTILE, PERSON_OF_WALLET, PROJECT, READER, Asker
from rich_answers import PAGES_SHOWN, everything

from moorage.pages.sessions.session import Session
from moorage.pages.wallet.api import ApiRefused

_IDS = [each.replace(PROJECT, "project")[:60] for each in PAGES_SHOWN]
LIST = re.compile(r"GET /projects(\?|$)")
every_page = pytest.mark.parametrize("address", PAGES_SHOWN, ids=_IDS)


async def shown(address: str, text: str, session: Session = PERSON_OF_WALLET) -> str:
    path, _, query = address.partition("?")
    return await Asker(everything(text), session).text(path, **dict(parse_qsl(query)))


@every_page
async def test_words_of_strangers_are_text(address: str) -> None:
    html = await shown(address, HOSTILE)
    read = re.sub(r"<(?:input|textarea)[^>]*>[^<]*", "", html)  # what is edited is as it was
    assert "<script>alert" not in html
    assert "\u202e" not in read
    assert "\x1b" not in read


@every_page
async def test_pages_have_no_style_or_script_of_their_own(address: str) -> None:
    html = await shown(address, "words")
    html = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)


@every_page
async def test_every_form_that_changes_something_repeats_the_token(address: str) -> None:
    html = await shown(address, "words")
    forms = re.findall(r'<form method="post".*?</form>', html, re.DOTALL)
    assert all('name="csrf" value="token-of-the-session"' in each for each in forms)


@every_page
async def test_reader_is_offered_nothing_that_changes(address: str) -> None:
    html = await shown(address, "words", READER)
    forms = re.findall(r'<form method="post" action="([^"]*)"', html)
    assert set(forms) <= {"/sign-out"}


@every_page
async def test_no_page_reads_all_projects_whatever_there_are(address: str) -> None:
    path, _, query = address.partition("?")
    asker = Asker(everything("words"))
    await asker.text(path, **dict(parse_qsl(query)))
    lists = [parse_qs(each.partition("?")[2]) for each in asker.api.asked if LIST.match(each)]
    assert all(each.keys() & {"limit", "ids"} for each in lists)


@every_page
async def test_ids_are_used_once_and_labels_name_fields(address: str) -> None:
    html = await shown(address, "words")
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\sfor="([^"]*)"', html)) <= set(ids)


@pytest.mark.parametrize(
    "address", [each for each in PAGES_SHOWN if PROJECT in each and "delete" not in each]
)
async def test_link_for_one_project_asks_for_that_alone(address: str) -> None:
    path, _, query = address.partition("?")
    asker = Asker(everything("words"), replace(READER, project_id=PROJECT))
    html = await asker.text(path, **dict(parse_qsl(query)))
    assert all(f"/{PROJECT}" in each for each in asker.api.asked)
    assert 'href="/wallet"' not in html.partition("<main")[2]
    assert "/wallet/credits" not in html


@pytest.mark.parametrize(
    ("path", "asked"),
    [("credits", "credits"), ("payments", "payments")],
    ids=["ledger", "payments"],
)
async def test_file_that_may_not_be_fetched_is_refused_before_it_begins(
    path: str, asked: str
) -> None:
    """As with a link to one project: whoever has it sees nothing of the wallet's money."""
    refused = (403, {"error": "This link is for less.", "code": "link_scope", "retryable": False})
    asker = Asker({f"GET /{asked}": refused}, READER)
    with pytest.raises(ApiRefused) as refusal:
        await asker.get(f"/wallet/{path}.csv")
    assert refusal.value.status == 403

"""What was typed into a form that is not taken comes back, to whoever typed it alone."""

from typing import Any, cast
from urllib.parse import urlencode

import pytest
from page_asker import HOSTILE, PERSON_OF_WALLET, SIGNED_IF_IT_SAYS_SO, FakeApi
from starlette.types import Message, Scope

from moorage.pages.sessions.session import AuthGuard, Session
from moorage.pages.sessions.sign_in import Confirmations, typed
from moorage.pages.wallet.site import WalletSite
from moorage.storage.database import Database
from support.books.records_fixture import add_project
from support.gateway.clock import MovableClock
from support.gateway.discovery_facts import FACTS
from support.gateway.operator_pages import HOST, OperatorPages, counts_nobody

TEXT = "a long reason\nof two lines"


class OneSession:
    """A guard at which everybody has the same session, or none."""

    hosts = frozenset({HOST})

    def __init__(self, session: Session | None) -> None:
        self._session = session

    async def session(self, _request: object) -> Session | None:
        return self._session


async def sent(session: Session | None, origin: str, **fields: str) -> tuple[int, str]:
    """What a wallet's site answers a form of its links."""
    refused = (409, {"error": "No.", "code": "x", "retryable": False})
    site = WalletSite(
        api=FakeApi({"POST /links": refused, "DELETE /links/1": refused}),
        guard=cast("AuthGuard", OneSession(session)),
        confirmations=cast("Confirmations", SIGNED_IF_IT_SAYS_SO),
        facts=FACTS,
        clock=MovableClock(),
        count=counts_nobody,
    )
    path = "/wallet/links/1/remove"
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"origin", origin.encode())],
        "scheme": "http",
        "server": ("127.0.0.1", 8402),
        "client": ("127.0.0.1", 1),
    }
    answered: list[dict[str, Any]] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": urlencode(fields).encode()}

    async def send(message: Message) -> None:
        answered.append(dict(message))

    await site.app(scope, receive, send)
    return answered[0]["status"], answered[1]["body"].decode()


async def test_form_of_a_session_that_has_ended_comes_back() -> None:
    status, html = await sent(None, f"http://{HOST}", csrf="secret-token", label=TEXT)
    assert status == 401
    assert TEXT in html
    assert "secret-token" not in html


async def test_form_of_another_origin_is_not_repeated_to_anybody() -> None:
    status, html = await sent(None, "http://evil.localhost:8403", label=TEXT)
    assert (status, TEXT in html) == (303, False)


async def test_form_that_holds_no_text_leads_to_the_sign_in() -> None:
    status, _ = await sent(None, f"http://{HOST}", csrf="secret-token", confirmed="true")
    assert status == 303


async def test_form_of_more_fields_than_any_has_leads_to_the_sign_in() -> None:
    fields = {f"label-{number}": TEXT for number in range(51)}
    status, _ = await sent(None, f"http://{HOST}", **fields)
    assert status == 303


@pytest.mark.parametrize("text", [TEXT, HOSTILE], ids=["words", "hostile"])
async def test_form_that_the_api_refuses_comes_back(text: str) -> None:
    csrf = PERSON_OF_WALLET.csrf
    status, html = await sent(PERSON_OF_WALLET, f"http://{HOST}", csrf=csrf, label=text)
    assert status == 409
    assert "What you typed" in html
    assert "<script>alert" not in html


async def test_form_of_an_earlier_session_changes_nothing_and_comes_back() -> None:
    status, html = await sent(PERSON_OF_WALLET, f"http://{HOST}", csrf="old", label=TEXT)
    assert (status, TEXT in html) == (400, True)


async def test_operators_reason_comes_back_with_the_error(
    db: Database, clock: MovableClock
) -> None:
    await add_project(db)
    pages = OperatorPages(db, clock)
    path = "/operator/projects/hello/suspend"
    answer = await pages.post(path, reason=TEXT)  # the box is not ticked
    assert answer.status == 400
    assert TEXT in answer.text
    pages.session = None
    fields = {"csrf": "old", "reason": TEXT}
    signed_out = await pages.send(path, fields, origin=f"http://{HOST}")
    assert signed_out.status == 401
    assert TEXT in signed_out.text
    assert "/operator/sign-in" in signed_out.text


def test_only_texts_are_told_with_their_names() -> None:
    form = {"reason": "why", "csrf": "t", "max_projects": "3", "signature": "0x", "words": " "}
    assert typed(form) == [("Reason", "why"), ("Max projects", "3")]

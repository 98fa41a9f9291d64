"""Pages for whoever is signed out: each failure is told, and what strangers send is counted."""

from typing import cast
from urllib.parse import urlencode

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.errors import BodyStalled, DatabaseUnavailable, RateLimited
from moorage.pages.operator.health import OperatorContext
from moorage.pages.operator.site import OperatorSite
from moorage.pages.sessions.form import FAILED, Count
from moorage.pages.sessions.session import AuthGuard, Session
from moorage.pages.sessions.sign_in import Confirmations, Signing, operator_login, wallet_login
from moorage.pages.wallet.site import WalletSite
from moorage.records.access import Role
from support.gateway.clock import MovableClock
from support.gateway.discovery_facts import FACTS
from support.gateway.operator_pages import HOST, counts_nobody

KIBIBYTE = 1024
LOOKS = ("/wallet", "/sign-in", "/links/abc", "/operator", "/operator/sign-in")
FORMS = ("/wallet/links", "/sign-in", "/links/abc", "/operator/notices/maintenance")


class Sessions:
    """Sessions that can't be looked up, for a reason."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    async def look_at_link(self, _secret: str, *, role: object) -> None:
        raise self.reason

    async def open_link(self, _secret: str, *, role: object) -> None:
        raise self.reason


class Guardless:
    """A guard that nobody passes; `reason`: why it can't even look, if it can't."""

    role = Role.WALLET
    hosts = frozenset({HOST})
    url = f"http://{HOST}"

    def __init__(self, reason: Exception | None) -> None:
        self.reason = reason
        self.sessions = Sessions(reason or AssertionError("never asked"))

    def url_of(self, _request: Request) -> str:
        return self.url

    async def session(self, _request: Request) -> Session | None:
        if self.reason is not None:
            raise self.reason
        return None


class FailingSigning:
    """Finds out nothing about a signature."""

    async def check(self, *_args: object, **_named: object) -> None:
        raise RuntimeError


def sites(reason: Exception | None, count: Count) -> ASGIApp:
    """Both sites on one host."""
    guard, signing = cast("AuthGuard", Guardless(reason)), cast("Signing", FailingSigning())
    wallets = WalletSite(
        api=cast("ASGIApp", None),
        guard=guard,
        confirmations=cast("Confirmations", None),
        facts=FACTS,
        clock=MovableClock(),
        count=count,
        login_routes=wallet_login(guard, count=count, signing=signing, facts=FACTS),
    )
    login_routes = operator_login(
        guard, count=count, signing=signing, facts=FACTS, wallets=frozenset()
    )
    operators = OperatorSite(cast("OperatorContext", None)).app(guard, login_routes, count=count)
    wallet_pages, operator_pages = wallets.app, operators

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        app = operator_pages if scope["path"].startswith("/operator") else wallet_pages
        await app(scope, receive, send)

    return either


class Told:
    """What was answered."""

    def __init__(self, sent: list[Message]) -> None:
        self.status: int = sent[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.text = b"".join(each.get("body", b"") for each in sent[1:]).decode()


async def asked(
    path: str,
    *pieces: bytes | Message | Exception,
    reason: Exception | None = None,
    count: Count = counts_nobody,
) -> Told:
    """What a signed-out browser is answered; it sends a form if there is a piece of one."""
    sent: list[Message] = []
    came = list(pieces)

    async def receive() -> Message:
        piece = came.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if isinstance(piece, bytes):
            return {"type": "http.request", "body": piece, "more_body": bool(came)}
        return piece

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST" if pieces else "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"origin", f"http://{HOST}".encode()), (b"host", HOST.encode())],
        "scheme": "http",
        "server": ("127.0.0.1", 8402),
        "client": ("127.0.0.1", 1),
    }
    await sites(reason, count)(scope, receive, send)
    return Told(sent)


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


@pytest.mark.parametrize("path", LOOKS)
async def test_page_whose_session_cannot_be_looked_up_says_so(path: str) -> None:
    answer = await asked(path, reason=RuntimeError("a bug"))
    assert answer.status == 500
    assert FAILED.split(",", maxsplit=1)[0] in answer.text


@pytest.mark.parametrize("path", FORMS)
async def test_form_is_told_that_the_gateway_failed_before_it_did_anything(path: str) -> None:
    answer = await asked(path, form(reason="why"), reason=RuntimeError("a bug"))
    assert answer.status == 500
    assert "before it did anything" in answer.text


@pytest.mark.parametrize("path", ["/wallet", "/links/abc", "/operator"])
async def test_page_says_that_the_database_is_away(path: str) -> None:
    away = DatabaseUnavailable()
    answer = await asked(path, reason=away)
    assert answer.status == 503
    assert away.message in answer.text


async def test_script_that_asks_for_a_text_to_sign_is_told_in_json() -> None:
    answer = await asked("/sign-in/text", RuntimeError("a socket's"))
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/json"
    assert FAILED in answer.text


@pytest.mark.parametrize(
    "path", ["/wallet/links", "/sign-in", "/sign-in/text", "/operator/books/audit"]
)
async def test_form_of_a_browser_that_left_is_no_failure_of_the_gateway(path: str) -> None:
    answer = await asked(path, form(reason="why"), {"type": "http.disconnect"})
    assert (answer.status, answer.text) == (400, "")


async def test_form_that_arrives_too_slowly_says_so() -> None:
    answer = await asked("/sign-in", BodyStalled())
    assert answer.status == 408
    assert BodyStalled().message in answer.text


def refusing(counted: list[str]) -> Count:
    """Counts paths, and refuses all."""

    async def count(request: Request) -> None:
        counted.append(request.url.path)
        raise RateLimited(7)

    return count


@pytest.mark.parametrize("path", FORMS)
async def test_form_of_a_stranger_is_counted_before_it_is_read(path: str) -> None:
    counted: list[str] = []
    answer = await asked(path, AssertionError("read"), count=refusing(counted))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert "Try again in 7 s." in answer.text
    assert counted == [path]


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/text", "/operator/sign-in"])
async def test_sign_in_takes_no_form_larger_than_a_signature(path: str) -> None:
    answer = await asked(path, form(signature="0x" + "1" * 32 * KIBIBYTE))
    assert answer.status == 413


@pytest.mark.parametrize("path", ["/wallet/links", "/operator/notices/announcement"])
async def test_form_that_is_too_large_to_be_shown_again_says_where_the_text_is(path: str) -> None:
    told = await asked(path, form(text="é" * 8 * KIBIBYTE))
    assert (told.status, "é" * 8 * KIBIBYTE in told.text) == (401, True)
    answer = await asked(path, form(text="é" * 16 * KIBIBYTE))
    assert answer.status == 413
    assert "nothing was changed" in answer.text
    assert "go back in this browser" in answer.text

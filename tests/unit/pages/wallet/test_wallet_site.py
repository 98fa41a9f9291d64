"""A wallet's pages as one site: what goes on for long ends with the session, and ways lead back."""

import asyncio
from typing import cast

from page_asker import PROJECT, SIGNED_IF_IT_SAYS_SO, Asker
from rich_answers import everything
from starlette.types import Message, Receive, Scope, Send

from moorage.auth.tokens import DAY_MS, LinkOrder, Links
from moorage.pages.sessions.session import Sessions, wallet_guard
from moorage.pages.sessions.sign_in import Confirmations
from moorage.pages.wallet import actions, overview
from moorage.pages.wallet.site import PAGES, WalletSite
from moorage.records.access import Role
from moorage.storage.database import Database
from moorage.wire.events import WebhookMade
from support.books.records_fixture import ALICE
from support.gateway.clock import MovableClock
from support.gateway.discovery_facts import FACTS
from support.gateway.operator_pages import counts_nobody


async def log_without_end(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a line", "more_body": True})
    await asyncio.Event().wait()


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("it never leaves")


async def test_followed_log_ends_when_the_link_is_revoked(
    db: Database, clock: MovableClock
) -> None:
    made_here, sessions = Links(db=db, clock=clock), Sessions(db=db, clock=clock)
    made = await made_here.make(LinkOrder(who=ALICE, lifetime_ms=DAY_MS))
    opened = await sessions.open_link(made.secret, role=Role.WALLET)
    assert opened is not None
    site = WalletSite(
        api=log_without_end,
        guard=wallet_guard(sessions, public_url="http://127.0.0.1:8402"),
        confirmations=cast("Confirmations", SIGNED_IF_IT_SAYS_SO),
        facts=FACTS,
        clock=clock,
        count=counts_nobody,
    )
    came: asyncio.Queue[Message] = asyncio.Queue()
    path = f"/wallet/projects/{PROJECT}/logs/stream"
    cookie = f"moorage={opened.secret}".encode()
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"cookie", cookie)],
        "scheme": "http",
        "server": ("127.0.0.1", 8402),
        "client": ("127.0.0.1", 1),
    }
    following = asyncio.ensure_future(site.app(scope, stays, came.put))
    async with asyncio.timeout(20):
        assert (await came.get())["status"] == 200
        assert (await came.get())["body"] == b"a line"
        await made_here.revoke(made.link.id, who=ALICE)
        assert (await came.get())["more_body"] is False
        await following


def test_page_that_asks_for_a_signature_leads_back_to_a_page() -> None:
    shown = {path for method, path, _ in PAGES if method == "GET"}
    signed = [actions.delete, actions.revoke_tokens, overview.make_link_once]
    asked = [path for _, path, handler in PAGES if handler in signed]
    assert len(asked) == len(signed)
    assert {path.rpartition("/")[0] for path in asked} <= shown


async def test_secret_of_a_webhook_travels_in_a_cookie_that_no_other_host_can_set() -> None:
    made = WebhookMade(url="https://hook.example.com", secret="whsec_x")
    asker = Asker(everything("words") | {"PUT /webhook": made})
    answer = await asker.post("/wallet/webhook", url="https://hook.example.com")
    assert (answer.status_code, answer.headers["location"]) == (303, "/wallet/webhook")
    name, _, attributes = answer.headers["set-cookie"].partition("=")
    assert name == "__Host-webhook-secret"
    told = {each.strip().lower() for each in attributes.split(";")}
    assert {"whsec_x", "path=/", "secure", "httponly", "samesite=strict", "max-age=60"} <= told

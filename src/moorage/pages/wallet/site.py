"""The table of a wallet's pages, and how they are answered, also after errors."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.api.discovery.guide import Facts
from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable, MoorageError
from moorage.pages.rendering.templates import PREFIX, page, serve_asset
from moorage.pages.sessions.form import Count, own_form, require_token, with_error_pages
from moorage.pages.sessions.session import AuthGuard
from moorage.pages.sessions.sign_in import (
    SIGNATURE_FIELDS,
    Confirmations,
    Unconfirmed,
    is_part,
    signed_out,
    typed,
)
from moorage.pages.wallet import actions, history, logs, metrics, overview, top_up, view
from moorage.pages.wallet.api import Api, ApiRefused, Stream
from moorage.pages.wallet.view import View
from moorage.records.access import Role

ASK_SECONDS = 2.0
"""How often is asked whether the session lasts."""


class SessionStream(Response):
    """An answer that is cut off once its session was ended, its link revoked, or either expired."""

    def __init__(
        self,
        answer: Response,
        lasts: Callable[[], Awaitable[bool]],
        *,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        super().__init__()
        self._answer = answer
        self._lasts = lasts
        self._ask_seconds = ask_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, as far as it may be sent."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        sending = asyncio.ensure_future(self._answer(scope, receive, noted))
        try:
            while not (await asyncio.wait((sending,), timeout=self._ask_seconds))[0]:
                if has_begun and not await self._still_lasts():
                    break
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
        if sending.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            sending.result()

    async def _still_lasts(self) -> bool:
        try:
            return await self._lasts()
        except DatabaseUnavailable:
            return True  # it is not known to have ended


Handler = Callable[[View], Awaitable[Response]]

_PROJECT = "/wallet/projects/{project_id}"
_DEPLOYMENT = _PROJECT + "/deployments/{deployment_id}"

PAGES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/wallet", overview.overview),
    ("GET", _PROJECT, view.show_project),
    ("POST", f"{_PROJECT}/restart", actions.restart),
    ("POST", f"{_PROJECT}/pause", actions.pause),
    ("POST", f"{_PROJECT}/resume", actions.resume),
    ("POST", f"{_PROJECT}/rollback", actions.roll_back),
    ("GET", f"{_PROJECT}/delete", actions.ask_to_delete),
    ("POST", f"{_PROJECT}/delete", actions.delete),
    ("POST", f"{_PROJECT}/settings/export", actions.export),
    ("POST", f"{_PROJECT}/settings/purse", actions.set_purse),
    ("POST", f"{_PROJECT}/settings/revoke-tokens", actions.revoke_tokens),
    ("GET", f"{_PROJECT}/deployments", actions.list_deployments),
    ("GET", _DEPLOYMENT, actions.show_deployment),
    ("POST", f"{_DEPLOYMENT}/cancel", actions.cancel),
    ("GET", f"{_PROJECT}/logs", logs.show_logs),
    ("GET", f"{_PROJECT}/logs/search", logs.search_on),
    ("GET", f"{_PROJECT}/logs/stream", logs.stream_logs),
    ("GET", f"{_PROJECT}/logs/download", logs.download_logs),
    ("GET", f"{_PROJECT}/metrics", metrics.show_metrics),
    ("GET", f"{_PROJECT}/variables", actions.show_variables),
    ("POST", f"{_PROJECT}/variables", actions.set_variables),
    ("POST", f"{_PROJECT}/variables/remove", actions.remove_variable),
    ("GET", f"{_PROJECT}/domains", actions.show_domains),
    ("POST", f"{_PROJECT}/domains", actions.add_domain),
    ("POST", f"{_PROJECT}/domains/check", actions.check_domain),
    ("POST", f"{_PROJECT}/domains/remove", actions.remove_domain),
    ("GET", f"{_PROJECT}/settings", actions.show_settings),
    ("POST", f"{_PROJECT}/settings", actions.change_settings),
    ("GET", "/wallet/top-up", top_up.ask_amount),
    ("GET", "/wallet/top-up/pay", top_up.show_ways),
    ("GET", "/wallet/top-up/watch", top_up.watch),
    ("GET", "/wallet/top-up/outcome", top_up.show_outcome),
    ("POST", "/wallet/top-up/sent", top_up.show_transaction),
    ("POST", "/wallet/top-up/signed", top_up.take_authorization),
    ("GET", "/wallet/credits", history.show_ledger),
    ("GET", "/wallet/credits.csv", history.download_ledger),
    ("GET", "/wallet/payments", history.show_payments),
    ("GET", "/wallet/payments.csv", history.download_payments),
    ("GET", "/wallet/payments/{tx_hash}", history.show_receipt),
    ("GET", "/wallet/payments/{tx_hash}/receipt.json", history.download_receipt),
    ("GET", "/wallet/refunds", history.show_refunds),
    ("POST", "/wallet/refunds", history.ask_refund),
    ("GET", "/wallet/invoice", history.show_invoice),
    ("GET", "/wallet/invoice.csv", history.download_invoice_lines),
    ("GET", "/wallet/invoice.json", history.download_invoice),
    ("GET", "/wallet/links", overview.show_links),
    ("POST", "/wallet/links", overview.make_link),
    ("POST", "/wallet/links/once", overview.make_link_once),
    ("POST", "/wallet/links/{link_id}/remove", overview.remove_link),
    ("GET", "/wallet/delegates", overview.show_delegates),
    ("POST", "/wallet/delegates/end-all", overview.end_delegates),
    ("POST", "/wallet/delegates/{delegation_id}/end", overview.end_delegate),
    ("GET", "/wallet/events", overview.show_events),
    ("POST", "/wallet/events/{event_id}/redeliver", overview.redeliver),
    ("POST", "/wallet/webhook", overview.set_webhook),
    ("GET", "/wallet/webhook", overview.show_secret),
    ("POST", "/wallet/webhook/remove", overview.remove_webhook),
)


log = structlog.get_logger()

_SIGN_IN = "/sign-in"

_LOOK_FAILED = "The gateway failed at this page. Nothing was changed by looking at it: try again."
_CHANGE_FAILED = (
    "The gateway failed while it did this, so it may have been done: look at the project, and at "
    "Credits and Payments, before you do it again. If you paid, do not pay again: what arrived is "
    "found and credited by itself."
)

PREFIXES = ("/wallet", "/sign-in", "/sign-out", "/links/", f"{PREFIX}/")
"""Where the paths of pages begin; everything else is the API's."""


@dataclass(frozen=True, kw_only=True)
class WalletSite:
    """What the pages of wallets need."""

    api: ASGIApp
    guard: AuthGuard
    confirmations: Confirmations
    facts: Facts
    clock: Clock
    count: Count  # of forms that come without a session
    login_routes: tuple[Route, ...] = ()  # pages without a session: to sign in, and to open links

    @property
    def app(self) -> ASGIApp:
        """The pages as an ASGI app."""
        routes = [self._route(*each) for each in PAGES]
        assets = Route(f"{PREFIX}/{{digest}}/{{name}}", serve_asset)
        return Router([*routes, *self.login_routes, assets], default=_not_found)

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            session = await self.guard.session(request)
            if session is None and request.method == "POST" and not is_part(request):
                hosts, count = self.guard.hosts, self.count
                return await signed_out(request, hosts=hosts, sign_in=_SIGN_IN, count=count)
            if session is None:
                return _to_sign_in(request)
            view = View(
                request=request,
                session=session,
                form={},
                api=Api(self.api, scope=request.scope, person=session.person),
                facts=self.facts,
                clock=self.clock,
                confirmations=self.confirmations,
            )
            answered = await self._answered(handler, view)
            if not isinstance(answered, Stream | StreamingResponse):
                return answered
            lasts = partial(self.guard.sessions.lasts, session.id, role=Role.WALLET)
            return SessionStream(answered, lasts)

        return Route(path, with_error_pages(answer, home="/wallet"), methods=[method])

    async def _answered(self, handler: Handler, view: View) -> Response:
        """Returns what the handler answers, once a page of ours sent what would change things."""
        if view.request.method in ("GET", "HEAD"):
            return await _answered(handler, view)
        try:
            view = replace(view, form=await own_form(view.request, hosts=self.guard.hosts))
            require_token(view.form, csrf=view.session.csrf)
        except MoorageError as error:
            return _refused(view, 400, error.message)
        return await _answered(handler, view)


def _to_sign_in(request: Request) -> Response:
    """Sends the browser to the sign-in, or has it ask once more.

    For a link from another site, such as in a mail, browsers leave out a `SameSite=Strict` cookie.
    A page of this site then repeats the request, with the cookie.
    """
    if is_part(request):
        return Response(status_code=401, headers={"HX-Redirect": _SIGN_IN})
    is_from_elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    if request.method == "GET" and is_from_elsewhere:
        return page("sessions/again.html", again=request.url.path)
    return RedirectResponse(_SIGN_IN, 303)


async def _answered(handler: Handler, view: View) -> Response:
    try:
        return await handler(view)
    except Unconfirmed as unconfirmed:
        fields = {k: v for k, v in view.form.items() if k not in SIGNATURE_FIELDS}
        path = view.request.url.path
        return view.page(
            "sessions/confirm.html",
            statement=unconfirmed.statement,
            sentence=unconfirmed.sentence,
            error=unconfirmed.error,
            fields=fields,
            action=path,
            back=path.rpartition("/")[0],
        )
    except ApiRefused as refused:
        return _refused(view, refused.status, refused.problem.error)
    except MoorageError as error:
        return _refused(view, 400, error.message)
    except Exception:
        log.exception("page failed")
        is_look = view.request.method in ("GET", "HEAD")
        return _refused(view, 500, _LOOK_FAILED if is_look else _CHANGE_FAILED)


def _refused(view: View, status: int, message: str) -> Response:
    """Returns a page that says why not; a part of a page that asks for itself stays as it is."""
    if view.is_part:
        return Response(status_code=204)
    return view.page(
        "wallet/refused.html",
        status=status,
        status_code=status,
        message=message,
        typed=typed(view.form),
    )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    response = page("not_found.html", status=404)
    await response(scope, receive, send)

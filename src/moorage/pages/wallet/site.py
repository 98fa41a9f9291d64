"""The table of a wallet's pages, and how they are answered, also after errors."""

from dataclasses import dataclass, replace

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.discovery.facts import Facts
from moorage.clock import Clock
from moorage.errors import MoorageError
from moorage.pages.rendering.assets import PREFIX, serve_asset
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.form import intended_form
from moorage.pages.sessions.gate import Gate
from moorage.pages.wallet.api import Api, ApiRefused
from moorage.pages.wallet.table import PAGES, Handler
from moorage.pages.wallet.view import View

log = structlog.get_logger()


PREFIXES = ("/wallet", "/sign-in", "/sign-out", "/links/", f"{PREFIX}/")
"""Where the paths of pages begin; everything else is the API's."""


@dataclass(frozen=True, kw_only=True)
class WalletSite:
    """What the pages of wallets need."""

    api: ASGIApp
    gate: Gate
    facts: Facts
    clock: Clock
    doors: tuple[Route, ...] = ()  # pages without a session: to sign in, and to open links

    @property
    def app(self) -> ASGIApp:
        """The pages as an ASGI app."""
        routes = [self._route(*each) for each in PAGES]
        assets = Route(f"{PREFIX}/{{digest}}/{{name}}", serve_asset)
        return Router([*routes, *self.doors, assets], default=_not_found)

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            session = await self.gate.wallet_session(request)
            if session is None:
                return RedirectResponse("/sign-in", 303)
            view = View(
                request=request,
                session=session,
                form={},
                api=Api(self.api, scope=request.scope, person=session.person),
                facts=self.facts,
                clock=self.clock,
            )
            return await _answered(self._checked(handler), view)

        return Route(path, answer, methods=[method])

    def _checked(self, handler: Handler) -> Handler:
        """Returns the handler behind a check that a page of ours sent what would change things."""

        async def checked(view: View) -> Response:
            if view.request.method in ("GET", "HEAD"):
                return await handler(view)
            csrf, hosts = view.session.csrf, self.gate.hosts
            form = await intended_form(view.request, csrf=csrf, hosts=hosts)
            return await handler(replace(view, form=form))

        return checked


async def _answered(handler: Handler, view: View) -> Response:
    try:
        return await handler(view)
    except ApiRefused as refused:
        return view.page("error.html", status=refused.status, message=refused.problem.error)
    except MoorageError as error:
        return view.page("error.html", status=400, message=error.message)
    except Exception:
        log.exception("page failed")
        message = "The gateway failed at this page. Nothing was changed by looking at it."
        return view.page("error.html", status=500, message=message)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    response = page("not_found.html", status=404)
    await response(scope, receive, send)

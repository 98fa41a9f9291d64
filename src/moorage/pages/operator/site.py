"""The table of an operator's pages, and how they are answered, also after errors."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.discovery.documents import icon
from moorage.errors import InvalidRequest, MoorageError
from moorage.gateway.assembly import Rooms
from moorage.loop import Run
from moorage.operate.books import books_of
from moorage.pages.operator import customers, money, overview, projects
from moorage.pages.operator.audits import Audits, BooksCommand, Reports
from moorage.pages.operator.health import HealthReader, OperatorContext, read_health
from moorage.pages.operator.view import View
from moorage.pages.rendering.templates import PREFIX, page, serve_asset
from moorage.pages.sessions.form import Count, Form, own_form, require_token, with_error_pages
from moorage.pages.sessions.session import AuthGuard
from moorage.pages.sessions.sign_in import is_part, signed_out, typed
from moorage.settings import Settings

log = structlog.get_logger()

Handler = Callable[[View], Awaitable[Response]]

HOME = "/operator"
SIGN_IN = f"{HOME}/sign-in"
_LOOK_FAILED = "The gateway failed at this page; its log says more."
_ACT_FAILED = (
    "The gateway failed while it did this, so it may have been done: look at its page, and at "
    "Acts, before you do it again. Its log says more."
)
_PAYMENT = "/payments/{chain_id}/{tx_hash}/{log_index}"
_WALLET = "/wallets/{wallet}"
_PROJECT = "/projects/{name}"

PAGES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "", overview.show_overview),
    ("GET", "/glance", overview.glance),
    ("GET", "/trends", overview.show_trends),
    ("GET", "/payments", money.listed),
    ("GET", _PAYMENT, money.one),
    ("POST", f"{_PAYMENT}/release", money.release_one),
    ("POST", f"{_PAYMENT}/refund", money.refund_one),
    ("GET", "/refunds", money.refunds),
    ("POST", "/refunds/{request_id}", money.decide_refund),
    ("GET", "/wallets", customers.listed),
    ("GET", _WALLET, customers.one),
    ("POST", f"{_WALLET}/suspend", customers.suspend),
    ("POST", f"{_WALLET}/resume", customers.resume),
    ("POST", f"{_WALLET}/credits", customers.give),
    ("POST", f"{_WALLET}/credits/{{grant_id}}/undo", customers.take_back),
    ("POST", f"{_WALLET}/rules", customers.allow),
    ("GET", "/projects", projects.listed),
    ("GET", _PROJECT, projects.one),
    ("POST", f"{_PROJECT}/suspend", projects.suspend),
    ("POST", f"{_PROJECT}/resume", projects.resume),
    ("POST", f"{_PROJECT}/evict", projects.evict),
    ("POST", f"{_PROJECT}/keep", projects.keep),
    ("GET", "/books", money.show_books),
    ("POST", "/books/audit", money.audit),
    ("GET", "/prices", money.show_prices),
    ("POST", "/prices/order", money.order),
    ("POST", "/prices/cancel", money.cancel),
    ("GET", "/reports", money.show_reports),
    ("GET", "/reports/table", money.table),
    ("GET", "/reports.csv", money.download),
    ("GET", "/settings", overview.show_configuration),
    ("GET", "/settings/history", overview.history),
    ("GET", "/acts", overview.done),
    ("GET", "/log", overview.log),
    ("GET", "/notices", overview.show_notices),
    ("POST", "/notices/announcement", overview.announce),
    ("POST", "/notices/announcement/end", overview.end_announcement),
    ("POST", "/notices/maintenance", overview.begin_maintenance),
    ("POST", "/notices/maintenance/end", overview.end_maintenance),
)
"""Method, path below HOME, and handler of each page; all need an operator's session."""


@dataclass(frozen=True)
class OperatorSite:
    """The pages of one gateway."""

    context: OperatorContext

    @property
    def runs(self) -> tuple[Run, ...]:
        """The tasks that run until the gateway stops."""
        return (self.context.audits.run,)

    def app(self, guard: AuthGuard, login_routes: tuple[Route, ...], *, count: Count) -> ASGIApp:
        """Returns the pages for those whom `guard` lets in; `login_routes` lead to it.

        `count` counts forms of all others.
        """
        return Router(
            [
                *login_routes,
                *(self._route(*each, guard, count) for each in PAGES),
                Route("/", _home),
                Route("/favicon.svg", icon()),
                Route(f"{PREFIX}/{{digest}}/{{name}}", serve_asset),
            ],
            default=_not_found,
        )

    def _route(
        self, method: str, path: str, handler: Handler, guard: AuthGuard, count: Count
    ) -> Route:
        async def answer(request: Request) -> Response:
            session, hosts = await guard.session(request), guard.hosts
            if session is None and request.method == "POST" and not is_part(request):
                return await signed_out(request, hosts=hosts, sign_in=SIGN_IN, count=count)
            if session is None:
                if is_part(request):
                    return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
                return RedirectResponse(SIGN_IN, 303)
            form: Form = {}
            if request.method == "POST":
                form = await own_form(request, hosts=hosts)
            view = View(request=request, session=session, context=self.context, form=form)
            return await _answered(handler, view)

        return Route(f"{HOME}{path}", with_error_pages(answer, home=HOME), methods=[method])


async def _answered(handler: Handler, view: View) -> Response:
    is_act = view.request.method == "POST"
    try:
        if is_act:
            require_token(view.form, csrf=view.session.csrf)
        return await handler(view)
    except InvalidRequest as error:
        return _error(400, error.message, view.form)
    except MoorageError as error:
        return _error(409, error.message, view.form)
    except Exception:
        log.exception("page failed")
        return _error(500, _ACT_FAILED if is_act else _LOOK_FAILED, view.form)


def _error(status: int, message: str, form: Form) -> Response:
    return page("error.html", status=status, message=message, typed=typed(form), home=HOME)


async def _home(_request: Request) -> Response:
    return RedirectResponse(HOME, 303)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    response = page("not_found.html", status=404, home=HOME)
    await response(scope, receive, send)


async def open_operator_pages(
    rooms: Rooms,
    in_force: Callable[[], Settings],
    *,
    load: Callable[[], Settings],
    command: BooksCommand,
) -> OperatorSite:
    """Opens the pages of a gateway with these rooms.

    `in_force` returns the settings in force, `load` reads them again as the next start would;
    `command` runs this program on the books.
    """
    core, payee = rooms.core, rooms.payee
    books = await books_of(core.db, payee.chains, payee.clients, pay_to=payee.pay_to, operator="")
    configured = load()
    health = partial(read_health, rooms, sends_offsite=bool(configured.backup_to))
    context = OperatorContext(
        books=books,
        in_force=in_force,
        configured=configured,
        load=load,
        clock=core.clock,
        billed=rooms.ledger.metering.time,
        health=HealthReader(health),
        audits=Audits(command.of("audit"), clock=core.clock),
        reports=Reports(command),
    )
    return OperatorSite(context)

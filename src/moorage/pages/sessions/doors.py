"""Pages without a session: to open a link, and to end a session."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from moorage.api.discovery.facts import Facts
from moorage.errors import MoorageError, RateLimited
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.form import intended_form, require_own_page
from moorage.pages.sessions.gate import Gate
from moorage.pages.sessions.operator import OperatorSession
from moorage.pages.sessions.session import Session
from moorage.records.link import Link
from moorage.records.session import Role

Handler = Callable[[Request], Awaitable[Response]]
FindSession = Callable[[Request], Awaitable[Session | OperatorSession | None]]
Count = Callable[[Request], Awaitable[None]]
"""Counts a request against its client's address. Raises RateLimited."""


@dataclass(frozen=True, kw_only=True)
class Doors:
    """The doors of one site; `base` is what its paths begin with, `home` its first page."""

    gate: Gate
    role: Role
    find: FindSession
    count: Count
    facts: Facts
    home: str
    base: str

    @property
    def routes(self) -> tuple[Route, ...]:
        """The doors' routes."""
        link, sign_out = f"{self.base}/links/{{secret}}", f"{self.base}/sign-out"
        return (
            Route(link, self._told(self._show_link), methods=["GET"]),
            Route(link, self._told(self._open_link), methods=["POST"]),
            Route(sign_out, self._told(self._sign_out), methods=["POST"]),
        )

    async def _show_link(self, request: Request) -> Response:
        """A look uses up nothing: programs that preview links look as well."""
        sessions = self.gate.sessions
        link = await sessions.look_at_link(request.path_params["secret"], role=self.role)
        return self._gone() if link is None else self._page("sessions/link.html", link=link)

    async def _open_link(self, request: Request) -> Response:
        require_own_page(request, self.gate.hosts)
        opened = await self.gate.sessions.open_link(request.path_params["secret"], role=self.role)
        if opened is None:
            return self._gone()
        project = opened.session.project_id
        home = self.home if project is None else f"{self.home}/projects/{project}"
        return await self.gate.enter(request, RedirectResponse(home, 303), opened.secret)

    async def _sign_out(self, request: Request) -> Response:
        session = await self.find(request)
        if session is not None:
            form = await intended_form(request, csrf=session.csrf, hosts=self.gate.hosts)
            if form.get("all"):
                await self.gate.sessions.end_all(session.id)
        return await self.gate.leave(request, RedirectResponse(f"{self.base}/sign-in", 303))

    def _told(self, handler: Handler) -> Handler:
        """Returns the handler behind the limit of its client's address; it tells its errors."""

        async def answer(request: Request) -> Response:
            try:
                await self.count(request)
                return await handler(request)
            except RateLimited as error:
                response = self._page("error.html", status=429, message=error.message)
                response.headers["Retry-After"] = str(error.retry_after_seconds)
                return response
            except MoorageError as error:
                return self._page("error.html", status=400, message=error.message)

        return answer

    def _gone(self) -> Response:
        return self._page("sessions/link_gone.html", status=404)

    def _page(self, template: str, *, status: int = 200, **context: Link | str) -> Response:
        return page(
            template,
            status=status,
            facts=self.facts,
            role=self.role,
            base=self.base,
            home=self.home,
            **context,
        )


def wallet_doors(gate: Gate, *, count: Count, facts: Facts) -> tuple[Route, ...]:
    """Returns the doors of wallets' pages."""
    doors = Doors(
        gate=gate,
        role=Role.WALLET,
        find=gate.wallet_session,
        count=count,
        facts=facts,
        home="/wallet",
        base="",
    )
    return doors.routes


def operator_doors(gate: Gate, *, count: Count, facts: Facts) -> tuple[Route, ...]:
    """Returns the doors of operators' pages."""
    doors = Doors(
        gate=gate,
        role=Role.OPERATOR,
        find=gate.operator_session,
        count=count,
        facts=facts,
        home="/operator",
        base="/operator",
    )
    return doors.routes

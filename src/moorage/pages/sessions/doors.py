"""Pages without a session: to sign in, to open a link, and to end a session."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from moorage.api.discovery.guide import Facts
from moorage.api.http.problems import problem_of
from moorage.errors import MoorageError, SignatureInvalid
from moorage.pages.rendering.policy import SECURITY_HEADERS
from moorage.pages.rendering.templates import page
from moorage.pages.sessions.failures import FAILED, Answer, Count, told
from moorage.pages.sessions.form import intended_form, read_form, require_own_page
from moorage.pages.sessions.gate import Gate
from moorage.pages.sessions.operator import OperatorSession
from moorage.pages.sessions.session import Session
from moorage.pages.sessions.signing import Signing
from moorage.records.access import Role

log = structlog.get_logger()

FindSession = Callable[[Request], Awaitable[Session | OperatorSession | None]]

_MAX_BYTES = 32 * 1024
"""Of a form that signs in: a contract wallet's signature takes the most."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the doors of a site lie, and who may pass."""

    role: Role
    home: str  # the site's first page
    base: str  # what the doors' paths begin with
    statement: str  # what is signed to sign in
    wallets: frozenset[str] | None  # those that may sign in; None: any


@dataclass(frozen=True, kw_only=True)
class Doors:
    """The doors of one site."""

    gate: Gate
    place: Place
    find: FindSession
    count: Count
    signing: Signing
    facts: Facts

    @property
    def routes(self) -> tuple[Route, ...]:
        """The doors' routes."""
        base = self.place.base
        link, sign_in = f"{base}/links/{{secret}}", f"{base}/sign-in"
        return (
            Route(sign_in, self._told(self._show_sign_in), methods=["GET"]),
            Route(sign_in, self._told(self._sign_in), methods=["POST"]),
            Route(f"{sign_in}/text", self._challenge, methods=["POST"]),
            Route(link, self._told(self._show_link), methods=["GET"]),
            Route(link, self._told(self._open_link), methods=["POST"]),
            Route(f"{base}/sign-out", self._told(self._sign_out), methods=["POST"]),
        )

    async def _show_sign_in(self, request: Request) -> Response:
        if await self.find(request) is not None:
            return RedirectResponse(self.place.home, 303)
        return self._page("sessions/sign_in.html", error="")

    async def _challenge(self, request: Request) -> Response:
        """Gives the script a text for the wallet to sign: to sign in, or what a page names."""
        try:
            await self.count(request)
            require_own_page(request, self.gate.hosts)
            form = await read_form(request, max_bytes=_MAX_BYTES)
            statement = form.get("statement") or self.place.statement
            url = self.gate.url_of(request)
            body, status = self.signing.challenge(form, statement, url=url)._asdict(), 200
        except MoorageError as error:
            body, status = {"error": error.message}, problem_of(error).status
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception:
            log.exception("page failed")
            body, status = {"error": FAILED}, 500
        return JSONResponse(body, status, {**SECURITY_HEADERS, "Cache-Control": "no-store"})

    async def _sign_in(self, request: Request) -> Response:
        place = self.place
        require_own_page(request, self.gate.hosts)
        form = await read_form(request, max_bytes=_MAX_BYTES)
        try:
            url = self.gate.url_of(request)
            signed = await self.signing.check(request, form, place.statement, url=url)
            if place.wallets is not None and signed.wallet not in place.wallets:
                raise SignatureInvalid("This wallet is not one of the operators'.")
            opened = await self.gate.sessions.sign_in(
                signed.wallet, role=place.role, nonce=signed.nonce, issued_ms=signed.issued_ms
            )
        except MoorageError as error:
            status = problem_of(error).status
            return self._page("sessions/sign_in.html", status=status, error=error.message)
        return await self.gate.enter(request, RedirectResponse(place.home, 303), opened.secret)

    async def _show_link(self, request: Request) -> Response:
        """A look uses up nothing: programs that preview links look as well."""
        sessions = self.gate.sessions
        link = await sessions.look_at_link(request.path_params["secret"], role=self.place.role)
        return self._gone() if link is None else self._page("sessions/link.html", link=link)

    async def _open_link(self, request: Request) -> Response:
        require_own_page(request, self.gate.hosts)
        secret, place = request.path_params["secret"], self.place
        opened = await self.gate.sessions.open_link(secret, role=place.role)
        if opened is None:
            return self._gone()
        project = opened.session.project_id
        home = place.home if project is None else f"{place.home}/projects/{project}"
        return await self.gate.enter(request, RedirectResponse(home, 303), opened.secret)

    async def _sign_out(self, request: Request) -> Response:
        session = await self.find(request)
        if session is not None:
            form = await intended_form(request, csrf=session.csrf, hosts=self.gate.hosts)
            if form.get("all") and session.may_change:
                await self.gate.sessions.end_all(session.id)
        return await self.gate.leave(request, RedirectResponse(f"{self.place.base}/sign-in", 303))

    def _told(self, handler: Answer) -> Answer:
        """Returns the handler behind the limit of its client's address; it tells its errors."""

        async def counted(request: Request) -> Response:
            await self.count(request)
            return await handler(request)

        return told(counted, home=self.place.home)

    def _gone(self) -> Response:
        return self._page("sessions/link_gone.html", status=404)

    def _page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        place = self.place
        return page(
            template, status=status, facts=self.facts, place=place, home=place.home, **context
        )


def wallet_doors(gate: Gate, *, count: Count, signing: Signing, facts: Facts) -> tuple[Route, ...]:
    """Returns the doors of wallets' pages: any wallet may sign in, as it may call the API."""
    place = Place(
        role=Role.WALLET,
        home="/wallet",
        base="",
        statement="Sign in to look after your apps. This costs nothing and moves no money.",
        wallets=None,
    )
    doors = Doors(
        gate=gate, place=place, find=gate.wallet_session, count=count, signing=signing, facts=facts
    )
    return doors.routes


def operator_doors(
    gate: Gate, *, count: Count, signing: Signing, facts: Facts, wallets: frozenset[str]
) -> tuple[Route, ...]:
    """Returns the doors of operators' pages; `wallets` may sign in, others need a link."""
    place = Place(
        role=Role.OPERATOR,
        home="/operator",
        base="/operator",
        statement="Sign in as an operator of this gateway. This costs nothing.",
        wallets=wallets,
    )
    doors = Doors(
        gate=gate,
        place=place,
        find=gate.operator_session,
        count=count,
        signing=signing,
        facts=facts,
    )
    return doors.routes

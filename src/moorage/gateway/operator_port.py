"""The operator's port: metrics, a readiness check of every part, and pages."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.caller import limit_address
from moorage.api.http.dispatch import SlashRefused
from moorage.api.http.problems import MISDIRECTED, json_response, problem_response
from moorage.certificates.services import CertificateServices
from moorage.chains.rpc import RpcClient
from moorage.errors import MoorageError, ProxyFailed
from moorage.gateway.assembly import Rooms
from moorage.gateway.platform import Proxy
from moorage.loop import Run
from moorage.metrics import exposition
from moorage.pages.sessions.form import Count
from moorage.pages.sessions.session import AuthGuard
from moorage.pages.sessions.sign_in import operator_login
from moorage.settings import Settings
from moorage.storage.several.leases import Leases

Check = Callable[[], Awaitable[None]]
"""Returns when its part works; raises a MoorageError that says what is wrong."""


class OperatorPages(Protocol):
    """The operator's pages of one running gateway; they are of a room above this one."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """The tasks that run until the gateway stops."""
        ...

    def app(self, guard: AuthGuard, login_routes: tuple[Route, ...], *, count: Count) -> ASGIApp:
        """Returns the pages for a browser that passes `guard`; `login_routes` lead to it.

        `count` counts forms of one that does not.
        """
        ...


OpenOperatorPages = Callable[[Rooms, Callable[[], Settings]], Awaitable[OperatorPages]]
"""Opens the pages of a gateway, given its rooms and what returns the settings in force."""


def guarded(
    pages: OperatorPages, guard: AuthGuard, rooms: Rooms, *, wallets: Collection[str]
) -> ASGIApp:
    """Returns pages with those that lead to them; `wallets` may sign in."""
    http = rooms.api.http
    count = partial(limit_address, http.front)
    login_routes = operator_login(
        guard, count=count, signing=rooms.signing, facts=http.facts, wallets=frozenset(wallets)
    )
    return pages.app(guard, login_routes, count=count)


def operator_app(checks: Mapping[str, Check], *, pages: ASGIApp | None = None) -> ASGIApp:
    """Returns the app with the operator's endpoints.

    `GET /metrics`: Prometheus text. `GET /ready`: 200, or 503 with what does not work. `pages`
    answer at all other paths. It answers only at addresses, and at names that nobody can register,
    against DNS rebinding.
    """

    async def ready(_request: Request) -> Response:
        parts = await states_of(checks)
        well = all(state == "ok" for state in parts.values())
        body = {"status": "ok" if well else "not_ready", "parts": parts}
        return json_response(body, status=200 if well else 503)

    async def metrics(_request: Request) -> Response:
        content, media_type = exposition()
        return Response(content, media_type=media_type)

    routes = [
        Route("/ready", ready),
        Route("/metrics", metrics),
        *(() if pages is None else (Mount("/", pages),)),
    ]
    answers = SlashRefused(Router(routes))

    async def at_own_names(scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        own = host is None or _is_own(host)  # no browser leaves it out; probes do
        await (answers if own else _MISDIRECTED)(scope, receive, send)

    return at_own_names


_PRIVATE_NAMES = (".localhost", ".internal", ".svc", ".cluster.local")
"""The ends of names that no stranger can register: RFC 6761, ICANN's SAC113, and clusters' own."""

_MISDIRECTED = problem_response(
    MISDIRECTED,
    "The operator's port answers at addresses, at localhost, and at names that end with "
    f"{', '.join(_PRIVATE_NAMES)}.",
)


def _is_own(host: str) -> bool:
    """Whether a request's `Host` is an address, which nobody can move, or a private name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if f".{name}".endswith(_PRIVATE_NAMES):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def states_of(checks: Mapping[str, Check]) -> dict[str, str]:
    """Returns "ok" for each part that works, or what is wrong with it."""
    return {name: await _state(check) for name, check in checks.items()}


async def _state(check: Check) -> str:
    try:
        await check()
    except MoorageError as error:
        return error.message
    return "ok"


def checks_of(rooms: Rooms) -> dict[str, Check]:
    """Returns the readiness check of each part, by its name."""

    chains = {f"chain {name}": _chain_check(client) for name, client in rooms.payee.clients.items()}
    return {
        "database": rooms.core.db.check,
        "runtime": rooms.platform.view.check,
        **_checks_of_proxy(rooms.platform.proxy),
        **_checks_of_certificates(rooms.certificates),
        "disk": rooms.deploy.capacity.check,
        "loops": rooms.core.ticks.check,
        **({} if rooms.leadership is None else {"leader": rooms.leadership.check}),
        **({} if rooms.duplicates is None else {"address": rooms.duplicates.check}),
        **chains,
        **{
            it.duty: _held_check(it.duty, it.check, rooms.core.leases)
            for it in rooms.payments.watchers
        },
        **{
            it.duty: _held_check(it.duty, it.require_agreement, rooms.core.leases)
            for it in rooms.payments.finality_checks
        },
        **{
            it.duty: _held_check(it.duty, it.require_agreement, rooms.core.leases)
            for it in rooms.payments.balance_checks
        },
    }


def _checks_of_certificates(secured: CertificateServices | None) -> dict[str, Check]:
    availability = None if secured is None else secured.availability
    return {} if availability is None else {"certificates": availability.check}


def _checks_of_proxy(running: Proxy | None) -> dict[str, Check]:
    if running is None:
        return {}

    async def proxy() -> None:
        if not running.process.alive():
            raise ProxyFailed

    return {"proxy": proxy}


def _held_check(duty: str, work: Check, leases: Leases) -> Check:
    """Checks a duty only in the gateway that does it: one of those on the database."""

    async def check() -> None:
        if leases.holds(duty):
            await work()

    return check


def _chain_check(client: RpcClient) -> Check:
    async def check() -> None:
        await client.call("eth_blockNumber", [])

    return check

"""Gives every request an id, a line in the log, and a measurement."""

import os
import re
import time

import structlog
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from moorage.auth.rate_limit import TrustedProxies
from moorage.metrics import record_request

WALLET = "moorage.wallet"
"""The scope's key for the wallet, set when the request is authenticated."""

HAS_PAID = "moorage.has_paid"
"""The scope's key for whether that wallet has ever paid."""

CALLER = "moorage.caller"
"""The scope's key for the `Caller`, set when its signature is verified and it is counted."""

PAID = "moorage.paid"
"""The scope's key that marks requests to operations which take payments."""

OPEN = "moorage.open"
"""The scope's key that marks requests for which a payment alone speaks, if anything does."""

STREAMS = "moorage.streams"
"""The scope's key that marks answers without an end of their own: their duration is measured when
they begin."""

INTENDED = "moorage.intended"
"""The scope's key that marks refusals which the operator asked for, such as in maintenance."""

UNMATCHED = "unmatched"

_HEADER = b"x-request-id"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_LONGEST_PATH = 200
_QUIET_ROUTES = frozenset({"/health"})  # machines call them every few seconds


class RequestContext:
    """An ASGI app around `app`.

    The request's id is on every line logged during the request, and in the answer's X-Request-Id.
    It is the inbound X-Request-Id if a trusted proxy sent a well-formed one, else a new one.
    """

    def __init__(self, app: ASGIApp, trusted_proxies: TrustedProxies) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._log = structlog.get_logger().bind()  # once: binding is most of a line's cost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        identity = self._forwarded_id(scope) or os.urandom(8).hex()
        status: int | None = None
        begun = started

        async def send_with_id(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], time.perf_counter()
                message["headers"] = [*message.get("headers", ()), (_HEADER, identity.encode())]
            await send(message)

        bound = bind_contextvars(request_id=identity)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            ended = begun if STREAMS in scope else time.perf_counter()
            self._record(scope, status, ended - started)
            reset_contextvars(**bound)

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        route, method = _route_template(scope), scope["method"]
        record_request(
            route=route, method=method, status=status, seconds=seconds, intended=INTENDED in scope
        )
        log = self._log.debug if route in _QUIET_ROUTES else self._log.info
        log(
            "request",
            method=method,
            route=route,
            path=_shown(scope["path"]),
            status=status,
            ms=round(seconds * 1000, 2),
            wallet=scope.get(WALLET),
        )

    def _forwarded_id(self, scope: Scope) -> str | None:
        client = scope.get("client")
        if not self._trusted_proxies.trusts(client[0] if client else None):
            return None
        for name, value in scope["headers"]:
            if name == _HEADER:
                return value.decode() if _SANE_ID.fullmatch(value) else None
        return None


def _shown(path: str) -> str:
    """Returns a path as logs show it: without the secret of a link."""
    before, of_link, _ = path.partition("/links/")
    return f"{before}{of_link}…" if of_link else path[:_LONGEST_PATH]


def _route_template(scope: Scope) -> str:
    """Returns the path of the matched route with its `{parameters}`."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    if not isinstance(path, str):
        return UNMATCHED
    return path if isinstance(route, Mount) else scope.get("root_path", "") + path

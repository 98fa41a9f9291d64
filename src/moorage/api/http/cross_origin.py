"""Lets pages of other origins call the API: it knows no cookies, so nobody is impersonated."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = (
    b"access-control-expose-headers",
    (
        b"WWW-Authenticate, PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, "
        b"Payment-Receipt, Retry-After, Link"
    ),
)
_PREFLIGHT = [
    _ORIGIN,
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, *"),  # the star leaves Authorization out
    (b"access-control-max-age", b"7200"),
    (b"content-length", b"0"),
]


class CrossOrigin:
    """An ASGI app around `app`; answers preflight requests itself (the Fetch standard, CORS)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["method"] == "OPTIONS" and _is_preflight(scope):
            await send({"type": "http.response.start", "status": 204, "headers": _PREFLIGHT})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _ORIGIN, _EXPOSED]
            await send(message)

        await self._app(scope, receive, send_open)


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names

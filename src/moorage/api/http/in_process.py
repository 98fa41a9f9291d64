"""Sends a request to the gateway's own API without a connection: one way in for everybody."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.types import ASGIApp, Message, Scope

from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.wire.calls import ApiRequest

Header = tuple[str, str]

_FORWARDED = frozenset(
    {
        *("x-wallet-address", "x-signature", "x-timestamp", "x-nonce", "x-wallet-chain"),
        *("x-signature-version", "content-digest", "sign-in-with-x", "x-forwarded-for", "host"),
        "x-on-behalf-of",
    }
)
"""Headers of the caller's request that go with each request to the API."""


class ApiAnswer(msgspec.Struct, frozen=True):
    """An answer; names of headers are lower-case."""

    status: int
    headers: tuple[Header, ...]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that was answered."""
        return msgspec.json.decode(self.content, type=dict[str, Any])

    def header(self, name: str) -> str | None:
        """Returns the first header of that name."""
        return next((value for given, value in self.headers if given == name), None)

    def all_of(self, name: str) -> list[str]:
        """Returns every header of that name."""
        return [value for given, value in self.headers if given == name]


def forwarded_headers(scope: Scope) -> list[Header]:
    """Returns the headers by which the API knows who calls, and from where."""
    found = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return [
        (name, value)
        for name, value in found
        if name in _FORWARDED or (name == "authorization" and value[:7].lower() == "bearer ")
    ]


async def in_process(
    app: ASGIApp,
    caller: Scope,
    request: ApiRequest,
    headers: list[Header],
    told: Mapping[str, Any] = MappingProxyType({}),
) -> ApiAnswer:
    """Has `app` answer a request that comes from where `caller` came from.

    `told` is what no header could say: members of the scope.
    """
    body = request.body or b""
    length = ("content-length", str(len(body)))
    scope = {**_scope(caller, request, [*headers, length]), **told}
    arriving: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    started: Message = {}
    content = bytearray()

    async def receive() -> Message:
        return arriving.pop() if arriving else {"type": "http.disconnect"}

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            content.extend(message.get("body", b""))

    await app(scope, receive, collect)
    caller[WALLET] = scope.get(WALLET)  # for the request's line in the log
    caller[HAS_PAID] = scope.get(HAS_PAID, False)  # for its turn in the loop
    return ApiAnswer(started["status"], _decoded(started), bytes(content))


def _scope(caller: Scope, request: ApiRequest, headers: list[Header]) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    told: Mapping[str, Any] = {
        name: caller[name] for name in ("client", "server", "scheme") if name in caller
    }
    return {
        **told,
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            *((name.encode("latin-1"), _header_value(value)) for name, value in headers),
        ],
    }


def _header_value(value: str) -> bytes:
    """Returns the bytes of a value; characters that headers lack are written out, to be refused."""
    return value.encode("latin-1", errors="backslashreplace")


def _decoded(started: Message) -> tuple[Header, ...]:
    return tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in started.get("headers", ())
    )

"""Finds the endpoint for a request's method and path.

Starlette's router, with its layers that catch what endpoints here never raise, would cost a tenth
of a status poll.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.api.http.caller import Handler, is_covered, needs
from moorage.api.http.problems import METHOD_NOT_ALLOWED, NOT_FOUND, problem_response
from moorage.wire.calls import Call
from moorage.wire.shape import Body, CamelBody

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


class Operation(Call[Any], frozen=True, kw_only=True):
    """A call, and how it is served: `paid` ones take payment headers.

    `priced` ones take the headers that name chain and token. `or_answer` and `or_body` are
    second types.
    """

    handler: Handler
    or_answer: type[Body | CamelBody] | None = None
    or_body: type[Body | CamelBody] | None = None
    also_fails: tuple[int, ...] = ()  # statuses besides those that `fails` finds
    paid: bool = False
    priced: bool = False
    body_optional: bool = False
    gives: str = ""  # the type of a file that it answers with, besides `answer`
    query: Mapping[str, str] = {}

    @property
    def is_open(self) -> bool:
        """Whether it takes the wallet headers, but needs none: the payment may say who asks."""
        return self.paid and not self.signed

    @property
    def fails(self) -> set[int]:
        """The statuses that it may fail with, besides those of every signed operation."""
        found = {*self.also_fails}
        found |= {503} if self.signed or self.is_open else set()
        found |= {400, 408, 413} if self.body else {400} if self.query else set()
        found |= {403, 404} if "{projectId}" in self.path else set()
        found |= {402, 409, 502} if self.paid else set()
        found |= {401, 403} if self.is_open else set()
        return found | ({429} if not self.signed and self.path != "/health" else set())

    @property
    def of_a_project(self) -> bool:
        """Whether a project's manage token may stand in for the wallet headers."""
        return (self.signed or self.is_open) and is_covered(self.method, self.path)

    @property
    def needs(self) -> type:
        """The type of record that its handler needs."""
        return needs(self.handler)[0]


_COMPARED_LENGTH = 128
_COMPARED_PART = 24  # of each part between slashes: time grows with the square where letters repeat
_MIN_RATIO = 0.8
_PARAMETER = re.compile(r"\\\{(\w+)\\\}")
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)


@dataclass(frozen=True)
class Route:
    """The endpoints of one path, by method; `path` may hold `{parameters}`."""

    path: str
    endpoints: dict[str, ASGIApp] = field(default_factory=dict)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches whole paths; a parameter is anything without a slash."""
        return re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(self.path)))


class SlashRefused:
    """An ASGI app that answers 404 to a path with an encoded slash; `app` answers all others.

    Scopes hold paths decoded: without this, `/projects/x%2Ftokens`, a project of an odd name, would
    be the tokens of x.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        raw_path: bytes = scope.get("raw_path", b"")
        is_odd = b"%" in raw_path and _ENCODED_SLASH.search(raw_path) is not None
        await (_NO_SLASHES if is_odd else self._app)(scope, receive, send)


_NO_SLASHES = problem_response(NOT_FOUND, "There is nothing here: no id or name holds a slash.")


class Dispatch:
    """An ASGI app for HTTP: one endpoint for each method and path; GET endpoints answer HEAD too.

    Sets the scope's `route` and `path_params`.
    """

    def __init__(self, endpoints: Iterable[tuple[str, str, ASGIApp]]) -> None:
        routes: dict[str, Route] = {}
        for method, path, endpoint in endpoints:
            route = routes.setdefault(path, Route(path))
            route.endpoints[method] = endpoint
            if method == "GET":
                route.endpoints["HEAD"] = endpoint
        self._templates = tuple(routes)
        self._fixed = {path: route for path, route in routes.items() if "{" not in path}
        self._with_parameters = [
            (route.pattern, route) for path, route in routes.items() if path not in self._fixed
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        route = self._find(scope)
        endpoint = None if route is None else route.endpoints.get(scope["method"])
        if endpoint is not None:
            await endpoint(scope, receive, send)
        elif route is None:
            nothing = problem_response(NOT_FOUND, self._nothing_at(scope["path"]))
            await nothing(scope, receive, send)
        else:
            allowed = [("Allow", ", ".join(sorted(route.endpoints)))]
            sentence = f"This path has no such method; it has {', '.join(sorted(route.endpoints))}."
            refusal = problem_response(METHOD_NOT_ALLOWED, sentence, headers=allowed)
            await refusal(scope, receive, send)

    def _nothing_at(self, path: str) -> str:
        """Returns what to say of a path that is not served: the nearest one, if there is one."""
        near = self._near(path)
        meant = f"did you mean {near}? See" if near else "see"
        return f"There is nothing here; {meant} /llms.txt and /openapi.json."

    def _near(self, path: str) -> str | None:
        if len(path) > _COMPARED_LENGTH:
            return None
        path = "/".join(part[:_COMPARED_PART] for part in path.rstrip("/").split("/"))
        asked = (path, f"/agent{path}", f"/agent/{path.lstrip('/').partition('/')[2]}")
        likeness = {
            template: max(_likeness(template, each) for each in asked)
            for template in self._templates
        }
        best = max(self._templates, key=lambda each: (likeness[each], -each.count("{")))
        return best if likeness[best] >= _MIN_RATIO else None

    def _find(self, scope: Scope) -> Route | None:
        path: str = scope["path"]
        scope["path_params"] = {}
        found = self._fixed.get(path)
        if found is None:
            for pattern, route in self._with_parameters:
                if matched := pattern.fullmatch(path):
                    scope["path_params"] = matched.groupdict()
                    found = route
                    break
        if found is not None:
            scope["route"] = found
        return found


def _likeness(template: str, path: str) -> float:
    """Returns how much a path is like a template, 0 to 1: by the part that is least alike.

    A parameter is like anything; the parts must be as many.
    """
    parts, asked = template.split("/"), path.split("/")
    if len(parts) != len(asked):
        return 0
    pairs = zip(parts, asked, strict=True)
    return min(
        (SequenceMatcher(None, part, given).ratio() for part, given in pairs if part[:1] != "{"),
        default=0,
    )

"""Finds the endpoint for a request's method and path.

Starlette's router, with its layers that catch what endpoints here never raise, would cost a tenth
of a status poll.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.problems import METHOD_NOT_ALLOWED, NOT_FOUND, problem_response

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True)
class Route:
    """The endpoints of one path, by method; `path` may hold `{parameters}`."""

    path: str
    endpoints: dict[str, ASGIApp] = field(default_factory=dict)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches whole paths; a parameter is anything without a slash."""
        return re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(self.path)))


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
            nothing = problem_response(NOT_FOUND, "There is nothing here; see /openapi.json.")
            await nothing(scope, receive, send)
        else:
            allowed = [("Allow", ", ".join(sorted(route.endpoints)))]
            sentence = "This path has no such method."
            refusal = problem_response(METHOD_NOT_ALLOWED, sentence, headers=allowed)
            await refusal(scope, receive, send)

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

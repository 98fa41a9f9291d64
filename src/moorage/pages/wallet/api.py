"""Calls the gateway's API in this process, for whoever looks at a page."""

from typing import Any, TypeVar

import msgspec
from starlette.types import ASGIApp, Scope

from moorage.api.http.in_process import ApiAnswer, in_process
from moorage.api.http.person import PERSON, Person
from moorage.mcp.tools.api_request import ApiRequest, api_request
from moorage.wire.problems import Problem

_PLACE_HEADERS = (b"host", b"x-forwarded-for", b"x-forwarded-proto")
_T = TypeVar("_T")


class ApiRefused(Exception):
    """The API answered with an error; a page says so in its words."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.error)
        self.status, self.problem = status, problem


class Api:
    """The API as one person may use it."""

    def __init__(self, app: ASGIApp, *, scope: Scope, person: Person) -> None:
        self._app = app
        self._scope = scope
        self._person = person

    async def get(self, answer: type[_T], *segments: str, **query: Any) -> _T:
        """Returns what `GET /agent/<segments>` answers. Raises ApiRefused."""
        sent = await self._send(api_request("GET", *segments, **query))
        return msgspec.json.decode(sent.content, type=answer, strict=False)

    async def change(
        self, answer: type[_T], method: str, *segments: str, body: dict[str, Any] | None = None
    ) -> _T:
        """Returns what a request that changes something is answered with. Raises ApiRefused."""
        sent = await self._send(api_request(method, *segments, body=body))
        return msgspec.json.decode(sent.content, type=answer, strict=False)

    async def _send(self, request: ApiRequest) -> ApiAnswer:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._scope["headers"]
            if name in _PLACE_HEADERS
        ]
        answer = await in_process(self._app, self._scope, request, headers, {PERSON: self._person})
        if not answer.is_success:
            raise ApiRefused(answer.status, msgspec.json.decode(answer.content, type=Problem))
        return answer

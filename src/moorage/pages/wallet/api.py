"""Calls the gateway's API in this process, for a page."""

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.caller import PERSON, Person
from moorage.api.http.in_process import ApiAnswer, in_process
from moorage.api.http.request_context import STREAMS
from moorage.wire.calls import ApiRequest, Call
from moorage.wire.problems import Problem

_PLACE_HEADERS = (b"host", b"x-forwarded-for", b"x-forwarded-proto")
_STREAM_HEADERS = (*_PLACE_HEADERS, b"last-event-id")
_T = TypeVar("_T", bound=msgspec.Struct)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ApiRefused(Exception):
    """The API answered with an error; a page says so in its words."""

    def __init__(self, answer: ApiAnswer) -> None:
        self.status = answer.status
        self.problem = msgspec.json.decode(answer.content, type=Problem)
        self._content = answer.content
        super().__init__(self.problem.error)

    def body(self, kind: type[_T]) -> _T:
        """Returns the whole body, such as a 402's. Raises msgspec.ValidationError for another."""
        return msgspec.json.decode(self._content, type=kind)


class Api:
    """The API as one person may use it."""

    def __init__(self, app: ASGIApp, *, scope: Scope, person: Person, nonce: str = "") -> None:
        self._app = app
        self._scope = scope
        self._person = person
        self._nonce = nonce

    def confirmed(self, *, nonce: str) -> "Api":
        """Returns the API as it is once the wallet has signed what is asked for.

        `nonce` is of the text that it signed: what moves money or power has its key from that.
        """
        person = self._person._replace(has_confirmed=True)
        return Api(self._app, scope=self._scope, person=person, nonce=nonce)

    async def call(
        self,
        call: Call[_T],
        *ids: str,
        body: object = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        **query: Any,
    ) -> _T:
        """Returns what an operation answers. Raises ApiRefused."""
        request = call.request(*ids, body=body, **query)
        return await self.read(call.answer, request, headers=headers)

    async def read(
        self, answer: type[_T], request: ApiRequest, *, headers: Mapping[str, str] = _NO_HEADERS
    ) -> _T:
        """Returns what a request is answered with. Raises ApiRefused."""
        given = [*self._place, *((name.lower(), value) for name, value in headers.items())]
        if request.bound and self._nonce:
            of = f"{self._nonce} {request.method} {request.path}"
            given.append(("idempotency-key", sha256(of.encode()).hexdigest()))
        sent = await in_process(self._app, self._scope, request, given, {PERSON: self._person})
        if not sent.is_success:
            raise ApiRefused(sent)
        return msgspec.json.decode(sent.content, type=answer, strict=False)

    def stream(self, request: ApiRequest) -> Response:
        """Returns an answer that passes on server-sent events as they come."""
        return Stream(self._app, request.path, self._person)

    @property
    def _place(self) -> list[tuple[str, str]]:
        return [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._scope["headers"]
            if name in _PLACE_HEADERS
        ]


class Stream(Response):
    """An answer that the API sends on the browser's own connection, for as long as it lasts."""

    def __init__(self, app: ASGIApp, path: str, person: Person) -> None:
        super().__init__()
        self._app = app
        self._path, _, self._query = path.partition("?")
        self._person = person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on to the API, as the session's person."""
        scope[STREAMS] = True
        told = {
            "path": unquote(self._path),
            "raw_path": self._path.encode("ascii"),
            "query_string": self._query.encode("ascii"),
            "headers": [each for each in scope["headers"] if each[0] in _STREAM_HEADERS],
            PERSON: self._person,
        }
        await self._app({**scope, **told}, receive, send)

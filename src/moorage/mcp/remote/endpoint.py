"""The endpoint `/mcp`: what a request must pass before the protocol's own server reads it.

That server, with all that its library brings, is made when the first request comes: most starts of
a gateway see none. It decodes and checks a message several times, some microseconds for each value:
so it is given small messages of few values alone. The arguments of a larger one, such as a call's
files, are decoded in a parser process and travel beside it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.api.connections.arrival import Arrivals
from moorage.api.http.bodies import IN_LOOP_BYTES, decode_whole, read_whole
from moorage.api.http.problems import BAD_ORIGIN, problem_of, problem_response
from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import BodyTooLarge, MoorageError, RateLimited
from moorage.parsers.documents import MAX_DEPTH, MAX_VALUES, is_bounded
from moorage.parsers.pool import ParserPool
from moorage.uploads.parsing import DOCUMENTS

MAX_BODY_BYTES = 512 * 1024
_ARGUMENTS = "moorage.arguments"
"""The scope's key for a call's arguments, where they are not in its message."""

MAX_CALLS = 256
MAX_CALLS_OF_AN_ADDRESS = 16
_RETRY_SECONDS = 5
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class McpEndpoint:
    """An ASGI app for POST. It keeps nothing from one request to the next.

    `limiter` counts requests by client address, which `address_of` tells; calls of tools count as
    requests to `api`, too.
    """

    def __init__(
        self,
        api: ASGIApp,
        *,
        public_url: str,
        address_of: Callable[[Request], str],
        arrivals: Arrivals,
        limiter: RateLimiter,
        parsers: ParserPool,
        clock: Clock,
    ) -> None:
        self._api = api
        self._public_url = public_url
        self._address_of = address_of
        self._arrivals = arrivals
        self._limiter = limiter
        self._parsers = parsers
        self._clock = clock
        self._under_way: Counter[str] = Counter()
        self._is_wanted = asyncio.Event()
        self._is_ready = asyncio.Event()
        self._manager: Any = None

    async def run(self) -> None:
        """Serves until it is cancelled."""
        await self._is_wanted.wait()
        self._manager = await asyncio.to_thread(self._make_manager)
        async with self._manager.run():
            self._is_ready.set()
            await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        arrival = self._arrivals.begin(scope, receive)
        refusal: Response | None = None
        try:
            await self._serve(scope, arrival.receive, send)
        except ClientDisconnect:
            return
        except MoorageError as error:  # nothing was sent: the body is read before
            refusal = _refusal(error)
        finally:
            arrival.end()
        if refusal is not None:
            await refusal(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_own_origin(Headers(scope=scope).get("origin")):
            said = "This origin may not use the tools: a page of another site would act for you."
            await problem_response(BAD_ORIGIN, said)(scope, receive, send)
            return
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        address = self._address_of(Request(scope))
        await self._limiter.check(address)
        body = await read_whole(Request(scope, receive), max_bytes=MAX_BODY_BYTES)
        self._enter(address)
        try:
            self._is_wanted.set()
            await self._is_ready.wait()
            message = await self._small_message(body, scope)
            await self._manager.handle_request(scope, _replayed(message, receive), send)
        finally:
            self._leave(address)

    async def _small_message(self, body: bytes, scope: Scope) -> bytes:
        """Returns a message for the protocol's server; what is too large of it goes into `scope`.

        Raises BodyTooLarge for one of many values, or large without a call's arguments; also what
        `decode_whole` raises.
        """
        if len(body) <= IN_LOOP_BYTES:
            return _checked(body)
        document = await decode_whole(body, scope, self._parsers)
        match document:
            case {"params": {"arguments": dict() as arguments} as params}:
                scope[_ARGUMENTS] = arguments
                document["params"] = {**params, "arguments": {}}
        message = msgspec.json.encode(document)
        if len(message) > IN_LOOP_BYTES:
            raise BodyTooLarge(_BESIDE_ARGUMENTS)
        return message

    def _is_own_origin(self, origin: str | None) -> bool:
        """Whether a page may call: none sends no Origin, and those of this machine may."""
        if origin is None or origin == self._public_url:
            return True
        try:
            return urlsplit(origin).hostname in _LOOPBACK
        except ValueError:
            return False

    def _enter(self, address: str) -> None:
        of_address = self._under_way[address]
        if of_address >= MAX_CALLS_OF_AN_ADDRESS or self._under_way.total() >= MAX_CALLS:
            raise RateLimited(_RETRY_SECONDS)
        self._under_way[address] += 1

    def _leave(self, address: str) -> None:
        self._under_way[address] -= 1
        if not self._under_way[address]:
            del self._under_way[address]

    def _make_manager(self) -> Any:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from moorage.mcp.remote.calls import RemoteCalls
        from moorage.mcp.remote.catalog import remote_tools
        from moorage.mcp.tools.server import make_server

        calls = RemoteCalls(self._api, public_url=self._public_url, clock=self._clock)
        return StreamableHTTPSessionManager(
            make_server(
                remote_tools(), calls.call, beside=lambda request: request.scope.get(_ARGUMENTS)
            ),
            json_response=True,
            stateless=True,
            max_request_body_size=MAX_BODY_BYTES,
        )


def _checked(body: bytes) -> bytes:
    """Returns a small message if it has few values; b"" for what is no JSON. Raises BodyTooLarge.

    The protocol's server says by itself that b"" is none. Its own decoder takes more than ours.
    """
    try:
        document = DOCUMENTS.decode(body)
    except (ValueError, RecursionError):  # msgspec's DecodeError, and of bytes that are no UTF-8
        return b""
    if not is_bounded(document):
        raise BodyTooLarge(_TOO_MANY_VALUES)
    return body


_TOO_MANY_VALUES = f"A message holds at most {MAX_VALUES:,} values, {MAX_DEPTH} deep."
_BESIDE_ARGUMENTS = (
    f"Beside the arguments of a call, a message may have {IN_LOOP_BYTES // 1024} KiB."
)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns what gives a body that was read before, and then what `receive` gives."""
    arrived: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return arrived.pop() if arrived else await receive()

    return replay


def _refusal(error: MoorageError) -> Response:
    wait = (
        [("Retry-After", str(error.retry_after_seconds))] if isinstance(error, RateLimited) else []
    )
    return problem_response(problem_of(error), error.message, headers=wait)

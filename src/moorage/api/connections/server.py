"""HTTP servers inside one event loop: uvicorn, without its signal handlers."""

import asyncio
import contextlib
import socket
from asyncio import TimerHandle
from collections.abc import Generator

import msgspec
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from moorage.api.connections.limits import ConnectionTable, Pace, PlaceLimits, Places
from moorage.api.http.problems import BAD_HTTP, HEADERS_TOO_LARGE, Problem, problem_response
from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.auth.client_address import TrustedProxies
from moorage.errors import BodyStalled, UploadDisplaced
from moorage.loop import until_tick
from moorage.uploads.room import Uploader

_PARSED_AT_ONCE = 4 * 1024

_SENTENCES = {
    BAD_HTTP: "This is not a valid HTTP request.",
    HEADERS_TOO_LARGE: "The request has too many headers, or too large ones.",
}


class Bounds(msgspec.Struct, frozen=True):
    """The limits of connections."""

    connections: int = 2_048
    """Open at once. Beyond that, some that wait for a request are closed, of the addresses with the
    most."""

    connections_by_address: int = 256
    """Open at once from one client address (IPv6: /64) that is no trusted proxy."""

    head_seconds: float = 10.0
    """Until the last header is there; also for the rest of a refused request."""

    unread_seconds: float = 30.0
    """How long a client may leave an answer unread."""

    head_bytes: int = 64 * 1024
    """Request line and headers, or any bytes that are not a body."""

    headers: int = 100


class Connection(HttpToolsProtocol):
    """An asyncio protocol, for `uvicorn.Config(http=…)`; see `connection_type`."""

    bounds: Bounds
    proxies: TrustedProxies
    table: "ConnectionTable[Connection]"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins; if there are too many connections, aborts some that wait for a request."""
        super().connection_made(transport)
        # A request cycle uses this object as its transport: it calls this, `write` and `close`.
        self.is_closing = transport.is_closing
        self._held = b""
        self.waiting_since = self.loop.time()
        self._problem = BAD_HTTP
        self._undelivered = 0  # bytes received since the app last got some
        self._unparsed = bytearray()
        self._ignores_input = False
        self._timer: TimerHandle | None = None
        self._unread_timer: TimerHandle | None = None
        self._start_timer()
        self._address = self._client_address()
        for connection in self.table.enter(self, self._address):
            connection.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the timers and leaves the table."""
        self._stop_timer()
        self._stop_unread_timer()
        if self.timeout_keep_alive_task is not None:  # uvicorn forgets it after an error
            self.timeout_keep_alive_task.cancel()
        self.table.leave(self, self._address)
        self._unparsed.clear()
        super().connection_lost(exc)

    @property
    def is_waiting(self) -> bool:
        """Whether there is no request to answer."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Takes what arrived, unless the connection is about to close."""
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        """Parses what arrived, but not far beyond a request that is not answered yet.

        One read may bring thousands of small requests, and each takes kilobytes once parsed.
        """
        while self._unparsed and not self._ignores_input and not self.pipeline:
            piece = bytes(self._unparsed[:_PARSED_AT_ONCE])
            del self._unparsed[:_PARSED_AT_ONCE]
            self._undelivered += len(piece)
            super().data_received(piece)
            if self._undelivered > self.bounds.head_bytes:
                self._refuse(HEADERS_TOO_LARGE)
            elif self.is_waiting and self._timer is None:
                self._start_timer()
        if self._ignores_input:
            self._unparsed.clear()
        elif self._unparsed:
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answers what the parser refused, in JSON."""
        self._refuse(self._problem)

    def _unsupported_upgrade_warning(self) -> None:
        """Logs nothing: the request is answered as if it had no `Upgrade`."""

    def on_headers_complete(self) -> None:
        """Passes the request to the app."""
        if self._has_too_large_a_head():
            self._problem = HEADERS_TOO_LARGE
            raise ValueError(_SENTENCES[self._problem])  # ends in send_400_response
        self._stop_timer()
        self._undelivered = 0
        super().on_headers_complete()
        self.headers = []  # trailers are not headers
        self.cycle.transport = self  # type: ignore[assignment]
        if self.parser.should_upgrade():
            # The parser takes the rest for another protocol, so the body's end is not seen.
            self.cycle.keep_alive = False
            self._ignores_input = True

    def on_body(self, body: bytes) -> None:
        """Passes a piece of the body to the app."""
        self._undelivered = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Waits for the next request, or for the rest of one that was refused."""
        self.waiting_since = self.loop.time()
        self._write_held()
        super().on_response_complete()
        if self._unparsed:
            self.loop.call_soon(self._parse)
        if self.is_waiting and self.cycle.more_body:
            self._start_timer()

    def write(self, data: bytes) -> None:
        """Writes part of an answer; the head is held back, to leave together with the next part."""
        if self._held:
            self.transport.writelines((self._held, data))
            self._held = b""
        else:
            self._held = data
            self.loop.call_soon(self._write_held)

    def _write_held(self) -> None:
        if self._held:
            self.transport.write(self._held)
            self._held = b""

    def pause_writing(self) -> None:
        """Starts the timer for a client that does not read its answer."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(
                self.bounds.unread_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """Stops the timer: the client reads."""
        super().resume_writing()
        self._stop_unread_timer()

    def close(self) -> None:
        """Closes once the client has its answer: at once, unless a request still arrives.

        Closing with unread bytes would make the client's kernel drop the answer. So this sends EOF
        and discards what arrives until the client closes.
        """
        self._write_held()
        if not (self._ignores_input or self.cycle.more_body) or self.transport.is_closing():
            self.transport.close()
            return
        self._ignores_input = True
        self._start_timer()
        self.transport.write_eof()

    def _has_too_large_a_head(self) -> bool:
        if len(self.headers) > self.bounds.headers:
            return True
        if self._undelivered <= self.bounds.head_bytes:  # nearly always, and cheap to compare
            return False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > self.bounds.head_bytes

    def _refuse(self, problem: Problem) -> None:
        """Answers with a problem and closes, after the complete requests before are answered."""
        if self._ignores_input or self.transport.is_closing():
            return
        self._ignores_input = True
        if self.is_waiting:
            self._answer(problem)
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:  # the body is incomplete
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer(problem)

    def _answer(self, problem: Problem) -> None:
        response = problem_response(problem, _SENTENCES[problem], headers=[("Connection", "close")])
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body))
        self.close()

    def _client_address(self) -> str | None:
        """Returns the key that the peer is counted under; None for a proxy or a unix socket."""
        peer = self.client[0] if self.client else None
        if peer is None or self.proxies.trusts(peer):
            return None
        return self.proxies.limit_key(peer)

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.bounds.head_seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def connection_type(bounds: Bounds, proxies: TrustedProxies) -> type[Connection]:
    """Returns the protocol class for one server, with these bounds; uvicorn makes the instances."""
    table: ConnectionTable[Connection] = ConnectionTable(
        limit=bounds.connections, limit_by_address=bounds.connections_by_address
    )
    members = {"bounds": bounds, "proxies": proxies, "table": table}
    return type("BoundedConnection", (Connection,), members)


MIN_BYTES_PER_SECOND = 16 * 1024
GRACE_SECONDS = 15.0
_BUSY_SECONDS = 1.0
"""A timer this late means that this process was busy, not that the client was slow."""

_UNIDENTIFIED = Uploader("", has_paid=False)

ARRIVAL = "moorage.arrival"
"""The scope's key for the request's `Arrival`."""


class Arrivals:
    """All bodies that arrive."""

    def __init__(self, proxies: TrustedProxies, limits: PlaceLimits | None = None) -> None:
        self.places: Places[Arrival] = Places(limits or PlaceLimits())
        self._proxies = proxies

    def begin(self, scope: Scope, receive: Receive) -> "Arrival":
        """Begins one request's body and puts it into `scope`; the caller ends it."""
        arrival = Arrival(self, scope, receive)
        scope[ARRIVAL] = arrival
        return arrival

    def uploader(self, scope: Scope) -> Uploader:
        """Returns who sends the body, as far as the request is authenticated by now."""
        if scope.get(HAS_PAID, False):
            return Uploader(scope[WALLET], has_paid=True)
        peer = scope["client"][0] if scope.get("client") else None
        forwarded = [
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ]
        address = self._proxies.client_address(peer, forwarded)
        return Uploader(self._proxies.limit_key(address), has_paid=False)


class Arrival:
    """One body. It needs a place only when its next bytes are not there yet."""

    def __init__(self, arrivals: Arrivals, scope: Scope, receive: Receive) -> None:
        self.received_bytes = 0
        self.is_over = False
        self.uploader = _UNIDENTIFIED
        self._arrivals = arrivals
        self._scope = scope
        self._receive = receive
        self._pace = Pace(bytes_per_second=MIN_BYTES_PER_SECOND, grace_seconds=GRACE_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._has_place = False
        self._is_displaced = False
        self._waits_since: float | None = None
        self._timer: asyncio.Timeout | None = None

    @property
    def seconds_left(self) -> float:
        """How much longer the client may keep the server waiting."""
        waits_since, left = self._waits_since, self._pace.seconds_left
        return left if waits_since is None else left - (self._loop.time() - waits_since)

    def identify(self) -> Uploader:
        """Returns who sends it; to be called after the request was authenticated."""
        if self.uploader is _UNIDENTIFIED:
            self.uploader = self._arrivals.uploader(self._scope)
        return self.uploader

    async def receive(self) -> Message:
        """Returns the next message. Raises BodyStalled, UploadDisplaced."""
        if self.is_over:
            return await self._receive()
        if self._is_displaced:
            raise UploadDisplaced
        message = None if self._has_place else await _at_once(self._receive)
        if message is None:
            message = await self._waited_for()
        body = message.get("body", b"")
        self.received_bytes += len(body)
        self._pace.received(len(body))
        if not message.get("more_body", False):
            self.end()
        return message

    def displace(self) -> None:
        """Ends it to free its place for others; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._displace)

    def end(self) -> None:
        """Frees the place: the body is complete, or nobody reads it any more."""
        self.is_over = True
        if self._has_place:
            self._arrivals.places.leave(self)

    async def _waited_for(self) -> Message:
        if not self._has_place:
            self.identify()
            self._has_place = True
            self._arrivals.places.enter(self)
        if self._is_displaced:
            raise UploadDisplaced
        since = self._waits_since = self._loop.time()
        allowed_seconds = self._pace.seconds_left
        try:
            async with asyncio.timeout(allowed_seconds) as self._timer:
                return await self._receive()
        except TimeoutError:
            return await self._late(self._loop.time() - since - allowed_seconds)
        finally:  # time beyond the timer's is the server's own delay
            self._pace.waited(min(self._loop.time() - since, allowed_seconds))
            self._waits_since = self._timer = None

    async def _late(self, overdue_seconds: float) -> Message:
        """Returns what arrived while this process was busy. Raises UploadDisplaced, BodyStalled."""
        if self._is_displaced:
            raise UploadDisplaced from None
        message = await _at_once(self._receive) if overdue_seconds > _BUSY_SECONDS else None
        if message is None:
            raise BodyStalled from None
        return message

    def _displace(self) -> None:
        self._is_displaced = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(self._loop.time())


async def _at_once(receive: Receive) -> Message | None:
    """Returns the next message if it is there already, else None."""
    steps = receive().__await__()
    try:
        next(steps)
    except StopIteration as done:
        message: Message = done.value
        return message
    steps.close()  # it would wait
    return None


_SHUTDOWN_SECONDS = 5
_KEEP_ALIVE_SECONDS = 75
_TICK_SECONDS = 1.0


class _Server(uvicorn.Server):
    """Ticks once a second, for the Date header, not ten times; `end` takes effect at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Stops after the requests under way are answered."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Ticks until the end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_tick(_TICK_SECONDS)):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures no signals: the gateway handles them."""
        yield


class HttpServer:
    """One ASGI app served on one listening socket."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        bounds: Bounds | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        """`proxies` connect for many clients each: the limit by address does not apply to them."""
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=connection_type(bounds or Bounds(), proxies or TrustedProxies()),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )

    async def run(self) -> None:
        """Serves until `stop` or cancellation; answers the requests under way in both cases."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.end()
            await serving
            raise


def listen_tcp(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Returns a listening TCP socket; port 0 takes a free port. Raises OSError.

    With `shared`, other processes of this user that say so may listen there, too: the kernel
    divides connections among them (SO_REUSEPORT, socket(7)).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener

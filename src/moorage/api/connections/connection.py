"""One client's connection: uvicorn's protocol with limits on time and bytes.

uvicorn waits for ever for a request's headers, and keeps any amount of them. After `Upgrade` it
takes the body for the next request. It closes while a refused body still arrives, and then the
kernels drop the answer on its way.

The proxy in front limits heads as well, but an operator may serve the API without it. And neither a
proxy nor an ASGI app can answer invalid HTTP in JSON, make room among many connections, end one
whose client does not read its answer, or keep an answer from being lost (a proxy then answers 502).
So this class extends uvicorn's protocol by its public methods and attributes.
"""

import asyncio
from asyncio import TimerHandle

import msgspec
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from moorage.api.connections.connection_table import ConnectionTable
from moorage.api.http.problems import BAD_HTTP, HEADERS_TOO_LARGE, Problem, problem_response
from moorage.auth.client_address import TrustedProxies

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

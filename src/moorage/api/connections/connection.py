"""One client's connection: uvicorn's, bounded in time and bytes, and never cut short of its answer.

uvicorn waits for ever for a request's headers, keeps any amount of them, takes a body for the next
request after `Upgrade`, and closes while a refused body still arrives, which makes the kernels drop
the answer on its way.

The proxy in front bounds heads as well, but an operator may serve the API without it. And neither a
proxy nor an ASGI app can answer in JSON what is no HTTP, make room among many connections, end one
whose answer nobody reads, or keep an answer that a proxy would otherwise lose (it says 502 then).
So this class is uvicorn's protocol, extended by its public methods and attributes.
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
from moorage.auth.client_address import TrustedProxies, rate_limit_key

_PARSED_AT_ONCE = 4 * 1024

_SENTENCES = {
    BAD_HTTP: "This is not a valid HTTP request.",
    HEADERS_TOO_LARGE: "The request has too many headers, or too large ones.",
}


class Bounds(msgspec.Struct, frozen=True):
    """What a connection may take while there is no request to answer."""

    connections: int = 2_048
    """Open at once. With one more, some that wait for a request have to go, of the addresses that
    have most."""

    connections_by_address: int = 256
    """Open at once from one client address (IPv6: /64), trusted proxies apart."""

    head_seconds: float = 10.0
    """Until the last header is there; also for the rest of what was refused."""

    unread_seconds: float = 30.0
    """How long a client may leave an answer unread."""

    head_bytes: int = 64 * 1024
    """Request line and headers, or what else is not a body."""

    headers: int = 100


class Connection(HttpToolsProtocol):
    """An asyncio protocol, for `uvicorn.Config(http=…)`; see `connection_type`."""

    bounds: Bounds
    proxies: TrustedProxies
    table: "ConnectionTable[Connection]"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; where there are too many, some that wait for a request end."""
        super().connection_made(transport)
        # A cycle takes this for its transport: so much of one it needs, with `write` and `close`.
        self.is_closing = transport.is_closing
        self._held = b""
        self.waiting_since = self.loop.time()
        self._problem = BAD_HTTP
        self._undelivered = 0  # bytes received since the app was last handed some
        self._unparsed = bytearray()
        self._is_deaf = False
        self._timer: TimerHandle | None = None
        self._unread_timer: TimerHandle | None = None
        self._start_timer()
        self._address = self._client_address()
        for connection in self.table.enter(self, self._address):
            connection.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
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
        """Take in what came, unless the connection is at its end."""
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        """Go on with what came, but not far beyond a request that is not answered yet.

        One read may bring thousands of small requests, each of which takes kilobytes once parsed.
        """
        while self._unparsed and not self._is_deaf and not self.pipeline:
            piece = bytes(self._unparsed[:_PARSED_AT_ONCE])
            del self._unparsed[:_PARSED_AT_ONCE]
            self._undelivered += len(piece)
            super().data_received(piece)
            if self._undelivered > self.bounds.head_bytes:
                self._refuse(HEADERS_TOO_LARGE)
            elif self.is_waiting and self._timer is None:
                self._start_timer()
        if self._is_deaf:
            self._unparsed.clear()
        elif self._unparsed:
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what the parser gave up on, in JSON."""
        self._refuse(self._problem)

    def _unsupported_upgrade_warning(self) -> None:
        """Not worth a line in the log: the request is answered as if it had not asked."""

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        if self._has_too_large_a_head():
            self._problem = HEADERS_TOO_LARGE
            raise ValueError(_SENTENCES[self._problem])  # ends in send_400_response
        self._stop_timer()
        self._undelivered = 0
        super().on_headers_complete()
        self.headers = []  # what trails a body is no header, whatever it says
        self.cycle.transport = self  # type: ignore[assignment]
        if self.parser.should_upgrade():
            # The parser takes the rest for another protocol's, and loses sight of the body's end.
            self.cycle.keep_alive = False
            self._is_deaf = True

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body to the app."""
        self._undelivered = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of one that was refused."""
        self.waiting_since = self.loop.time()
        self._write_held()
        super().on_response_complete()
        if self._unparsed:
            self.loop.call_soon(self._parse)
        if self.is_waiting and self.cycle.more_body:
            self._start_timer()

    def write(self, data: bytes) -> None:
        """Write part of an answer: its head, which is alone at first, leaves with what follows."""
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
        """The client does not read; it has so long to begin."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(
                self.bounds.unread_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._stop_unread_timer()

    def close(self) -> None:
        """Close once the client has its answer: at once, unless a request still arrives.

        To close with bytes unread would make the client's kernel forget the answer. So say no more,
        and pass over what comes until the client closes.
        """
        self._write_held()
        if not (self._is_deaf or self.cycle.more_body) or self.transport.is_closing():
            self.transport.close()
            return
        self._is_deaf = True
        self._start_timer()
        self.transport.write_eof()

    def _has_too_large_a_head(self) -> bool:
        if len(self.headers) > self.bounds.headers:
            return True
        if self._undelivered <= self.bounds.head_bytes:  # nearly always, and cheap to know
            return False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > self.bounds.head_bytes

    def _refuse(self, problem: Problem) -> None:
        """Answer and end, when the requests that came whole before are answered."""
        if self._is_deaf or self.transport.is_closing():
            return
        self._is_deaf = True
        if self.is_waiting:
            self._answer(problem)
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:  # the body broke off
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer(problem)

    def _answer(self, problem: Problem) -> None:
        response = problem_response(problem, _SENTENCES[problem], headers=[("Connection", "close")])
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body))
        self.close()

    def _client_address(self) -> str | None:
        """What its peer is counted under; None for a proxy, and for a unix socket."""
        peer = self.client[0] if self.client else None
        return None if peer is None or self.proxies.trusts(peer) else rate_limit_key(peer)

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
    """The protocol of one server's connections, which keep `bounds`; uvicorn makes them itself."""
    table: ConnectionTable[Connection] = ConnectionTable(
        limit=bounds.connections, limit_by_address=bounds.connections_by_address
    )
    members = {"bounds": bounds, "proxies": proxies, "table": table}
    return type("BoundedConnection", (Connection,), members)

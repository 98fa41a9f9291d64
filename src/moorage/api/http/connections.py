"""The sockets of the gateway: served by uvicorn, with bounds on what each client may hold."""

import asyncio
import contextlib
import heapq
import socket
import time
import types
from asyncio import TimerHandle
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
)

from moorage.api.http.problems import (
    BAD_HTTP,
    HEADERS_TOO_LARGE,
    PROBLEMS,
    Problem,
    problem_response,
)
from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.auth.rate_limit import TrustedProxies
from moorage.errors import BodyStalled, RateLimited, UploadDisplaced
from moorage.loop import until_tick
from moorage.uploads.room import Uploader

FREE_SECONDS = 0.002
"""How much of one round strangers may use before their steps begin to wait."""

AHEAD_SECONDS = 0.01
"""How much an address that seldom waits may use before those that always wait are let in."""

WAITING_OF_ONE = 256
"""How many requests of one address may wait to be begun: as many as it may have connections, so
that only clients that hang up and ask again come so far."""

WAITING = 2_048
"""How many of all addresses may; one is let wait of each address even then."""

_ADDRESS = "moorage.fair_share.address"  # of a request, in its scope
_ADDRESSES = 4_096  # from which on those are forgotten that owe nothing
_RETRY_SECONDS = 2
_TOO_MANY = problem_response(
    PROBLEMS[RateLimited],
    "Too many requests of your address wait for this gateway. It has not looked at this one, and "
    "took nothing. If it carries a payment, do not pay again: send the same request once more.",
    headers=[("Retry-After", str(_RETRY_SECONDS))],
)


_Waiting = tuple[float, int, str, asyncio.Future[None]]
"""When its turn is, in seconds of use; the order of arrival; the address; what lets it in."""


class FairShare:
    """An ASGI app around `app`; `address_of` says what a request's client is counted under.

    What a request has done in other tasks, threads and processes is not counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        address_of: Callable[[Request], str],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._address_of = address_of
        self._clock = clock
        self._order = count()
        self._waiting: list[_Waiting] = []  # a heap
        self._to_begin: Counter[str] = Counter()  # requests that are not begun, by address
        # Each address that waits all along has used as many seconds since somebody began to wait.
        self._use = 0.0
        self._uses: dict[str, float] = {}
        self._used_in_round = 0.0
        self._awaits_round = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request when it is its turn; 429 where too many of its address wait."""
        if self._is_crowded and not await self._begun(scope):
            await _TOO_MANY(scope, receive, send)
            return
        await self._in_steps(self._app(scope, receive, send), scope)

    @property
    def _is_crowded(self) -> bool:
        return bool(self._waiting) or self._used_in_round >= FREE_SECONDS

    async def _begun(self, scope: Scope) -> bool:
        """Waits until a request may be begun; returns False where too many wait already."""
        address = self._address(scope)
        own = self._to_begin[address]
        if own >= WAITING_OF_ONE or (own and self._to_begin.total() >= WAITING):
            return False
        self._to_begin[address] += 1
        try:
            await self._turn(address)
        finally:
            self._to_begin[address] -= 1
            if not self._to_begin[address]:
                del self._to_begin[address]
        return True

    @types.coroutine
    def _in_steps(self, work: Awaitable[None], scope: Scope) -> Generator[Any, Any, None]:
        """Runs `work`, whose first step has its turn; not in turns once its wallet has paid."""
        steps, clock = work.__await__(), self._clock
        step: Callable[[], Any] = partial(steps.send, None)
        used, has_turn = 0.0, True
        while True:
            if self._is_crowded and not has_turn and not scope.get(HAS_PAID):
                try:
                    yield from self._turn(self._address(scope)).__await__()
                except BaseException as error:  # noqa: BLE001  (canceled, which the work must hear)
                    step = partial(steps.throw, error)
            has_turn, began = False, clock()
            try:
                awaited = step()
            except StopIteration:
                return
            finally:
                used = self._count(scope, used, clock() - began)
            try:
                step = partial(steps.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001
                step = partial(steps.throw, error)

    async def _turn(self, address: str) -> None:
        """Waits until a step of this address may be run."""
        turn = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (self._use_of(address), next(self._order), address, turn))
        self._await_round()
        await turn

    def _address(self, scope: Scope) -> str:
        found: str | None = scope.get(_ADDRESS)
        if found is None:
            found = scope[_ADDRESS] = self._address_of(Request(scope))
        return found

    def _use_of(self, address: str) -> float:
        least = self._use - AHEAD_SECONDS
        return max(least, self._uses.get(address, least))

    def _count(self, scope: Scope, before: float, seconds: float) -> float:
        """Counts a step; returns what its address is charged with for the request."""
        if scope.get(HAS_PAID):
            if before:
                address = self._address(scope)
                self._uses[address] = self._use_of(address) - before
            return 0.0
        self._used_in_round += seconds
        self._await_round()
        if not self._waiting:  # nobody is held up by it
            return before
        address = self._address(scope)
        self._uses[address] = self._use_of(address) + seconds
        return before + seconds

    def _await_round(self) -> None:
        if not self._awaits_round:
            self._awaits_round = True
            asyncio.get_running_loop().call_soon(self._begin_round)

    def _begin_round(self) -> None:
        """Lets the step run whose address has used least."""
        self._awaits_round = False
        self._used_in_round = 0.0
        while self._waiting:
            use, order, address, turn = heappop(self._waiting)
            if self._use_of(address) > use and not turn.done():
                heappush(self._waiting, (self._use_of(address), order, address, turn))
            elif not turn.done():  # else it was canceled
                self._use = max(self._use, use)
                turn.set_result(None)
                break
        if self._waiting:
            self._await_round()
        else:
            self._uses.clear()
        if len(self._uses) > _ADDRESSES:
            least = self._use - AHEAD_SECONDS
            self._uses = {each: use for each, use in self._uses.items() if use > least}


class Pace:
    """How far a body is behind the minimum rate: it may be `grace_seconds` behind at any time.

    Only the time that the server waited counts. Bytes never earn more than the grace, so a fast
    start saves up no time.
    """

    def __init__(self, *, bytes_per_second: int, grace_seconds: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._grace_seconds = grace_seconds
        self.seconds_left = grace_seconds

    def waited(self, seconds: float) -> None:
        """Counts seconds in which the server waited for bytes."""
        self.seconds_left -= seconds

    def received(self, count: int) -> None:
        """Counts bytes that arrived."""
        earned = count / self._bytes_per_second
        self.seconds_left = min(self._grace_seconds, self.seconds_left + earned)


class PlaceLimits(msgspec.Struct, frozen=True):
    """How many bodies may arrive at the same time."""

    strangers: int = 128
    """Of wallets that never paid, and of requests without one."""

    paid: int = 256
    """Of wallets that paid."""

    one_uploader: int = 32
    """Of one wallet that paid, or of one address of strangers."""


class Body(Protocol):
    """A body that arrives, as the places see it."""

    @property
    def uploader(self) -> Uploader:
        """Who sends it."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer it may keep the server waiting; the slower it was, the less."""
        ...

    @property
    def received_bytes(self) -> int:
        """How many bytes arrived."""
        ...

    def displace(self) -> None:
        """Ends it."""
        ...


B = TypeVar("B", bound=Body)


class BodySlots(Generic[B]):
    """The bodies that have a place."""

    def __init__(self, limits: PlaceLimits) -> None:
        self._limits = limits
        self._taken: dict[bool, set[B]] = {True: set(), False: set()}  # by whether it paid

    def enter(self, body: B) -> None:
        """Gives it a place; if none is left, displaces the slowest body of who has the most."""
        has_paid = body.uploader.has_paid
        taken = self._taken[has_paid]
        own = [each for each in taken if each.uploader == body.uploader]
        if len(own) >= self._limits.one_uploader:
            self._displace(own)
        elif len(taken) >= (self._limits.paid if has_paid else self._limits.strangers):
            counts = Counter(each.uploader for each in taken)
            max_count = max(counts.values())
            self._displace(each for each in taken if counts[each.uploader] == max_count)
        taken.add(body)

    def leave(self, body: B) -> None:
        """Frees its place, if it still has one."""
        self._taken[body.uploader.has_paid].discard(body)

    def _displace(self, candidates: Iterable[B]) -> None:
        slowest = min(candidates, key=lambda each: (each.seconds_left, each.received_bytes))
        self.leave(slowest)
        slowest.displace()


_SHARES = 64
"""This part of the limit is closed at once, so that a flood is not searched for each newcomer."""


class Waiting(Protocol):
    """A connection, as the table sees it."""

    @property
    def is_waiting(self) -> bool:
        """Whether there is no request to answer, so that it may be closed."""
        ...

    @property
    def waiting_since(self) -> float:
        """Since when it waits, in the event loop's seconds."""
        ...


C = TypeVar("C", bound=Waiting)


class ConnectionTable(Generic[C]):
    """At most `limit` connections, and `limit_by_address` of each address.

    A connection without an address (None) is a trusted proxy's and carries requests of many
    clients: it counts only for `limit`, and is closed last.
    """

    def __init__(self, *, limit: int, limit_by_address: int) -> None:
        self._limit = limit
        self._limit_by_address = limit_by_address
        self._by_address: dict[str | None, set[C]] = {}
        self._count = 0

    def enter(self, connection: C, address: str | None) -> list[C]:
        """Adds a connection; removes and returns those to close, which may include the new one.

        These wait for a request, the longest first. They are of the same address if it has too
        many, else of the addresses with the most.
        """
        own = self._by_address.setdefault(address, set())
        own.add(connection)
        self._count += 1
        going: list[tuple[str | None, C]] = []
        if address is not None and len(own) > self._limit_by_address:
            count = max(1, self._limit_by_address // _SHARES)
            going = [(address, each) for each in _longest_waiting(own)[-count:]]
        elif self._count > self._limit:
            going = list(self._of_the_largest(max(1, self._limit // _SHARES)))
        for its_address, each in going:
            self.leave(each, its_address)
        return [each for _, each in going]

    def leave(self, connection: C, address: str | None) -> None:
        """Removes a connection that is closed."""
        own = self._by_address.get(address, set())
        if connection in own:
            own.remove(connection)
            self._count -= 1
            if not own:
                del self._by_address[address]

    def _of_the_largest(self, count: int) -> Iterator[tuple[str | None, C]]:
        """Yields `count` times the longest waiting of the address with the most; proxies' last."""
        crowds = list(self._by_address.items())
        largest = [(address is None, -len(own), at) for at, (address, own) in enumerate(crowds)]
        heapq.heapify(largest)
        waiting: dict[int, list[C]] = {}
        while largest and count:
            is_proxys, size, at = heapq.heappop(largest)
            address, own = crowds[at]
            if at not in waiting:
                waiting[at] = _longest_waiting(own)
            if waiting[at]:
                yield address, waiting[at].pop()
                count -= 1
                heapq.heappush(largest, (is_proxys, size + 1, at))


def _longest_waiting(connections: set[C]) -> list[C]:
    """Returns those that wait for a request; the longest waiting is the last."""
    waiting = [connection for connection in connections if connection.is_waiting]
    return sorted(waiting, key=lambda connection: connection.waiting_since, reverse=True)


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
        if self._held and not self.transport.is_closing():  # its client may have left meanwhile
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
        self.places: BodySlots[Arrival] = BodySlots(limits or PlaceLimits())
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

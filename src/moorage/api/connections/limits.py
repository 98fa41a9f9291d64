"""How many connections and bodies an address may have, and which close when there are too many."""

import asyncio
import heapq
import time
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.problems import PROBLEMS, problem_response
from moorage.api.http.request_context import HAS_PAID
from moorage.errors import RateLimited
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


class Places(Generic[B]):
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

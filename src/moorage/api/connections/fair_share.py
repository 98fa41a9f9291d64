"""Shares the event loop: strangers' requests wait for one another, paid wallets' for none of them.

The loop is one thread, and a few hundred addresses, each within its limits, can fill it. Here a
request is run in steps, from one wait to the next. In each round of the loop one step of a stranger
is run, and addresses get as much of it as each other (start-time fair queueing: Goyal, Vin and
Cheng, 1996), however many requests they send. Who asks now and then goes next.
"""

import asyncio
import time
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.problems import PROBLEMS, problem_response
from moorage.api.http.request_context import HAS_PAID
from moorage.errors import RateLimited

FREE_SECONDS = 0.002
"""How much of one round strangers may use before their steps begin to wait."""

AHEAD_SECONDS = 0.01
"""How much an address that waits now and then may use before those that wait all along go on."""

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
"""When its turn is, in seconds of use; the order of arrival; the address; what lets it go on."""


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

"""Holding requests while their app is woken: what the proxy asks before it says that none is there.

The proxy keeps the request itself, body and all; only a question without a body waits here, so a
thousand held uploads cost the gateway a thousand small tasks.

The places are shared out: to a host, to all apps of one owner, to a visitor's address. When all are
taken, an owner who has fewer gets one of whoever has most. Who gets none has its app woken all the
same, and is told to come again.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from moorage.routing.hosts import host_of_header

log = structlog.get_logger()

MOST_HELD = 4096
MOST_HELD_PER_HOST = 512
MOST_HELD_PER_OWNER = 1024
MOST_HELD_PER_VISITOR = 256
"""More requests than these are not held: they get the page that tells when to try again."""

MOST_QUESTIONS = MOST_HELD + 1024
"""Connections that questions may take: those that are held, and those being refused."""

Wake = Callable[[str], Awaitable[bool]]
"""Brings up the app at a host, lower case and without port, if it sleeps or is being started.

Returns when that is over: whether the host leads to an app now. At once for any other host.
"""

Owner = Callable[[str], Awaitable[str | None]]
"""Whose app is at a host, lower case and without port; None when there is none."""

Visitor = Callable[[Request], str | None]
"""Whom a request's places are counted to, by address; None where that is not known."""

_AWAKE, _NOBODY = 204, 404


@dataclass(eq=False)
class _Place:
    """One request that is held; `taken` is set when somebody else gets its place."""

    host: str
    owner: str
    visitor: str | None
    taken: asyncio.Event = field(default_factory=asyncio.Event)


def waking_app(wake: Wake, *, owner: Owner, visitor: Visitor) -> Starlette:
    """The app behind the socket at which the proxy asks, by HEAD / with the host in question."""
    return Starlette(routes=[Route("/", Waking(wake, owner=owner, visitor=visitor).answer)])


class Waking:
    """Answers the proxy's questions."""

    def __init__(self, wake: Wake, *, owner: Owner, visitor: Visitor) -> None:
        self._wake = wake
        self._owner = owner
        self._visitor = visitor
        self._of_host: Counter[str] = Counter()
        self._of_visitor: Counter[str] = Counter()
        self._of_owner: dict[str, OrderedDict[_Place, None]] = {}
        self._in_all = 0
        self._unheld: dict[str, asyncio.Task[bool]] = {}

    async def answer(self, request: Request) -> Response:
        """204 once the host leads to an app, 404 when it does not and won't."""
        host = host_of_header(request.headers.get("host", ""))
        owner = await self._owner(host)
        if owner is None:
            return Response(status_code=_NOBODY)
        place = _Place(host, owner, self._visitor(request))
        if not self._is_room_for(place):
            self._wake_unheld(host)
            return Response(status_code=_NOBODY)
        self._take(place)
        try:
            awake = await _unless(self._wake(host), gone=_gone(request), taken=place.taken.wait())
        finally:
            self._leave(place)
        return Response(status_code=_AWAKE if awake else _NOBODY)

    def _is_room_for(self, place: _Place) -> bool:
        """Whether it may be held; when all places are taken, one is made free if that is fair."""
        if self._of_host[place.host] >= MOST_HELD_PER_HOST:
            return False
        own = len(self._of_owner.get(place.owner, ()))
        if own >= MOST_HELD_PER_OWNER:
            return False
        if place.visitor is not None and self._of_visitor[place.visitor] >= MOST_HELD_PER_VISITOR:
            return False
        if self._in_all < MOST_HELD:
            return True
        largest = max(self._of_owner.values(), key=len)
        if len(largest) <= own + 1:
            return False
        oldest = next(iter(largest))
        oldest.taken.set()
        self._leave(oldest)
        return True

    def _take(self, place: _Place) -> None:
        self._in_all += 1
        self._of_host[place.host] += 1
        self._of_owner.setdefault(place.owner, OrderedDict())[place] = None
        if place.visitor is not None:
            self._of_visitor[place.visitor] += 1

    def _leave(self, place: _Place) -> None:
        """Free a place, unless that was done when somebody else got it."""
        places = self._of_owner.get(place.owner)
        if places is None or place not in places:
            return
        del places[place]
        if not places:
            del self._of_owner[place.owner]
        self._in_all -= 1
        _less(self._of_host, place.host)
        if place.visitor is not None:
            _less(self._of_visitor, place.visitor)

    def _wake_unheld(self, host: str) -> None:
        """Have the app come up for those who are told to come again; once at a time."""
        if host not in self._unheld:
            task = asyncio.ensure_future(self._wake(host))
            self._unheld[host] = task
            task.add_done_callback(partial(self._is_up, host))

    def _is_up(self, host: str, task: asyncio.Task[bool]) -> None:
        del self._unheld[host]
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.warning("an app is not woken", host=host, error=str(failure))


def _less(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


async def _unless(
    waking: Awaitable[bool], *, gone: Awaitable[object], taken: Awaitable[object]
) -> bool:
    """What `waking` gives; False, without waiting further, when one of the others is over first."""
    woken = asyncio.ensure_future(waking)
    ends = [asyncio.ensure_future(gone), asyncio.ensure_future(taken)]
    try:
        await asyncio.wait({woken, *ends}, return_when=asyncio.FIRST_COMPLETED)
        return woken.done() and woken.result()
    finally:
        for task in (woken, *ends):
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue

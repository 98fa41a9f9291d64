"""Answers the proxy's question whether a host has an app, after waking the app if it sleeps.

The proxy keeps the request with its body; only a question without a body waits here, so a thousand
held uploads cost the gateway a thousand small tasks.

The number of waiting requests is limited per host, per owner and per visitor's address. When all
places are taken, an owner with fewer places gets one from the owner with the most. A request that
gets no place wakes its app too, but is told to try again.
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

MAX_HELD = 4096
MAX_HELD_PER_HOST = 512
MAX_HELD_PER_OWNER = 1024
MAX_HELD_PER_VISITOR = 256
"""Requests beyond these limits are not held: they get the page that says when to try again."""

MAX_QUESTIONS = MAX_HELD + 1024
"""Connections that questions may take, both those that are held and those being refused."""

Wake = Callable[[str], Awaitable[bool]]
"""Wakes the app at a host (lower case, without port) if it sleeps, or waits while it starts.

Returns whether the host has an app now. Returns at once for any other host.
"""

Owner = Callable[[str], Awaitable[str | None]]
"""Returns the owner of the app at a host (lower case, without port); None if there is no app."""

Visitor = Callable[[Request], str | None]
"""Returns the client address whose limit a request counts towards; None if it is not known."""

_AWAKE, _NOBODY = 204, 404


@dataclass(eq=False)
class _Place:
    """The place of one held request; `taken` is set when another request gets it."""

    host: str
    owner: str
    visitor: str | None
    taken: asyncio.Event = field(default_factory=asyncio.Event)


def waking_app(wake: Wake, *, owner: Owner, visitor: Visitor) -> Starlette:
    """Returns the app for the socket at which the proxy asks, by HEAD / with the request's host."""
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
        """Answers 204 once the host has an app, 404 if it has none or the request is not held."""
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
        """Returns whether the request may be held; takes a place from the largest owner if fair."""
        if self._of_host[place.host] >= MAX_HELD_PER_HOST:
            return False
        own = len(self._of_owner.get(place.owner, ()))
        if own >= MAX_HELD_PER_OWNER:
            return False
        if place.visitor is not None and self._of_visitor[place.visitor] >= MAX_HELD_PER_VISITOR:
            return False
        if self._in_all < MAX_HELD:
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
        """Frees a place, unless another request has got it already."""
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
        """Wakes the app for requests that are not held; one task per host at a time."""
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
    """Returns the result of `waking`; False as soon as one of the others is done first."""
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

"""Holding requests while their app is woken: what the proxy asks before it says that none is there.

The proxy keeps the request itself, body and all; only a question without a body waits here, so a
thousand held uploads cost the gateway a thousand small tasks.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

MOST_HELD = 4096
MOST_HELD_PER_HOST = 512
"""More requests than these are not held: they get the page that tells when to try again."""

Wake = Callable[[str], Awaitable[bool]]
"""Brings up the app at a host, lower case and without port, if it sleeps or is being started.

Returns when that is over: whether the host leads to an app now. At once for any other host.
"""

_AWAKE, _NOBODY = 204, 404


class Waking:
    """Answers the proxy's questions."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._held: Counter[str] = Counter()
        self._in_all = 0

    async def answer(self, request: Request, host: str) -> Response:
        """204 once the host leads to an app, 404 when it does not and won't."""
        if self._in_all >= MOST_HELD or self._held[host] >= MOST_HELD_PER_HOST:
            return Response(status_code=_NOBODY)
        self._in_all += 1
        self._held[host] += 1
        try:
            awake = await _unless_gone(request, self._wake(host))
        finally:
            self._in_all -= 1
            self._held[host] -= 1
            if not self._held[host]:
                del self._held[host]
        return Response(status_code=_AWAKE if awake else _NOBODY)


async def _unless_gone(request: Request, waking: Awaitable[bool]) -> bool:
    """What `waking` gives; False, without waiting further, when whoever asked has hung up."""
    woken = asyncio.ensure_future(waking)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({woken, gone}, return_when=asyncio.FIRST_COMPLETED)
        return woken.done() and woken.result()
    finally:
        woken.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue

"""Request bodies that arrive: each keeps a minimum rate, and has a place while it is awaited."""

import asyncio

from starlette.types import Message, Receive, Scope

from moorage.api.connections.places import Pace, PlaceLimits, Places
from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.auth.client_address import TrustedProxies
from moorage.errors import BodyStalled, UploadDisplaced
from moorage.uploads.room import Uploader

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

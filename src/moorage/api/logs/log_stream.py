"""A log as server-sent events, line by line as it grows (HTML standard, 9.2).

Nothing is buffered for a slow client: the stream reads more of the log when the client has read.
The connection's bounds limit how long that may take.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from moorage.api.http.request_context import STREAMS
from moorage.clock import iso_utc
from moorage.engines.engine import Cursor, LogLine, LogPage
from moorage.errors import (
    ClusterUnavailable,
    ContentUnavailable,
    DatabaseUnavailable,
    TooManyStreams,
)
from moorage.wire.logs import LogEnd, LogItem

T = TypeVar("T")

LogReader = Callable[[Cursor | None, int], Awaitable[LogPage]]
"""Reads at most so many lines after a cursor; without one, from where the request says."""


class StreamPage(NamedTuple):
    """Lines as the contract has them, each with the place behind it; and the place behind all."""

    lines: Sequence[tuple[str, msgspec.Struct]]
    next: str


StreamReader = Callable[[str | None, int], Awaitable[StreamPage]]
"""As `LogReader`, of whatever a stream is of; a place is what it gave before."""

KEEP_ALIVE_SECONDS = 15.0
_LINES_AT_ONCE = 500
_LOOK_SECONDS = 0.1  # while lines come; doubled after each look without a line, up to
_IDLE_LOOK_SECONDS = 0.8
_ASK_SECONDS = 1.0  # how often the stream asks whether the log is over
_RETRY_SECONDS = 30

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would wait for a whole page
}


class Followers:
    """The log streams that are open: at most `limit` in all, and `limit_by_wallet` of each wallet.

    At the limit, the wallet with the most streams loses its oldest one to a newcomer. Readers of a
    wallet's links count as another wallet, so that they take none of its own streams.
    """

    def __init__(self, *, limit: int = 200, limit_by_wallet: int = 10) -> None:
        self._limit = limit
        self._limit_by_wallet = limit_by_wallet
        self._streams: dict[str, list[asyncio.Event]] = {}  # of a wallet, oldest first

    def enter(self, wallet: str) -> asyncio.Event:
        """Adds a stream, until `leave`; it has to end when the returned event is set.

        Raises TooManyStreams.
        """
        own = self._streams.get(wallet, [])
        if len(own) >= self._limit_by_wallet:
            said = f"Your wallet follows {self._limit_by_wallet} logs already: end one of them."
            raise TooManyStreams(_RETRY_SECONDS, said)
        if sum(map(len, self._streams.values())) >= self._limit:
            greediest = max(self._streams.values(), key=len)
            if len(greediest) <= len(own) + 1:
                raise TooManyStreams(_RETRY_SECONDS, "Too many logs are followed here.")
            greediest.pop(0).set()
        ending = asyncio.Event()
        self._streams.setdefault(wallet, []).append(ending)
        return ending

    def leave(self, wallet: str, ending: asyncio.Event) -> None:
        """Removes a stream, unless it was ended for a newcomer."""
        own = self._streams.get(wallet, [])
        if ending in own:
            own.remove(ending)
        if not own:
            self._streams.pop(wallet, None)

    def end_all(self) -> None:
        """Ends all streams, because the gateway stops."""
        for own in self._streams.values():
            for ending in own:
                ending.set()


class LogStreamResponse(StreamingResponse):
    """A stream that ends with the log, with the client, or with the gateway."""

    def __init__(
        self,
        followers: Followers,
        wallet: str,
        *,
        read: StreamReader,
        is_over: Callable[[], Awaitable[bool]],
        kept: bool,
    ) -> None:
        """`kept`: whether the gateway keeps this log. Raises TooManyStreams."""
        self._ending = followers.enter(wallet)
        super().__init__(_events(read, is_over, self._ending, kept=kept), headers=_HEADERS)
        self._followers = followers
        self._wallet = wallet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the log until it is over."""
        scope[STREAMS] = True
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers.leave(self._wallet, self._ending)


async def _events(
    read: StreamReader,
    is_over: Callable[[], Awaitable[bool]],
    ending: asyncio.Event,
    *,
    kept: bool,
) -> AsyncIterator[bytes]:
    """Yields whole events."""
    place: str | None = None
    over, asked, said = False, time.monotonic(), time.monotonic()
    pause_seconds = _LOOK_SECONDS
    while not ending.is_set():
        page = await _unless_away(read(place, _LINES_AT_ONCE))
        if page is not None:
            place = page.next
            if page.lines:
                yield b"".join(_event("line", *line) for line in page.lines)
                said, pause_seconds = time.monotonic(), _LOOK_SECONDS
                continue
            if over:
                yield _event("end", place, LogEnd(next=place, kept=kept))
                return
        now = time.monotonic()
        if now - said >= KEEP_ALIVE_SECONDS:
            yield b": keep-alive\n\n"
            said = now
        if now - asked >= _ASK_SECONDS:
            over, asked = await _unless_away(is_over()) is True, now
        else:
            await _wait(ending, pause_seconds)
            pause_seconds = min(2 * pause_seconds, _IDLE_LOOK_SECONDS)


async def _unless_away(answer: Awaitable[T]) -> T | None:
    """Returns an answer; None while what it comes from is away, as a stream goes on afterwards."""
    try:
        return await answer
    except (ClusterUnavailable, ContentUnavailable, DatabaseUnavailable):
        return None


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ending.wait()


def _event(kind: str, place: str, data: object) -> bytes:
    """Encodes an event; its id is the place behind it, from which Last-Event-ID resumes."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        place.encode(), kind.encode(), msgspec.json.encode(data),
    )  # fmt: skip


def streamed(read: LogReader) -> StreamReader:
    """Returns a reader for a stream of one log."""

    async def read_items(place: str | None, limit: int) -> StreamPage:
        page = await read(None if place is None else int(place), limit)
        items = [(str(line.cursor), log_item(line)) for line in page.lines]
        return StreamPage(items, str(page.next))

    return read_items


def log_item(line: LogLine) -> LogItem:
    """Returns a line as the contract has it."""
    return LogItem(
        time=iso_utc(line.at_ms) if line.at_ms else None, stream=line.stream, text=line.text
    )

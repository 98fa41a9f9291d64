"""Has the app of a host started for the proxy, while the proxy keeps the request.

The proxy opens a connection that names the host and the visitor's address (PROXY protocol v2). The
gateway starts the app and hangs up; then the proxy sends the request to the app. Until then it has
not read the body. A visitor who leaves ends the connection.

Waiting requests are limited by host, owner and visitor's address. When all places are taken, the
owner with the most gives one up. A request without a place wakes its app too, but must try again.
"""

import asyncio
import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import structlog

from moorage.errors import MoorageError

log = structlog.get_logger()

MAX_HELD = 4096
MAX_HELD_PER_HOST = 1024
MAX_HELD_PER_OWNER = 2048
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

Visitor = Callable[[str], str | None]
"""Returns what an address's requests are counted by; None for one that stands for many visitors."""

_ASKED_SECONDS = 5.0
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of the PROXY protocol, version 2
_HEAD = struct.Struct("!12sBBH")  # signature, version and command, family, length
_FIELD = struct.Struct("!BH")  # type, length
_ADDRESS_BYTES = {0x1: 12, 0x2: 36, 0x3: 216}  # by family
_HOST, _VISITOR = 0xE0, 0xE1  # fields of our own, as in `haproxy.cfg.j2`


@dataclass(eq=False)
class _Place:
    """The place of one held request; `taken` is set when another request gets it."""

    host: str
    owner: str
    visitor: str | None
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class Question(NamedTuple):
    """What the proxy asks for: a host, without port, and who waits for it."""

    host: str
    visitor: str


class QuestionServer:
    """Takes the proxy's questions at a listening socket."""

    def __init__(self, waking: "Waking", listener: socket.socket) -> None:
        self._waking = waking
        self._listener = listener
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def run(self) -> None:
        """Serves until cancelled; the questions that wait are hung up on then."""
        # At a full backlog a unix socket refuses at once, and the request would not be held.
        # Not by `start_unix_server`: since Python 3.13 it looks up the path that the socket was
        # bound at, to remove it at the end, and that path is gone (see `listen_unix`).
        server = await asyncio.start_server(self._take, sock=self._listener, backlog=MAX_QUESTIONS)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in self._tasks:
                if task is not None:
                    task.cancel()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        try:
            if len(self._tasks) <= MAX_QUESTIONS:
                async with asyncio.timeout(_ASKED_SECONDS):
                    signature, _, family, length = _HEAD.unpack(
                        await reader.readexactly(_HEAD.size)
                    )
                    content = await reader.readexactly(length)
                    if signature != _SIGNATURE:
                        raise ValueError("no PROXY protocol")
                    fields, at = {}, _ADDRESS_BYTES.get(family >> 4, 0)
                    while at < length:
                        kind, size = _FIELD.unpack_from(content, at)
                        at += _FIELD.size
                        fields[kind] = content[at : at + size].decode("ascii")
                        at += size
                    question = Question(fields.get(_HOST, ""), fields.get(_VISITOR, ""))
                await self._waking.answer(question, gone=partial(_ended, reader))
        except MoorageError as error:  # such as a database that is away: the page says so
            log.warning("an app is not woken", error=error.message)
        except (asyncio.IncompleteReadError, ValueError, TimeoutError, ConnectionError) as error:
            log.warning("a question of the proxy's is none", error=repr(error))
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.transport.abort()


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

    async def answer(self, question: Question, *, gone: Callable[[], Awaitable[object]]) -> bool:
        """Returns True once the host has an app; False if it has none or is not waited for.

        `gone` ends when the visitor has left.
        """
        host = question.host
        owner = await self._owner(host)
        place = None if owner is None else _Place(host, owner, self._visitor(question.visitor))
        if place is not None and not self._is_room_for(place):
            if host not in self._unheld:
                task = asyncio.ensure_future(self._wake(host))
                self._unheld[host] = task
                task.add_done_callback(partial(self._is_up, host))
            place = None
        if place is None:
            return False
        self._take(place)
        try:
            return await _unless(self._wake(host), gone=gone(), taken=place.taken.wait())
        finally:
            self._leave(place)

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


async def _ended(reader: asyncio.StreamReader) -> None:
    """Waits until the proxy hangs up; what it says of the handshake is not of interest."""
    while await reader.read(65_536):
        continue

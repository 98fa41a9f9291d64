"""What builds and apps wrote: of a deployment, of a project whole, as a page or as a stream."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from heapq import merge
from typing import NamedTuple, TypeVar, Unpack

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from moorage.api.http.caller import Caller, Front, may_still_read
from moorage.api.http.problems import json_response
from moorage.api.http.request import time_ms, viewed_deployment, whole_number
from moorage.api.http.request_context import STREAMS
from moorage.clock import iso_utc
from moorage.engines.engine import Cursor, EngineView, Lines, LogLine, LogPage, LogSource
from moorage.errors import (
    ClusterUnavailable,
    ContentUnavailable,
    DatabaseUnavailable,
    InvalidField,
    TooManyStreams,
)
from moorage.records.deployment import (
    UNDER_WAY,
    DeploymentStatus,
    DeploymentView,
    LogKind,
    Summary,
)
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects, transfers
from moorage.storage.database import Database
from moorage.wire.deployments import LogBody, LogEnd, LogItem, ProjectLogBody, ProjectLogItem

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
    """A stream that ends with the log, the client, the gateway, or when it `lasts` no longer."""

    def __init__(
        self,
        followers: Followers,
        wallet: str,
        *,
        read: StreamReader,
        is_over: Callable[[], Awaitable[bool]],
        lasts: Callable[[], Awaitable[bool]],
        kept: bool,
    ) -> None:
        """`lasts`: whether who asked may still read it; `kept`: whether the gateway keeps this log.

        Raises TooManyStreams.
        """
        self._ending = followers.enter(wallet)
        lines = _events(read, is_over, lasts, self._ending, kept=kept)
        super().__init__(lines, headers=_HEADERS)
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
    lasts: Callable[[], Awaitable[bool]],
    ending: asyncio.Event,
    *,
    kept: bool,
) -> AsyncIterator[bytes]:
    """Yields whole events."""
    place: str | None = None
    over, asked, said = False, time.monotonic(), time.monotonic()
    allowed = asked
    pause_seconds = _LOOK_SECONDS
    while not ending.is_set():
        if time.monotonic() - allowed >= _ASK_SECONDS:  # also while lines come without an end
            if await _unless_away(lasts()) is False:
                return
            allowed = time.monotonic()
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
    """Returns an answer; None while its source is away, as a stream continues afterwards."""
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


MAX_LINES = 10_000
DEFAULT_LINES = 500
_LAST_CURSOR = 2**63 - 1

_GONE = (ProjectStatus.DELETING, ProjectStatus.DELETED)


Choice = TypeVar("Choice", bound=StrEnum)


class _Flag(StrEnum):
    TRUE = "true"
    FALSE = "false"


@dataclass(frozen=True, kw_only=True)
class _LogQuery:
    """Which lines to read, as `Engine.read_log` takes it."""

    kind: LogKind
    after: Cursor
    since_ms: int
    tail: int | None


@dataclass(frozen=True, kw_only=True)
class LogRoom(Front):
    """What the handler of logs needs."""

    runtime: EngineView
    followers: Followers


async def show_logs(room: LogRoom, request: Request, caller: Caller) -> Response:
    """`GET /agent/deploy/{projectId}/{deploymentId}/logs`: a page of a log, or its lines live."""
    found = await viewed_deployment(
        room.db,
        project=request.path_params["projectId"],
        deployment=request.path_params["deploymentId"],
        wallet=caller.wallet,
    )
    source = await owners_log(room.db, room.runtime, found.project_id)
    kind, read = log_kind(request), log_reader(source, found.id, request)
    if follows(request):
        return LogStreamResponse(
            room.followers,
            caller.share,
            read=streamed(read),
            is_over=_over(room, found, kind),
            lasts=partial(may_still_read, room, request, caller, found.project_id),
            kept=found.is_kept,
        )
    # Asked before reading, so that a line written in between is not missed.
    over = await _over(room, found, kind)()
    page = await read(None, MAX_LINES)
    return json_response(
        LogBody(
            project_id=found.project_id,
            deployment_id=found.id,
            kind=kind,
            lines=[log_item(line) for line in page.lines],
            next=str(page.next),
            ended=over and not (await read(page.next, 1)).lines,
            kept=found.is_kept,
        )
    )


def _log_query(request: Request) -> _LogQuery:
    """Reads Last-Event-ID, which takes precedence, or the query. Raises InvalidField."""
    kind = log_kind(request)
    last_seen = request.headers.get("last-event-id")
    if last_seen:
        is_number = (
            last_seen.isascii() and last_seen.isdigit() and len(last_seen) <= len(str(_LAST_CURSOR))
        )
        if not is_number or int(last_seen) > _LAST_CURSOR:
            raise InvalidField("Last-Event-ID", "must be the id of an event of this stream")
        cursor = int(last_seen)
        return _LogQuery(kind=kind, after=cursor, since_ms=0, tail=None)
    return _LogQuery(
        kind=kind,
        after=whole_number(request, "after", default=0, min_=0, max_=_LAST_CURSOR),
        since_ms=time_ms(request, "since", default=0),
        tail=log_tail(request),
    )


def log_tail(request: Request) -> int | None:
    """Returns how many of the last lines are asked for; None for all. Raises InvalidField."""
    given = request.query_params
    if "tail" not in given and ("after" in given or "since" in given):
        return None
    return whole_number(request, "tail", default=DEFAULT_LINES, min_=1, max_=MAX_LINES)


def follows(request: Request) -> bool:
    """Returns whether a stream is asked for. Raises InvalidField."""
    asked = _choice(request, "follow", _Flag, _Flag.FALSE) is _Flag.TRUE
    return asked and request.method != "HEAD"


def log_kind(request: Request) -> LogKind:
    """Returns the kind that the query names. Raises InvalidField."""
    return _choice(request, "kind", LogKind, LogKind.RUNTIME)


def _choice(request: Request, name: str, kind: type[Choice], default: Choice) -> Choice:
    text = request.query_params.get(name, default)
    if text not in list(kind):
        raise InvalidField(name, f"must be {' or '.join(kind)}")
    return kind(text)


class _Since(LogSource):
    """Logs from a time on."""

    def __init__(self, source: LogSource, since_ms: int) -> None:
        self._source = source
        self._since_ms = since_ms

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        lines["since_ms"] = max(self._since_ms, lines.get("since_ms", 0))
        return await self._source.read_log(deployment_id, kind, **lines)


async def owners_log(db: Database, source: LogSource, project_id: str) -> LogSource:
    """Returns what a project's owner may read of its logs.

    That does not go back before it was given to them without its variables, which may stand there.
    """
    given_at_ms = await transfers.given_at_ms(db, project_id)
    return _Since(source, given_at_ms) if given_at_ms else source


def log_reader(source: LogSource, deployment_id: str, request: Request) -> LogReader:
    """Returns a reader that continues after a cursor; without one, from where the request says.

    Raises InvalidField.
    """
    query = _log_query(request)

    async def read(cursor: Cursor | None, limit: int) -> LogPage:
        if cursor is not None:
            return await source.read_log(deployment_id, query.kind, after=cursor, limit=limit)
        return await source.read_log(
            deployment_id,
            query.kind,
            after=query.after,
            since_ms=query.since_ms,
            tail=query.tail,
            limit=limit,
        )

    return read


def _over(room: LogRoom, found: DeploymentView, kind: LogKind) -> Callable[[], Awaitable[bool]]:
    """Returns a check whether the log is complete."""

    async def is_over() -> bool:
        now = await deployments.view(room.db, found.id)
        if now is None or now.project_status in _GONE:
            return True
        return await is_complete(room.runtime, now.id, now.status, kind)

    return is_over


async def is_complete(
    runtime: EngineView, deployment_id: str, status: DeploymentStatus, kind: LogKind
) -> bool:
    """Returns whether nothing more can come to a log of a deployment, by its status."""
    if kind is LogKind.BUILD:
        return status not in UNDER_WAY  # a release command writes there as well
    if status is DeploymentStatus.SUPERSEDED:
        return deployment_id not in await runtime.running()
    return status in (DeploymentStatus.FAILED, DeploymentStatus.STOPPED)


_MAX_DEPLOYMENTS = 20
_MAX_CHARS = 1024 * 1024  # about; what one deployment adds is at most as much
_LISTED_SECONDS = 1.0  # how long a list of the deployments is used
_PLACE = re.compile(r"(\d{1,15})((?:-[0-9a-f]{12}\.\d{1,18}){0,20})", re.ASCII)

Line = tuple[str, LogLine]
"""A line, and the id of the deployment that wrote it."""


class Place(msgspec.Struct, frozen=True):
    """How far each deployment's log is read; of others, lines since a time are still to come."""

    since_ms: int = 0
    cursors: Mapping[str, Cursor] = msgspec.field(default_factory=dict)  # by `_key`

    @classmethod
    def read(cls, text: str) -> "Place | None":
        """Reads what `text` gives; None for anything else."""
        found = _PLACE.fullmatch(text)
        if found is None:
            return None
        pairs = (each.split(".") for each in found[2].split("-")[1:])
        return cls(int(found[1]), {key: int(cursor) for key, cursor in pairs})

    @property
    def text(self) -> str:
        """The place as clients see it."""
        return "-".join([str(self.since_ms), *(f"{k}.{c}" for k, c in self.cursors.items())])

    def behind(self, cursors: Mapping[str, Cursor]) -> "Place":
        """Returns the place with these deployments read further, by their ids."""
        moved = {_key(deployment_id): cursor for deployment_id, cursor in cursors.items()}
        return Place(self.since_ms, {**self.cursors, **moved})


class Part(msgspec.Struct, frozen=True):
    """Lines in order, and the places before and behind them."""

    start: Place
    lines: Sequence[Line]
    end: Place

    def first(self, limit: int) -> "Part":
        """Returns its first lines, with the place behind them."""
        if len(self.lines) <= limit:
            return self
        kept = self.lines[:limit]
        return Part(self.start, kept, self.start.behind({of: line.cursor for of, line in kept}))

    def items(self) -> Iterator[tuple[Place, ProjectLogItem]]:
        """Yields each line as the contract has it, with the place behind it."""
        place = self.start
        for deployment_id, line in self.lines:
            place = place.behind({deployment_id: line.cursor})
            item = log_item(line)
            yield (
                place,
                ProjectLogItem(
                    deployment_id=deployment_id, time=item.time, stream=item.stream, text=item.text
                ),
            )


class MergedLog:
    """Reads the newest deployments of a project whose logs are kept.

    Lines of one deployment keep their order. Those of several are ordered by their times within a
    part; what two write at the same moment may come in two parts.
    """

    def __init__(
        self,
        db: Database,
        engine: EngineView,
        project_id: str,
        kind: LogKind,
        *,
        source: LogSource | None = None,
    ) -> None:
        """`source` has the lines, by default the engine itself."""
        self.kind = kind
        self._db = db
        self._engine = engine
        self._source = source or engine
        self._project_id = project_id
        self._listed: list[Summary] = []  # newest first
        self._listed_at = time.monotonic() - _LISTED_SECONDS
        self._over: set[str] = set()  # deployments that write no more
        self._complete: set[str] = set()  # of which everything is read as well

    async def last(self, tail: int, place: Place, since_ms: int = 0) -> Part:
        """Returns the last `tail` lines by time that are behind a place, and not before a time."""
        pages: dict[str, LogPage] = {}
        chars = 0
        listed = await self._deployments()
        place = self._still_kept(place)
        for each in listed:
            is_full = chars > _MAX_CHARS
            asked = 1 if is_full else tail
            page = await self._read(each.id, place, since_ms, tail=asked, limit=asked)
            pages[each.id] = LogPage(lines=(), next=page.next) if is_full else page
            chars += _chars(page)
        merged = _merged(pages)
        older, kept = merged[:-tail], merged[-tail:]
        start = {of: page.next for of, page in pages.items() if not page.lines}
        start |= {of: line.cursor for of, line in older}
        return Part(place.behind(start), kept, place.behind(_ends(pages)))

    async def behind(self, place: Place, limit: int, since_ms: int = 0) -> Part:
        """Returns at most `limit` lines behind a place, none of them before a time."""
        pages: dict[str, LogPage] = {}
        chars = lines = 0
        listed = await self._deployments()
        place = self._still_kept(place)
        for each in reversed(listed):
            page = await self._read(each.id, place, since_ms, limit=limit)
            pages[each.id] = page
            lines, chars = lines + len(page.lines), chars + _chars(page)
            if lines >= limit or chars > _MAX_CHARS:
                break
            if not page.lines:
                if each.id in self._over:
                    self._complete.add(each.id)
                elif await is_complete(self._engine, each.id, each.status, self.kind):
                    self._over.add(each.id)
        return Part(place, _merged(pages), place.behind(_ends(pages))).first(limit)

    async def _deployments(self) -> list[Summary]:
        """Returns those of which there is something to read, newest first."""
        now = time.monotonic()
        if now - self._listed_at >= _LISTED_SECONDS:
            newest = await deployments.release_page(
                self._db, project_id=self._project_id, before=None, limit=_MAX_DEPLOYMENTS
            )
            self._listed, self._listed_at = [each for each in newest or () if each.is_kept], now
        return [each for each in self._listed if each.id not in self._complete]

    def _still_kept(self, place: Place) -> Place:
        """Returns the place without deployments whose logs are gone, so that it stays short."""
        keys = {_key(each.id) for each in self._listed}
        cursors = {key: cursor for key, cursor in place.cursors.items() if key in keys}
        return Place(place.since_ms, cursors)

    async def _read(
        self,
        deployment_id: str,
        place: Place,
        since_ms: int,
        *,
        tail: int | None = None,
        limit: int,
    ) -> LogPage:
        cursor = place.cursors.get(_key(deployment_id))
        return await self._source.read_log(
            deployment_id,
            self.kind,
            after=cursor or 0,
            since_ms=max(since_ms, place.since_ms if cursor is None else 0),
            tail=tail,
            limit=limit,
        )


def _key(deployment_id: str) -> str:
    """Returns what tells the deployments of a project apart: 48 bits of a random id."""
    return deployment_id.replace("-", "")[:12]


def _chars(page: LogPage) -> int:
    return sum(len(line.text) for line in page.lines)


def _merged(pages: Mapping[str, LogPage]) -> list[Line]:
    """Returns all lines by time; those of one deployment in their order, whatever clocks did."""
    logs = ([(of, line) for line in page.lines] for of, page in pages.items())
    return list(merge(*logs, key=lambda each: each[1].at_ms))


def _ends(pages: Mapping[str, LogPage]) -> dict[str, Cursor]:
    return {of: page.next for of, page in pages.items()}


async def show_project_logs(
    room: LogRoom, request: Request, caller: Caller, project: Project
) -> Response:
    """Lines of all its deployments, also live."""
    source = await owners_log(room.db, room.runtime, project.id)
    log = MergedLog(room.db, room.runtime, project.id, log_kind(request), source=source)
    read = _reader(request, log)
    if follows(request):
        return LogStreamResponse(
            room.followers,
            caller.share,
            read=_streamed(read),
            is_over=lambda: _is_gone(room, project.id),
            lasts=partial(may_still_read, room, request, caller, project.id),
            kept=True,
        )
    part = await read(None, MAX_LINES)
    return json_response(
        ProjectLogBody(
            project_id=project.id,
            kind=log.kind,
            lines=[item for _, item in part.items()],
            next=part.end.text,
        )
    )


_Reader = Callable[[Place | None, int], Awaitable[Part]]
"""Reads at most so many lines behind a place; without one, from where the request says."""


def _reader(request: Request, log: MergedLog) -> _Reader:
    """Reads Last-Event-ID, which takes precedence, or the query. Raises InvalidField."""
    after = _place("after", request.query_params.get("after", "0"))
    since_ms, tail = time_ms(request, "since", default=0), log_tail(request)
    if seen := request.headers.get("last-event-id"):
        after, since_ms, tail = _place("Last-Event-ID", seen), 0, None
    begin = Place(max(since_ms, after.since_ms), after.cursors)

    async def read(place: Place | None, limit: int) -> Part:
        if place is not None:
            return await log.behind(place, limit)
        if tail is None:
            return await log.behind(begin, limit, since_ms)
        return (await log.last(tail, begin, since_ms)).first(limit)

    return read


def _place(field: str, text: str) -> Place:
    place = Place.read(text)
    if place is None:
        raise InvalidField(field, "must be a place in this log: `next` of a page, or an event's id")
    return place


def _streamed(read: _Reader) -> StreamReader:
    async def read_items(text: str | None, limit: int) -> StreamPage:
        part = await read(None if text is None else Place.read(text), limit)
        return StreamPage([(place.text, item) for place, item in part.items()], part.end.text)

    return read_items


async def _is_gone(room: LogRoom, project_id: str) -> bool:
    return await projects.by_id(room.db, project_id) is None

"""A project's log: its last lines, live, searched, and as a file."""

from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response, StreamingResponse

from moorage.pages.rendering.templates import file_headers
from moorage.pages.wallet.api import Api, ApiRefused
from moorage.pages.wallet.view import DAY_MS, HOUR_MS, View, project_of
from moorage.records.deployment import LogKind, LogStream
from moorage.wire import calls
from moorage.wire.calls import ApiRequest

LINES_SHOWN = 500
MAX_MATCHES = 500
PAGES_SEARCHED = 2
"""At one request; of 10,000 lines each, some 20 ms. The browser asks for the rest by itself."""

_MAX_WORDS = 200
_MAX_DIGITS = 12
_RANGES = {"hour": HOUR_MS, "day": DAY_MS, "week": 7 * DAY_MS, "all": None}
_MAX_PAGES_DOWNLOADED = 1_000


class Line(msgspec.Struct, frozen=True):
    """One line; of one deployment's log it needs not say whose it is."""

    time: str | None
    stream: LogStream
    text: str
    deployment_id: str = msgspec.field(name="deploymentId", default="")


class Lines(msgspec.Struct, frozen=True):
    """A page of a log, of a project or of one deployment."""

    lines: list[Line]
    next: str
    ended: bool = False
    kept: bool = True


class Source(NamedTuple):
    """Which log is looked at: of one deployment, or of all."""

    project_id: str
    deployment_id: str  # "" for all
    kind: LogKind
    streams: frozenset[LogStream]  # whose lines are shown

    def request(self, **query: str | int | None) -> ApiRequest:
        """Returns the request to the API for a part of it."""
        if self.deployment_id:
            ids = self.project_id, self.deployment_id
            return calls.LOGS.request(*ids, kind=self.kind, **query)
        return calls.PROJECT_LOGS.request(self.project_id, kind=self.kind, **query)

    def shows(self, line: Line) -> bool:
        """Whether the line is of a stream that is looked at."""
        return line.stream in self.streams


class Found(NamedTuple):
    """What a search found, how many lines it read, and where it continues, unless at the end."""

    lines: list[Line]  # the first of them
    matches: int
    searched: int
    next: str | None


class SearchState(NamedTuple):
    """How far a search has come, and the query that continues it."""

    matches: int
    searched: int
    unshown: int  # of the lines found just now, as a page of a log may have very many
    on: str | None  # None: at the end
    goes_on: bool  # whether the browser continues unasked


async def show_logs(view: View) -> Response:
    """`GET …/logs`: the last lines, or those that hold what is searched for."""
    project = await project_of(view)
    source = _source(view)
    words = view.query.get("search", "")[:_MAX_WORDS].strip()
    since = view.query.get("range", "day")
    found = page = None
    if words:
        found = await search(view.api, source, words, begin=_begin(view, since))
        lines = found.lines
    else:
        page = await view.api.read(Lines, source.request(tail=LINES_SHOWN))
        lines = [each for each in page.lines if source.shows(each)]
    return view.page(
        "wallet/project/logs.html",
        project=project,
        source=source,
        words=words,
        since=since if since in _RANGES else "day",
        state=None if found is None else _state(view, source, words, found),
        page=page,
        lines=lines,
        query=_query(source),
    )


async def search_on(view: View) -> Response:
    """`GET …/logs/search`: the next lines of a search under way, with where it continues."""
    source = _source(view)
    words = view.query.get("search", "")[:_MAX_WORDS].strip()
    found = await search(view.api, source, words, begin=_begin(view, "day"))
    return view.page(
        "wallet/project/log_found.html",
        words=words,
        lines=found.lines,
        state=_state(view, source, words, found),
        logs_path=view.request.url.path.rpartition("/")[0],
    )


async def stream_logs(view: View) -> Response:
    """`GET …/logs/stream`: server-sent events, one a line, behind the place `after`."""
    source = _source(view)
    after = view.query.get("after")
    return view.api.stream(source.request(after=after, follow="true"))


async def download_logs(view: View) -> Response:
    """`GET …/logs/download`: all lines that are kept, as a text."""
    project = await project_of(view)
    source = _source(view)
    first = await view.api.read(Lines, source.request(after="0"))
    return StreamingResponse(
        _written(view.api, source, first),
        media_type="text/plain; charset=utf-8",
        headers=file_headers(f"{project.name}-{source.kind}.log"),
    )


async def search(api: Api, source: Source, words: str, *, begin: dict[str, str]) -> Found:
    """Returns lines with these words, whatever their case, oldest first.

    Looks at no more than `PAGES_SEARCHED` pages: a million lines take 50 requests.
    """
    wanted = words.lower()
    matches: list[Line] = []
    searched, place = 0, begin
    for _ in range(PAGES_SEARCHED):
        page = await api.read(Lines, source.request(**place))
        place = {"after": page.next}
        searched += len(page.lines)
        matches += [
            each for each in page.lines if source.shows(each) and wanted in each.text.lower()
        ]
        if not page.lines:
            return Found(matches, len(matches), searched, None)
        if len(matches) >= MAX_MATCHES:
            break
    return Found(matches[:MAX_MATCHES], len(matches), searched, place["after"])


def _state(view: View, source: Source, words: str, found: Found) -> SearchState:
    """Returns how far a search has come, with what came before it by the page's address.

    It continues unasked until each next MAX_MATCHES lines are found.
    """
    before = _count(view, "matches")
    matches = before + found.matches
    searched = _count(view, "searched") + found.searched
    query = {
        **_query(source),
        "search": words,
        "after": found.next or "",
        "matches": str(matches),
        "searched": str(searched),
    }
    if len(source.streams) == 1:
        query["stream"] = next(iter(source.streams))
    on = None if found.next is None else urlencode(query)
    return SearchState(
        matches,
        searched,
        found.matches - len(found.lines),
        on,
        goes_on=on is not None and matches // MAX_MATCHES == before // MAX_MATCHES,
    )


def _count(view: View, name: str) -> int:
    text = view.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0


async def _written(api: Api, source: Source, page: Lines) -> AsyncIterator[bytes]:
    """Yields the lines of the log page by page."""
    for _ in range(_MAX_PAGES_DOWNLOADED):
        if not page.lines:
            return
        yield "".join(_text(each) for each in page.lines if source.shows(each)).encode()
        try:
            page = await api.read(Lines, source.request(after=page.next))
        except ApiRefused as refused:
            yield f"[the rest could not be read: {refused.problem.error}]\n".encode()
            return


def _text(line: Line) -> str:
    return f"{line.time or '-'} {line.stream} {line.text}\n"


def _source(view: View) -> Source:
    query = view.query
    kind = LogKind.BUILD if query.get("kind") == LogKind.BUILD else LogKind.RUNTIME
    chosen = {each for each in LogStream if each in query.getlist("stream")}
    deployment = query.get("deployment", "")[:64]
    return Source(view.project_id, deployment, kind, frozenset(chosen or LogStream))


def _begin(view: View, since: str) -> dict[str, str]:
    """Returns where a search begins: at a place that an earlier one gave, or at a time."""
    if after := view.query.get("after"):
        return {"after": after}
    length_ms = _RANGES.get(since, DAY_MS)
    return {"since": "0" if length_ms is None else str(view.clock.now_ms() - length_ms)}


def _query(source: Source) -> dict[str, str]:
    """Returns what names this log in the addresses of its other pages."""
    return {"kind": source.kind} | (
        {"deployment": source.deployment_id} if source.deployment_id else {}
    )

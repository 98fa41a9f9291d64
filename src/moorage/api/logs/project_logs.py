"""`GET /agent/projects/{projectId}/logs`: what a project wrote, whichever deployment of it."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import owned_project
from moorage.api.http.person import share_of
from moorage.api.http.problems import json_response
from moorage.api.http.query import time_ms
from moorage.api.logs.deployment_logs import MAX_LINES, LogRoom, follows, log_kind, log_tail
from moorage.api.logs.log_stream import LogStreamResponse, StreamPage, StreamReader
from moorage.api.logs.merged_log import MergedLog, Part, Place
from moorage.errors import InvalidField
from moorage.storage.apps import projects
from moorage.wire.logs import ProjectLogBody


async def show_project_logs(room: LogRoom, request: Request) -> Response:
    """Lines of all its deployments, also live."""
    project = await owned_project(room, request)
    log = MergedLog(room.db, room.runtime, project.id, log_kind(request))
    read = _reader(request, log)
    if follows(request):
        return LogStreamResponse(
            room.followers,
            share_of(request, project.wallet),
            read=_streamed(read),
            is_over=lambda: _is_gone(room, project.id),
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

"""`GET /agent/deploy/{projectId}/{deploymentId}/logs`: what a build or an app wrote."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Front, authenticate
from moorage.api.http.named import viewed_deployment
from moorage.api.http.person import share_of
from moorage.api.http.problems import json_response
from moorage.api.http.query import time_ms, whole_number
from moorage.api.logs.log_stream import (
    Followers,
    LogReader,
    LogStreamResponse,
    log_item,
    streamed,
)
from moorage.engines.engine import Cursor, EngineView, LogPage
from moorage.errors import InvalidField
from moorage.records.deployment import DeploymentStatus, DeploymentView, LogKind
from moorage.records.project import ProjectStatus
from moorage.storage.apps import deployments
from moorage.wire.logs import LogBody

MAX_LINES = 10_000
DEFAULT_LINES = 500
_LAST_CURSOR = 2**63 - 1

_GONE = (ProjectStatus.DELETING, ProjectStatus.DELETED)
_BEFORE_THE_BUILD_IS_OVER = (DeploymentStatus.QUEUED, DeploymentStatus.BUILDING)


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


async def show_logs(room: LogRoom, request: Request) -> Response:
    """`GET /agent/deploy/{projectId}/{deploymentId}/logs`: a page of a log, or its lines live."""
    wallet, _ = await authenticate(room, request)
    found = await viewed_deployment(
        room.db,
        project=request.path_params["projectId"],
        deployment=request.path_params["deploymentId"],
        wallet=wallet,
    )
    query = _log_query(request)
    if follows(request):
        return LogStreamResponse(
            room.followers,
            share_of(request, wallet),
            read=streamed(_reader(room, found.id, query)),
            is_over=_over(room, found, query.kind),
            kept=found.is_kept,
        )
    # Asked before reading, so that a line written in between is not missed.
    over = await _over(room, found, query.kind)()
    body = await _page(room, found, query, over=over)
    return json_response(body)


def _log_query(request: Request) -> _LogQuery:
    """Reads Last-Event-ID, which takes precedence, or the query. Raises InvalidField."""
    kind = log_kind(request)
    last_seen = request.headers.get("last-event-id")
    if last_seen:
        cursor = _cursor("Last-Event-ID", last_seen)
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


def _cursor(name: str, text: str) -> Cursor:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_LAST_CURSOR))
    if not is_number or int(text) > _LAST_CURSOR:
        raise InvalidField(name, "must be the id of an event of this stream")
    return int(text)


def _reader(room: LogRoom, deployment_id: str, query: _LogQuery) -> LogReader:
    """Returns a reader that continues after a cursor; without one, from where the request says."""

    async def read(cursor: Cursor | None, limit: int) -> LogPage:
        if cursor is not None:
            return await room.runtime.read_log(deployment_id, query.kind, after=cursor, limit=limit)
        return await room.runtime.read_log(
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
        return status not in _BEFORE_THE_BUILD_IS_OVER
    if status is DeploymentStatus.SUPERSEDED:
        return deployment_id not in await runtime.running()
    return status in (DeploymentStatus.FAILED, DeploymentStatus.STOPPED)


async def _page(room: LogRoom, found: DeploymentView, query: _LogQuery, *, over: bool) -> LogBody:
    read = _reader(room, found.id, query)
    page = await read(None, MAX_LINES)
    return LogBody(
        project_id=found.project_id,
        deployment_id=found.id,
        kind=query.kind,
        lines=[log_item(line) for line in page.lines],
        next=str(page.next),
        ended=over and not (await read(page.next, 1)).lines,
        kept=found.is_kept,
    )

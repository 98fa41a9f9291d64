"""`GET /agent/projects/{projectId}/logs`: the last lines of a project, whichever deployment's."""

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import owned_project
from moorage.api.http.problems import json_response
from moorage.api.http.query import time_ms, whole_number
from moorage.api.log_stream import log_item
from moorage.api.logs import DEFAULT_LINES, MAX_LINES, LogRoom, log_kind
from moorage.engines.engine import LogLine
from moorage.records.log import LogKind
from moorage.storage.apps import releases
from moorage.wire.logs import ProjectLogBody, ProjectLogItem

_MAX_DEPLOYMENTS = 20
_MAX_CHARS = 1024 * 1024  # about; what one deployment adds is at most as much


async def show_project_logs(room: LogRoom, request: Request) -> Response:
    """Shows the last lines of the project's deployments, each with the id of its own."""
    project = await owned_project(room, request)
    kind = log_kind(request)
    tail = whole_number(request, "tail", default=DEFAULT_LINES, min_=1, max_=MAX_LINES)
    since_ms = time_ms(request, "since", default=0)
    found = await _lines(room, project.id, kind, tail=tail, since_ms=since_ms)
    lines = [_item(deployment_id, line) for deployment_id, line in found[-tail:]]
    return json_response(ProjectLogBody(project_id=project.id, kind=kind, lines=lines))


def _item(deployment_id: str, line: LogLine) -> ProjectLogItem:
    item = log_item(line)
    return ProjectLogItem(
        deployment_id=deployment_id, time=item.time, stream=item.stream, text=item.text
    )


async def _lines(
    room: LogRoom, project_id: str, kind: LogKind, *, tail: int, since_ms: int
) -> list[tuple[str, LogLine]]:
    """Returns at least the last `tail` lines by time, of the newest deployments that are kept."""
    found: list[tuple[str, LogLine]] = []
    newest = await releases.page(
        room.db, project_id=project_id, before=None, limit=_MAX_DEPLOYMENTS
    )
    chars = 0
    for deployment in newest or ():
        page = await room.runtime.read_log(deployment.id, kind, since_ms=since_ms, tail=tail)
        found += [(deployment.id, line) for line in page.lines]
        chars += sum(len(line.text) for line in page.lines)
        if len(found) >= tail or chars > _MAX_CHARS:
            break
    return sorted(found, key=lambda each: each[1].at_ms)

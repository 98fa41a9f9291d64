"""Archives of projects: owners ask for them, and a link fetches them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.caller import Front
from moorage.api.http.problems import NOT_FOUND, PROBLEMS, json_response, problem_response
from moorage.api.http.request import parse_small, read_whole
from moorage.archive.project import seal
from moorage.clock import Clock, iso_utc
from moorage.core import Core
from moorage.errors import (
    ContentUnavailable,
    DatabaseUnavailable,
    ExportFailed,
    ExportNotFound,
    InvalidField,
    RateLimited,
)
from moorage.hosting.exports import ExportFiles, ask_export
from moorage.records.project import Project
from moorage.storage.database import Database
from moorage.storage.operation import exports
from moorage.storage.operation.exports import Export, ExportState
from moorage.wire.projects import ExportBody, ExportItem

PATH = "/exports/{token}"
_MESSAGES = {
    ExportState.MAKING: "The export is being made. GET it by its id: 202 until it is ready.",
    ExportState.READY: "GET it by its id, or at its url. To deploy it, here or elsewhere: PUT it "
    "to /agent/uploads/{sha256} unless it is here, then deploy with "
    'upload {"type": "export", "sha256": …}.',
    ExportState.FAILED: "The export could not be made; `reason` says why. Ask for another.",
}
_GONE = "There is no such export, or its time is over."


def exports_app(
    db: Database, files: ExportFiles, clock: Clock, *, count: Callable[[Request], Awaitable[None]]
) -> ASGIApp:
    """Returns an app that answers at `PATH` with the archive; ranges can be asked for.

    `count` counts a request for its client's address. Raises RateLimited.
    """

    async def answer(request: Request) -> Response:
        await count(request)
        found = await exports.by_token(db, request.path_params["token"])
        if found is None or not (
            found.state is ExportState.READY and found.until_ms > clock.now_ms()
        ):
            return problem_response(NOT_FOUND, _GONE)
        try:
            path = await files.path(found)
        except FileNotFoundError:
            return problem_response(NOT_FOUND, _GONE)
        return _file(path, found)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await answer(Request(scope, receive))
        except (ContentUnavailable, DatabaseUnavailable) as error:
            response = problem_response(PROBLEMS[type(error)], error.message)
        except RateLimited as error:
            wait = [("Retry-After", str(error.retry_after_seconds))]
            response = problem_response(PROBLEMS[RateLimited], error.message, headers=wait)
        await response(scope, receive, send)

    return app


@dataclass(frozen=True, kw_only=True)
class ExportRoom(Front):
    """What the handlers of exports need."""

    core: Core
    files: ExportFiles


async def make_export(room: ExportRoom, request: Request, project: Project) -> Response:
    """`POST /agent/projects/{projectId}/exports`: make an archive of all that a project has.

    202 while it is made; then, for ten minutes, the same one again.
    """
    body = await read_whole(request)
    asked = parse_small(body, ExportBody) if body else ExportBody()
    key = asked.public_key or None
    if key is not None:
        try:
            seal(b"", key)
        except ValueError as error:
            raise InvalidField("publicKey", f"is no public key of X25519: {error}") from error
    made = await ask_export(room.core, project, public_key=key and key.lower())
    return json_response(_item(room, made), status=202 if made.state is ExportState.MAKING else 200)


async def fetch_export(room: ExportRoom, request: Request, project: Project) -> Response:
    """`GET /agent/projects/{projectId}/exports/{exportId}`: fetch the archive.

    202 while it is made; ranges can be asked for.
    """
    found = await exports.by_token(room.db, request.path_params["exportId"])
    if found is None or found.project_id != project.id or found.until_ms <= room.clock.now_ms():
        raise ExportNotFound
    if found.state is ExportState.FAILED:
        raise ExportFailed(f"The export could not be made: {found.reason}.")
    if found.state is ExportState.MAKING:
        return json_response(_item(room, found), status=202)
    try:
        return _file(await room.files.path(found), found)
    except FileNotFoundError:
        raise ExportNotFound from None


def _item(room: ExportRoom, export: Export) -> ExportItem:
    is_ready = export.state is ExportState.READY
    return ExportItem(
        id=export.token,
        project_id=export.project_id,
        state=export.state.value,
        bytes=export.size_bytes,
        sha256=export.sha256,
        url=f"{room.public_url}/exports/{export.token}" if is_ready else "",
        expires_at=iso_utc(export.until_ms),
        reason=export.reason,
        message=_MESSAGES[export.state],
    )


def _file(path: Path, export: Export) -> Response:
    headers = {"Cache-Control": "no-store"}
    if export.sha256:
        headers["ETag"] = f'"{export.sha256}"'
    return FileResponse(
        path, media_type="application/x-tar", filename=export.file_name, headers=headers
    )

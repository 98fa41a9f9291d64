"""Archives of evicted projects, for whoever has the link that their owner was told."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.api.http.problems import NOT_FOUND, PROBLEMS, problem_response
from moorage.clock import Clock
from moorage.deploy.keeping.deleted.exports import ExportFiles
from moorage.errors import ContentUnavailable, DatabaseUnavailable, RateLimited
from moorage.storage.database import Database
from moorage.storage.operation import exports

PATH = "/exports/{token}"
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
        if found is None or found.until_ms <= clock.now_ms():
            return problem_response(NOT_FOUND, _GONE)
        try:
            path = await files.path(found)
        except FileNotFoundError:
            return problem_response(NOT_FOUND, _GONE)
        return FileResponse(
            path,
            media_type="application/x-tar",
            filename=found.file_name,
            headers={"Cache-Control": "no-store"},
        )

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

"""Requests that fail where no page answers for them: they too are told what happened."""

from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from moorage.api.http.problems import problem_of
from moorage.errors import MoorageError, RateLimited
from moorage.pages.rendering.templates import page

log = structlog.get_logger()

Answer = Callable[[Request], Awaitable[Response]]
Count = Callable[[Request], Awaitable[None]]
"""Counts a request against its client's address. Raises RateLimited."""

FAILED = (
    "The gateway failed at this page, before it did anything. Try it again in a moment; if it "
    "fails again, tell the operator of this gateway."
)


def told(answer: Answer, *, home: str) -> Answer:
    """Returns `answer` with each of its errors as a page; `home` is the site's first page."""

    async def always(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except MoorageError as error:
            return _refusal(error, home)
        except Exception:
            log.exception("page failed")
            return page("error.html", status=500, message=FAILED, home=home)

    return always


def _refusal(error: MoorageError, home: str) -> Response:
    status = problem_of(error).status
    response = page("error.html", status=status, message=error.message, home=home)
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response

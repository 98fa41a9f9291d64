"""Forms: the fields that a browser sent, and whether a page of ours had it send them."""

import hmac
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import parse_qsl, urlsplit

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from moorage.api.http.problems import problem_of
from moorage.api.http.request import IN_LOOP_BYTES, read_whole
from moorage.errors import InvalidRequest, MoorageError, RateLimited
from moorage.pages.rendering.templates import page

log = structlog.get_logger()

Answer = Callable[[Request], Awaitable[Response]]
Count = Callable[[Request], Awaitable[None]]
"""Counts a request against its client's address. Raises RateLimited."""

FAILED = (
    "The gateway failed at this page, before it did anything. Try it again in a moment; if it "
    "fails again, tell the operator of this gateway."
)


def with_error_pages(answer: Answer, *, home: str) -> Answer:
    """Returns `answer` with each of its errors as a page; `home` is the site's first page."""

    async def always(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except MoorageError as error:
            status = problem_of(error).status
            response = page("error.html", status=status, message=error.message, home=home)
            if isinstance(error, RateLimited):
                response.headers["Retry-After"] = str(error.retry_after_seconds)
            return response
        except Exception:
            log.exception("page failed")
            return page("error.html", status=500, message=FAILED, home=home)

    return always


TOKEN = "csrf"  # noqa: S105  (a field's name)
"""The field with the session's token."""

_MAX_FIELDS = 2_000

Form = dict[str, str]
"""The fields by name; of several with one name the last."""


class Forged(InvalidRequest):
    """Nothing was changed: this form is out of date, or no page of this gateway sent it."""


async def intended_form(request: Request, *, csrf: str, hosts: Collection[str]) -> Form:
    """Returns the fields of a form that the session's person sent from a page of one of `hosts`.

    Raises Forged, BodyTooLarge and InvalidRequest.
    """
    form = await own_form(request, hosts=hosts)
    require_token(form, csrf=csrf)
    return form


async def own_form(request: Request, *, hosts: Collection[str]) -> Form:
    """Returns the fields of a form that a page of one of `hosts` sent, of whatever session.

    Raises Forged, BodyTooLarge and InvalidRequest.
    """
    require_own_page(request, hosts)
    return await read_form(request, max_bytes=IN_LOOP_BYTES)


def require_token(form: Form, *, csrf: str) -> None:
    """Takes the session's token out of a form. Raises Forged if it is not that."""
    if not hmac.compare_digest(form.pop(TOKEN, "").encode(), csrf.encode()):
        raise Forged


async def read_form(request: Request, *, max_bytes: int) -> Form:
    """Returns the fields of a form; `max_bytes` is IN_LOOP_BYTES or less.

    Raises BodyTooLarge, and InvalidRequest for no form.
    """
    body = await read_whole(request, max_bytes=max_bytes)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise InvalidRequest("The form cannot be read.") from error
    return dict(pairs)


def require_own_page(request: Request, hosts: Collection[str]) -> None:
    """Raises Forged unless a page of one of `hosts` made the browser send this.

    Browsers say so by Sec-Fetch-Site where there is TLS, or loopback, and by Origin elsewhere
    (Fetch Metadata; RFC 6454). Apps are of the same site, but of other origins.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Forged
        return
    if _host(request.headers.get("origin", "")) not in hosts:
        raise Forged


def _host(origin: str) -> str:
    """Returns host and port of an origin; "" for none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""

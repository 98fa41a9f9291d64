"""What operators did, and what this gateway logged of late."""

from starlette.responses import Response

from moorage import logs
from moorage.pages.operator.view import PER_PAGE, View
from moorage.storage.operation import audit_log

_LINES = 100
_LEVELS = ("all", "warning", "error")
_MAX_WORDS = 200


async def done(view: View) -> Response:
    """`GET /operator/acts`: what operators did, the newest first."""
    found = await audit_log.page(
        view.books.db,
        limit=PER_PAGE + 1,
        offset=view.offset,
        text=view.query.get("q", "")[:_MAX_WORDS].strip(),
    )
    parts = view.neighbours(has_more=len(found) > PER_PAGE)
    return view.page("acts.html", acts=found[:PER_PAGE], parts=parts)


async def log(view: View) -> Response:
    """`GET /operator/log`: this gateway's recent lines, by request, level and text."""
    level = view.query.get("level", "all")
    level = level if level in _LEVELS else "all"
    lines = logs.recent.find(
        text=view.query.get("q", "").strip(),
        level=level,
        limit=_LINES,
    )
    return view.page("log.html", lines=lines, level=level, levels=_LEVELS, limit=_LINES)

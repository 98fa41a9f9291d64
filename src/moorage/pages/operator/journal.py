"""What operators did, and what this gateway logged of late."""

from starlette.responses import Response

from moorage import logs
from moorage.pages.operator.view import PER_PAGE, View
from moorage.storage.operation import acts

_LINES = 100
_LEVELS = ("all", "warning", "error")


async def done(view: View) -> Response:
    """`GET /operator/acts`: what operators did, the newest first."""
    text = view.query.get("q", "").strip().lower()
    every = [
        each
        for each in reversed(await acts.since(view.books.db, 0))
        if text in f"{each.who} {each.act} {each.subject} {each.reason}".lower()
    ]
    more = len(every) > view.offset + PER_PAGE
    part = every[view.offset : view.offset + PER_PAGE]
    return view.page("acts.html", acts=part, parts=view.neighbours(has_more=more))


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

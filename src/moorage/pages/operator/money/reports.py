"""Reports on money: `moorage operator report`, run for a page or for a spreadsheet."""

import csv
import io
from collections import deque
from datetime import date
from urllib.parse import urlencode

from starlette.responses import Response

from moorage.errors import InvalidField
from moorage.pages.operator.view import View, wallet_address
from moorage.pages.rendering.policy import SECURITY_HEADERS
from moorage.threads import in_thread

KINDS = {"revenue": "Revenue", "payments": "Payments, for taxes", "invoice": "A wallet's invoice"}
_PERIODS = {"month": "month", "day": "day"}
_FIELDS = ("what", "by", "since", "until", "wallet")
_MAX_ROWS = 200


async def shown(view: View) -> Response:
    """`GET /operator/reports`: asks which, and has the browser fetch what it asks for."""
    query = {name: view.query[name] for name in _FIELDS if view.query.get(name)}
    return view.page(
        "reports.html",
        kinds=list(KINDS.items()),
        periods=list(_PERIODS.items()),
        what=_what(view),
        asked=urlencode(query) if "what" in query else "",
    )


async def table(view: View) -> Response:
    """`GET /operator/reports/table`: the part of that page with the report in it."""
    try:
        heads, last, total = await in_thread(_last_rows, await _report(view))
    except InvalidField as error:
        return view.page("report_table.html", problem=error.message, heads=[], rows=[], total=0)
    return view.page(
        "report_table.html",
        problem="",
        heads=[each.replace("_", " ").capitalize() for each in heads],
        rows=last,
        total=total,
    )


async def download(view: View) -> Response:
    """`GET /operator/reports.csv`: the whole report."""
    headers = {
        **SECURITY_HEADERS,
        "Content-Disposition": f'attachment; filename="{_what(view)}.csv"',
        "Cache-Control": "no-store",
    }
    content = await _report(view)
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


def _last_rows(report: bytes) -> tuple[list[str], list[list[str]], int]:
    """Returns the headings of a table, its last rows, and how many it has. Blocks."""
    rows = csv.reader(io.StringIO(report.decode()))
    heads, last, total = next(rows), deque[list[str]](maxlen=_MAX_ROWS), 0
    for row in rows:
        last.append(row)
        total += 1
    return heads, list(last), total


async def _report(view: View) -> bytes:
    what, options = _what(view), []
    for name in ("since", "until"):
        if text := view.query.get(name):
            options += [f"--{name}", _day(name, text)]
    if what == "revenue":
        options += ["--by", "day" if view.query.get("by") == "day" else "month"]
    elif text := view.query.get("wallet", ""):
        options += ["--wallet", wallet_address(text)]
    return await view.desk.reports.csv((what, *options))


def _what(view: View) -> str:
    asked = view.query.get("what", "revenue")
    return asked if asked in KINDS else "revenue"


def _day(name: str, text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise InvalidField(name, "must be a day such as 2026-04-07") from error

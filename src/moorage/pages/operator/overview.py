"""The first page: whether money, machine and apps are well."""

from starlette.responses import Response

from moorage.pages.operator.view import View
from moorage.storage.operation import audit_log

_DAY_MS = 86_400_000
_ACTS = 5


async def overview(view: View) -> Response:
    """`GET /operator`."""
    health = await view.desk.health()
    now_ms = view.desk.clock.now_ms()
    return view.page(
        "overview.html",
        health=health,
        acts=await audit_log.page(view.books.db, limit=_ACTS, since_ms=now_ms - 7 * _DAY_MS),
        overdue_ms=now_ms - 2 * _DAY_MS,
    )


async def glance(view: View) -> Response:
    """`GET /operator/glance`: the part of the first page that is looked at again by itself."""
    return view.page("glance.html", health=await view.desk.health(), overdue_ms=0)

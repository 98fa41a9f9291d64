"""What the operator tells all customers: an announcement, and maintenance."""

from starlette.responses import Response

from moorage.operate.customers import overview as customer_rules
from moorage.pages.operator.view import View
from moorage.storage.operation import overview, wallet_rules

_PATH = "/operator/notices"


async def shown(view: View) -> Response:
    """`GET /operator/notices`."""
    return view.page(
        "notices.html",
        notices=await wallet_rules.current_notices(view.books.db),
        told=len(await overview.wallets_with_projects(view.books.db)),
    )


async def announce(view: View) -> Response:
    """`POST …/announcement`: tells every wallet that has a project, and shows it."""
    view.require_confirmed()
    await customer_rules.announce(view.books, view.reason("words"))
    return view.done(_PATH, "announced")


async def end_announcement(view: View) -> Response:
    """`POST …/announcement/end`."""
    await customer_rules.announce(view.books, "")
    return view.done(_PATH, "ended")


async def begin_maintenance(view: View) -> Response:
    """`POST …/maintenance`: refuses new deploys, with the operator's words."""
    view.require_confirmed()
    await customer_rules.maintenance(view.books, begin=True, words=view.reason("words"))
    return view.done(_PATH, "maintenance")


async def end_maintenance(view: View) -> Response:
    """`POST …/maintenance/end`."""
    await customer_rules.maintenance(view.books, begin=False, words="")
    return view.done(_PATH, "ended")

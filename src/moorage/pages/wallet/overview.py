"""The first page of a wallet: until when it runs, and what runs."""

from starlette.responses import Response

from moorage.pages.wallet.view import View
from moorage.wire.credits import Credits
from moorage.wire.projects import ProjectList


async def overview(view: View) -> Response:
    """`GET /wallet`: the runway, and the projects."""
    account = await view.api.get(Credits, "credits", limit=5)
    projects = await view.api.get(ProjectList, "projects")
    return view.page("wallet/overview.html", account=account, projects=projects.projects)

"""The first page of a wallet: until when it runs, what runs, and what needs a person."""

from collections.abc import Sequence
from typing import NamedTuple

from starlette.responses import Response

from moorage.money import MicroUsd
from moorage.pages.wallet.view import View
from moorage.records.project import ProjectStatus
from moorage.wire.credits import Credits
from moorage.wire.events import EventPage
from moorage.wire.projects import ProjectItem, ProjectList

PROJECTS_A_PAGE = 50
_EVENTS_SHOWN = 5
_LAST = 2**63 - 1
_MAX_SEARCHED = 100


class Row(NamedTuple):
    """A project of the list, with what it burns an hour."""

    project: ProjectItem
    an_hour: MicroUsd


class Listed(NamedTuple):
    """A page of the projects."""

    rows: list[Row]
    found: int
    page: int
    pages: int


async def overview(view: View) -> Response:
    """`GET /wallet`: the runway, and the projects."""
    if not view.sees_wallet:
        return view.redirect(f"/wallet/projects/{view.session.project_id}")
    account = await view.api.get(Credits, "credits", limit=1)
    projects = (await view.api.get(ProjectList, "projects")).projects
    last = await view.api.get(EventPage, "events", before=_LAST, limit=_EVENTS_SHOWN)
    searched = view.query.get("search", "")[:_MAX_SEARCHED].strip()
    return view.page(
        "wallet/overview.html",
        account=account,
        runway=view.runway(account),
        listed=listed(projects, account, searched=searched, page=_page(view)),
        total=len(projects),
        suspended=sum(each.status is ProjectStatus.SUSPENDED for each in projects),
        searched=searched,
        events=last.events[::-1],
        names={each.id: each.name for each in projects},
    )


def _page(view: View) -> int:
    text = view.query.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else 1


def listed(
    projects: Sequence[ProjectItem], account: Credits, *, searched: str, page: int
) -> Listed:
    """Returns a page of the projects that hold `searched` in name or title, newest first."""
    wanted = searched.lower()
    found = [
        each for each in projects if wanted in each.name or wanted in each.display_name.lower()
    ][::-1]
    burns = {each.project_id: each.burn_per_hour_micro_usd for each in account.burning}
    pages = max(1, -(-len(found) // PROJECTS_A_PAGE))
    page = min(page, pages)
    shown = found[(page - 1) * PROJECTS_A_PAGE : page * PROJECTS_A_PAGE]
    rows = [Row(each, MicroUsd(burns.get(each.id, 0))) for each in shown]
    return Listed(rows, len(found), page, pages)

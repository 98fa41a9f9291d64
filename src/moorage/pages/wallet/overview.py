"""The first page of a wallet: until when it runs, what runs, and what needs a person."""

from typing import NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from moorage.money import MicroUsd
from moorage.pages.wallet.events import named_by
from moorage.pages.wallet.view import View
from moorage.records.project import ProjectStatus
from moorage.wire.credits import Credits
from moorage.wire.events import EventPage
from moorage.wire.projects import ProjectItem, ProjectList

PROJECTS_A_PAGE = 50
STATES = {"": "Any state", "active": "Active", "suspended": "Stopped", "failed": "Failed"}
"""By which state projects can be looked for, and how the page calls it."""

_EVENTS_SHOWN = 5
_LAST = 2**63 - 1
_MAX_SEARCHED = 100


class Row(NamedTuple):
    """A project of the list, with what it burns an hour."""

    project: ProjectItem
    an_hour: MicroUsd


class Listed(NamedTuple):
    """A page of the projects that are looked for, newest first."""

    rows: list[Row]
    found: int  # on all pages
    next: str | None
    text: str
    status: str
    before: str

    @property
    def is_narrowed(self) -> bool:
        """Whether not all projects are looked for."""
        return bool(self.text or self.status)

    @property
    def newest(self) -> str:
        """The address of the page's first part."""
        return f"/wallet?{urlencode({'search': self.text, 'status': self.status})}"

    @property
    def here(self) -> str:
        """The address of this part."""
        return self._from(self.before) if self.before else self.newest

    @property
    def older(self) -> str | None:
        """The address of the part that follows."""
        return None if self.next is None else self._from(self.next)

    def _from(self, place: str) -> str:
        return f"{self.newest}&{urlencode({'before': place})}"


async def overview(view: View) -> Response:
    """`GET /wallet`: the runway, and the projects."""
    if not view.sees_wallet:
        return view.redirect(f"/wallet/projects/{view.session.project_id}")
    account = await view.api.get(Credits, "credits", limit=1)
    projects = await _listed(view, account)
    stopped = await view.api.get(
        ProjectList, "projects", status=ProjectStatus.SUSPENDED.value, limit=1
    )
    last = await view.api.get(EventPage, "events", before=_LAST, limit=_EVENTS_SHOWN)
    return view.page(
        "wallet/overview.html",
        account=account,
        runway=view.runway(account),
        listed=projects,
        states=list(STATES.items()),
        total=await _total(view) if projects.is_narrowed else projects.found,
        suspended=stopped.count,
        events=last.events[::-1],
        names=await view.project_names(named_by(last.events)),
    )


async def _total(view: View) -> int:
    return (await view.api.get(ProjectList, "projects", limit=1)).count


async def _listed(view: View, account: Credits) -> Listed:
    """Returns the page of projects that the address asks for."""
    text = view.query.get("search", "")[:_MAX_SEARCHED].strip()
    status = view.query.get("status", "")
    status = status if status in STATES else ""
    before = view.query.get("before", "")
    found = await view.api.get(
        ProjectList,
        "projects",
        limit=PROJECTS_A_PAGE,
        search=text or None,
        status=status or None,
        before=before or None,
    )
    burns = {each.project_id: each.burn_per_hour_micro_usd for each in account.burning}
    rows = [Row(each, MicroUsd(burns.get(each.id, 0))) for each in found.projects[::-1]]
    return Listed(rows, found.count, found.next or None, text, status, before)

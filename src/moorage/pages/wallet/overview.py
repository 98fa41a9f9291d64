"""The first page of a wallet: until when it runs, what runs, what needs a person; and its links."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from moorage.money import MicroUsd
from moorage.pages.sessions.session import Cookie
from moorage.pages.wallet.api import Api, ApiRefused
from moorage.pages.wallet.view import View
from moorage.records.project import ProjectStatus
from moorage.wire import calls
from moorage.wire.credits import Credits
from moorage.wire.events import (
    EventItem,
    WebhookShown,
)
from moorage.wire.projects import ProjectItem

_MAX_CHOICES = 50
"""Of how many projects one can be picked; of more it is named."""


async def make_link(view: View) -> Response:
    """`POST /wallet/links`: a link to look at everything, or at one project."""
    days, project, label = (
        view.form.get(name, "").strip() for name in ("days", "project", "label")
    )
    body: dict[str, Any] = {"label": label}
    if days:
        body["days"] = int(days) if days.isascii() and days.isdigit() else days
    if project:
        body["projectId"] = project
    try:
        return await _made(view, view.api, body)
    except ApiRefused as refused:
        if refused.status >= 500:
            raise
        return await show_links(view, error=refused.problem.error)


async def make_link_once(view: View) -> Response:
    """`POST /wallet/links/once`: a link that opens once, and may change things as this session."""
    api = await view.confirmed(
        f"Make a link that opens the pages of the wallet {view.session.who} once, within 10 "
        "minutes, and lets its reader change things.",
        sentence="Please run `moorage dashboard` and give me the address that it prints.",
    )
    return await _made(view, api, {"once": True})


async def remove_link(view: View) -> Response:
    """`POST /wallet/links/{link_id}/remove`."""
    await view.api.call(calls.REMOVE_LINK, view.request.path_params["link_id"])
    return view.redirect("/wallet/links", "link-removed")


async def _made(view: View, api: Api, body: dict[str, Any]) -> Response:
    made = await api.call(calls.MAKE_LINK, body=body)
    return view.page("wallet/link_made.html", made=made, once=body.get("once", False))


async def show_links(view: View, *, error: str = "") -> Response:
    """`GET /wallet/links`; also after one could not be made."""
    found = await view.api.call(calls.LINKS)
    newest = await view.api.call(calls.PROJECTS, limit=_MAX_CHOICES)
    return view.page(
        "wallet/links.html",
        status=400 if error else 200,
        links=found.links,
        names=await view.project_names(each.project_id for each in found.links),
        choices=[] if newest.next else [(each.id, each.name) for each in newest.projects[::-1]],
        has_choices=not newest.next,
        form=view.form or {"project": view.query.get("project", "")},
        error=error,
    )


EVENTS_A_PAGE = 50
_SECRET_SECONDS = 60


async def show_delegates(view: View) -> Response:
    """`GET /wallet/delegates`: which wallets may act for this one."""
    found = await view.api.call(calls.DELEGATES)
    return view.page("wallet/delegates.html", delegates=found.delegates)


async def end_delegate(view: View) -> Response:
    """`POST /wallet/delegates/{delegation_id}/end`: end a delegation for good."""
    found = await view.api.call(calls.DELEGATES)
    wanted = view.request.path_params["delegation_id"]
    ended = next((each for each in found.delegates if each.id == wanted), None)
    if ended is None:
        return view.redirect("/wallet/delegates", "delegate-ended")
    api = await view.confirmed(
        f"End what {ended.delegate} may do for this wallet by the delegation {ended.id}.",
        sentence=f"Please run `moorage delegate remove {ended.id}`.",
    )
    await api.call(calls.END_DELEGATE, ended.id)
    return view.redirect("/wallet/delegates", "delegate-ended")


async def end_delegates(view: View) -> Response:
    """`POST /wallet/delegates/end-all`: end all, those that nobody has shown yet as well."""
    api = await view.confirmed(
        "End all delegations of this wallet, also those that were signed and not shown yet.",
        sentence="Please run `moorage delegate end-all`.",
    )
    await api.call(calls.END_DELEGATES)
    return view.redirect("/wallet/delegates", "delegates-ended")


async def set_webhook(view: View) -> Response:
    """`POST /wallet/webhook`: have events sent to a URL; the next page shows its secret, once."""
    url = view.form.get("url", "").strip()
    try:
        made = await view.api.call(calls.SET_WEBHOOK, body={"url": url})
    except ApiRefused as refused:
        return await show_events(view, error=refused.problem.error, typed=url)
    response = view.redirect("/wallet/webhook")
    _secret(view).set(response, made.secret, seconds=_SECRET_SECONDS)
    return response


async def show_secret(view: View) -> Response:
    """`GET /wallet/webhook`: the secret of a webhook that was set just now, this once."""
    secret = _secret(view).read(view.request)
    if not secret:
        return view.redirect("/wallet/events")
    response = view.page("wallet/webhook_made.html", secret=secret, webhook=await _webhook(view))
    _secret(view).clear(response)
    return response


async def remove_webhook(view: View) -> Response:
    """`POST /wallet/webhook/remove`."""
    await view.api.call(calls.REMOVE_WEBHOOK)
    return view.redirect("/wallet/events", "webhook-removed")


async def redeliver(view: View) -> Response:
    """`POST /wallet/events/{event_id}/redeliver`: send an event once more."""
    event = view.request.path_params["event_id"]
    await view.api.call(calls.REDELIVER, event)
    return view.redirect("/wallet/events", "redelivered")


def named_by(events: Iterable[EventItem]) -> Iterator[str]:
    """Returns the ids of the projects that events are about."""
    return (str(each.data["project_id"]) for each in events if "project_id" in each.data)


def _secret(view: View) -> Cookie:
    """The cookie that carries a webhook's secret to the page that shows it."""
    return Cookie("webhook-secret", secure=view.facts.url.startswith("https:"))


async def show_events(view: View, *, error: str = "", typed: str = "") -> Response:
    """`GET /wallet/events`: newest first, and the webhook; also after that could not be set."""
    text = view.query.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else _LAST
    found = await view.api.call(calls.EVENTS, before=before, limit=EVENTS_A_PAGE)
    events = found.events[::-1]
    return view.page(
        "wallet/events.html",
        status=400 if error else 200,
        events=events,
        next=events[-1].sequence if len(events) == EVENTS_A_PAGE else None,
        is_first=before == _LAST,
        names=await view.project_names(named_by(events)),
        webhook=await _webhook(view),
        error=error,
        typed=typed,
    )


async def _webhook(view: View) -> WebhookShown | None:
    try:
        return await view.api.call(calls.WEBHOOK)
    except ApiRefused as refused:
        if refused.status == 404:
            return None
        raise


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
    account = await view.api.call(calls.CREDITS, limit=1)
    projects = await _listed(view, account)
    stopped = await view.api.call(calls.PROJECTS, status=ProjectStatus.SUSPENDED.value, limit=1)
    last = await view.api.call(calls.EVENTS, before=_LAST, limit=_EVENTS_SHOWN)
    return view.page(
        "wallet/overview.html",
        account=account,
        runway=view.runway(account),
        listed=projects,
        states=list(STATES.items()),
        total=(await view.api.call(calls.PROJECTS, limit=1)).count
        if projects.is_narrowed
        else projects.found,
        suspended=stopped.count,
        events=last.events[::-1],
        names=await view.project_names(named_by(last.events)),
    )


async def _listed(view: View, account: Credits) -> Listed:
    """Returns the page of projects that the address asks for."""
    text = view.query.get("search", "")[:_MAX_SEARCHED].strip()
    status = view.query.get("status", "")
    status = status if status in STATES else ""
    before = view.query.get("before", "")
    found = await view.api.call(
        calls.PROJECTS,
        limit=PROJECTS_A_PAGE,
        search=text or None,
        status=status or None,
        before=before or None,
    )
    burns = {each.project_id: each.burn_per_hour_micro_usd for each in account.burning}
    rows = [Row(each, MicroUsd(burns.get(each.id, 0))) for each in found.projects[::-1]]
    return Listed(rows, found.count, found.next or None, text, status, before)

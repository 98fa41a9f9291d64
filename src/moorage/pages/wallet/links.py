"""The wallet's links: made, listed with when each was last opened, revoked."""

from typing import Any

from starlette.responses import Response

from moorage.pages.wallet.api import Api, ApiRefused
from moorage.pages.wallet.view import View
from moorage.wire import calls

_MAX_CHOICES = 50
"""Of how many projects one can be picked; of more it is named."""


async def show_links(view: View) -> Response:
    """`GET /wallet/links`."""
    return await _shown(view)


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
        return await _shown(view, error=refused.problem.error)


async def make_link_once(view: View) -> Response:
    """`POST /wallet/links/once`: a link that opens once, and may change things as this session."""
    api = await view.confirmed(
        f"Make a link that opens the pages of the wallet {view.session.wallet} once, within 10 "
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


async def _shown(view: View, *, error: str = "") -> Response:
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

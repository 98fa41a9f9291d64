"""What happened to a wallet, and the webhook that it is sent to."""

from collections.abc import Iterable, Iterator

from starlette.responses import Response

from moorage.pages.sessions.cookie import Cookie
from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.view import View
from moorage.wire.events import (
    EventItem,
    EventPage,
    Redelivery,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)

EVENTS_A_PAGE = 50
_LAST = 2**63 - 1
_SECRET_SECONDS = 60


async def show_events(view: View) -> Response:
    """`GET /wallet/events`: newest first, and the webhook."""
    return await _shown(view)


async def set_webhook(view: View) -> Response:
    """`POST /wallet/webhook`: have events sent to a URL; the next page shows its secret, once."""
    url = view.form.get("url", "").strip()
    try:
        made = await view.api.change(WebhookMade, "PUT", "webhook", body={"url": url})
    except ApiRefused as refused:
        return await _shown(view, error=refused.problem.error, typed=url)
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
    await view.api.change(WebhookRemoved, "DELETE", "webhook")
    return view.redirect("/wallet/events", "webhook-removed")


async def redeliver(view: View) -> Response:
    """`POST /wallet/events/{event_id}/redeliver`: send an event once more."""
    event = view.request.path_params["event_id"]
    await view.api.change(Redelivery, "POST", "events", event, "redeliver")
    return view.redirect("/wallet/events", "redelivered")


def named_by(events: Iterable[EventItem]) -> Iterator[str]:
    """Returns the ids of the projects that events are about."""
    return (str(each.data["project_id"]) for each in events if "project_id" in each.data)


def _secret(view: View) -> Cookie:
    """The cookie that carries a webhook's secret to the page that shows it."""
    return Cookie("webhook-secret", secure=view.facts.url.startswith("https:"))


async def _shown(view: View, *, error: str = "", typed: str = "") -> Response:
    text = view.query.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else _LAST
    found = await view.api.get(EventPage, "events", before=before, limit=EVENTS_A_PAGE)
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
        return await view.api.get(WebhookShown, "webhook")
    except ApiRefused as refused:
        if refused.status == 404:
            return None
        raise

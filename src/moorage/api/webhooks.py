"""The endpoints of events, and of the webhook that receives them."""

from collections.abc import Collection
from dataclasses import dataclass

from starlette.requests import Request

from moorage.api.http.caller import Caller, Front
from moorage.api.http.request import parse_small, read_whole, whole_number
from moorage.clock import iso_utc
from moorage.events.webhooks import Webhooks
from moorage.records.event import Event, EventKind
from moorage.storage import events
from moorage.wire.events import (
    EventItem,
    EventPage,
    LastDelivery,
    Redelivery,
    WebhookBody,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)

_MAX_EVENTS = 200
_DEFAULT_EVENTS = 50
_LAST_SEQUENCE = 2**63 - 1
_FOR_OWNERS = frozenset({(EventKind.PROJECT_EXPORTED, "path")})
"""That path fetches files and data, which readers of links and delegates may not see."""


@dataclass(frozen=True, kw_only=True)
class WebhookRoom(Front):
    """What the handlers of events need."""

    webhooks: Webhooks


async def set_webhook(room: WebhookRoom, request: Request, caller: Caller) -> WebhookMade:
    """`PUT /agent/webhook`: have one's events sent to a URL; the secret is shown this once."""
    body = parse_small(await read_whole(request), WebhookBody)
    made = await room.webhooks.set(caller.wallet, body.url, stranger_at=caller.stranger_at)
    return WebhookMade(url=made.url, secret=made.secret)


async def show_webhook(room: WebhookRoom, caller: Caller) -> WebhookShown:
    """`GET /agent/webhook`: one's webhook, and how its deliveries go."""
    webhook, standing = await room.webhooks.show(caller.wallet)
    last = None
    if standing.status is not None:
        last = LastDelivery(
            status=standing.status, attempts=standing.attempts, error=standing.error
        )
    return WebhookShown(
        url=webhook.url,
        created_at=iso_utc(webhook.created_at_ms),
        waiting=standing.waiting,
        next_attempt_at=None if standing.next_at_ms is None else iso_utc(standing.next_at_ms),
        last_delivery=last,
    )


async def remove_webhook(room: WebhookRoom, caller: Caller) -> WebhookRemoved:
    """`DELETE /agent/webhook`: have nothing sent any more, not even what waits."""
    await room.webhooks.remove(caller.wallet)
    return WebhookRemoved()


async def list_events(room: WebhookRoom, request: Request, caller: Caller) -> EventPage:
    """`GET /agent/events`: one's events in their order, page by page."""
    after = whole_number(request, "after", default=0, min_=0, max_=_LAST_SEQUENCE)
    limit = whole_number(request, "limit", default=_DEFAULT_EVENTS, min_=0, max_=_MAX_EVENTS)
    if "before" in request.query_params:
        end = whole_number(request, "before", default=0, min_=0, max_=_LAST_SEQUENCE)
        found = await events.before(room.db, caller.wallet, sequence=end, limit=limit)
    else:
        found = await events.of_wallet(room.db, caller.wallet, after=after, limit=limit)
    last = found[-1].sequence if found else after
    hidden = _FOR_OWNERS if caller.is_reader or caller.delegations else frozenset()
    items = [_item(event, hidden=hidden) for event in found]
    return EventPage(events=items, last_sequence=last)


async def redeliver_event(room: WebhookRoom, request: Request, caller: Caller) -> Redelivery:
    """`POST /agent/events/{eventId}/redeliver`: have an event sent once more."""
    event_id = request.path_params["eventId"]
    await room.webhooks.redeliver(caller.wallet, event_id)
    return Redelivery(event_id=event_id)


def _item(event: Event, *, hidden: Collection[tuple[EventKind, str]]) -> EventItem:
    return EventItem(
        id=event.id,
        sequence=event.sequence,
        type=event.kind,
        timestamp=iso_utc(event.created_at_ms),
        data={name: it for name, it in event.data.items() if (event.kind, name) not in hidden},
    )

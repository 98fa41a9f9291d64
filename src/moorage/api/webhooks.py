"""The endpoints of events and of the webhook that they are sent to."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.bodies import (
    EventItem,
    EventPage,
    LastDelivery,
    Redelivery,
    WebhookBody,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)
from moorage.api.caller import authenticate, limit_wallet
from moorage.api.gateway import Gateway
from moorage.api.problems import json_response
from moorage.clock import iso_utc
from moorage.errors import BodyStalled, BodyTooLarge, InvalidField
from moorage.events.event import Event
from moorage.storage import events

_MOST_BODY_BYTES = 16 * 1024
_BODY_SECONDS = 10.0
_MOST_EVENTS = 200
_USUAL_EVENTS = 50
_MOST_DIGITS = 18  # of a number in a query: fits 64 bits


async def set_webhook(gateway: Gateway, request: Request) -> Response:
    """`PUT /agent/webhook`: have one's events sent to a URL; the secret is shown this once."""
    wallet = await _caller(gateway, request)
    body = await _webhook_body(request)
    made = await gateway.webhooks.set(wallet, body.url)
    return json_response(WebhookMade(url=made.url, secret=made.secret))


async def show_webhook(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/webhook`: one's webhook, and how its deliveries go."""
    wallet = await _caller(gateway, request)
    webhook, standing = await gateway.webhooks.show(wallet)
    last = None
    if standing.status is not None:
        last = LastDelivery(
            status=standing.status, attempts=standing.attempts, error=standing.error
        )
    return json_response(
        WebhookShown(
            url=webhook.url,
            created_at=iso_utc(webhook.created_at_ms),
            waiting=standing.waiting,
            next_attempt_at=None if standing.next_at_ms is None else iso_utc(standing.next_at_ms),
            last_delivery=last,
        )
    )


async def remove_webhook(gateway: Gateway, request: Request) -> Response:
    """`DELETE /agent/webhook`: have nothing sent any more, not even what waits."""
    wallet = await _caller(gateway, request)
    await gateway.webhooks.remove(wallet)
    return json_response(WebhookRemoved())


async def list_events(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/events`: one's events in their order, page by page."""
    wallet = await _caller(gateway, request)
    after = _number(request, "after", default=0, most=10**_MOST_DIGITS)
    limit = _number(request, "limit", default=_USUAL_EVENTS, most=_MOST_EVENTS)
    found = await events.of_wallet(gateway.db, wallet, after=after, most=limit)
    last = found[-1].sequence if found else after
    return json_response(EventPage(events=[_item(event) for event in found], last_sequence=last))


async def redeliver_event(gateway: Gateway, request: Request) -> Response:
    """`POST /agent/events/{eventId}/redeliver`: have an event sent once more."""
    wallet = await _caller(gateway, request)
    event_id = request.path_params["eventId"]
    await gateway.webhooks.redeliver(wallet, event_id)
    return json_response(Redelivery(event_id=event_id))


async def _caller(gateway: Gateway, request: Request) -> str:
    wallet = await authenticate(gateway, request)
    limit_wallet(gateway, request, wallet)
    return wallet


async def _webhook_body(request: Request) -> WebhookBody:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            received = await _received(request)
    except TimeoutError:
        raise BodyStalled from None
    try:
        return msgspec.json.decode(received, type=WebhookBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField("body", str(error)) from error


async def _received(request: Request) -> bytearray:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > _MOST_BODY_BYTES:
            raise BodyTooLarge
    return received


def _number(request: Request, name: str, *, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if not is_number or int(text) > most:
        raise InvalidField(name, f"must be a number from 0 to {most}")
    return int(text)


def _item(event: Event) -> EventItem:
    return EventItem(
        id=event.id,
        sequence=event.sequence,
        type=event.kind,
        timestamp=iso_utc(event.created_at_ms),
        data=dict(event.data),
    )

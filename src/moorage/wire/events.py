"""What happened to a wallet, and the webhook that it is sent to."""

from typing import Annotated, Literal

from msgspec import Meta

from moorage.records.event import DeliveryStatus, EventKind
from moorage.wire.shape import Absent, Body, Time


class EventItem(Body, frozen=True, kw_only=True):
    """One event; `data` depends on its type."""

    id: str
    sequence: Annotated[int, Meta(description="counts the wallet's events, without gaps")]
    type: EventKind
    timestamp: Time
    data: dict[str, str | int | float]


class EventPage(Body, frozen=True, kw_only=True):
    """Events in their order; `last_sequence` is the `after` of the next page."""

    events: list[EventItem]
    last_sequence: int


class WebhookBody(Body, frozen=True, kw_only=True):
    """Where a wallet's events are to be sent."""

    url: Annotated[str, Meta(description="https://, and a host with public addresses")]


class WebhookMade(Body, frozen=True, kw_only=True):
    """A webhook, with the secret that signs what it is sent: shown this once."""

    url: str
    secret: Annotated[str, Meta(description="whsec_ and base64, as Standard Webhooks has it")]


class LastDelivery(Body, frozen=True, kw_only=True):
    """What became of the delivery that was tried last."""

    status: DeliveryStatus
    attempts: int
    error: Annotated[str | None, Absent(None)]


class WebhookShown(Body, frozen=True, kw_only=True):
    """A webhook and how its deliveries go; `waiting` counts the events that wait for theirs."""

    url: str
    created_at: Time
    waiting: int
    next_attempt_at: Annotated[Time | None, Absent(None)]
    last_delivery: Annotated[LastDelivery | None, Absent(None)]


class WebhookRemoved(Body, frozen=True, kw_only=True):
    """A webhook that is gone."""

    status: Literal["deleted"] = "deleted"


class Redelivery(Body, frozen=True, kw_only=True):
    """An event that is sent once more."""

    event_id: str
    status: Literal["pending"] = "pending"

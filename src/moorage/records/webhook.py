"""A webhook: the URL that a wallet's events are sent to, and the state of its deliveries."""

from enum import StrEnum

import msgspec

from moorage.records.event import Event


class DeliveryStatus(StrEnum):
    """Where the delivery of one event stands."""

    PENDING = "pending"  # waits for its turn, or for its next attempt
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # given up


class Webhook(msgspec.Struct, frozen=True):
    """One row of `webhooks`."""

    wallet: str
    url: str
    secret: str  # as `Vault.seal_secret` stores it
    created_at_ms: int


class Delivery(msgspec.Struct, frozen=True):
    """An event to be sent. A wallet's deliveries are made in the order of their ids."""

    id: int
    event: Event
    attempts: int  # made so far
    created_at_ms: int


class DeliveryState(msgspec.Struct, frozen=True):
    """A webhook's state: the result of the delivery tried last, and how many wait."""

    status: DeliveryStatus | None  # None before the first attempt
    attempts: int
    error: str | None
    waiting: int
    next_at_ms: int | None  # when the first of those that wait is tried

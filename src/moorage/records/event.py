"""An event that happened to a wallet, and the webhook that it is sent to."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from moorage.clock import iso_utc

EventData = Mapping[str, str | int | float]
"""An event's details: ids, and amounts in the unit that their key names."""


class EventKind(StrEnum):
    """What happened: the `type` of Standard Webhooks."""

    PAYMENT_CREDITED = "payment.credited"  # a transfer was added to the balance
    PAYMENT_REVERSED = "payment.reversed"  # its block left the chain: its credit was taken back
    PAYMENT_HELD = "payment.held"  # screening held a transfer for review
    REFUND_QUEUED = "refund.queued"  # credits were taken for money that goes back to its payer
    REFUND_HELD = "refund.held"  # it is not sent, and why
    REFUND_SENT = "refund.sent"  # its transaction is signed
    REFUND_MINED = "refund.mined"  # the payer has the tokens, in a block that is not safe yet
    REFUND_FINAL = "refund.final"  # the payer has them for good
    REFUND_FAILED = "refund.failed"  # it cannot be sent any more: the credits are back
    CREDITS_GIVEN = "credits.given"  # another wallet has paid for them
    CREDITS_GRANTED = "credits.granted"  # the operator gave credits without a payment
    CREDITS_TAKEN_BACK = "credits.taken_back"  # the operator took such credits back
    CREDITS_COMPENSATED = "credits.compensated"  # what an app burned while it was lost came back
    CREDITS_LOW = "credits.low"  # the balance runs out soon
    DEPLOYED_BY_PAYMENT = "project.deployed_by_payment"  # by a payment alone
    PROJECT_SUSPENDED = "project.suspended"  # out of credits or of disk, paused, or blocked
    PROJECT_RESUMED = "project.resumed"  # there are credits again: it runs
    PROJECT_ADOPTED = "project.adopted"  # it shares its wallet's credits, with its purse's rest
    PURSE_CHANGED = "project.purse_changed"  # credits were moved, or its terms were set
    PROJECT_TRANSFERRED = "project.transferred"  # another wallet has taken it
    PROJECT_CRASH_LOOPING = "project.crash_looping"  # its app ends again and again
    PROJECT_CERTIFIED = "project.certified"  # its certificate came: HTTPS, and billing, begin
    PRICE_ANNOUNCED = "project.price_announced"  # it will cost something else, and from when
    PRICE_KEPT = "project.price_kept"  # that was taken back
    PRICE_CHANGED = "project.price_changed"  # the new price counts
    PROJECT_EVICTED = "project.evicted"  # the operator will delete it, and when
    PROJECT_EXPORTED = "project.exported"  # an archive of what it has can be fetched until then
    PROJECT_DELETED = "project.deleted"  # all of it was removed
    ANNOUNCEMENT = "gateway.announcement"  # the operator tells all who have projects
    RECOVERY_CHANGED = "recovery.changed"  # who may take the wallet over, or will
    RECOVERY_CLAIMED = "recovery.claimed"  # it will be taken over, and when: object if not you
    RECOVERY_OBJECTED = "recovery.objected"  # its owner has ended that
    RECOVERY_DONE = "recovery.done"  # it was taken over
    VOLUME_MENDED = "volume.mended"  # errors of its file system were repaired
    VOLUME_LOST = "volume.lost"  # it is gone; its app is not started
    DOMAIN_VERIFIED = "domain.verified"  # its record was found: it is routed to the project
    DOMAIN_LOST = "domain.lost"  # another project proved control of it
    DEPLOYMENT_READY = "deployment.ready"  # it serves at its project's address
    DEPLOYMENT_FAILED = "deployment.failed"  # it never served, and why
    RUN_FAILED = "run.failed"  # or was ended, and why
    RUN_MISSED = "run.missed"  # due times of a schedule were passed, and what becomes of them


class Event(msgspec.Struct, frozen=True):
    """One row of `events`. (wallet, sequence) is unique; sequences count from 1 without gaps."""

    id: str  # also the receiver's idempotency key
    wallet: str
    sequence: int
    kind: EventKind
    data: EventData
    created_at_ms: int

    def document(self) -> dict[str, Any]:
        """The body that a webhook is sent, in the shape that Standard Webhooks recommends."""
        return {
            "type": self.kind.value,
            "timestamp": iso_utc(self.created_at_ms),
            "sequence": self.sequence,
            "data": self.data,
        }


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

"""Refunds: what of a wallet's payments goes back to who paid, and how far that has come."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Absent, Body, Time


class RefundState(StrEnum):
    """How far a refund has come; that of several is the state of the one furthest behind."""

    HELD = "held"  # it waits for what `because` says
    QUEUED = "queued"  # the credits are taken; nothing is sent yet
    SENT = "sent"  # on its way to the payer
    MINED = "mined"  # the payer has it, in a block that is not safe yet
    FINAL = "final"
    FAILED = "failed"  # it cannot be sent: the credits are back


class RefundQuoteBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quote is asked for; all that can go back unless given."""

    project_id: Annotated[
        str, Meta(description="whose purse; the wallet's credits unless given")
    ] = ""
    max_usd: Annotated[Decimal, Meta(description="credits to take at most")] | None = None
    suspend: Annotated[bool, Meta(description="pause what runs of these credits for it")] = False


class RefundPart(Body, frozen=True, kw_only=True):
    """What goes back of one payment, in its token."""

    chain: str
    token: str
    payment: Annotated[str, Meta(description="the payment's transaction")]
    log_index: int
    to: Annotated[str, Meta(description="the payer; nobody else gets it")]
    gross: Annotated[str, Meta(description="what it takes of the credits")]
    gas: Annotated[str, Meta(description="of that, for the gas")]
    net: Annotated[str, Meta(description="what the payer gets")]


class KeptCredits(Body, frozen=True, kw_only=True):
    """Credits that do not go back."""

    why: str
    usd: float


class RefundEnding(Body, frozen=True, kw_only=True):
    """When a project that runs of these credits stops after the refund."""

    project_id: str = msgspec.field(name="projectId")
    at: Annotated[str | None, Meta(description="ISO 8601; null: never")]


class RefundQuoted(Body, frozen=True, kw_only=True):
    """What would go back now; nothing has changed."""

    id: Annotated[str, Meta(description="`quote` of POST /agent/refunds")]
    refundable_usd: Annotated[float, Meta(description="what the payer gets")]
    items: list[RefundPart]
    kept: list[KeptCredits]
    ends: list[RefundEnding]
    expires_at: Time
    message: str


class RefundExpected(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the quote said."""

    refundable_usd: Decimal


class RefundBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for a refund."""

    quote: Annotated[str, Meta(description="the quote's id")]
    expect: Annotated[RefundExpected, Meta(description="what it said: else nothing is taken")]
    suspend: Annotated[bool, Meta(description="as the quote was asked for")] = False


class RefundPartShown(RefundPart, frozen=True, kw_only=True):
    """What goes back of one payment, and how far it has come."""

    state: RefundState
    tx_hash: str | None = None
    because: str | UnsetType = UNSET  # why it is not sent yet


class RefundShown(Body, frozen=True, kw_only=True):
    """A refund."""

    id: str
    state: RefundState
    refundable_usd: float
    items: list[RefundPartShown]
    decided_by: Annotated[str, Meta(description="gateway, or operator: it waits for a person")]
    decided_before: Annotated[
        str | UnsetType, Meta(description="by when the operator answers, if it is asked")
    ] = UNSET
    created_at: Time


class RefundList(Body, frozen=True, kw_only=True):
    """A page of a wallet's refunds, newest first."""

    refunds: list[RefundShown]
    next: Annotated[str | None, Absent(None)]


class DeleteBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deletion may ask for besides."""

    refund: Annotated[str, Meta(description="the id of a quote: asked for once it is deleted")]

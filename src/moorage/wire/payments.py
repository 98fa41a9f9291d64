"""A wallet's payments: what arrived, what it paid for, what went back."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.records.payments import PaymentStatus, RefundStatus
from moorage.wire.shape import Absent, Body, Time


class RefundItem(Body, frozen=True, kw_only=True):
    """A part of a payment that is sent back to its payer."""

    status: RefundStatus
    amount: str
    tx_hash: str | None
    at: Time


class PaymentItem(Body, frozen=True, kw_only=True):
    """One transfer to the gateway; `amount` is in the token, `credited_micro_usd` in credits."""

    chain: str
    chain_id: int
    tx_hash: str
    log_index: int
    token: str
    amount: Annotated[str, Meta(description="with the token's decimals")]
    credited_micro_usd: int
    pay_to: Annotated[str | None, Absent(None)]
    status: PaymentStatus
    at: Time
    project_id: str | UnsetType = msgspec.field(default=UNSET, name="projectId")  # of a deploy
    deployment_id: str | UnsetType = msgspec.field(default=UNSET, name="deploymentId")
    refunds: list[RefundItem]


class PaymentList(Body, frozen=True, kw_only=True):
    """A page of a wallet's payments, newest first."""

    payments: list[PaymentItem]
    next: Annotated[str | None, Absent(None)]

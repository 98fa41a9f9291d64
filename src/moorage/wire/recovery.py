"""Recovery: who may take a wallet over when its key is lost, and how that stands."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Body, Time

MIN_WAIT_DAYS, USUAL_WAIT_DAYS, MAX_WAIT_DAYS = 7, 14, 30


class RecoveryBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may take the wallet over."""

    address: Annotated[str | None, Meta(description="another wallet of yours; null: nobody")]
    wait_days: Annotated[
        int,
        Meta(
            ge=MIN_WAIT_DAYS,
            le=MAX_WAIT_DAYS,
            description="between a claim, or a change, and its effect",
        ),
    ] = USUAL_WAIT_DAYS


class ClaimBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim, signed by the wallet's recovery address."""

    wallet: Annotated[str, Meta(description="the one whose key is lost")]


class NextRecovery(Body, frozen=True, kw_only=True):
    """What will be in force."""

    address: str | None
    wait_days: int
    at: Time


class RecoveryShown(Body, frozen=True, kw_only=True):
    """Who may take a wallet over, and whether somebody does."""

    wallet: str
    address: Annotated[str | None, Meta(description="in force; null: nobody")]
    wait_days: int
    next: NextRecovery | UnsetType = msgspec.field(default=UNSET)
    takes_over_at: Annotated[
        Time | UnsetType, Meta(description="it is claimed: object by DELETE /agent/recovery/claim")
    ] = UNSET
    taken_over_at: Time | UnsetType = UNSET

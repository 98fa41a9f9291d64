"""Credits of a wallet, what changed them, and the payments that brought them."""

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.records.payments import PaymentStatus, RefundStatus
from moorage.wire.problems import PaymentTold
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


class BurningProject(Body, frozen=True, kw_only=True):
    """A project that burns credits now; rounded up to the micro-USD."""

    project_id: str = msgspec.field(name="projectId")
    burn_per_hour_usd: float
    burn_per_hour_micro_usd: Annotated[int, Absent(0)]
    asleep: Annotated[bool, Absent(False)] = False


class CreditEntry(Body, frozen=True, kw_only=True):
    """One change of a wallet's balance; what is taken is negative."""

    id: Annotated[str, Meta(description="names what happened; it is booked once")]
    kind: Annotated[str, Meta(description="payment, burn, build, compensated, …")]
    amount_usd: float
    amount_micro_usd: int
    at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    project_id: str | UnsetType = msgspec.field(default=UNSET, name="projectId")
    chain: str | UnsetType = UNSET
    tx_hash: str | UnsetType = UNSET


class Purse(Body, frozen=True, kw_only=True):
    """Credits of one project, which it burns before its wallet's, and what it may burn."""

    balance_usd: float
    shared: Annotated[bool, Meta(description="whether it then burns its wallet's credits")]
    limit_usd_month: Annotated[
        float | None,
        Meta(description="the most that it burns in a calendar month (UTC); null: no limit"),
        Absent(None),
    ] = None
    burned_usd_month: Annotated[
        float | UnsetType, Meta(description="what it has burned of its limit in this month")
    ] = UNSET
    runs_out_at: Annotated[
        str | None,
        Meta(description="when it can burn no more, in ISO 8601, as things run now; null: never"),
    ]


class ProjectPurse(Purse, frozen=True, kw_only=True):
    """The purse of a project."""

    project_id: str = msgspec.field(name="projectId")


class PurseBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different of a project's purse; what is left out stays."""

    add_usd: Annotated[
        Decimal | UnsetType, Meta(description="to move from the wallet's credits into it")
    ] = UNSET
    take_usd: Annotated[
        Decimal | UnsetType, Meta(description="to move back, of what nothing has burned until now")
    ] = UNSET
    shared: Annotated[
        bool | UnsetType,
        Meta(description="whether the project burns the wallet's credits once it is empty"),
    ] = UNSET
    limit_usd_month: Annotated[
        Decimal | UnsetType | None,
        Meta(description="the most that it burns in a calendar month (UTC), builds too; null: no"),
    ] = UNSET


class PurseChanged(ProjectPurse, frozen=True, kw_only=True):
    """The purse of a project, and the credits that its wallet has beside it."""

    credits_usd: float


class BuildAllowance(Body, frozen=True, kw_only=True):
    """Build time: free within what the wallet's payments allow; beyond, by the second."""

    allowed_seconds: int
    used_seconds: int
    left_seconds: int
    beyond_per_minute_usd: Annotated[
        float, Meta(description="what a minute of building burns once nothing is left")
    ]


class Credits(Body, frozen=True, kw_only=True):
    """A wallet's credits; $1 is 1,000,000 micro-USD."""

    wallet: str
    balance_usd: float
    balance_micro_usd: int
    held_usd: float | UnsetType = UNSET
    burn_per_hour_usd: float
    burn_per_hour_micro_usd: int
    runs_out_at: Annotated[
        str | None, Meta(description="when, in ISO 8601, as things run now; null: never")
    ]
    announcement: Annotated[str | UnsetType, Meta(description="the operator's")] = UNSET
    burning: list[BurningProject]
    purses: Annotated[
        list[ProjectPurse] | UnsetType, Meta(description="what projects have apart from this")
    ] = UNSET
    build_allowance: Annotated[BuildAllowance, Absent(None)]
    ledger: Annotated[list[CreditEntry], Meta(description="newest first")]
    next: Annotated[str | None, Absent(None)]


class TopUpBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many credits to buy."""

    amount_usd: Annotated[Decimal, Meta(description="the least there is unless given")] | None = (
        None
    )
    for_: (
        Annotated[
            str,
            Meta(
                pattern=r"^0x[0-9a-fA-F]{40}\Z",
                description="the wallet that gets them; the payer signs this by version 2",
            ),
        ]
        | UnsetType
    ) = msgspec.field(name="for", default=UNSET)


class ToppedUp(Body, frozen=True, kw_only=True):
    """A payment that was credited: with so much, also when it had been before."""

    credited_usd: float
    balance_usd: float | UnsetType = UNSET  # left out where a payment seen before says who asks
    chain_id: int
    tx_hash: str
    payment: PaymentTold | UnsetType = UNSET
    wallet: str | UnsetType = UNSET  # where the payment alone says whose the request is

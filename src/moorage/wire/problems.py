"""Errors, the 402 that asks to be paid among them."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.wire.public import ChainItem
from moorage.wire.shape import Absent, Body, WarningItem


class SigningRecipe(Body, frozen=True, kw_only=True):
    """The four headers of a signed request, and an example."""

    headers: Annotated[dict[str, str], Meta(description="what each header holds")]
    text: Annotated[str, Meta(description="what to sign: by personal_sign unless it says EIP-712")]
    example_private_key: str
    example: Annotated[dict[str, str], Meta(description="the headers that this key signs")]


class PaymentState(StrEnum):
    """Contract 1.5."""

    CREDITED = "credited"  # to the wallet that asks
    UNUSED = "unused"  # an authorization that was not spent
    PENDING = "pending"  # it may have paid; nobody can tell yet
    HELD = "held"  # set apart by screening
    FOREIGN = "foreign"  # another wallet's
    NOT_FOUND = "not_found"  # mined, but it brings nothing


class PaymentTold(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the payment that came with the request."""

    tx: str | None
    chain: Annotated[str, Meta(description="where it was found, else where it was looked for")]
    token: Annotated[str, Absent("")]
    state: PaymentState
    credited_usd: Annotated[float, Meta(description="what it brought in all, also if before")]
    do_not_pay_again: bool


class Problem(Body, frozen=True, kw_only=True):
    """An error: for a person, for a machine, and what to do next."""

    error: Annotated[str, Absent("")]
    code: Annotated[str, Absent("")]
    retryable: Annotated[bool, Absent(False)]
    field: str | UnsetType = UNSET
    path: str | UnsetType | None = UNSET
    paths: list[str] | UnsetType = UNSET
    looked_for: list[str] | dict[str, str] | UnsetType = UNSET
    next_actions: list[str] | UnsetType = UNSET
    payment: PaymentTold | UnsetType = UNSET
    held_until: Annotated[int | UnsetType, Meta(description="Unix time; of a held name")] = UNSET
    recipe: Annotated[SigningRecipe | UnsetType, Meta(description="of a 401")] = UNSET
    type: str | UnsetType = UNSET  # these four of a 402, as RFC 9457 has them
    title: str | UnsetType = UNSET
    status: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Bought(msgspec.Struct, frozen=True, kw_only=True):
    """What the amount of a 402 buys, together with the credits on hand."""

    hours: Annotated[
        int | None,
        Meta(description="how long all that runs then lasts; null if nothing runs"),
    ]
    until: Annotated[
        str | UnsetType,
        Meta(description="when that ends, in ISO 8601, if it begins now"),
    ] = UNSET
    size: str | UnsetType = UNSET
    sizes: Annotated[dict[str, float] | UnsetType, Meta(description="each one's price")] = UNSET
    memory_mib: int | UnsetType = UNSET
    cpu_millis: Annotated[int | UnsetType, Meta(description="thousandths of a core")] = UNSET
    disk_mib: int | UnsetType = UNSET


class PaymentDemand(Problem, frozen=True, kw_only=True):
    """A 402 that says what to pay, and where."""

    amount_usd: float
    amount_token: Annotated[str, Meta(description="atomic units of the token")]
    current_credit_balance_usd: Annotated[float, Absent(0.0)]
    active_projects: Annotated[int, Absent(0)]
    pay_to: str
    payment_chain: str
    token: str
    token_address: Annotated[str, Absent("")]
    chain_id: Annotated[int, Absent(0)]
    decimals: int
    supported_chains: Annotated[list[ChainItem], Absent([])]
    expires_at: Annotated[
        int, Meta(description="Unix time in seconds until which it is honoured"), Absent(0)
    ]
    pay_from: Annotated[
        str | UnsetType,
        Meta(description="the wallet that must pay itself; not an exchange for it"),
    ] = UNSET
    buys: Annotated[Bought | UnsetType, Meta(description="what the amount buys")] = UNSET
    refunds: Annotated[str | UnsetType, Meta(description="how money goes back")] = UNSET
    terms: Annotated[str | UnsetType, Meta(description="where the terms stand")] = UNSET
    contact: Annotated[str | UnsetType, Meta(description="mail address or URL")] = UNSET
    warning: str | UnsetType = UNSET
    warnings: list[WarningItem] | UnsetType = UNSET
    credited_usd: float | UnsetType = UNSET
    x402_version: int | UnsetType = msgspec.field(default=UNSET, name="x402Version")  # 1
    accepts: list[dict[str, Any]] | UnsetType = UNSET  # x402's, for clients of its version 1


class PaymentUsed(Problem, frozen=True, kw_only=True):
    """A 409: the transaction has paid already; the ids are there if it was the caller's."""

    project_id: str | UnsetType = msgspec.field(default=UNSET, name="projectId")
    deployment_id: str | UnsetType = msgspec.field(default=UNSET, name="deploymentId")

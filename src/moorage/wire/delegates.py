"""Delegates: other wallets that may act for this one."""

from typing import Annotated, Literal

from msgspec import Meta

from moorage.records.access import Scope
from moorage.wire.shape import Absent, Body, CamelBody, Time

_Address = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
Scopes = Annotated[list[Scope], Meta(min_length=1, max_length=3, description="what it may do")]


class DelegationTyped(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The EIP-712 message, of `Delegation(address owner,string host,address delegate,string
    project,string[] scopes,uint256 limitUsdMonth,uint256 notAfter,uint256 epoch)`.

    The domain is that of signed requests.
    """

    owner: _Address
    host: Annotated[str, Meta(description="this gateway's")]
    delegate: Annotated[_Address, Meta(description="the wallet that may act for the owner")]
    project: Annotated[
        str,
        Meta(
            pattern=r"^(?:[a-z0-9][a-z0-9-]{2,30}[a-z0-9])?\Z",
            description='the name of the only project; "" for all',
        ),
    ]
    scopes: Scopes
    limit_usd_month: Annotated[
        int, Meta(ge=0, le=1_000_000, description="whole dollars that it may commit in a month")
    ]
    not_after: Annotated[int, Meta(ge=0, le=2**53, description="Unix time in seconds")]
    epoch: Annotated[int, Meta(ge=0, le=2**31 - 1, description="as GET /agent/delegates says")]


class DelegateBody(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an owner signed."""

    typed: Annotated[DelegationTyped, Meta(description="as it was signed")]
    signature: Annotated[str, Meta(description="65 bytes in hex, by the owner's key")]


class DelegateItem(CamelBody, frozen=True, kw_only=True):
    """A wallet that may act for this one; it signs as itself and adds `X-On-Behalf-Of`."""

    id: str
    owner: str
    delegate: str
    project: Annotated[str, Absent("")]
    scopes: list[Scope]
    limit_usd_month: int
    expires_at: Time
    created_at: Annotated[Time, Absent("")]


class DelegateList(CamelBody, frozen=True, kw_only=True):
    """Who may act for this wallet; the next is signed for `host` and `epoch`."""

    epoch: int
    host: str
    delegates: list[DelegateItem]


class DelegateEnded(CamelBody, frozen=True, kw_only=True):
    """A delegation that has ended, and can't be shown again."""

    id: str
    status: Literal["ended"] = "ended"


class DelegatesEnded(CamelBody, frozen=True, kw_only=True):
    """All delegations have ended; the next is signed for this epoch."""

    epoch: int
    ended: int

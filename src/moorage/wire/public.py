"""What anybody may ask: chains, balances, health; and the links to a wallet's pages."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Absent, Body, CamelBody, Time


class LinkBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a link is to open; by itself a look at everything, for 7 days."""

    once: Annotated[
        bool, Meta(description="opens once, within 10 minutes, and lets its reader change things")
    ] = False
    project_id: Annotated[str, Meta(description="the only project to show")] | UnsetType = UNSET
    label: Annotated[str, Meta(max_length=100, description="for people")] = ""
    days: Annotated[int, Meta(ge=1, le=90, description="not with once")] | UnsetType = UNSET


class LinkItem(CamelBody, frozen=True, kw_only=True):
    """A link, whose URL is told once."""

    id: str
    project_id: Annotated[str | None, Absent(None)]
    label: Annotated[str, Absent("")]
    created_at: Annotated[Time, Absent("")]
    expires_at: Time
    used_at: Annotated[Time | None, Absent(None)]


class LinkMade(LinkItem, frozen=True, kw_only=True):
    """A new link: `url` opens it for everybody who has that."""

    url: str


class LinkList(CamelBody, frozen=True, kw_only=True):
    """The read-only links of a wallet, oldest first."""

    links: list[LinkItem]


class LinkRemoved(CamelBody, frozen=True, kw_only=True):
    """A link that opens nothing any more."""

    id: str
    status: Literal["removed"] = "removed"


class ChainItem(Body, frozen=True, kw_only=True):
    """A chain that payments are taken on."""

    chain: str
    chain_id: int
    tokens: Annotated[list[str], Absent([])]


class ChainTaken(ChainItem, frozen=True, kw_only=True):
    """A chain that payments are taken on, and how they may be made there right now."""

    payment_protocols: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"enum": ["tx", "mpp", "x402"]})]],
        Meta(description="tx: X-Payment-Tx; mpp: Authorization: Payment; x402: PAYMENT-SIGNATURE"),
        Absent([]),
    ]


class ChainList(Body, frozen=True, kw_only=True):
    """The chains that payments are taken on."""

    chains: list[ChainTaken]


class SizeItem(Body, frozen=True, kw_only=True):
    """What an app can be; prices are of a month of running, and of sleep."""

    name: str
    memory_mib: int
    cpu_millis: int
    disk_mib: int
    volume_mib: Annotated[int, Absent(0)]
    usd_month: float
    usd_month_asleep: float
    available: Annotated[bool, Meta(description="has room now"), Absent(True)]


class SizeList(Body, frozen=True, kw_only=True):
    """The sizes of apps, smallest first."""

    sizes: list[SizeItem]


class TokenBalance(Body, frozen=True, kw_only=True):
    """What an address holds of one token; `balance` is `balance_raw` with the decimal point."""

    token: str
    symbol: str
    address: str
    balance: str
    balance_raw: str
    decimals: int


class Balances(Body, frozen=True, kw_only=True):
    """The token balances of an address on one chain."""

    address: str
    chain: str
    chain_id: int
    balances: list[TokenBalance]


class Health(Body, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["ok"] = "ok"

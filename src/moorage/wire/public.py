"""What anybody may ask: chains, token balances, health."""

from typing import Annotated, Literal

from msgspec import Meta

from moorage.wire.shape import Absent, Body


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

"""The ways to pay a demand from a browser or a phone, as data: nothing here asks anybody."""

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from markupsafe import Markup

from moorage.chains.chain import Chain, Token
from moorage.money import decimal_text
from moorage.payments.protocols.demand import Seller
from moorage.wire.problems import PaymentDemand

VALID_SECONDS = 600
"""How long a signed authorization lasts: as long as x402's offers allow."""

_TRANSFER = "0xa9059cbb"  # transfer(address,uint256)
_FIELDS = (
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
)
_DOMAIN_FIELDS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class Means(NamedTuple):
    """A chain and one of its tokens."""

    chain: Chain
    token: Token

    @property
    def key(self) -> str:
        """What forms call it."""
        return f"{self.chain.name}/{self.token.name}"

    @property
    def text(self) -> str:
        """What people call it."""
        return f"{self.token.symbol} on {self.chain.name}"


def means_of(seller: Seller) -> list[Means]:
    """Returns all that may be paid with."""
    return [
        Means(chain, token) for chain in seller.chains if not chain.closed for token in chain.tokens
    ]


def chosen(key: str, offered: Sequence[Means]) -> Means:
    """Returns the means of that key, or the first."""
    return next((each for each in offered if each.key == key), offered[0])


class Transfer(NamedTuple):
    """The one transfer that pays a demand: from any program that holds the wallet's key."""

    chain_id: int
    token_address: str
    pay_to: str
    amount: int  # atomic units
    amount_text: str  # with the token's decimals

    @property
    def url(self) -> str:
        """The transfer as EIP-681 writes it, for QR codes."""
        return (
            f"ethereum:{self.token_address}@{self.chain_id}/transfer"
            f"?address={self.pay_to}&uint256={self.amount}"
        )

    @property
    def transaction(self) -> dict[str, str]:
        """What `eth_sendTransaction` takes, but for `from`."""
        to = self.pay_to[2:].lower().rjust(64, "0")
        return {
            "to": self.token_address,
            "value": "0x0",
            "data": f"{_TRANSFER}{to}{self.amount:064x}",
        }


def transfer_of(demand: PaymentDemand) -> Transfer:
    """Returns the transfer that a demand asks for."""
    amount = int(demand.amount_token)
    return Transfer(
        demand.chain_id,
        demand.token_address,
        demand.pay_to,
        amount,
        decimal_text(amount, decimals=demand.decimals),
    )


@lru_cache(maxsize=256)
def qr_code(text: str) -> Markup:
    """Returns a text as a picture in SVG, without style or script. To draw one takes 10 ms."""
    import segno  # noqa: PLC0415  (2 MiB, for who pays on a page)

    drawn = segno.make(text, error="m", micro=False)
    return Markup(  # noqa: S704 (segno writes digits and path commands alone)
        drawn.svg_inline(scale=1, border=4, omitsize=True, svgclass=None, lineclass=None)
    )


def new_authorization(
    wallet: str, transfer: Transfer, means: Means, *, now_ms: int
) -> dict[str, Any] | None:
    """Returns what `eth_signTypedData_v4` takes, for a payment without gas (EIP-712, EIP-3009).

    None for a token that knows no such authorization.
    """
    domain = means.token.authorization
    if domain is None:
        return None
    return {
        "primaryType": "TransferWithAuthorization",
        "types": {
            "EIP712Domain": _typed(_DOMAIN_FIELDS),
            "TransferWithAuthorization": _typed(_FIELDS),
        },
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": transfer.chain_id,
            "verifyingContract": transfer.token_address,
        },
        "message": {
            "from": wallet,
            "to": transfer.pay_to,
            "value": str(transfer.amount),
            "validAfter": "0",
            "validBefore": str(now_ms // 1000 + VALID_SECONDS),
            "nonce": "0x" + secrets.token_hex(32),
        },
    }


def x402_payload(
    message: dict[str, Any], *, signature: str, chain_id: int, token: str
) -> dict[str, Any]:
    """Returns what PAYMENT-SIGNATURE holds (x402 v2, scheme exact)."""
    return {
        "x402Version": 2,
        "accepted": {
            "scheme": "exact",
            "network": f"eip155:{chain_id}",
            "asset": token,
            "extra": {"assetTransferMethod": "eip3009"},
        },
        "payload": {
            "signature": signature,
            "authorization": {name: message.get(name, "") for name, _ in _FIELDS},
        },
    }


def _typed(fields: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in fields]

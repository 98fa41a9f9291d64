"""Version 1 of x402, which many clients still speak: for USDC on Base.

Its demand is in the body of a 402, its payment in X-PAYMENT, its receipt in X-PAYMENT-RESPONSE. A
network has a name there, and Arbitrum has none. Source: x402 specification v1.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from moorage.address import checksum_address
from moorage.chains.chain import Chain
from moorage.chains.eip3009 import TransferAuthorization
from moorage.errors import PaymentMalformed
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols.authorization import (
    WrittenAuthorization,
    decode_base64,
    encode_base64,
    read_authorization,
)

HEADER = "X-PAYMENT"
_VERSION = 1
_SCHEME = "exact"
_TOKEN = "usdc"  # noqa: S105  (a coin, not a secret)
_NETWORKS = {8453: "base"}


class _Payload(msgspec.Struct):
    signature: str
    authorization: WrittenAuthorization


class _PaymentPayload(msgspec.Struct):
    x402_version: int = msgspec.field(name="x402Version")
    scheme: str
    network: str
    payload: _Payload


def demand_members(
    options: Iterable[PaymentOption],
    *,
    resource_url: str,
    purpose: str,
    pay_to: str,
    window_seconds: int,
) -> dict[str, Any]:
    """Returns what a 402's body says to clients of version 1; nothing if they can't pay.

    `options` are those to pay by authorization; `window_seconds` is as in version 2.
    """
    accepts = [
        {
            "scheme": _SCHEME,
            "network": _NETWORKS[option.chain.chain_id],
            "maxAmountRequired": str(option.amount),
            "resource": resource_url,
            "description": purpose,
            "mimeType": "application/json",
            "payTo": checksum_address(pay_to),
            "maxTimeoutSeconds": window_seconds,
            "asset": checksum_address(option.token.address),
            "extra": option.token.authorization,
        }
        for option in options
        if option.chain.chain_id in _NETWORKS and option.token.name == _TOKEN
    ]
    return {"x402Version": _VERSION, "accepts": accepts} if accepts else {}


def parse_payment(header: str, chains: Mapping[str, Chain]) -> TransferAuthorization:
    """Parses the authorization in a value of X-PAYMENT. Raises PaymentMalformed."""
    written = decode_base64(header, _PaymentPayload, field=HEADER)
    if written.x402_version != _VERSION or written.scheme != _SCHEME:
        raise PaymentMalformed(HEADER, "must be of x402 version 1; 2 pays by PAYMENT-SIGNATURE")
    for chain in chains.values():
        token = chain.token(_TOKEN)
        if _NETWORKS.get(chain.chain_id) == written.network and token is not None:
            return read_authorization(
                written.payload.authorization,
                signature=written.payload.signature,
                chain_id=chain.chain_id,
                token_address=token.key,
                field=HEADER,
            )
    raise PaymentMalformed(HEADER, "pays on a network that is not taken here by version 1")


def payment_response_header(*, tx_hash: str, chain_id: int, payer: str) -> str:
    """Returns the value of X-PAYMENT-RESPONSE for a settled authorization."""
    response = {
        "success": True,
        "transaction": tx_hash,
        "network": _NETWORKS[chain_id],
        "payer": payer,
    }
    return encode_base64(msgspec.json.encode(response))

"""The three headers of x402 version 2, scheme `exact`, with EIP-3009; and version 1.

Many clients still speak version 1, for USDC on Base: its demand is in the body of a 402, its
payment in X-PAYMENT, its receipt in X-PAYMENT-RESPONSE. A network has a name there; Arbitrum has
none.

Sources: x402 specification v2 §5, its HTTP transport, and its scheme `exact` on EVM; v1.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from moorage.address import checksum_address
from moorage.chains.chain import Chain
from moorage.chains.eip3009 import Eip712Domain, TransferAuthorization
from moorage.errors import (
    AuthorizationRefused,
    InvalidRequest,
    MoorageError,
    PayerMismatch,
    PaymentMalformed,
    PaymentPending,
)
from moorage.money import AtomicUnits
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols.authorization import (
    WrittenAuthorization,
    decode_base64,
    encode_base64,
    read_authorization,
)

MAX_WINDOW_SECONDS = 600

_FIELD = "PAYMENT-SIGNATURE"
_VERSION = 2
_SCHEME = "exact"
_TRANSFER_METHOD = "eip3009"
_PRIMARY_TYPE = "TransferWithAuthorization"  # thirdweb signs nothing else
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{16,128}")
_NETWORK = re.compile(r"eip155:([1-9][0-9]{0,15})")  # CAIP-2


class _Extra(msgspec.Struct, rename="camel"):
    asset_transfer_method: str = _TRANSFER_METHOD


class _Accepted(msgspec.Struct):
    scheme: str
    network: str
    asset: str
    extra: _Extra = msgspec.field(default_factory=_Extra)


class _Payload(msgspec.Struct):
    signature: str
    authorization: WrittenAuthorization


class _PaymentPayload(msgspec.Struct):
    x402_version: int = msgspec.field(name="x402Version")
    accepted: _Accepted
    payload: _Payload


class _Info(msgspec.Struct):
    id: str | None = None


class _Identifier(msgspec.Struct):
    info: _Info


class _Extensions(msgspec.Struct):
    identifier: _Identifier | None = msgspec.field(name="payment-identifier", default=None)


class _Extended(msgspec.Struct):
    extensions: _Extensions


def payment_required_header(
    *,
    resource: Mapping[str, object],
    options: Sequence[PaymentOption],
    pay_to: str,
    window_seconds: int,
    error: str,
    extensions: Mapping[str, object],
) -> str:
    """Returns the value of PAYMENT-REQUIRED. Options with tokens without EIP-3009 are left out.

    `window_seconds`, at most MAX_WINDOW_SECONDS, is how long clients make an authorization valid.
    Clients take the first of `options` that they can pay. `resource` and `extensions` are as
    `x402_extensions` makes them.
    """
    if not 0 < window_seconds <= MAX_WINDOW_SECONDS:
        raise ValueError(f"an authorization is valid for 1 to {MAX_WINDOW_SECONDS} s")
    accepts = [
        _requirements(
            option.amount,
            option.chain.chain_id,
            option.token.address,
            option.token.authorization,
            pay_to,
            window_seconds,
        )
        for option in options
        if option.token.authorization is not None
    ]
    required = {
        "x402Version": _VERSION,
        "error": error,
        "resource": resource,
        "accepts": accepts,
        "extensions": extensions,
    }
    return encode_base64(msgspec.json.encode(required))


def parse_payment_signature(header: str) -> TransferAuthorization:
    """Parses the authorization in a value of PAYMENT-SIGNATURE. Raises PaymentMalformed.

    Of the terms that the client accepted, only the chain and the token's address are read. The rest
    is in the signed authorization, which is checked when it is settled.
    """
    written = decode_base64(header, _PaymentPayload, field=_FIELD)
    accepted = written.accepted
    network = _NETWORK.fullmatch(accepted.network)
    if written.x402_version != _VERSION or accepted.scheme != _SCHEME or network is None:
        raise PaymentMalformed(_FIELD, "must be of x402 version 2, scheme exact, on eip155")
    if accepted.extra.asset_transfer_method != _TRANSFER_METHOD:
        raise PaymentMalformed(_FIELD, f"must transfer by {_TRANSFER_METHOD}")
    return read_authorization(
        written.payload.authorization,
        signature=written.payload.signature,
        chain_id=int(network[1]),
        token_address=accepted.asset,
        field=_FIELD,
    )


def payment_identifier(header: str) -> str | None:
    """Returns the identifier in a value of PAYMENT-SIGNATURE, if any: one payment has one.

    Raises PaymentMalformed for an identifier that breaks the extension's rule.
    """
    try:
        extensions = decode_base64(header, _Extended, field=_FIELD).extensions
    except PaymentMalformed:
        return None  # extensions of another shape are none of ours
    given = extensions.identifier.info.id if extensions.identifier else None
    if given is not None and _IDENTIFIER.fullmatch(given) is None:
        raise PaymentMalformed(_FIELD, "payment-identifier: must be 16 to 128 of A-Z a-z 0-9 _ -")
    return given


def payment_failed_header(
    authorization: TransferAuthorization, *, error: MoorageError, tx_hash: str
) -> str:
    """Returns the value of PAYMENT-RESPONSE for an authorization that did not (yet) pay.

    `tx_hash` is that of the transaction that settles it, if there is one, else empty.
    """
    response = {
        "success": False,
        "errorReason": _error_reason(error),
        "transaction": tx_hash,
        "network": f"eip155:{authorization.chain_id}",
        "payer": authorization.payer,
    }
    return encode_base64(msgspec.json.encode(response))


def _error_reason(error: MoorageError) -> str:
    """Returns x402's code for a refusal (x402 v2 §9)."""
    match error:
        case PaymentPending():
            return "settlement_pending"
        case AuthorizationRefused() if error.by_chain:
            return "invalid_transaction_state"
        case AuthorizationRefused() | PayerMismatch() | InvalidRequest():
            return "invalid_payload"
    return "unexpected_settle_error"


def payment_response_header(*, tx_hash: str, chain_id: int, payer: str, amount: AtomicUnits) -> str:
    """Returns the value of PAYMENT-RESPONSE for a settled authorization (x402 v2 §5.3)."""
    response = {
        "success": True,
        "transaction": tx_hash,
        "network": f"eip155:{chain_id}",
        "payer": payer,
        "amount": str(amount),
    }
    return encode_base64(msgspec.json.encode(response))


@lru_cache(maxsize=1024)
def _requirements(
    amount: AtomicUnits,
    chain_id: int,
    asset: str,
    domain: Eip712Domain,
    pay_to: str,
    window_seconds: int,
) -> msgspec.Raw:
    """Returns one PaymentRequirements object in JSON."""
    requirements = {
        "scheme": _SCHEME,
        "network": f"eip155:{chain_id}",
        "amount": str(amount),
        "asset": checksum_address(asset),
        "payTo": checksum_address(pay_to),
        "maxTimeoutSeconds": window_seconds,
        "extra": {
            "assetTransferMethod": _TRANSFER_METHOD,
            "primaryType": _PRIMARY_TYPE,
            "name": domain.name,
            "version": domain.version,
        },
    }
    return msgspec.Raw(msgspec.json.encode(requirements))


HEADER_V1 = "X-PAYMENT"
_VERSION_1 = 1
_TOKEN_V1 = "usdc"  # noqa: S105  (a coin, not a secret)
_NETWORKS_V1 = {8453: "base"}


class _PaymentPayloadV1(msgspec.Struct):
    x402_version: int = msgspec.field(name="x402Version")
    scheme: str
    network: str
    payload: _Payload


def demand_members_v1(
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
            "network": _NETWORKS_V1[option.chain.chain_id],
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
        if option.chain.chain_id in _NETWORKS_V1 and option.token.name == _TOKEN_V1
    ]
    return {"x402Version": _VERSION_1, "accepts": accepts} if accepts else {}


def parse_payment_v1(header: str, chains: Mapping[str, Chain]) -> TransferAuthorization:
    """Parses the authorization in a value of X-PAYMENT. Raises PaymentMalformed."""
    written = decode_base64(header, _PaymentPayloadV1, field=HEADER_V1)
    if written.x402_version != _VERSION_1 or written.scheme != _SCHEME:
        raise PaymentMalformed(HEADER_V1, "must be of x402 version 1; 2 pays by PAYMENT-SIGNATURE")
    for chain in chains.values():
        token = chain.token(_TOKEN_V1)
        if _NETWORKS_V1.get(chain.chain_id) == written.network and token is not None:
            return read_authorization(
                written.payload.authorization,
                signature=written.payload.signature,
                chain_id=chain.chain_id,
                token_address=token.key,
                field=HEADER_V1,
            )
    raise PaymentMalformed(HEADER_V1, "pays on a network that is not taken here by version 1")


def payment_response_header_v1(*, tx_hash: str, chain_id: int, payer: str) -> str:
    """Returns the value of X-PAYMENT-RESPONSE for a settled authorization."""
    response = {
        "success": True,
        "transaction": tx_hash,
        "network": _NETWORKS_V1[chain_id],
        "payer": payer,
    }
    return encode_base64(msgspec.json.encode(response))

"""Pays without a node and without gas: signs an authorization that the gateway settles (x402 v2).

It moves one amount to one recipient once, before it expires (EIP-3009). Whoever holds it can do no
more with it than carry that out.
"""

import secrets
from base64 import b64decode, b64encode
from typing import Any

import msgspec

from moorage.chains.eip3009 import Eip712Domain, TransferAuthorization, authorization_digest
from moorage.money import AtomicUnits
from moorage.sdk.errors import (
    AuthorizationUnspent,
    ClientError,
    ClientMisconfigured,
    PaymentRequired,
    QuoteInconsistent,
)
from moorage.sdk.journal import Payment, PaymentKey
from moorage.sdk.paying.offer import Offer, payment_of
from moorage.sdk.signer import Signer

HEADER = "PAYMENT-SIGNATURE"
VALID_SECONDS = 600  # the longest that gateways ask for

_EXPIRED_MS = 120_000  # after its end: clocks and chains differ by less
_VERSION = 2


class _Extra(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Accepts(msgspec.Struct):
    scheme: str
    network: str
    asset: str
    extra: _Extra = msgspec.field(default_factory=_Extra)


class _Required(msgspec.Struct):
    accepts: list[_Accepts]


def accepted_domain(header: str | None, offer: Offer, *, refusal: ClientError) -> Eip712Domain:
    """Returns the token's domain, if the 402's PAYMENT-REQUIRED offers to settle `offer`.

    It is the one of the client's own configuration. Raises `refusal` if the gateway settles no
    authorization in this token, QuoteInconsistent if it names another domain.
    """
    domain = offer.token.authorization
    found = next((each for each in _accepts(header) if _is_for(each, offer)), None)
    if domain is None or found is None:
        raise refusal
    if (found.extra.name, found.extra.version) != (domain.name, domain.version):
        raise QuoteInconsistent(
            f"the gateway calls the token {found.extra.name!r}, it is {domain.name!r}. "
            "Nothing was paid."
        )
    return domain


def node_needed(offer: Offer) -> ClientMisconfigured:
    """Returns the error for a payment that only a transfer makes, where no node is known."""
    chain = offer.chain.name
    variable = f"MOORAGE_RPC_URL_{chain.upper().replace('-', '_')}"
    return ClientMisconfigured(
        f"this gateway takes {offer.token.symbol} on {chain} by transfer alone, which needs a "
        f"node: set {variable} to its RPC URL, or choose another --chain or --token. "
        "Nothing was paid."
    )


def authorize(
    offer: Offer, domain: Eip712Domain, signer: Signer, key: PaymentKey, *, now_ms: int
) -> Payment:
    """Returns the signed payment of `offer`, to be journaled and then shown to the gateway."""
    valid_before = now_ms // 1000 + VALID_SECONDS
    unsigned = TransferAuthorization(
        chain_id=offer.chain.chain_id,
        token_address=offer.token.key,
        payer=signer.address.lower(),
        recipient=offer.pay_to.lower(),
        value=AtomicUnits(offer.amount),
        valid_after=0,
        valid_before=valid_before,
        nonce="0x" + secrets.token_hex(32),
        signature=b"",
    )
    signature = signer.sign_digest(authorization_digest(unsigned, domain))
    return msgspec.structs.replace(
        payment_of(offer, key, signed_at_ms=now_ms),
        authorization=_header(unsigned, domain, signature),
        authorization_nonce=unsigned.nonce,
        valid_before=valid_before,
    )


def is_expired(payment: Payment, *, now_ms: int) -> bool:
    """Whether no chain carries the authorization out any more, if none has yet."""
    return now_ms >= payment.valid_before * 1000 + _EXPIRED_MS


def unspent(error: PaymentRequired, *, expired: bool) -> AuthorizationUnspent:
    """Returns the error for an authorization that the gateway refused and has not carried out."""
    if expired:
        return AuthorizationUnspent(f"{error.message} It has expired: the same command pays again.")
    return AuthorizationUnspent(
        f"{error.message} The same command shows this authorization again; once it has expired, "
        f"{VALID_SECONDS // 60} minutes after it was signed, it pays again."
    )


def _accepts(header: str | None) -> list[_Accepts]:
    try:
        return msgspec.json.decode(b64decode(header or "", validate=True), type=_Required).accepts
    except (ValueError, RecursionError):
        return []


def _is_for(accepts: _Accepts, offer: Offer) -> bool:
    asked = (accepts.scheme, accepts.network, accepts.asset.lower())
    return asked == ("exact", f"eip155:{offer.chain.chain_id}", offer.token.key)


def _header(authorization: TransferAuthorization, domain: Eip712Domain, signature: str) -> str:
    document: dict[str, Any] = {
        "x402Version": _VERSION,
        "accepted": {
            "scheme": "exact",
            "network": f"eip155:{authorization.chain_id}",
            "amount": str(authorization.value),
            "asset": authorization.token_address,
            "payTo": authorization.recipient,
            "maxTimeoutSeconds": VALID_SECONDS,
            "extra": {"name": domain.name, "version": domain.version},
        },
        "payload": {
            "signature": signature,
            "authorization": {
                "from": authorization.payer,
                "to": authorization.recipient,
                "value": str(authorization.value),
                "validAfter": str(authorization.valid_after),
                "validBefore": str(authorization.valid_before),
                "nonce": authorization.nonce,
            },
        },
    }
    return b64encode(msgspec.json.encode(document)).decode()

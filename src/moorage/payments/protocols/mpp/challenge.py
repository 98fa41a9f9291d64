"""What a 402 asks for, in WWW-Authenticate, bound by its id to wallet, body, amount and expiry."""

import hmac
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import msgspec

from moorage.chains.address import checksum_address
from moorage.money import AtomicUnits
from moorage.payments.price.option import PaymentOption
from moorage.payments.protocols.header_json import canonical_json, encode_base64url

METHOD = "evm"
INTENT = "charge"


class CredentialType(StrEnum):
    """How a challenge may be answered (draft-evm-charge-00, Credential Types)."""

    AUTHORIZATION = "authorization"  # an EIP-3009 authorization, which the gateway settles
    HASH = "hash"  # the hash of a transfer that the client sent


class Challenge(msgspec.Struct, frozen=True):
    """A challenge's parameters, as on the wire (draft-httpauth-payment-00 §5.1)."""

    id: str
    realm: str
    method: str
    intent: str
    request: str  # base64url of canonical JSON, as `opaque`
    expires: str = ""  # RFC 3339; empty, as the next two: absent
    digest: str = ""  # of the request's body
    opaque: str = ""


def make_challenge(
    secret: bytes,
    *,
    realm: str,
    option: PaymentOption,
    pay_to: str,
    expires_at_ms: int,
    body_digest: str,
    wallet: str,
    credential_types: Sequence[CredentialType],
) -> Challenge:
    """The challenge to pay `option` for one body of one wallet; equal arguments give equal ids.

    So a client that signs twice for one quote signs one nonce, which the token takes once.
    `body_digest` is SHA-256 in hex. The expiry is rounded down to the second. `realm` is a host
    name. The first credential type is the preferred one.
    """
    slots = (
        realm,
        METHOD,
        INTENT,
        _request(option, pay_to, tuple(credential_types)),
        _expires(expires_at_ms // 1000),
        digest_parameter(body_digest),
        opaque_parameter(wallet),
    )
    return Challenge(challenge_id(secret, slots), *slots)


def challenge_id(secret: bytes, slots: Sequence[str]) -> str:
    """HMAC-SHA256 over the seven slots (draft-httpauth-payment-00 §5.1.3), base64url.

    The slots are realm, method, intent, request, expires, digest and opaque, empty when absent.
    """
    return encode_base64url(hmac.digest(secret, "|".join(slots).encode(), "sha256"))


def challenge_header(challenge: Challenge) -> str:
    """The value of WWW-Authenticate. None of our parameters needs escaping."""
    return (
        f'Payment id="{challenge.id}", realm="{challenge.realm}", method="{challenge.method}", '
        f'intent="{challenge.intent}", request="{challenge.request}", '
        f'expires="{challenge.expires}", digest="{challenge.digest}", opaque="{challenge.opaque}"'
    )


def digest_parameter(body_digest: str) -> str:
    """A body's SHA-256, given in hex, as RFC 9530 writes it (draft-httpauth-payment-00 §5.1.4)."""
    return f"sha-256=:{b64encode(bytes.fromhex(body_digest)).decode('ascii')}:"


def opaque_parameter(wallet: str) -> str:
    """The wallet that a challenge is for, as `opaque`'s flat map of strings."""
    return encode_base64url(b'{"wallet":"%b"}' % wallet.encode("ascii"))


@lru_cache(maxsize=256)
def _expires(at_seconds: int) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(at_seconds, UTC).isoformat()[:19] + "Z"


def _request(
    option: PaymentOption, pay_to: str, credential_types: tuple[CredentialType, ...]
) -> str:
    """The request of a charge."""
    token = option.token
    return _encoded_request(
        option.amount,
        option.chain.chain_id,
        token.address,
        token.decimals,
        pay_to,
        credential_types,
    )


@lru_cache(maxsize=1024)  # few prices, few tokens: of most demands only the binding is new
def _encoded_request(
    amount: AtomicUnits,
    chain_id: int,
    token_address: str,
    decimals: int,
    pay_to: str,
    credential_types: tuple[CredentialType, ...],
) -> str:
    request = {
        "amount": str(amount),
        "currency": checksum_address(token_address),
        "methodDetails": {
            "chainId": chain_id,
            "credentialTypes": credential_types,
            "decimals": decimals,
        },
        "recipient": checksum_address(pay_to),
    }
    return encode_base64url(canonical_json(request))

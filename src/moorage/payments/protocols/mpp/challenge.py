"""MPP challenges in WWW-Authenticate; the id binds each to wallet, body, amount and expiry."""

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
    """How a challenge can be answered (draft-evm-charge-00, Credential Types)."""

    AUTHORIZATION = "authorization"  # an EIP-3009 authorization, which the gateway settles
    HASH = "hash"  # the hash of a transfer that the client sent


class Challenge(msgspec.Struct, frozen=True):
    """A challenge's parameters, as sent (draft-httpauth-payment-00 §5.1)."""

    id: str
    realm: str
    method: str
    intent: str
    request: str  # base64url of canonical JSON, like `opaque`
    expires: str = ""  # RFC 3339; here and in the next two, empty means absent
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
    """Returns the challenge to pay `option` for one body of one wallet.

    Equal arguments give equal ids: a client that signs twice for one quote signs the same nonce,
    which the token accepts once. `body_digest` is SHA-256 in hex. The expiry is rounded down to the
    second. `realm` is a host name. The first credential type is the preferred one.
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
    """Returns HMAC-SHA256 over the seven slots (draft-httpauth-payment-00 §5.1.3), base64url.

    The slots are realm, method, intent, request, expires, digest and opaque, empty when absent.
    """
    return encode_base64url(hmac.digest(secret, "|".join(slots).encode(), "sha256"))


def challenge_header(challenge: Challenge) -> str:
    """Returns the value of WWW-Authenticate. None of our parameters needs escaping."""
    return (
        f'Payment id="{challenge.id}", realm="{challenge.realm}", method="{challenge.method}", '
        f'intent="{challenge.intent}", request="{challenge.request}", '
        f'expires="{challenge.expires}", digest="{challenge.digest}", opaque="{challenge.opaque}"'
    )


def digest_parameter(body_digest: str) -> str:
    """Returns a hex SHA-256 in the form of RFC 9530 (draft-httpauth-payment-00 §5.1.4)."""
    return f"sha-256=:{b64encode(bytes.fromhex(body_digest)).decode('ascii')}:"


def opaque_parameter(wallet: str) -> str:
    """Returns the wallet of a challenge in the form of `opaque`, a flat map of strings."""
    return encode_base64url(b'{"wallet":"%b"}' % wallet.encode("ascii"))


@lru_cache(maxsize=256)
def _expires(at_seconds: int) -> str:
    """Formats the time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at_seconds, UTC).isoformat()[:19] + "Z"


def _request(
    option: PaymentOption, pay_to: str, credential_types: tuple[CredentialType, ...]
) -> str:
    """Returns the `request` parameter of a charge."""
    token = option.token
    return _encoded_request(
        option.amount,
        option.chain.chain_id,
        token.address,
        token.decimals,
        pay_to,
        credential_types,
    )


@lru_cache(maxsize=1024)  # there are few prices and tokens, so that most requests repeat
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

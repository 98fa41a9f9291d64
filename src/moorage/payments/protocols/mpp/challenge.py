"""MPP challenges in WWW-Authenticate; the id binds each to wallet, body, amount and expiry."""

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import msgspec

from moorage.chains.address import checksum_address
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
    wallet: str | None,
    credential_types: Sequence[CredentialType],
    purpose: str = "",
    reference: str = "",
) -> Challenge:
    """Returns the challenge to pay `option` for one body of one wallet; of any, if it is None.

    Equal arguments give equal ids: a client that signs twice for one quote signs the same nonce,
    which the token accepts once. `body_digest` is SHA-256 in hex. The expiry is rounded down to the
    second. `realm` is a host name. The first credential type is the preferred one. `purpose` is for
    a person to read, `reference` for a receipt to repeat; both are ASCII.
    """
    slots = (
        realm,
        METHOD,
        INTENT,
        _request(option, pay_to, credential_types, purpose=purpose, reference=reference),
        _expires(expires_at_ms // 1000),
        "",
        opaque_parameter(wallet, body_digest),
    )
    return Challenge(challenge_id(secret, slots), *slots)


def challenge_id(secret: bytes, slots: Sequence[str]) -> str:
    """Returns HMAC-SHA256 over the seven slots (draft-httpauth-payment-00 §5.1.3), base64url.

    The slots are realm, method, intent, request, expires, digest and opaque, empty when absent.
    """
    mac = _keyed(secret).copy()
    mac.update("|".join(slots).encode())
    return encode_base64url(mac.digest())


@lru_cache(maxsize=4)
def _keyed(secret: bytes) -> hmac.HMAC:
    """Returns HMAC-SHA256 that has taken its key: copying that costs less than taking it again."""
    return hmac.new(secret, digestmod="sha256")


def challenge_header(challenge: Challenge) -> str:
    """Returns the value of WWW-Authenticate. None of our parameters needs escaping."""
    return (
        f'Payment id="{challenge.id}", realm="{challenge.realm}", method="{challenge.method}", '
        f'intent="{challenge.intent}", request="{challenge.request}", '
        f'expires="{challenge.expires}", opaque="{challenge.opaque}"'
    )


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a challenge is good for: a request's body, and the wallet that sent it, if any."""

    body: str  # base64url of its SHA-256
    wallet: str = ""


def binding(wallet: str | None, body_digest: str) -> Binding:
    """Returns the binding to a wallet, or to none, and to a body by its SHA-256 in hex."""
    return Binding(body=encode_base64url(bytes.fromhex(body_digest)), wallet=wallet or "")


@lru_cache(maxsize=64)  # each challenge of a demand has the same
def opaque_parameter(wallet: str | None, body_digest: str) -> str:
    """Returns the binding in the form of `opaque`, a flat map of strings.

    The parameter `digest` is left out: clients write it in two forms, and refuse the other one.
    """
    return encode_base64url(msgspec.json.encode(binding(wallet, body_digest)))


@lru_cache(maxsize=256)
def _expires(at_seconds: int) -> str:
    """Formats the time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at_seconds, UTC).isoformat()[:19] + "Z"


def _request(
    option: PaymentOption,
    pay_to: str,
    credential_types: Sequence[CredentialType],
    *,
    purpose: str,
    reference: str,
) -> str:
    """Returns the `request` parameter of a charge."""
    token = option.token
    request: dict[str, object] = {
        "amount": str(option.amount),
        "currency": checksum_address(token.address),
        "methodDetails": {
            "chainId": option.chain.chain_id,
            "credentialTypes": credential_types,
            "decimals": token.decimals,
        },
        "recipient": checksum_address(pay_to),
    }
    if purpose:
        request["description"] = purpose
    if reference:
        request["externalId"] = reference
    return encode_base64url(canonical_json(request))

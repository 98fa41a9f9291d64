"""MPP: challenges (bound to wallet, body, amount, expiry), credentials, receipts, problem types.

Sources: draft-httpauth-payment-00, and draft-evm-charge-00 for method `evm`, intent `charge`.
"""

import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from moorage.address import checksum_address, parse_address
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.receipt import normalise_tx_hash
from moorage.errors import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    MoorageError,
    PayerMismatch,
    PaymentMalformed,
    PaymentNotFound,
    PaymentPending,
    PaymentShort,
)
from moorage.money import AtomicUnits, atomic_units
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols.authorization import (
    MAX_HEADER_BYTES,
    WrittenAuthorization,
    canonical_json,
    decode_base64url,
    encode_base64url,
    parse_uint256,
    read_authorization,
)
from moorage.signing import keccak256

_BASE = "https://paymentauth.org/problems/"


class ProblemType(NamedTuple):
    """The members `type` and `title` of a problem."""

    type: str
    title: str


PAYMENT_REQUIRED = ProblemType(_BASE + "payment-required", "Payment Required")
NOT_A_PROBLEM_OF_ITS_OWN = ProblemType("about:blank", "Payment Required")

_TYPES: dict[type[MoorageError], ProblemType] = {
    PaymentMalformed: ProblemType(_BASE + "malformed-credential", "Malformed Credential"),
    ChallengeInvalid: ProblemType(_BASE + "invalid-challenge", "Invalid Challenge"),
    ChallengeExpired: ProblemType(_BASE + "payment-expired", "Payment Expired"),
    PaymentShort: ProblemType(_BASE + "payment-insufficient", "Payment Insufficient"),
    PaymentNotFound: ProblemType(_BASE + "verification-failed", "Verification Failed"),
    PayerMismatch: ProblemType(_BASE + "verification-failed", "Verification Failed"),
    AuthorizationRefused: ProblemType(_BASE + "verification-failed", "Verification Failed"),
    PaymentPending: NOT_A_PROBLEM_OF_ITS_OWN,  # the draft has no type that tells a client to wait
}


def problem_type(because: MoorageError | None) -> ProblemType:
    """Returns the problem type of a refused payment; `because` is None when no payment came.

    Source: draft-httpauth-payment-00, Error Codes. Where the draft has no type, it is `about:blank`
    (RFC 9457): the status says everything.
    """
    if because is None:
        return PAYMENT_REQUIRED
    return _TYPES.get(type(because), NOT_A_PROBLEM_OF_ITS_OWN)


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


_FIELD = "Authorization"
_SCHEME = "payment "
_MAX_CHAIN_ID = 2**53 - 1  # JSON's safe integers


class ChargeRequest(msgspec.Struct, frozen=True):
    """The payment that a challenge asked for. Addresses are lower-case hex with `0x`."""

    amount: AtomicUnits
    token_address: str
    recipient: str
    chain_id: int
    credential_types: tuple[str, ...]
    reference: str = ""  # for the receipt to repeat


class HashPayload(msgspec.Struct, frozen=True):
    """A transfer that the client sent itself; the hash is normalised by `normalise_tx_hash`."""

    tx_hash: str


class Credential(msgspec.Struct, frozen=True):
    """A challenge, and the hash or authorization that pays it."""

    challenge: Challenge
    request: ChargeRequest  # the challenge's, decoded
    payload: HashPayload | TransferAuthorization


class _Hash(msgspec.Struct, frozen=True, tag_field="type", tag="hash"):
    hash: str


class _Authorization(
    WrittenAuthorization, frozen=True, tag_field="type", tag="authorization", kw_only=True
):
    signature: str


class _Credential(msgspec.Struct):
    challenge: Challenge
    payload: _Hash | _Authorization


class _MethodDetails(msgspec.Struct, rename="camel"):
    chain_id: int
    credential_types: tuple[str, ...]


class _Request(msgspec.Struct, rename="camel"):
    amount: str
    currency: str
    recipient: str
    method_details: _MethodDetails
    external_id: str = ""


def parse_credential(header: str) -> Credential:
    """Parses the credential in a value of Authorization. Raises PaymentMalformed.

    Unknown members are ignored, and `source` too: the chain or the signature shows who pays
    (draft-httpauth-payment-00 §5.2, draft-evm-charge-00, Credential Schema).
    """
    if len(header) > MAX_HEADER_BYTES or header[: len(_SCHEME)].lower() != _SCHEME:
        raise PaymentMalformed(_FIELD, "must be `Payment` and a credential, 16 KiB at most")
    written = decode_base64url(header[len(_SCHEME) :].strip(" "), _Credential, field=_FIELD)
    challenge = written.challenge
    if (challenge.method, challenge.intent) != (METHOD, INTENT):
        raise PaymentMalformed(_FIELD, f"must answer a challenge of {METHOD}/{INTENT}")
    request = _parse_request(challenge.request)
    if isinstance(written.payload, _Authorization):
        return Credential(
            challenge,
            request,
            read_authorization(
                written.payload,
                signature=written.payload.signature,
                chain_id=request.chain_id,
                token_address=request.token_address,
                field=_FIELD,
            ),
        )
    with PaymentMalformed.of(_FIELD):
        return Credential(challenge, request, HashPayload(normalise_tx_hash(written.payload.hash)))


def check_credential(
    credential: Credential, *, secret: bytes, realm: str, now_ms: int, body_digest: str, wallet: str
) -> None:
    """Checks that the challenge is ours, and that the credential answers it for this wallet.

    An authorization must also be for this body and not expired. A hash need not: its money has
    already moved. `body_digest` is SHA-256 in hex.

    Raises ChallengeInvalid for a challenge that isn't ours, or is for another body; PayerMismatch
    for another wallet's; AuthorizationRefused for an authorization that differs from what was asked
    for; and ChallengeExpired if everything else is valid.
    """
    challenge = credential.challenge
    if challenge.realm != realm or not _is_ours(challenge, secret):
        raise ChallengeInvalid
    ours, bound = binding(wallet, body_digest), _binding(challenge)
    if bound.wallet not in ("", ours.wallet):
        raise PayerMismatch("This challenge was put to another wallet. Nothing was spent.")
    if isinstance(credential.payload, HashPayload):
        return
    if bound.body != ours.body:
        raise ChallengeInvalid("This challenge is for another body. Nothing was spent.")
    _check_authorization(credential.payload, credential, wallet)
    if datetime.fromisoformat(challenge.expires).timestamp() * 1000 <= now_ms:
        raise ChallengeExpired


def authorization_nonces(challenge: Challenge) -> tuple[str, str]:
    """Returns the nonces that an authorization for `challenge` may have: 32 bytes, hex with `0x`.

    The first is the draft's, Keccak-256 of id and realm (draft-evm-charge-00, Challenge Binding).
    The second is Keccak-256 of their JSON array, which pympp 0.16 signs.
    """
    array = json.dumps([challenge.id, challenge.realm], separators=(",", ":"), ensure_ascii=False)
    texts = (challenge.id + challenge.realm, array)
    first, second = ("0x" + keccak256(text.encode()).hex() for text in texts)
    return first, second


def _parse_request(text: str) -> ChargeRequest:
    request = decode_base64url(text, _Request, field=_FIELD)
    chain_id = request.method_details.chain_id
    with PaymentMalformed.of(_FIELD):
        if not 0 < chain_id <= _MAX_CHAIN_ID:
            raise ValueError("a chain id is a positive safe integer")
        return ChargeRequest(
            amount=atomic_units(parse_uint256(request.amount)),
            token_address=parse_address(request.currency),
            recipient=parse_address(request.recipient),
            chain_id=chain_id,
            credential_types=request.method_details.credential_types,
            reference=request.external_id,
        )


def _is_ours(challenge: Challenge, secret: bytes) -> bool:
    _, *slots = msgspec.structs.astuple(challenge)
    return hmac.compare_digest(challenge_id(secret, slots).encode(), challenge.id.encode())


def _binding(challenge: Challenge) -> Binding:
    """Returns what a challenge of ours is good for."""
    return decode_base64url(challenge.opaque, Binding, field=_FIELD)


def _check_authorization(
    authorization: TransferAuthorization, credential: Credential, wallet: str
) -> None:
    request = credential.request
    if authorization.payer != wallet:
        raise PayerMismatch("This authorization is another wallet's. Nothing was spent.")
    if CredentialType.AUTHORIZATION not in request.credential_types:
        raise AuthorizationRefused("the challenge does not take authorizations")
    if authorization.recipient != request.recipient:
        raise AuthorizationRefused("`to` is not the challenge's recipient")
    if authorization.value != request.amount:
        raise AuthorizationRefused("`value` is not the challenge's amount")
    if authorization.nonce not in authorization_nonces(credential.challenge):
        raise AuthorizationRefused("`nonce` is not the challenge's hash")


def receipt_header(
    *,
    challenge_id: str | None,
    tx_hash: str,
    chain_id: int,
    timestamp_ms: int,
    reference: str = "",
) -> str:
    """Returns the value of Payment-Receipt (draft-evm-charge-00, Receipt Generation).

    `challenge_id` is None for a payment that answered no challenge: by plain hash, or by x402.
    `reference` is the `externalId` of the challenge.
    """
    settled_at = datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    receipt: dict[str, str | int] = {
        "chainId": chain_id,
        "method": METHOD,
        "reference": tx_hash,
        "status": "success",
        "timestamp": settled_at.replace("+00:00", "Z"),
    }
    if challenge_id is not None:
        receipt["challengeId"] = challenge_id
    if reference:
        receipt["externalId"] = reference
    return encode_base64url(canonical_json(receipt))

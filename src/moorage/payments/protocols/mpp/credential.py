"""MPP credentials in Authorization: parsed, then checked against the request.

Until `check_credential` has passed, the challenge in a credential is only what the client claims.
"""

import hmac
import json
from datetime import datetime

import msgspec

from moorage.chains.address import parse_address
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.erc20 import normalise_tx_hash
from moorage.errors import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    PayerMismatch,
    PaymentMalformed,
)
from moorage.money import AtomicUnits, atomic_units
from moorage.payments.protocols.authorization import (
    WrittenAuthorization,
    parse_uint256,
    read_authorization,
)
from moorage.payments.protocols.header_json import MAX_HEADER_BYTES, decode_base64url
from moorage.payments.protocols.mpp.challenge import (
    INTENT,
    METHOD,
    Binding,
    Challenge,
    CredentialType,
    binding,
    challenge_id,
)
from moorage.signing.keccak import keccak256

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
    try:
        return Credential(challenge, request, HashPayload(normalise_tx_hash(written.payload.hash)))
    except ValueError as error:
        raise PaymentMalformed(_FIELD, str(error)) from error


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
    try:
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
    except ValueError as error:
        raise PaymentMalformed(_FIELD, str(error)) from error


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

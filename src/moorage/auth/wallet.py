"""Who signed a request: the four headers, read strictly, and the wallet behind a signature."""

import re
from typing import NewType

import msgspec
from coincurve import PublicKey

from moorage.chains.address import parse_address
from moorage.errors import AuthMissing, SignatureInvalid, TimestampExpired
from moorage.keccak import keccak256

Wallet = NewType("Wallet", str)
"""An authenticated wallet: `0x` and 40 lower-case hex digits."""

_SIGNATURE = re.compile(r"(?:0[xX])?([0-9a-fA-F]{130})")
_TIMESTAMP = re.compile(r"[0-9]{1,15}")
_NONCE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_RECOVERY_IDS = {0: b"\x00", 1: b"\x01", 27: b"\x00", 28: b"\x01"}


class SignedHeaders(msgspec.Struct, frozen=True):
    """The four headers of a signed request, well-formed but not yet checked against each other.

    `message` is what was signed: the headers' own texts, byte for byte. `wallet` and `nonce` are
    folded to lower case, so that one wallet and one UUID have one spelling each.
    """

    wallet: Wallet
    timestamp_ms: int
    nonce: str
    message: bytes
    signature: bytes


def parse_signed_headers(
    *, wallet: str | None, signature: str | None, timestamp: str | None, nonce: str | None
) -> SignedHeaders:
    """The four headers' texts as SignedHeaders; None stands for a header that was not sent.

    Raises AuthMissing when one is absent or empty, TimestampExpired when the timestamp is no
    number of milliseconds, SignatureInvalid for whatever else is not as the contract writes it.
    """
    if not (wallet and signature and timestamp and nonce):
        raise AuthMissing
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise TimestampExpired("X-Timestamp must be Unix time in milliseconds, in decimal digits.")
    if _NONCE.fullmatch(nonce) is None:
        raise SignatureInvalid("X-Nonce must be a UUID, written 8-4-4-4-12 in hex digits.")
    matched = _SIGNATURE.fullmatch(signature)
    if matched is None:
        raise SignatureInvalid("X-Signature must be 65 bytes in hex digits.")
    try:
        address = parse_address(wallet)
    except ValueError:
        raise SignatureInvalid("X-Wallet-Address must be 0x and 40 hex digits.") from None
    return SignedHeaders(
        wallet=Wallet(address),
        timestamp_ms=int(timestamp),
        nonce=nonce.lower(),
        message=f"{wallet}:{timestamp}:{nonce}".encode("ascii"),
        signature=bytes.fromhex(matched[1]),
    )


def recover_signer(message: bytes, signature: bytes) -> Wallet:
    """The wallet whose personal_sign over `message` is `signature` (r, s, v: 65 bytes).

    v is 27 or 28, or 0 or 1 as some signers write it. Raises SignatureInvalid for any other v or
    length, for r or s out of range, for a high s (EIP-2: else each signature has a twin), and when
    no key fits. Source: EIP-191, version 0x45.
    """
    recovery_id = _RECOVERY_IDS.get(signature[64]) if len(signature) == 65 else None
    if recovery_id is None or not 0 < int.from_bytes(signature[32:64], "big") <= _HALF_ORDER:
        raise SignatureInvalid
    digest = keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message))
    try:
        # Judges r: zero, beyond the group's order, or no point on the curve.
        key = PublicKey.from_signature_and_message(signature[:64] + recovery_id, digest, None)
    except ValueError:
        raise SignatureInvalid from None
    return Wallet("0x" + keccak256(key.format(compressed=False)[1:])[12:].hex())

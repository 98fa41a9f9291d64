"""Parses the four headers of a signed request, and recovers the wallet that made a signature."""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final, NewType

import msgspec
from coincurve import PublicKey

from moorage.address import checksum_address, key_address, parse_address
from moorage.errors import AuthMissing, SignatureInvalid, TimestampExpired
from moorage.signing import NO_BODY, Target, keccak256
from moorage.wire.problems import SigningRecipe

RECIPE: Final = SigningRecipe(
    headers={
        "X-Wallet-Address": "the wallet: 0x and 40 hex digits",
        "X-Timestamp": "Unix time in milliseconds, within 60 s of the gateway's clock",
        "X-Nonce": "a UUID, a new one for each request",
        "X-Signature": "0x and 65 bytes in hex: the wallet's signature of the text",
    },
    text="{X-Wallet-Address}:{X-Timestamp}:{X-Nonce}",
    example_private_key="0x" + "46" * 32,
    example={
        "X-Wallet-Address": "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
        "X-Timestamp": "1775556000000",
        "X-Nonce": "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e",
        "X-Signature": "0xaf6eed6f30d34823699ac6fc5b9cea8acf297129e7ff0af18861dd1842e3d2ef"
        "72f7e429d9c9f8ff6eb515fd89db6bb1d134aa3d8ff8b4178a215c097e3f7bc31c",
    },
)
"""The example's key is a known one: nobody keeps money there."""


Wallet = NewType("Wallet", str)
"""An authenticated wallet: `0x` and 40 lower-case hex digits."""

MAX_SIGNATURE_BYTES = 8 * 1024
"""Of the wallets in use, a wrapped signature (ERC-6492) with its factory's calldata takes 2 KiB at
most. In hex this limit is a quarter of the bytes that a request's head may have."""

_SIGNATURE = re.compile(rf"(?:0[xX])?([0-9a-fA-F]{{2,{2 * MAX_SIGNATURE_BYTES}}})")
_TIMESTAMP = re.compile(r"[0-9]{1,15}")
_DIGITS_OF_SECONDS = 11  # as milliseconds, so few are of 1973 or before
_NONCE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHA_256 = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")

_COMPACT_BYTES = 64  # EIP-2098

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_RECOVERY_IDS = {0: b"\x00", 1: b"\x01", 27: b"\x00", 28: b"\x01"}


class SignedHeaders(msgspec.Struct, frozen=True):
    """The four headers of a signed request: well-formed, but the signature is not checked yet.

    `message` is what was signed: the headers' texts, byte for byte. `wallet` and `nonce` are in
    lower case, so that each wallet and each UUID has one spelling.
    """

    wallet: Wallet
    timestamp_ms: int
    nonce: str
    message: bytes
    signature: bytes  # 65 bytes of a key, or what a contract wallet accepts

    def digests(self, target: Target | None) -> Iterator[bytes]:
        """Yields the 32 bytes that the signature may sign: bound to `target`, if there is one.

        A signature of version 1 signs the headers' texts; the wallet may be spelled there in lower
        case or with its checksum as well.
        """
        _, _, rest = self.message.partition(b":")
        if target is not None:
            nonce = rest.rpartition(b":")[2].decode()  # as it was sent
            yield target.digest(wallet=self.wallet, timestamp_ms=self.timestamp_ms, nonce=nonce)
            return
        yield personal_digest(self.message)
        for wallet in (self.wallet, checksum_address(self.wallet)):
            respelled = b"%b:%b" % (wallet.encode(), rest)
            if respelled != self.message:
                yield personal_digest(respelled)


def parse_signed_headers(
    *, wallet: str | None, signature: str | None, timestamp: str | None, nonce: str | None
) -> SignedHeaders:
    """Parses the four headers' texts; None is a header that was not sent.

    Raises AuthMissing if one is absent or empty, TimestampExpired if the timestamp is not a number
    of milliseconds, and SignatureInvalid for anything else that breaks the contract.
    """
    if not (wallet and signature and timestamp and nonce):
        raise _missing(
            {
                "X-Wallet-Address": wallet,
                "X-Signature": signature,
                "X-Timestamp": timestamp,
                "X-Nonce": nonce,
            }
        )
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise TimestampExpired(
            "X-Timestamp must be Unix time in milliseconds, in decimal digits.",
            header="X-Timestamp",
        )
    if len(timestamp) <= _DIGITS_OF_SECONDS:
        raise TimestampExpired(
            "X-Timestamp is in seconds: send milliseconds, as a whole number.", header="X-Timestamp"
        )
    if _NONCE.fullmatch(nonce) is None:
        raise SignatureInvalid(
            "X-Nonce must be a UUID, written 8-4-4-4-12 in hex digits.", header="X-Nonce"
        )
    matched = _SIGNATURE.fullmatch(signature)
    if matched is None or len(matched[1]) % 2:
        raise SignatureInvalid(
            "X-Signature must be hex digits: 65 bytes, "
            f"or as many as a contract wallet needs, up to {MAX_SIGNATURE_BYTES}.",
            header="X-Signature",
        )
    try:
        address = parse_address(wallet)
    except ValueError:
        raise SignatureInvalid(
            "X-Wallet-Address must be 0x and 40 hex digits.", header="X-Wallet-Address"
        ) from None
    return SignedHeaders(
        wallet=Wallet(address),
        timestamp_ms=int(timestamp),
        nonce=nonce.lower(),
        message=f"{wallet}:{timestamp}:{nonce}".encode("ascii"),
        signature=bytes.fromhex(matched[1]),
    )


def _missing(sent: dict[str, str | None]) -> AuthMissing:
    """Names the headers that were not sent, if others were."""
    missing = [name for name, value in sent.items() if not value]
    if len(missing) == len(sent):
        return AuthMissing(header=missing[0])
    verb = "is" if len(missing) == 1 else "are"
    return AuthMissing(
        f"{' and '.join(missing)} {verb} missing. {AuthMissing.__doc__}", header=missing[0]
    )


def signed_body_digest(content_digest: str | None) -> bytes:
    """Returns the SHA-256 in a Content-Digest header (RFC 9530); without one, that of no body.

    Raises SignatureInvalid unless it contains exactly one.
    """
    if content_digest is None:
        return NO_BODY
    members = [member.strip(" \t") for member in content_digest.split(",")]
    named = [member for member in members if member.startswith("sha-256=")]
    matched = _SHA_256.fullmatch(named[0]) if len(named) == 1 else None
    if matched is None:
        raise SignatureInvalid(
            "Content-Digest must be sha-256=:…:, the body's SHA-256 in base64.",
            header="Content-Digest",
        )
    return b64decode(matched[1])


def personal_digest(message: bytes) -> bytes:
    """Returns the 32 bytes that personal_sign signs. Source: EIP-191, version 0x45."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message))


def written_out(compact: bytes) -> bytes | None:
    """Returns the 65 bytes of a compact signature (EIP-2098); None for another length."""
    if len(compact) != _COMPACT_BYTES:
        return None
    s = bytes([compact[32] & 0x7F]) + compact[33:]
    return compact[:32] + s + bytes([27 + (compact[32] >> 7)])


def recover_signer(digest: bytes, signature: bytes) -> Wallet:
    """Returns the wallet whose key signed the 32 bytes of `digest` (r, s, v: 65 bytes).

    v is 27 or 28, or 0 or 1 as some signers write it. Raises SignatureInvalid for any other v or
    length, for r or s out of range, for a high s (EIP-2: else each signature has a second form),
    and if no key fits.
    """
    recovery_id = _RECOVERY_IDS.get(signature[64]) if len(signature) == 65 else None
    if recovery_id is None or not 0 < int.from_bytes(signature[32:64], "big") <= _HALF_ORDER:
        raise SignatureInvalid
    try:
        # It also checks r: not zero, within the group's order, and a point on the curve.
        key = PublicKey.from_signature_and_message(signature[:64] + recovery_id, digest, None)
    except ValueError:
        raise SignatureInvalid from None
    return Wallet(key_address(key.format(compressed=False)))

"""Parses the JSON of payment headers, and the EIP-3009 authorization in it, of x402 and of MPP."""

import re
from base64 import b64decode, urlsafe_b64decode
from binascii import b2a_base64
from typing import TypeVar

import msgspec

from moorage.address import parse_address
from moorage.chains.eip3009 import MAX_SIGNATURE_BYTES, TransferAuthorization
from moorage.chains.receipt import parse_bytes32
from moorage.errors import PaymentMalformed
from moorage.money import atomic_units

MAX_HEADER_BYTES = 16 * 1024

_Body = TypeVar("_Body")

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def canonical_json(value: object) -> bytes:
    """Returns `value` in RFC 8785's canonical form.

    Strings must be ASCII and numbers safe integers: sorting by code points then equals sorting by
    UTF-16 units, and numbers need no special form.
    """
    return msgspec.json.encode(value, order="sorted")


def encode_base64url(content: bytes) -> str:
    """Encodes as base64url without padding (RFC 4648 §5)."""
    return b2a_base64(content, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


def encode_base64(content: bytes) -> str:
    """Encodes as base64 with padding (RFC 4648 §4)."""
    return b2a_base64(content, newline=False).decode("ascii")


def decode_base64url(text: str, body: type[_Body], *, field: str) -> _Body:
    """Decodes JSON from base64url without padding. Raises PaymentMalformed, naming `field`."""
    if len(text) > MAX_HEADER_BYTES or _BASE64URL.fullmatch(text) is None:
        raise PaymentMalformed(field, "must be base64url without padding, 16 KiB at most")
    try:
        return _decode_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)), body)
    except ValueError as error:
        raise PaymentMalformed(field, f"must be base64url of JSON ({error})") from error


def decode_base64(text: str, body: type[_Body], *, field: str) -> _Body:
    """Decodes JSON from base64 with padding. Raises PaymentMalformed, naming `field`."""
    if len(text) > MAX_HEADER_BYTES:
        raise PaymentMalformed(field, "must be 16 KiB at most")
    try:
        return _decode_json(b64decode(text, validate=True), body)
    except ValueError as error:
        raise PaymentMalformed(field, f"must be base64 of JSON ({error})") from error


def _decode_json(content: bytes, body: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(content, type=body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


_UINT256 = re.compile(r"[0-9]{1,78}")
_SIGNATURE = re.compile(rf"0x(?:[0-9a-fA-F]{{2}}){{1,{MAX_SIGNATURE_BYTES}}}")


class WrittenAuthorization(msgspec.Struct, frozen=True, rename="camel"):
    """The members of an authorization: numbers are strings of decimal digits, the rest is hex."""

    payer: str = msgspec.field(name="from")
    recipient: str = msgspec.field(name="to")
    value: str
    valid_after: str
    valid_before: str
    nonce: str


def read_authorization(
    written: WrittenAuthorization, *, signature: str, chain_id: int, token_address: str, field: str
) -> TransferAuthorization:
    """Returns the authorization for the token at `token_address`. Raises PaymentMalformed.

    The error names `field`. A signature has 1 to MAX_SIGNATURE_BYTES bytes; whether it is the
    payer's isn't checked here.
    """
    with PaymentMalformed.of(field):
        return TransferAuthorization(
            chain_id=chain_id,
            token_address=parse_address(token_address),
            payer=parse_address(written.payer),
            recipient=parse_address(written.recipient),
            value=atomic_units(parse_uint256(written.value)),
            valid_after=parse_uint256(written.valid_after),
            valid_before=parse_uint256(written.valid_before),
            nonce=parse_bytes32(written.nonce),
            signature=_parse_signature(signature),
        )


def parse_uint256(text: str) -> int:
    """Parses a string of decimal digits as a number below 2**256. Raises ValueError."""
    if _UINT256.fullmatch(text) is None or (value := int(text)) >= 2**256:
        raise ValueError("a uint256 is written in decimal digits")
    return value


def _parse_signature(text: str) -> bytes:
    if _SIGNATURE.fullmatch(text) is None:
        raise ValueError(f"a signature is 0x and hex of {MAX_SIGNATURE_BYTES} bytes at most")
    return bytes.fromhex(text[2:])

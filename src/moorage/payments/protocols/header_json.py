"""JSON in payment headers: encoded as base64, bounded in size, and parsed strictly."""

import re
from base64 import b64decode, urlsafe_b64decode
from binascii import b2a_base64
from typing import TypeVar

import msgspec

from moorage.errors import PaymentMalformed

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

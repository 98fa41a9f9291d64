"""Finds what is taken for a payment's hash by mistake: 32 bytes of hex where none is read (2.6).

Many other things are 32 bytes of hex: digests, signatures' parts, keys, nonces, traces. So what is
named after one of these is never taken for a hash, and digits without 0x only where the name speaks
of a payment or a transaction.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec

_HASH = re.compile(r"0[xX][0-9a-fA-F]{64}")
_DIGITS = re.compile(r"[0-9a-fA-F]{64}")
_OF_A_PAYMENT = re.compile(r"tx|transaction|pay(?!load)|receipt|proof", re.IGNORECASE)
_OF_SOMETHING_ELSE = re.compile(
    r"digest|sha\d|hmac|checksum|etag|match|integrity|content|commit|merkle|root|block|image|build"
    r"|sign|key|secret|salt|seed|password|mnemonic|cookie|session|csrf|token$|auth|challenge|nonce"
    r"|idempot|trace|span|correlation|request|fingerprint|env|variable|vars",
    re.IGNORECASE,
)
_MAX_VALUES = 256
_MAX_DEPTH = 4
_SHOWN_LENGTH = 64


class MisplacedHash(msgspec.Struct, frozen=True):
    """Where a hash stands that is not read there, and the hash: 0x and 64 lower-case digits."""

    field: str
    tx_hash: str


def misplaced_hash(values: Mapping[str, object]) -> MisplacedHash | None:
    """Returns the first hash among values that nobody reads, by their names; None without one."""
    for _, (path, value) in zip(range(_MAX_VALUES), _texts(values, "", _MAX_DEPTH), strict=False):
        if len(value) in (64, 66) and _is_hash(path, value) and not _OF_SOMETHING_ELSE.search(path):
            field = path[:_SHOWN_LENGTH].encode(errors="replace").decode()
            return MisplacedHash(field, f"0x{value[-64:].lower()}")
    return None


def _is_hash(path: str, value: str) -> bool:
    if _HASH.fullmatch(value):
        return True
    return bool(_DIGITS.fullmatch(value) and _OF_A_PAYMENT.search(path))


def _texts(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yields each text with its dotted path; lists don't add to that."""
    if isinstance(value, str):
        yield path, value.strip()
    elif depth and isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{path}.{name}" if path else str(name), depth - 1)
    elif depth and isinstance(value, list):
        for each in value:
            yield from _texts(each, path, depth - 1)

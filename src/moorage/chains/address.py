"""Account addresses: one spelling to compare, and one to display."""

import re
from functools import lru_cache

from moorage.signing.keccak import keccak256

_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")


def parse_address(text: str) -> str:
    """Returns `text` in the form for comparisons: `0x` and 40 lower-case hex digits.

    Any letter case is accepted, and the EIP-55 checksum is not checked, as clients spell their
    wallet in different ways. Raises ValueError for anything else, surrounding spaces included.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("an address is 0x and 40 hex digits")
    return text.lower()


def key_address(public_key: bytes) -> str:
    """Returns the account of an uncompressed public key: 65 bytes, the first of which is 4."""
    return "0x" + keccak256(public_key[1:])[-20:].hex()


@lru_cache(maxsize=4096)  # the same few are shown again and again, in every 402 a dozen times
def checksum_address(text: str) -> str:
    """Returns `text` in EIP-55's mixed case, for display. Raises ValueError as parse_address."""
    digits = parse_address(text)[2:]
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if nibble >= "8" else digit
        for digit, nibble in zip(digits, digest, strict=False)
    )

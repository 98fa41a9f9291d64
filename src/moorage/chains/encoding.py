"""Parses the two hex encodings of Ethereum's JSON-RPC strictly: quantities and byte strings."""

import re

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_BYTES32 = re.compile(r"0x[0-9a-fA-F]{64}")


def parse_quantity(text: object) -> int:
    """Parses a quantity such as `"0xa4b1"`, from 0 to 2**256 - 1. Raises ValueError otherwise."""
    if not isinstance(text, str) or _QUANTITY.fullmatch(text) is None:
        raise ValueError("a quantity is 0x and 1 to 64 hex digits")
    return int(text, 16)


def parse_bytes32(text: object) -> str:
    """Returns 32 bytes as lower-case hex with `0x`. Raises ValueError for anything else."""
    if not isinstance(text, str) or _BYTES32.fullmatch(text) is None:
        raise ValueError("32 bytes are 0x and 64 hex digits")
    return text.lower()

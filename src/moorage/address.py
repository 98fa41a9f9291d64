"""The address at which an app answers HTTP: a unix socket on this machine, or a TCP port."""

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from moorage.signing import keccak256

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


_UNIX = "unix:"
_TCP = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([1-9][0-9]{0,4})\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """`unix:/path`, or `host:port` with an IPv6 address in brackets. Raises ValueError."""

    text: str

    def __post_init__(self) -> None:
        path = self.path
        if not (path.is_absolute() if path else _TCP.match(self.text)):
            raise ValueError(f"{self.text!r} is neither unix:/path nor host:port")

    @classmethod
    def unix(cls, path: Path) -> Self:
        """The unix socket at an absolute path."""
        return cls(f"{_UNIX}{path}")

    @property
    def path(self) -> Path | None:
        """The unix socket; None for a TCP port."""
        return Path(self.text.removeprefix(_UNIX)) if self.text.startswith(_UNIX) else None

    async def connect(
        self, *, limit: int = 65_536
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a connection whose reader buffers `limit` bytes. Raises OSError."""
        if self.path is not None:
            return await asyncio.open_unix_connection(str(self.path), limit=limit)
        host, _, port = self.text.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port), limit=limit)

    def __str__(self) -> str:
        return self.text

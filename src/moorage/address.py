"""The address at which an app answers HTTP: a unix socket on this machine, or a TCP port."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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

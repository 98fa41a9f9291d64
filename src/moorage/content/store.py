"""The interface of content stores, and the rule for keys."""

import re
from pathlib import Path
from typing import NamedTuple, Protocol

_PART = r"[a-z0-9][a-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}")


class Item(NamedTuple):
    """One stored file."""

    key: str
    size: int
    changed_at_ms: int  # by the store's clock


class ContentStore(Protocol):
    """Keeps files under keys. All methods raise ContentUnavailable when the outcome is not known.

    A key has up to eight parts of lower-case letters, digits, `.`, `_` and `-`, with slashes
    between; ValueError for any other.
    """

    async def put(self, key: str, source: Path) -> None:
        """Stores a copy of a file, in place of what the key had; readers find one or the other."""
        ...

    async def get(self, key: str, target: Path) -> None:
        """Writes a copy to `target`, whole or not at all. Raises FileNotFoundError."""
        ...

    async def exists(self, key: str) -> bool:
        """Returns whether the key has a file."""
        ...

    async def items(self, prefix: str) -> list[Item]:
        """Returns the files whose keys begin with `prefix`, a key, and a slash; by key."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the key's file, if it has one."""
        ...


def check_key(key: str) -> str:
    """Returns the key. Raises ValueError for one that breaks the rule."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} is not a key of a content store")
    return key

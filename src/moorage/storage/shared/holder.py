"""Who holds used nonces and counts, and the mark, which is known when they are lost."""

from dataclasses import dataclass
from typing import NamedTuple

TABLES = ""
"""The holder that is PostgreSQL's own tables."""


class Mark(NamedTuple):
    """A logged row: no used nonce has a timestamp above it, and who holds those below it.

    A holder that is replaced gets no nonces above the mark of that moment, and its successor
    refuses all up to it. So a gateway may go on with an older mark: what that lets pass at the
    holder of then, nobody lets pass elsewhere.
    """

    timestamp_ms: int
    holder: str


class HolderAway(Exception):
    """The holder can't be reached, or refuses."""


@dataclass(frozen=True, kw_only=True)
class ValkeyServer:
    """What a Valkey server says of itself."""

    name: str  # Valkey or Redis
    version: tuple[int, int]
    replica: bool  # it can only be read
    evicts: str  # the policy by which it forgets keys when its memory is full

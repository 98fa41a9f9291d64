"""How a log lies in a content store: in pieces of whole lines, under their first bytes' positions.

A store can't append to a file. So the last piece is replaced by a longer one until it is large, and
the next lines begin another. No piece goes over the end of a segment, so pieces can go as segments.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moorage.content.store import Item
from moorage.records.deployment import LogKind

PIECE_BYTES = 128 * 1024
"""From this size on a piece is not replaced; it may be as large as a segment."""

_PREFIX = "logs"
_POSITION = re.compile(r"[0-9]{16}", re.ASCII)


class Piece(NamedTuple):
    """A part of a log: a segment of the log on the disk, or a file in the store."""

    position: int  # of its first byte in the whole log
    size: int

    @property
    def end(self) -> int:
        """The position behind it."""
        return self.position + self.size


class Put(NamedTuple):
    """Bytes of a log that are to be one piece."""

    segment: int  # the position of the segment that has them
    position: int
    end: int


class Changes(NamedTuple):
    """What makes the pieces in a store those of a log."""

    puts: tuple[Put, ...]
    removed: tuple[int, ...]  # the positions of pieces


def changes(segments: Iterable[Piece], stored: Sequence[Piece]) -> Changes:
    """Returns what is to be put for a log of these segments, and which pieces are to go then."""
    sizes = dict(stored)
    kept, puts = set[int](), []
    for segment in segments:
        position = segment.position
        while position < segment.end:
            kept.add(position)
            end = position + sizes.get(position, 0)
            is_done = end == segment.end or end - position >= PIECE_BYTES
            if not is_done or end > segment.end:
                puts.append(Put(segment.position, position, segment.end))
                break
            position = end
    return Changes(tuple(puts), tuple(it.position for it in stored if it.position not in kept))


def unbroken(pieces: Iterable[Piece]) -> list[Piece]:
    """Returns the newest pieces of which each begins where another ends, the oldest first."""
    found: list[Piece] = []
    for piece in sorted(pieces, reverse=True):
        if found and piece.end != found[-1].position:
            break
        found.append(piece)
    return found[::-1]


def log_prefix(deployment_id: str, kind: LogKind | None = None) -> str:
    """Returns what the keys of a log begin with; without a kind, of all that a deployment has."""
    return "/".join(filter(None, (_PREFIX, deployment_id, kind)))


def piece_key(deployment_id: str, kind: LogKind, position: int) -> str:
    """Returns the key of a piece."""
    return f"{log_prefix(deployment_id, kind)}/{position:016d}"


def pieces_of(items: Iterable[Item], deployment_id: str, kind: LogKind) -> list[Piece]:
    """Returns the pieces of a log among a store's files."""
    prefix = f"{log_prefix(deployment_id, kind)}/"
    found = ((item.key.removeprefix(prefix), item.size) for item in items)
    return [Piece(int(name), size) for name, size in found if _POSITION.fullmatch(name)]

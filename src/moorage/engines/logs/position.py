"""How far an engine has come with output that it fetches, and what it has had already.

Lines that have a time of their own, in nanoseconds, can be fetched again from a time on. Several
may bear the same time: so the position counts those of the last one.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec

from moorage.whole_file import replace_file

_NS_A_SECOND = 1_000_000_000
_MOMENT = re.compile(r"([0-9-]+T[0-9:]+)(?:\.([0-9]{1,9})[0-9]*)?(Z|[+-][0-9]{2}:[0-9]{2})")


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """After a line of a source."""

    source: str  # what writes the lines, such as a pod
    starts: int = 0  # how often it was started again
    last_ns: int = 0  # the time of the last line, Unix time
    count: int = 0  # how many lines of that time there were

    @classmethod
    def read(cls, path: Path, *, source: str) -> Self:
        """Returns the position in a file; before all lines if that is another source's."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return cls(source=source)
        return found if found.source == source else cls(source=source)

    def write(self, path: Path) -> None:
        """Writes the file atomically. Raises OSError."""
        replace_file(path, msgspec.json.encode(self))

    def after(self, at_ns: int) -> Self:
        """Returns the position after one more line."""
        count = self.count + 1 if at_ns == self.last_ns else 1
        return msgspec.structs.replace(self, last_ns=at_ns, count=count)


class Fresh:
    """Tells which lines of a source that is read again from a position's time on are new."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._seen = 0  # lines of the position's own time

    def takes(self, at_ns: int) -> bool:
        """Returns whether a line of this time comes after the position."""
        if at_ns != self._position.last_ns:
            return at_ns > self._position.last_ns
        self._seen += 1
        return self._seen > self._position.count


def parse_ns(moment: bytes) -> int | None:
    """Returns a time such as 2026-01-31T10:00:00.123456789Z in Unix nanoseconds."""
    found = _MOMENT.fullmatch(moment.decode("ascii", "replace"))
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    try:
        seconds = int(datetime.fromisoformat(whole + zone).timestamp())
    except ValueError:
        return None
    return seconds * _NS_A_SECOND + int((fraction or "").ljust(9, "0"))


def to_second(at_ns: int) -> str:
    """Returns the second of a time as RFC 3339."""
    return datetime.fromtimestamp(at_ns // _NS_A_SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

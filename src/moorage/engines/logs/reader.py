"""Reads a log from a position, from a time, or its last lines, without waiting for writers."""

from collections.abc import Iterator
from pathlib import Path

from moorage.engines.engine import Cursor, LogLine, LogPage
from moorage.engines.logs.store import ERR, GATEWAY, OUT, segment_path, segments
from moorage.records.deployment import LogStream

PAGE_BYTES = 1024 * 1024
"""The maximum of a page, in bytes as on disk."""

_STREAMS = {OUT: LogStream.OUT, ERR: LogStream.ERR, GATEWAY: LogStream.GATEWAY}
_BACK_BYTES = 64 * 1024
_TRIES = 5  # segments may be deleted while they are read


def read_log(
    log: Path, *, after: Cursor = 0, since_ms: int = 0, tail: int | None = None, limit: int
) -> LogPage:
    """Returns at most `limit` lines, as `Engine.read_log`; an empty page if there is no log."""
    for _ in range(_TRIES):
        view = _View(log)
        try:
            return _page(view, view.start(after=after, since_ms=since_ms, tail=tail), limit)
        except FileNotFoundError:
            continue  # a segment was deleted meanwhile: start again
    return LogPage(lines=(), next=after)


class _View:
    """A log's segments as they were at one moment. Methods raise FileNotFoundError."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._segments = segments(log)
        self.begin = self._segments[0][0] if self._segments else 0
        self.end = sum(self._segments[-1]) if self._segments else 0

    def read(self, position: int, count: int) -> bytes:
        """Returns up to `count` bytes from `position`."""
        pieces = []
        for start, size in self._segments:
            skipped = max(0, position - start)
            if skipped < size and count > 0:
                with segment_path(self._log, start).open("rb") as segment:
                    segment.seek(skipped)
                    piece = segment.read(min(count, size - skipped))
                pieces.append(piece)
                count -= len(piece)
        return b"".join(pieces)

    def start(self, *, after: Cursor, since_ms: int, tail: int | None) -> int:
        """Returns where the requested lines begin; an `after` beyond the end counts as 0."""
        position = max(self.begin, after if after <= self.end else 0)
        if since_ms:
            position = max(position, self._of_time(since_ms))
        if tail is not None:
            position = max(position, self._of_tail(tail, position))
        return self._aligned(position)

    def _aligned(self, position: int) -> int:
        """Returns `position`, or the next one at which a line begins."""
        if position in (self.begin, self.end):
            return position
        piece = self.read(position - 1, PAGE_BYTES)
        return position + piece.find(b"\n") if b"\n" in piece else self.end

    def _of_time(self, since_ms: int) -> int:
        """Returns the first line that is not older: finds the segment first, then the line."""
        earlier = [start for start, _ in self._segments if self._time_at(start) < since_ms]
        if not earlier:
            return self.begin
        position = earlier[-1]
        for raw in self.read(position, PAGE_BYTES).split(b"\n")[:-1]:
            if _time(raw) >= since_ms:
                break
            position += len(raw) + 1
        return position

    def _time_at(self, position: int) -> int:
        return _time(self.read(position, 32))

    def _of_tail(self, lines: int, floor: int) -> int:
        """Returns where the last `lines` lines begin, or as many as fit in a page."""
        floor = max(floor, self.end - PAGE_BYTES)
        position, found = self.end, 0
        while position > floor:
            begin = max(floor, position - _BACK_BYTES)
            piece = self.read(begin, position - begin)
            for offset in _line_ends(piece):
                found += 1
                if found > lines:
                    return begin + offset + 1
            position = begin
        return floor


def _line_ends(piece: bytes) -> Iterator[int]:
    """Returns the offsets of line feeds, the last first."""
    offset = piece.rfind(b"\n")
    while offset >= 0:
        yield offset
        offset = piece.rfind(b"\n", 0, offset)


def _page(view: _View, position: int, limit: int) -> LogPage:
    data = view.read(position, PAGE_BYTES)
    *whole, rest = data.split(b"\n")  # the rest is being written, or continues on the next page
    lines = []
    for raw in whole[:limit]:
        position += len(raw) + 1
        lines.append(_line(raw, position))
    if not whole and len(rest) == PAGE_BYTES:  # left by a crash of the machine: skipped
        position += len(rest)
    return LogPage(lines=tuple(lines), next=position)


def _time(raw: bytes) -> int:
    digits = raw.partition(b" ")[0]
    return int(digits) if digits.isdigit() else 0


def _line(raw: bytes, position: int) -> LogLine:
    """Parses a line; one damaged by a crash of the machine is returned as it is, without a time."""
    digits, _, rest = raw.partition(b" ")
    stream = _STREAMS.get(rest[:1])
    if stream is None or not digits.isdigit() or rest[1:2] != b" ":
        return LogLine(0, LogStream.OUT, raw.decode("utf-8", "replace"), position)
    return LogLine(int(digits), stream, rest[2:].decode("utf-8", "replace"), position)

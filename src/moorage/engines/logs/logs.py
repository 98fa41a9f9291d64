"""The logs of one machine's deployments: writing them, reading them, and how far they are read."""

import contextlib
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, Unpack

import msgspec

from moorage.clock import Clock
from moorage.engines.engine import Cursor, Lines, LogLine, LogPage
from moorage.engines.logs import store
from moorage.engines.logs.collecting import Collecting
from moorage.engines.logs.collector import Pipes
from moorage.engines.logs.store import ERR, GATEWAY, OUT, segment_path, segments
from moorage.errors import ContentUnavailable
from moorage.records.deployment import LogKind, LogStream
from moorage.threads import in_thread
from moorage.whole_file import replace_file

PAGE_BYTES = 1024 * 1024
"""The maximum of a page, in bytes as on disk."""

_STREAMS = {OUT: LogStream.OUT, ERR: LogStream.ERR, GATEWAY: LogStream.GATEWAY}
_BACK_BYTES = 64 * 1024
_TRIES = 5  # segments may be deleted while they are read


def read_log(
    log: Path,
    *,
    after: Cursor = 0,
    since_ms: int = 0,
    tail: int | None = None,
    limit: int = 10_000,
) -> LogPage:
    """As `Engine.read_log`."""
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


_TAIL_LINES = 10_000


@dataclass(frozen=True, kw_only=True)
class Logs:
    """Logs and pipes in a deployment's directory, which apps can't reach. Methods block."""

    directory: Path
    collecting: Collecting | None  # None where nothing is written into pipes
    clock: Clock
    changed: Callable[[str, LogKind], None] | None = None  # called with the deployment's id

    def create(self) -> None:
        """Makes the logs, unless they exist; keeps lines of an earlier attempt."""
        for kind in LogKind:
            self.of(kind).mkdir(parents=True, exist_ok=True, mode=0o700)

    def open_pipes(self, kind: LogKind) -> Pipes:
        """Opens pipes for a command's output; close them once it runs. Raises OSError."""
        pipes = Pipes(self.directory / "pipes", kind)
        if self.collecting is not None:
            self.collecting.watch(self.directory.name, kind)
        return pipes

    def drain(self, kind: LogKind) -> None:
        """Waits until everything written so far is in the log."""
        if self.collecting is not None:
            self.collecting.drain(self.directory.name, kind)

    def append(self, kind: LogKind, letter: bytes, lines: Sequence[bytes], *, at_ms: int) -> None:
        """Writes lines; does nothing if there is no log, or no space."""
        cap = store.CAP_BYTES[kind]
        with contextlib.suppress(OSError):
            store.append(self.of(kind), letter, lines, at_ms=at_ms, cap_bytes=cap)
            if self.changed is not None:
                self.changed(self.directory.name, kind)

    def note(self, kind: LogKind, text: str) -> None:
        """Writes a line of the gateway's; does nothing if there is no log, or no space."""
        line = text.replace("\n", " ").encode("utf-8", "replace")[: store.LINE_BYTES]
        self.append(kind, store.GATEWAY, [line], at_ms=self.clock.now_ms())

    def read(self, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        """As `Engine.read_log`."""
        return read_log(self.of(kind), **lines)

    def last_words(self) -> str:
        """Returns the end of the app's log, after all that was written so far is in it."""
        self.drain(LogKind.RUNTIME)
        return self.tail(LogKind.RUNTIME)

    def tail(self, kind: LogKind, max_chars: int = 8192) -> str:
        """Returns the end of a log, as text."""
        page = read_log(self.of(kind), tail=_TAIL_LINES, limit=_TAIL_LINES)
        return "".join(f"{line.text}\n" for line in page.lines)[-max_chars:]

    def is_empty(self, kind: LogKind) -> bool:
        """Returns whether the log is empty."""
        return not store.segments(self.of(kind))

    def copy_from(self, other: "Logs", kind: LogKind) -> None:
        """Replaces this log by another deployment's. Raises OSError."""
        shutil.rmtree(self.of(kind), ignore_errors=True)
        shutil.copytree(other.of(kind), self.of(kind))

    def of(self, kind: LogKind) -> Path:
        """Returns the directory of a log's segments."""
        return self.directory / "logs" / kind


class LogReading(ABC):
    """The part of an `Engine` that is the same for all that keep logs in directories."""

    @abstractmethod
    def _logs(self, deployment_id: str) -> Logs:
        """Returns the logs of a deployment, which need not exist. Raises ValueError for no id."""

    async def _readable(self, deployment_id: str, kind: LogKind) -> Logs:
        """Returns the logs of a deployment, of which this kind is here as far as it is written."""
        del kind
        return self._logs(deployment_id)

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        """As `Engine.read_log`."""
        logs = await self._readable(deployment_id, kind)
        return await in_thread(logs.read, kind, **lines)

    async def note(self, deployment_id: str, text: str, *, log: LogKind = LogKind.RUNTIME) -> None:
        """As `Engine.note`; ignores errors in writing."""
        with suppress(ContentUnavailable):
            logs = await self._readable(deployment_id, log)
            await in_thread(logs.note, log, text)

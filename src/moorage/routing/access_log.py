"""Reads the requests of each app from the proxy's access log, across rotations.

The log has one JSON line for each request that has ended. A request that was sent to an app has the
field `served` with the host; if the gateway answered in place of the app, it also has `page`.
`probe` is the token that the gateway sends with its own requests. `latency` is the time in ms until
the app began to answer, `held` the time before, if the request waited for it to be started. A
rotated file is renamed and never changed again.
"""

import contextlib
import hashlib
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from moorage.records.consumption import SPAN_MS
from moorage.records.traffic import Batch, Position, Traffic

_BATCH_BYTES = 512 * 1024  # some 4,000 lines, 10 ms; every line is much shorter
_HEAD_BYTES = 128  # of the first line at most; its time makes it unique
_ROLL_TRIES = 10


class _Line(msgspec.Struct):
    ts: float
    status: int = 0
    bytes_read: int = 0
    size: int = 0
    served: str | UnsetType = UNSET
    page: msgspec.Raw | UnsetType = UNSET
    probe: str = ""
    latency: float | None = None  # null, then again, in a line of a request that was sent twice
    held: float | None = None


_decoder = msgspec.json.Decoder(_Line)


class AccessLog:
    """Reads `path` and its rotated files, `access-<time>….log` beside it. Blocks.

    Skips lines whose `probe` is `probe_token`.
    """

    def __init__(self, path: Path, *, probe_token: str) -> None:
        self._path = path
        self._probe_token = probe_token
        self._at_end: tuple[Position, tuple[int, int]] | None = None

    def read(self, position: Position | None) -> Batch | None:
        """Returns the next batch after `position`; None when there is nothing new.

        Starts at the oldest line when `position` is None, or its file is gone.
        """
        if self._at_end is not None and self._at_end == (position, self._size()):
            return None
        files = self._files()
        found = _index_of(files, position)
        at = found or 0
        offset = position.offset if position is not None and found is not None else 0
        while at < len(files):
            data = _whole_lines(files[at], offset)
            if data:
                there = Position(_head(files[at]) or "", offset + len(data))
                return self._parsed(data, there)
            at, offset = at + 1, 0
        self._at_end = None if position is None else (position, self._size())
        return None

    def _size(self) -> tuple[int, int]:
        """Returns inode and size of the file that is being written; zeros if there is none."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return (0, 0)
        return (status.st_ino, status.st_size)

    def _files(self) -> list[Path]:
        """Returns the log's files, oldest first; lists again if one was rotated meanwhile."""
        pattern = f"{self._path.stem}-*{self._path.suffix}"
        for _ in range(_ROLL_TRIES):
            before = self._size()[0]
            rolled = sorted(self._path.parent.glob(pattern))
            if self._size()[0] == before:
                break
        return [path for path in (*rolled, self._path) if _head(path) is not None]

    def _parsed(self, data: bytes, position: Position) -> Batch:
        batch = Batch(position=position, traffic={}, tried=frozenset())
        tried = set()
        for text in data.split(b"\n"):
            try:
                line = _decoder.decode(text)
            except msgspec.DecodeError:
                continue  # the empty text after the last newline, or not a line of ours
            if not line.served or (line.probe and line.probe == self._probe_token):
                continue
            tried.add(line.served)
            if line.page is UNSET:
                _count(batch, line.served, line)
        batch.tried = frozenset(tried)
        return batch


def _count(batch: Batch, host: str, line: _Line) -> None:
    at_ms = int(line.ts * 1000)
    span = at_ms - at_ms % SPAN_MS
    traffic = batch.traffic.get((host, span))
    if traffic is None:
        traffic = batch.traffic[host, span] = Traffic()
    traffic.count(status=line.status, bytes_in=line.bytes_read, bytes_out=line.size, at_ms=at_ms)
    if line.latency is not None:
        traffic.count_latency(line.latency)
    if line.held is not None:
        traffic.count_held(line.held)


def _index_of(files: list[Path], position: Position | None) -> int | None:
    """Returns the index of the file that `position` is in; None when it is in none."""
    if position is None:
        return None
    return next((index for index, path in enumerate(files) if _head(path) == position.head), None)


def _head(path: Path) -> str | None:
    """Returns a digest that identifies a file; None if it is gone or has no line yet."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        first = file.readline(_HEAD_BYTES)
        if len(first) == _HEAD_BYTES or first.endswith(b"\n"):
            return hashlib.sha256(first).hexdigest()[:32]
    return None


def _whole_lines(path: Path, offset: int) -> bytes:
    """Returns up to a batch of bytes from `offset`, whole lines only."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(_BATCH_BYTES)
    except FileNotFoundError:
        return b""
    end = data.rfind(b"\n") + 1
    return data if not end and len(data) == _BATCH_BYTES else data[:end]

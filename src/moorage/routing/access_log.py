"""Reads the requests of each app from the proxy's log.

The log has one line for each request to an app that has ended: the time in ms, the host, the
status, the bytes in and out (headers included), the time in ms until the app began to answer, the
same with the time for which the request waited until the app was started before it and `/` between,
`app` if the app answered, and the token that marks the gateway's own requests; `-` for none.

Each process of the proxy has a file of its own, which it locks (flock(2)) until it ends, so that a
proxy that another has replaced can still write. What has been counted is taken away from the
disk: of a file that grows, its beginning (fallocate(2), a hole); of a process that has ended, all.
So nothing is renamed, and no line is lost or counted twice.
"""

import contextlib
import ctypes
import fcntl
import os
import time
from pathlib import Path

import structlog

from moorage.records.usage import SPAN_MS, Batch, Position, Traffic

log = structlog.get_logger()

_BATCH_BYTES = 512 * 1024  # some 8,000 lines; every line is much shorter
_HOLE_BYTES = 1 << 20  # that are taken away at a time
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02  # linux/falloc.h
_SUFFIX = ".log"


def open_log(directory: Path) -> int:
    """Returns the descriptor of a new file for a process, locked as long as that has it open."""
    directory.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(directory / f"{time.time_ns():020}{_SUFFIX}", flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


class AccessLog:
    """Reads the files in a directory. Blocks. Skips lines whose probe is `probe_token`."""

    def __init__(self, directory: Path, *, probe_token: str) -> None:
        self._directory = directory
        self._probe_token = probe_token
        self._taken_bytes: dict[str, int] = {}

    def read(self, position: Position | None) -> Batch | None:
        """Returns the next batch after `position`; None when there is nothing new.

        What lies before `position` has been counted: it is taken away.
        """
        known = {} if position is None else _offsets(position)
        offsets: dict[str, int] = {}
        found = b""
        for file in self._files():
            offset = offsets[file] = known.get(file, 0)
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(self._directory / file, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if not found:
                        offsets[file], found = _lines(descriptor, offset)
                    if not found and self._is_done(descriptor, offset):
                        (self._directory / file).unlink()
                    else:
                        self._take_away(descriptor, file, offset)
                finally:
                    os.close(descriptor)
        return self._parsed(found, _position(offsets)) if found else None

    def _files(self) -> list[str]:
        try:
            names = os.listdir(self._directory)  # noqa: PTH208 (many times a minute)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith(_SUFFIX))

    def _is_done(self, descriptor: int, offset: int) -> bool:
        """Returns whether nothing is left to be read, and nobody will write any more."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.fstat(descriptor).st_size <= offset or not _lines(descriptor, offset)[1]

    def _take_away(self, descriptor: int, file: str, until: int) -> None:
        """Frees the disk's space before an offset, where the file system can."""
        length = until - until % _HOLE_BYTES
        if length <= self._taken_bytes.get(file, 0):
            return
        self._taken_bytes[file] = length
        if _fallocate(descriptor, _KEEP_SIZE_PUNCH_HOLE, 0, length):
            self._taken_bytes[file] = 1 << 62  # it is not tried again
            reason = os.strerror(ctypes.get_errno())
            log.warning("the proxy's log takes ever more space", file=file, error=reason)

    def _parsed(self, data: bytes, position: Position) -> Batch:
        batch = Batch(position=position, traffic={}, tried=frozenset())
        tried = set()
        for line in data.decode("latin-1").splitlines():
            try:
                at_ms, host, status, bytes_in, bytes_out, latency, held, by, probe = line.split(" ")
                if probe == self._probe_token != "":
                    continue
                tried.add(host)
                if by != "app":
                    continue
                at = int(at_ms)
                traffic = batch.traffic.setdefault((host, at - at % SPAN_MS), Traffic())
                traffic.count(
                    status=int(status), bytes_in=int(bytes_in), bytes_out=int(bytes_out), at_ms=at
                )
                if held != "-":
                    whole_ms, _, latency = held.partition("/")
                    traffic.count_held(int(whole_ms) - int(latency))
                traffic.count_latency(max(int(latency), 1))  # the log's are rounded down
            except ValueError:
                continue  # not a line of ours, or the rest of one, behind a hole
        batch.tried = frozenset(tried)
        return batch


def _lines(descriptor: int, offset: int) -> tuple[int, bytes]:
    """Returns whole lines that follow an offset, and the offset behind them."""
    try:
        start = os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # nothing follows
        return offset, b""
    data = os.pread(descriptor, _BATCH_BYTES, start)
    end = data.rfind(b"\n") + 1
    return (start + end, data[:end]) if end else (offset, b"")


def _offsets(position: Position) -> dict[str, int]:
    """Returns how far each file has been read: `<file>:<offset> ...`."""
    pairs = (text.rpartition(":") for text in position.head.split(" "))
    return {file: int(offset) for file, colon, offset in pairs if colon and offset.isdecimal()}


def _position(offsets: dict[str, int]) -> Position:
    head = " ".join(f"{file}:{offset}" for file, offset in offsets.items())
    return Position(head, sum(offsets.values()))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_fallocate = _libc.fallocate

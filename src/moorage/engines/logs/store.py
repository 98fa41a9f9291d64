"""A log on disk: a directory of segments, which several processes may append to.

A segment's name is the position of its first byte in the whole log, so that a position stays good
when older segments are dropped. Lines are `<unix ms> <o|e|g> <text>`: what an app wrote to stdout,
to stderr, what the gateway says. Only the standard library is used, for the collector's sake.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

LINE_BYTES = 16 * 1024
"""The most text in one line; what is longer comes in pieces."""

CAP_BYTES = {"build": 4 * 1024 * 1024, "runtime": 8 * 1024 * 1024}
"""The most that a log of each kind takes on disk."""

OUT, ERR, GATEWAY = b"o", b"e", b"g"

_SEGMENT_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024  # how much is written at once; a single line may be a little more
_DIGITS = 16


def append(log: Path, letter: bytes, texts: Sequence[bytes], *, at_ms: int, cap_bytes: int) -> None:
    """Put lines at the end of a log, dropping its oldest segments so that it keeps the cap.

    No text may hold a line feed. Raises OSError; FileNotFoundError when there is no such log.
    """
    with _alone(log):
        for block in _blocks(letter, texts, at_ms):
            _append_block(log, block, cap_bytes)


def segments(log: Path) -> list[tuple[int, int]]:
    """Position and size, in bytes, of each segment, oldest first; none without a log.

    One that is dropped meanwhile is left out.
    """
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(log) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.append((int(entry.name), entry.stat().st_size))
    return sorted(found)


def segment_path(log: Path, position: int) -> Path:
    """Where the segment that begins at `position` lies."""
    return log / f"{position:0{_DIGITS}d}"


@contextlib.contextmanager
def _alone(log: Path) -> Iterator[None]:
    """While collector and gateway append to one log, each waits for the other."""
    directory = os.open(log, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _blocks(letter: bytes, texts: Sequence[bytes], at_ms: int) -> Iterator[bytes]:
    prefix = b"%d %b " % (at_ms, letter)
    block: list[bytes] = []
    size = 0
    for text in texts:
        added = len(prefix) + len(text) + 1
        if block and size + added > _BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
        block += (prefix, text, b"\n")
        size += added
    if block:
        yield b"".join(block)


def _append_block(log: Path, block: bytes, cap_bytes: int) -> None:
    position, size = max(segments(log), default=(0, 0))
    if size:
        size += _end_line(segment_path(log, position), size)
    if size and size + len(block) > _SEGMENT_BYTES:
        position += size
        _drop_below(log, position + _SEGMENT_BYTES - cap_bytes)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    _write(segment_path(log, position), flags, block)


def _end_line(segment: Path, size: int) -> int:
    """End the last line where a crash or a full disk cut it short; how many bytes that took."""
    with segment.open("rb") as reading:
        reading.seek(size - 1)
        if reading.read(1) == b"\n":
            return 0
    _write(segment, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, b"\n")
    return 1


def _write(segment: Path, flags: int, block: bytes) -> None:
    descriptor = os.open(segment, flags, 0o600)
    try:
        if os.write(descriptor, block) < len(block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(segment))
    finally:
        os.close(descriptor)


def _drop_below(log: Path, position: int) -> None:
    for start, _ in segments(log):
        if start < position:
            segment_path(log, start).unlink(missing_ok=True)

"""A log on disk: a directory of segments, to which several processes may append.

A segment's name is the position of its first byte in the whole log, so that positions stay valid
when older segments are deleted. Lines are `<unix ms> <o|e|g> <text>`: from an app's stdout, its
stderr, or the gateway. Uses only the standard library, as the collector imports it.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

LINE_BYTES = 16 * 1024
"""The maximum text of a line; longer lines are split."""

CAP_BYTES = {"build": 4 * 1024 * 1024, "runtime": 8 * 1024 * 1024}
"""The maximum size on disk of a log of each kind."""

OUT, ERR, GATEWAY = b"o", b"e", b"g"

_SEGMENT_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024  # the maximum of one write
_DIGITS = 16


def append(log: Path, letter: bytes, texts: Sequence[bytes], *, at_ms: int, cap_bytes: int) -> None:
    """Appends lines to a log, and deletes its oldest segments to keep it within `cap_bytes`.

    No text may contain a line feed. Raises OSError; FileNotFoundError if there is no such log.
    """
    with _alone(log):
        for block in _blocks(letter, texts, at_ms):
            _append_block(log, block, cap_bytes)


def segments(log: Path) -> list[tuple[int, int]]:
    """Returns position and size, in bytes, of each segment, oldest first; none without a log.

    Omits a segment that is deleted meanwhile.
    """
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(log) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.append((int(entry.name), entry.stat().st_size))
    return sorted(found)


def segment_path(log: Path, position: int) -> Path:
    """Returns the path of the segment that begins at `position`."""
    return log / f"{position:0{_DIGITS}d}"


@contextlib.contextmanager
def _alone(log: Path) -> Iterator[None]:
    """Locks the log, to which both the collector and the gateway append."""
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
    """Ends the last line if a crash or a full disk cut it; returns how many bytes that took."""
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

"""Consumed nonces on disk, so that a restart remembers them.

The journal is a directory of segments, files that are only appended to, of 32-byte records:

    BEGIN  first in each segment: the floor, and where the segment was written
    MARK   a promise: nonces not yet forced to disk have timestamps up to this one
    USED   a consumed nonce: the timestamp it was signed with, and its digest

Appending leaves a record with the operating system, which costs a microsecond and outlives the
process, however that ends. Only the end of the machine can take it away again, back to what was
last forced to disk. So a start on the same boot of the machine reads back every nonce and refuses
nobody; after a reboot it raises the floor to the last MARK, which covers all that may be missing.
Timestamps up to the floor are refused for ever, and that is why old segments may be deleted: once
a floor above all their nonces has been forced to disk.
"""

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

DIGEST_BYTES = 16
NEVER_MS = -1  # before any timestamp

_BODY = struct.Struct("<Bxxxq16s")
_CHECKSUM = struct.Struct("<I")
_RECORD_BYTES = _CHECKSUM.size + _BODY.size
_UNTRUSTED_BOOT = bytes(8)

Sync = Callable[[int], None]
force_to_disk: Sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Kind(IntEnum):
    """What a record says; the module's docstring describes each."""

    BEGIN = 1
    MARK = 2
    USED = 3


class Record(NamedTuple):
    """`place` is a USED record's digest, or a BEGIN record's boot and inode."""

    kind: int
    time_ms: int
    place: bytes


class Recovered(NamedTuple):
    """What a journal remembers: refuse timestamps up to the floor, and these nonces."""

    floor_ms: int
    used: list[tuple[int, bytes]]


class _Segment(NamedTuple):
    path: Path
    newest_ms: int  # the latest timestamp of its nonces


class NonceJournal:
    """The journal in `directory`, opened by one process: `recover`, then `begin` and `switch`.

    Every method may raise OSError. `append`, `promise` and `switch` are for the event loop;
    `begin`, `sync` and `drop` wait for the disk and may run in one other thread meanwhile.
    `boot_id` names the machine's boot; `sync` forces the file or directory behind a descriptor to
    disk.
    """

    def __init__(self, directory: Path, *, boot_id: str, sync: Sync = force_to_disk) -> None:
        self._directory = directory
        self._boot = blake2b(boot_id.encode(), digest_size=8).digest()
        self._force = sync
        self._segments: list[_Segment] = []  # no longer appended to, oldest first
        self._retired: list[int] = []  # their descriptors, as far as not yet forced to disk
        self._fd = -1
        self._number = 0  # of the segment appended to
        self._highest_number = 0
        self._newest_ms = NEVER_MS

    @property
    def is_new(self) -> bool:
        """Whether no process left a segment here."""
        return not self._segments

    def recover(self, *, lost_floor_ms: int) -> Recovered:
        """What earlier processes left, now forced to disk.

        Where a segment is a copy of the one that was written (a restored backup), nobody can tell
        what it lacks: then the floor is at least `lost_floor_ms`.
        """
        floor_ms = mark_ms = NEVER_MS
        same_boot = True
        used: list[tuple[int, bytes]] = []
        for path in sorted(self._directory.glob("*.log")):
            self._highest_number = max(self._highest_number, int(path.stem))
            inode, records = self._read(path)
            if not records or records[0].kind != Kind.BEGIN:
                continue  # never came into use: a segment is begun on disk before it does
            begin = records[0]
            nonces = [(time_ms, place) for kind, time_ms, place in records if kind == Kind.USED]
            marks = [time_ms for kind, time_ms, _ in records if kind == Kind.MARK]
            newest_ms = max((time_ms for time_ms, _ in nonces), default=NEVER_MS)
            self._segments.append(_Segment(path, newest_ms))
            used += nonces
            mark_ms = marks[-1] if marks else mark_ms
            same_boot = begin.place[:8] == self._boot
            is_copy = begin.place[8:] != inode
            floor_ms = max(floor_ms, begin.time_ms, lost_floor_ms if is_copy else NEVER_MS)
        floor_ms = floor_ms if same_boot else max(floor_ms, mark_ms)
        return Recovered(floor_ms, used)

    def begin(self, *, floor_ms: int, mark_ms: int, trusted: bool = True) -> int:
        """A new segment's descriptor for `switch`; its floor and mark are on disk.

        `mark_ms` is at least the mark in force. After an untrusted segment, every restart is taken
        for a reboot.
        """
        self._highest_number += 1
        path = self._path(self._highest_number)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            boot = self._boot if trusted else _UNTRUSTED_BOOT
            _write(fd, Kind.BEGIN, floor_ms, boot + _inode(fd))
            _write(fd, Kind.MARK, mark_ms, bytes(DIGEST_BYTES))
            self._force(fd)
            self._force_directory()
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return fd

    def switch(self, fd: int) -> None:
        """Append to the segment begun as `fd` from now on."""
        if self._fd >= 0:
            self._segments.append(_Segment(self._path(self._number), self._newest_ms))
            self._retired.append(self._fd)
        self._fd = fd
        self._number = self._highest_number
        self._newest_ms = NEVER_MS

    def append(self, timestamp_ms: int, digest: bytes) -> None:
        """Record a consumed nonce; safe from the end of the process when this returns."""
        _write(self._fd, Kind.USED, timestamp_ms, digest)
        self._newest_ms = max(self._newest_ms, timestamp_ms)

    def promise(self, mark_ms: int) -> None:
        """Record that whatever is appended from now on and not synced is up to `mark_ms`.

        In force once synced. A mark lower than the one before needs a sync before it as well.
        """
        _write(self._fd, Kind.MARK, mark_ms, bytes(DIGEST_BYTES))

    def sync(self) -> None:
        """Force everything appended before this call to disk: safe from the machine's end."""
        for fd in self._retired:
            self._force(fd)
        self._force(self._fd)
        self.forget_retired()

    def forget_retired(self) -> None:
        """Close the descriptors of retired segments, synced or given up."""
        while self._retired:
            os.close(self._retired.pop())

    def drop(self, *, floor_ms: int) -> None:
        """Delete the segments all of whose nonces lie under `floor_ms`, a floor already on disk."""
        for segment in self._segments:
            if segment.newest_ms <= floor_ms:
                segment.path.unlink(missing_ok=True)
        self._segments = [segment for segment in self._segments if segment.newest_ms > floor_ms]

    def close(self) -> None:
        """Close without a sync. Appending raises OSError from here on."""
        self.forget_retired()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.log"

    def _read(self, path: Path) -> tuple[bytes, list[Record]]:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            self._force(fd)
            return _inode(fd), list(_records(file.read()))

    def _force_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._force(fd)
        finally:
            os.close(fd)


def _write(fd: int, kind: Kind, time_ms: int, place: bytes) -> None:
    body = _BODY.pack(kind, time_ms, place)
    if os.write(fd, _CHECKSUM.pack(zlib.crc32(body)) + body) != _RECORD_BYTES:
        raise OSError(errno.ENOSPC, "the disk took only part of a record")


def _records(content: bytes) -> Iterator[Record]:
    """The intact records of a segment; the end of a machine may have left holes between them."""
    for start in range(0, len(content) - _RECORD_BYTES + 1, _RECORD_BYTES):
        body = content[start + _CHECKSUM.size : start + _RECORD_BYTES]
        if _CHECKSUM.unpack_from(content, start)[0] == zlib.crc32(body):
            yield Record(*_BODY.unpack(body))


def _inode(fd: int) -> bytes:
    return os.fstat(fd).st_ino.to_bytes(8, "little")

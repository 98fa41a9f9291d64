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
from collections.abc import Callable
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

DIGEST_BYTES = 16
NEVER_MS = -1  # before any timestamp

_RECORD = struct.Struct("<IBxxxq16s")  # checksum, kind, time, digest or place
_UNTRUSTED_BOOT = bytes(8)

Sync = Callable[[int], None]
force_to_disk: Sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Kind(IntEnum):
    """What a record says; the module's docstring describes each."""

    BEGIN = 1
    MARK = 2
    USED = 3


_USED = int(Kind.USED)  # spares the request path an enum's conversion


class Recovered(NamedTuple):
    """What a journal remembers: refuse timestamps up to the floor, and these nonces."""

    floor_ms: int
    used: list[tuple[int, bytes]]


class _Content(NamedTuple):
    """What a segment says; `begun_at` is the boot and inode it was begun with."""

    floor_ms: int
    begun_at: bytes
    mark_ms: int | None
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
            inode, content = self._read(path)
            if content is None:
                continue  # never came into use: a segment is begun on disk before it does
            newest_ms = max((time_ms for time_ms, _ in content.used), default=NEVER_MS)
            self._segments.append(_Segment(path, newest_ms))
            used += content.used
            mark_ms = mark_ms if content.mark_ms is None else content.mark_ms
            same_boot = content.begun_at[:8] == self._boot
            is_copy = content.begun_at[8:] != inode
            floor_ms = max(floor_ms, content.floor_ms, lost_floor_ms if is_copy else NEVER_MS)
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
            _write(fd, _checked(Kind.BEGIN, floor_ms, boot + _inode(fd)))
            _write(fd, _checked(Kind.MARK, mark_ms))
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
        _write(self._fd, _RECORD.pack(0, _USED, timestamp_ms, digest))
        self._newest_ms = max(self._newest_ms, timestamp_ms)

    def promise(self, mark_ms: int) -> None:
        """Record that whatever is appended from now on and not synced is up to `mark_ms`.

        In force once synced. A mark lower than the one before needs a sync before it as well.
        """
        _write(self._fd, _checked(Kind.MARK, mark_ms))

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

    def _read(self, path: Path) -> tuple[bytes, _Content | None]:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            self._force(fd)
            return _inode(fd), _parse(file.read())

    def _force_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._force(fd)
        finally:
            os.close(fd)


def _write(fd: int, record: bytes) -> None:
    if os.write(fd, record) != len(record):
        raise OSError(errno.ENOSPC, "the disk took only part of a record")


def _checked(kind: Kind, time_ms: int, place: bytes = bytes(DIGEST_BYTES)) -> bytes:
    checksum = zlib.crc32(_RECORD.pack(0, kind, time_ms, place))
    return _RECORD.pack(checksum, kind, time_ms, place)


def _parse(content: bytes) -> _Content | None:
    """What a segment says, None if it was never begun.

    The end of a machine may leave holes and rubbish in it. BEGIN and MARK records, which lift
    refusals, are therefore checked; a USED record that nobody wrote refuses a nonce nobody has.
    """
    used: list[tuple[int, bytes]] = []
    begin: tuple[int, bytes] | None = None
    mark_ms: int | None = None
    whole = len(content) - len(content) % _RECORD.size
    for checksum, kind, time_ms, place in _RECORD.iter_unpack(memoryview(content)[:whole]):
        if kind == _USED:
            used.append((time_ms, place))
        elif checksum != zlib.crc32(_RECORD.pack(0, kind, time_ms, place)):
            continue
        elif kind == Kind.BEGIN and begin is None:
            begin = (time_ms, place)
        elif kind == Kind.MARK:
            mark_ms = time_ms
    return None if begin is None else _Content(*begin, mark_ms, used)


def _inode(fd: int) -> bytes:
    return os.fstat(fd).st_ino.to_bytes(8, "little")

"""Holds uploads whose deployment is not admitted yet, in memory or on disk, within limits.

When it is full, the uploaders with the most bytes lose an upload first. So an attacker who fills it
from a few addresses cannot keep out uploads from other addresses.
"""

import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from moorage.errors import NoCapacity, TooManyUploads, UploadDisplaced


class UploadLimits(msgspec.Struct, frozen=True):
    """The limits of one request body and of what it unpacks to. Every limit is inclusive."""

    body_bytes: int = 50 * 1024 * 1024
    """The raw JSON body. The contract's “50 MB” is taken as 50 MiB, the larger of two meanings."""

    files: int = 5_000
    """Files of one upload. An archive may hold four times as many entries of any kind."""

    path_length: int = 1_024
    """One path, in UTF-8 bytes."""

    path_depth: int = 64
    """Components of one path, the file's own name included."""

    component_length: int = 255
    """One component of a path, in UTF-8 bytes: the maximum of Linux file systems."""

    unpacked_bytes: int = 256 * 1024 * 1024
    """All files of an archive together, counted while they are inflated."""

    archive_ratio: int = 100
    """Unpacked bytes per packed byte, per file and in total; 1 MiB is always allowed."""

    skeleton_bytes: int = 1024 * 1024
    """The body without file contents: names, settings, punctuation."""

    nesting_depth: int = 32
    """Objects and arrays inside one another."""

    containers: int = 20_000
    """Objects and arrays in all: four times `files`, each of which is one object."""

    memory_bytes: int = 256 * 1024
    """Contents held in memory, all files together; what does not fit is spooled to disk."""


_MIB = 1024 * 1024
_RETRY_SECONDS = 30
_PAY_FIRST = (
    "Your uploads take all the room here that uploads get before they are paid for. Send this one "
    "again when others of yours are over, or make it smaller. Wallets that paid once, such as with "
    "POST /agent/credits, have room of their own. A payment that was made still counts."
)


class Uploader(NamedTuple):
    """Who uploads: a wallet that has paid before, else the client address, as keys are free."""

    key: str
    has_paid: bool


class Arriving(Protocol):
    """A body that is being received."""

    @property
    def is_over(self) -> bool:
        """Whether all of it has arrived."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer the client may take: less for a slower one."""
        ...

    def displace(self) -> None:
        """Makes it end soon with UploadDisplaced; may be called from any thread."""
        ...


class RoomLimits(msgspec.Struct, frozen=True):
    """Bytes on disk: for strangers and for wallets that paid, of all together and of each one."""

    strangers_bytes: int = 1024 * _MIB
    stranger_bytes: int = 341 * _MIB  # the largest upload, and the 256 MiB that it unpacks to
    paid_bytes: int = 4096 * _MIB
    wallet_bytes: int = 1024 * _MIB


class Allowance:
    """The disk space that one upload takes of a `SpoolRoom`."""

    def __init__(self, room: "SpoolRoom", uploader: Uploader, arriving: Arriving) -> None:
        self.uploader = uploader
        self.arriving = arriving
        self.taken_bytes = 0
        self.is_displaced = False
        self._room = room

    def take(self, count: int) -> None:
        """Reserves `count` bytes before they are written. Raises as `SpoolRoom.take` does."""
        self._room.take(self, count)

    def give_back(self, count: int) -> None:
        """Gives back `count` bytes after they were removed."""
        self._room.give_back(self, count)

    def close(self) -> None:
        """Gives back everything, after it was removed. Closing again does nothing."""
        self._room.give_back(self, self.taken_bytes)


class SpoolRoom:
    """The disk space that all uploads share in `directory`; leaves `reserve_bytes` of it free."""

    def __init__(self, directory: Path, *, limits: RoomLimits, reserve_bytes: int) -> None:
        self._directory = directory
        self._limits = limits
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()  # archives are unpacked in threads
        self._allowances: set[Allowance] = set()  # those that have taken something

    def allowance(self, uploader: Uploader, arriving: Arriving) -> Allowance:
        """Returns an allowance for one upload, which closes it."""
        return Allowance(self, uploader, arriving)

    def take(self, allowance: Allowance, count: int) -> None:
        """Adds `count` bytes to an allowance, and displaces larger uploaders if there is no room.

        Raises NoCapacity when the disk is full, TooManyUploads when there is nobody to displace,
        and UploadDisplaced when this upload was displaced before.
        """
        with self._lock:
            if allowance.is_displaced:
                raise UploadDisplaced
            if shutil.disk_usage(self._directory).free - count < self._reserve_bytes:
                raise NoCapacity
            self._make_room(allowance, count)
            allowance.taken_bytes += count
            self._allowances.add(allowance)

    def give_back(self, allowance: Allowance, count: int) -> None:
        """Subtracts `count` bytes from an allowance."""
        with self._lock:
            allowance.taken_bytes -= count
            if allowance.taken_bytes <= 0:
                self._allowances.discard(allowance)

    def _make_room(self, allowance: Allowance, count: int) -> None:
        limits, has_paid = self._limits, allowance.uploader.has_paid
        of_one = limits.wallet_bytes if has_paid else limits.stranger_bytes
        of_all = limits.paid_bytes if has_paid else limits.strangers_bytes
        held = self._held(has_paid=has_paid)
        while held[allowance.uploader] + count > of_one or held.total() + count > of_all:
            is_own_limit = held[allowance.uploader] + count > of_one
            victim = self._slowest(allowance, held, own_alone=is_own_limit)
            if victim is None:
                raise TooManyUploads(_RETRY_SECONDS, _PAY_FIRST)
            held[victim.uploader] -= victim.taken_bytes
            victim.is_displaced = True
            self._allowances.discard(victim)
            victim.arriving.displace()

    def _held(self, *, has_paid: bool) -> Counter[Uploader]:
        held: Counter[Uploader] = Counter()
        for allowance in self._allowances:
            if allowance.uploader.has_paid == has_paid:
                held[allowance.uploader] += allowance.taken_bytes
        return held

    def _slowest(
        self, newcomer: Allowance, held: Counter[Uploader], *, own_alone: bool
    ) -> Allowance | None:
        """Returns the slowest upload that still arrives, of the uploader with the most bytes.

        It considers uploaders with more bytes than the newcomer's, unless `own_alone`, and then the
        newcomer's own.
        """
        larger = () if own_alone else _larger(held, than=held[newcomer.uploader])
        for uploader in (*larger, newcomer.uploader):
            arriving = [
                each
                for each in self._allowances
                if each.uploader == uploader and each is not newcomer and not each.arriving.is_over
            ]
            if arriving:
                return min(arriving, key=lambda each: each.arriving.seconds_left)
        return None


def _larger(held: Counter[Uploader], *, than: int) -> Iterator[Uploader]:
    return (uploader for uploader, taken_bytes in held.most_common() if taken_bytes > than)


PREFIX = "upload-"


class SpoolFile:
    """A file (0600) with contents of one upload, one after the other."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=parent)
        self.path = Path(name)
        self.size = 0

    def append(self, piece: bytes) -> None:
        """Appends `piece`. Raises OSError, for instance when the disk is full."""
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def read(self, offset: int, size: int) -> bytes:
        """Returns at most `size` bytes from `offset` on."""
        return os.pread(self._descriptor, size, offset)

    def copy(self, offset: int, size: int, to: int) -> None:
        """Copies `size` bytes from `offset` on to the descriptor `to`; uses no memory for them."""
        end = offset + size
        while offset < end:
            copied = os.sendfile(to, self._descriptor, offset, end - offset)
            if not copied:
                raise EOFError(f"{self.path} is shorter than it should be")
            offset += copied

    def truncate(self, size: int) -> None:
        """Cuts the file to `size` bytes."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def opened(self, flags: int) -> int:
        """Returns a descriptor of the file for another process; the caller closes it."""
        return os.open(self.path, flags | os.O_CLOEXEC)

    def measured(self) -> int:
        """Updates and returns `size`, after another process wrote to the file."""
        self.size = os.fstat(self._descriptor).st_size
        return self.size

    def detach(self) -> Path:
        """Closes the file and leaves it to the caller. It can be called only once."""
        os.close(self._descriptor)
        return self.path

    def close(self) -> None:
        """Removes the file. It can be called only once."""
        os.close(self._descriptor)
        self.path.unlink()


class Content:
    """The bytes of one file: `data`, or `size` bytes of `file` from `offset` on."""

    __slots__ = ("data", "executable", "file", "offset", "size")

    def __init__(
        self,
        size: int,
        data: bytes,
        *,
        file: SpoolFile | None = None,
        offset: int = 0,
        executable: bool = False,
    ) -> None:
        self.size = size
        self.data = data
        self.file = file
        self.offset = offset
        self.executable = executable

    def read(self, limit: int) -> bytes:
        """Returns the first `limit` bytes."""
        if self.file is None:
            return self.data[:limit]
        return self.file.read(self.offset, min(limit, self.size))


class Spool:
    """Collects the contents of one upload, one after the other, from pieces.

    All contents together take at most `memory_bytes` of memory. What does not fit is written to a
    file below `parent`, which is made when needed.
    """

    def __init__(
        self, parent: Path, *, memory_bytes: int, allowance: Allowance | None = None
    ) -> None:
        """Bytes on disk are taken from `allowance`, which may raise; `close` closes it."""
        self._parent = parent
        self._allowance = allowance
        self._free = memory_bytes
        self._file: SpoolFile | None = None  # the one that contents are appended to
        self._made: list[SpoolFile] = []
        self._size = 0
        self._pieces: list[bytes] = []
        self._is_spooling = False

    @property
    def on_disk(self) -> bool:
        """Whether anything was written to disk, so that `close` may block."""
        return bool(self._made)

    def write(self, piece: bytes) -> None:
        """Appends `piece` to the current content."""
        self._size += len(piece)
        if self._is_spooling:
            self._append(piece)
            return
        self._pieces.append(piece)
        if self._size > self._free:
            self._is_spooling = True
            for held in self._pieces:
                self._append(held)
            self._pieces.clear()

    def finish(self) -> Content:
        """Ends the current content and returns it; it may be empty."""
        size = self._size
        if self._is_spooling:
            file = self._spooled()
            content = Content(size, b"", file=file, offset=file.size - size)
        else:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            content = Content(size, data)
            self._free -= size
        self._pieces.clear()
        self._size = 0
        self._is_spooling = False
        return content

    def discard(self, content: Content) -> None:
        """Removes the content that was finished last, and frees its space."""
        if content.file is None:
            self._free += content.size
        else:
            content.file.truncate(content.offset)
            if self._allowance is not None:
                self._allowance.give_back(content.size)
        content.data = b""

    def new_file(self) -> SpoolFile:
        """Makes another file. If another process writes it, call `filled` afterwards.

        Raises NoCapacity when the disk is full.
        """
        self._take(0)
        file = SpoolFile(self._parent)
        self._made.append(file)
        return file

    def filled(self, file: SpoolFile) -> None:
        """Counts what another process wrote to `file`. Raises as the allowance does."""
        self._take(file.measured())

    def close(self) -> None:
        """Removes everything from disk. Closing again does nothing."""
        made, self._made, self._file = self._made, [], None
        self._pieces.clear()
        try:
            for file in made:
                file.close()
        finally:
            if self._allowance is not None:
                self._allowance.close()

    def _append(self, piece: bytes) -> None:
        self._take(len(piece))
        self._spooled().append(piece)

    def _take(self, count: int) -> None:
        if self._allowance is not None:
            self._allowance.take(count)

    def _spooled(self) -> SpoolFile:
        if self._file is None:
            self._file = self.new_file()
        return self._file


def sweep_spool(parent: Path) -> int:
    """Removes what uploads left below `parent` when their process was killed; returns how many.

    Call it at the gateway's start, before it takes requests: it removes uploads in progress too.
    """
    abandoned = list(parent.glob(f"{PREFIX}*"))
    for left in abandoned:
        if left.is_dir():  # made by earlier versions
            shutil.rmtree(left)
        else:
            left.unlink()
    return len(abandoned)

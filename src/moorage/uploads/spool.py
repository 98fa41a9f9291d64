"""Holds the contents of an upload: in memory while they are small, otherwise on disk."""

import os
import shutil
import tempfile
from pathlib import Path

from moorage.uploads.room import Allowance

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

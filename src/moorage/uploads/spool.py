"""Where the contents of an upload wait: in memory while they are small, beyond that on disk."""

import os
import shutil
import tempfile
from pathlib import Path

from moorage.uploads.room import Allowance

_PREFIX = "upload-"


class SpoolFile:
    """A file of one upload (0600), in which its contents lie one behind the other."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=parent)
        self.path = Path(name)
        self.size = 0

    def append(self, piece: bytes) -> None:
        """Adds `piece` at the end. Raises OSError, such as for a full disk."""
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        return os.pread(self._descriptor, size, offset)

    def copy(self, offset: int, size: int, to: int) -> None:
        """Writes `size` bytes from `offset` on to the descriptor `to`, without holding them."""
        end = offset + size
        while offset < end:
            copied = os.sendfile(to, self._descriptor, offset, end - offset)
            if not copied:
                raise EOFError(f"{self.path} is shorter than it should be")
            offset += copied

    def truncate(self, size: int) -> None:
        """Gives back what lies behind `size`."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def opened(self, flags: int) -> int:
        """A descriptor of the file for another process; the caller closes it."""
        return os.open(self.path, flags | os.O_CLOEXEC)

    def measured(self) -> int:
        """The file's length, after another process wrote it."""
        self.size = os.fstat(self._descriptor).st_size
        return self.size

    def close(self) -> None:
        """Removes the file. Once."""
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
        """The first `limit` bytes."""
        if self.file is None:
            return self.data[:limit]
        return self.file.read(self.offset, min(limit, self.size))


class Spool:
    """Takes the contents of one upload in, one after the other, in pieces.

    At most `memory_bytes` are held in memory, over all contents. What does not fit goes to a file
    below `parent`, which is made when first needed.
    """

    def __init__(
        self, parent: Path, *, memory_bytes: int, allowance: Allowance | None = None
    ) -> None:
        """What goes to disk is taken from `allowance`, which may raise, and is closed here."""
        self._parent = parent
        self._allowance = allowance
        self._free = memory_bytes
        self._file: SpoolFile | None = None  # that contents are added to
        self._made: list[SpoolFile] = []
        self._size = 0
        self._pieces: list[bytes] = []
        self._is_spooling = False

    @property
    def on_disk(self) -> bool:
        """Whether anything was written to disk, so that `close` may take a while."""
        return bool(self._made)

    def write(self, piece: bytes) -> None:
        """Adds `piece` to the content begun by the first write after the last `finish`."""
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
        """The content made of what was written since the last `finish`; it may be empty."""
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
        """Forgets the content that was finished last, and frees what it took."""
        if content.file is None:
            self._free += content.size
        else:
            content.file.truncate(content.offset)
            if self._allowance is not None:
                self._allowance.give_back(content.size)
        content.data = b""

    def new_file(self) -> SpoolFile:
        """A further file, for another process to fill; then it is `filled`.

        Raises NoCapacity where the disk has nothing to give.
        """
        self._take(0)
        file = SpoolFile(self._parent)
        self._made.append(file)
        return file

    def filled(self, file: SpoolFile) -> None:
        """Counts what another process wrote. Raises what the allowance does."""
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
    """Removes what uploads left below `parent` when their process was killed; gives how many.

    For the start of the gateway, before it takes requests: it would remove living uploads too.
    """
    abandoned = list(parent.glob(f"{_PREFIX}*"))
    for left in abandoned:
        if left.is_dir():  # as earlier versions spooled
            shutil.rmtree(left)
        else:
            left.unlink()
    return len(abandoned)

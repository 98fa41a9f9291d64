"""Where the contents of an upload wait: in memory while they are small, beyond that on disk."""

import shutil
import tempfile
from io import FileIO
from pathlib import Path

_PREFIX = "upload-"
_OWN_FILE_ABOVE = 64 * 1024  # below, creating a file costs more than writing it


class Content:
    """The bytes of one file: `data`, or `size` bytes of `file` from `offset` on."""

    __slots__ = ("data", "executable", "file", "offset", "shared", "size")

    def __init__(
        self,
        size: int,
        data: bytes,
        *,
        file: Path | None = None,
        offset: int = 0,
        shared: bool = False,
        executable: bool = False,
    ) -> None:
        self.size = size
        self.data = data
        self.file = file
        self.offset = offset
        self.shared = shared
        self.executable = executable

    def read(self, limit: int) -> bytes:
        """The first `limit` bytes."""
        if self.file is None:
            return self.data[:limit]
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(min(limit, self.size))


class Spool:
    """Takes the contents of one upload in, one after the other, in pieces.

    At most `memory_bytes` are held in memory, over all finished contents, and 64 KiB of the one
    that is arriving. What does not fit goes to a directory of the upload's own (0700), made below
    `parent` when first needed: contents above 64 KiB to a file each, the rest to a shared one.
    """

    def __init__(self, parent: Path, *, memory_bytes: int) -> None:
        self._parent = parent
        self._free = memory_bytes
        self._directory: Path | None = None
        self._files = 0
        self._size = 0
        self._pieces: list[bytes] = []
        self._own: FileIO | None = None
        self._shared: FileIO | None = None

    @property
    def on_disk(self) -> bool:
        """Whether anything was written to disk, so that `close` may take a while."""
        return self._directory is not None

    def write(self, piece: bytes) -> None:
        """Adds `piece` to the content begun by the first write after the last `finish`."""
        self._size += len(piece)
        if self._own is not None:
            _write_all(self._own, piece)
            return
        self._pieces.append(piece)
        if self._size > self._free and self._size > _OWN_FILE_ABOVE:
            self._own = self._create()
            for held in self._pieces:
                _write_all(self._own, held)
            self._pieces.clear()

    def finish(self, *, executable: bool = False) -> Content:
        """The content made of what was written since the last `finish`; it may be empty."""
        size = self._size
        if self._own is not None:
            content = Content(size, b"", file=Path(str(self._own.name)))
            self._own.close()
            self._own = None
        else:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            if size <= self._free:
                content = Content(size, data)
                self._free -= size
            else:
                content = self._share(data)
        self._pieces.clear()
        self._size = 0
        content.executable = executable
        return content

    def discard(self, content: Content) -> None:
        """Forgets a finished content, and frees what it took."""
        if content.file is None:
            self._free += content.size
        elif not content.shared:
            content.file.unlink(missing_ok=True)
        content.data = b""

    def close(self) -> None:
        """Removes everything from disk. Closing again does nothing."""
        for file in (self._own, self._shared):
            if file is not None:
                file.close()
        self._own = self._shared = None
        self._pieces.clear()
        if self._directory is not None:
            directory, self._directory = self._directory, None
            shutil.rmtree(directory)

    def _share(self, data: bytes) -> Content:
        if self._shared is None:
            self._shared = self._create()
        offset = self._shared.tell()
        _write_all(self._shared, data)
        file = Path(str(self._shared.name))
        return Content(len(data), b"", file=file, offset=offset, shared=True)

    def _create(self) -> FileIO:
        if self._directory is None:
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
        self._files += 1
        return FileIO(str(self._directory / str(self._files)), "x")


def sweep_spool(parent: Path) -> int:
    """Removes what uploads left below `parent` when their process was killed; gives how many.

    For the start of the gateway, before it takes requests: it would remove living uploads too.
    """
    abandoned = list(parent.glob(f"{_PREFIX}*"))
    for directory in abandoned:
        shutil.rmtree(directory)
    return len(abandoned)


def _write_all(file: FileIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]

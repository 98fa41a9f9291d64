"""Takes the files of a directory out of layers of an image, as an upload may have them.

The layers may be a stranger's. Below the target there are directories and files that were made here
alone, so that no link is ever followed. Blocking.
"""

import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO

from moorage.errors import DeployFailed, FailureCause

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_NO_NAMES = frozenset({"", ".", ".."})
_PIECE_BYTES = 1 << 20
_MAX_DEPTH = 64
_MAX_NAME_CHARS = 2048  # of a path: layers that Moorage writes have no longer ones
_MAX_ENTRIES = 1_000_000
_UNREADABLE = (tarfile.TarError, EOFError, zlib.error, ValueError)


class LayerFiles:
    """The files of a directory, as one layer after the other has them."""

    def __init__(
        self, target: Path, *, below: str, without: Collection[str], max_bytes: int
    ) -> None:
        """`target` is a directory that is there and empty; `without` are names of directories."""
        self._target = target
        self._below = below
        self._without = without
        self._left_bytes = max_bytes
        self._left_entries = _MAX_ENTRIES

    def add(self, layer: Path) -> None:
        """Puts what is in a layer over what those before it had.

        Raises DeployFailed, also for a layer that is none: another try would not read it either, as
        it has its digest. OSError.
        """
        try:
            with tarfile.open(layer, mode="r|gz", errors="surrogateescape") as archive:
                while (entry := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # it would remember each
                    self._take(entry, archive)
        except (*_UNREADABLE, FileExistsError, NotADirectoryError) as error:
            raise DeployFailed(
                FailureCause.INTERRUPTED, f"a layer of the image can't be read: {error}"
            ) from error

    def _take(self, entry: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        path = self._path(entry.name)
        if path is None:
            return
        self._count(0)
        if path.name == _OPAQUE:
            self._remove_below(path.parent)
        elif path.name.startswith(_WHITEOUT):
            if (name := path.name.removeprefix(_WHITEOUT)) not in _NO_NAMES:
                _remove(path.parent / name)
        elif entry.isdir():
            if not path.is_dir():
                _remove(path)
                path.mkdir(parents=True)
        elif entry.isreg() and (content := archive.extractfile(entry)) is not None:
            _make_room(path)
            self._write(path, content, executable=bool(entry.mode & 0o100))
        elif entry.islnk():
            self._copy(entry.linkname, path)
        else:  # it is left out, and in place of what was there
            _remove(path)

    def _write(self, path: Path, content: IO[bytes], *, executable: bool) -> None:
        with path.open("xb") as file:
            while piece := content.read(_PIECE_BYTES):
                self._count(len(piece))
                file.write(piece)
        path.chmod(0o755 if executable else 0o644)

    def _copy(self, origin: str, path: Path) -> None:
        """Gives a second name of a file that was taken a file of its own."""
        found = self._path(origin)
        if found is not None and found.is_file() and found != path:
            _make_room(path)
            self._count(found.stat().st_size)
            shutil.copy(found, path)

    def _path(self, name: str) -> Path | None:
        """Returns where an entry goes; None if it is not wanted."""
        first, *parts = name.split("/")
        if first != self._below or not parts:
            return None
        if any(part in _NO_NAMES or "\0" in part for part in parts):
            return None
        if set(parts) & set(self._without):
            return None
        if len(parts) > _MAX_DEPTH or len(name) > _MAX_NAME_CHARS:
            raise DeployFailed(
                FailureCause.BUILD_FAILED,
                "the app's directories are nested too deeply to be moved",
            )
        return Path(self._target, *parts)

    def _count(self, size_bytes: int) -> None:
        self._left_bytes -= size_bytes
        self._left_entries -= not size_bytes
        if self._left_bytes < 0 or self._left_entries < 0:
            raise DeployFailed(
                FailureCause.OUT_OF_DISK, "the app's files are more, or larger, than its disk holds"
            )

    def _remove_below(self, directory: Path) -> None:
        if directory.is_dir():
            for path in directory.iterdir():
                _remove(path)


def _make_room(path: Path) -> None:
    """Makes the directories above, and removes what has the name."""
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Source trees: the files of a checked upload, and those of a directory of this machine."""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.archive.project import OpenArchive, Part
from moorage.uploads.room import Content, Spool


@dataclass(frozen=True)
class ExportedVolume:
    """The volume in an open archive of a project."""

    archive: OpenArchive
    part: Part

    def write(self, target: Path) -> None:
        """Writes it to a new file. Raises ArchiveRefused, OSError. Blocks."""
        with target.open("xb") as out:
            self.archive.copy_part(self.part, out)


class Upload:
    """A `SourceTree` over received files, kept until `close`.

    Files keep their paths: a common top folder is not removed.
    """

    def __init__(
        self, contents: dict[str, Content], spool: Spool, *, volume: ExportedVolume | None = None
    ) -> None:
        self.volume = volume
        self._contents = contents
        self._spool = spool
        self._paths: tuple[str, ...] | None = None
        self._materialised = False

    @property
    def paths(self) -> Sequence[str]:
        """Every file's path, sorted."""
        if self._paths is None:
            self._paths = tuple(sorted(self._contents))
        return self._paths

    @property
    def total_bytes(self) -> int:
        """The length of all files together."""
        return sum(content.size for content in self._contents.values())

    @property
    def on_disk(self) -> bool:
        """Whether files were spooled to disk, so that `close` may block."""
        return self._spool.on_disk

    def content(self, path: str) -> Content:
        """Returns the file's content. Raises KeyError when there is no such file."""
        return self._contents[path]

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises KeyError when there is none."""
        return self._contents[path].size

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        """The file's first `limit` bytes. Raises KeyError when there is no such file."""
        return self._contents[path].read(limit)

    def materialise(self, destination: Path) -> None:
        """Writes every file below `destination`, an existing, empty directory; once per upload.

        Files are 0644 (0755 if an archive marked them executable), folders 0755. It blocks: run it
        in a thread. Raises OSError (disk full, destination not empty), and does not remove what it
        wrote.
        """
        if self._materialised:
            raise ValueError("this upload was materialised before")
        if any(destination.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "the destination is not empty", str(destination))
        self._materialised = True
        made = {""}
        for path in self.paths:
            _make_folder(destination, path.rpartition("/")[0], made)
            _place(self._contents[path], destination / path)

    def leave_volume(self) -> None:
        """Drops the volume, if there is one."""
        if self.volume is not None:
            self.volume.archive.source.close()
            self.volume = None

    def close(self) -> None:
        """Drops all files and removes those on disk. Closing again does nothing."""
        self._contents = {}
        self._paths = ()
        self.leave_volume()
        self._spool.close()


def _make_folder(destination: Path, folder: str, made: set[str]) -> None:
    if folder in made:
        return
    _make_folder(destination, folder.rpartition("/")[0], made)
    made.add(folder)
    path = destination / folder
    path.mkdir()
    path.chmod(0o755)  # whatever the umask


def _place(content: Content, target: Path) -> None:
    with target.open("xb") as file:
        os.fchmod(file.fileno(), 0o755 if content.executable else 0o644)  # whatever the umask
        if content.file is None:
            file.write(content.data)
        else:
            content.file.copy(content.offset, content.size, file.fileno())


class DirectoryTree:
    """A `SourceTree` over the files of `root` that `sizes` names, by their relative paths.

    It reads no other files, and these only when `read` is called.
    """

    def __init__(self, root: Path, sizes: Mapping[str, int]) -> None:
        self._root = root
        self._sizes = sizes
        self._paths = tuple(sorted(sizes))

    @property
    def paths(self) -> Sequence[str]:
        """Every file's path, sorted."""
        return self._paths

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises KeyError when there is none."""
        return self._sizes[path]

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        """The file's first `limit` bytes. Raises KeyError when there is no such file."""
        if path not in self._sizes:
            raise KeyError(path)
        with (self._root / path).open("rb") as file:
            return file.read(limit)

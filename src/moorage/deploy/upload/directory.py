"""A directory of this machine, as the upload it would be."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


class DirectoryTree:
    """A `SourceTree` over the regular files below a directory; links are not followed.

    The list of files and their sizes is taken once; contents are read when asked for.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sizes = dict(sorted(_files(root, "")))
        self._paths = tuple(self._sizes)

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


def directory_tree(root: Path) -> DirectoryTree:
    """The files below `root`. Raises OSError when it is no directory that can be read."""
    return DirectoryTree(root)


def _files(directory: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(directory / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False).st_size

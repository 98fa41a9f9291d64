"""A directory of this machine, as the upload it would be."""

from collections.abc import Mapping, Sequence
from pathlib import Path


class DirectoryTree:
    """A `SourceTree` over the files of `root` that `sizes` names, by their relative paths.

    Contents are read when asked for, and only of these files.
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

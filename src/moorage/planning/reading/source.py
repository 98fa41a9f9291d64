"""The files of an upload, as planning reads them: names first, contents on demand."""

from collections.abc import Sequence
from typing import Protocol


class SourceTree(Protocol):
    """A read-only tree of files. Paths are relative, `/`-separated, already validated as safe."""

    @property
    def paths(self) -> Sequence[str]:
        """Every file's path, sorted."""
        ...

    def size(self, path: str) -> int:
        """The file's length in bytes. Raises KeyError when there is none."""
        ...

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        """The file's first `limit` bytes. Raises KeyError when there is no such file."""
        ...

"""A source tree in memory, and small apps written as one text."""

import re
from collections.abc import Mapping, Sequence

_MARK = re.compile(r"^-- (.+) --\n", re.MULTILINE)


class MemoryTree:
    """A `SourceTree` over a dict; keeps account of what was read."""

    def __init__(self, files: Mapping[str, bytes | str]) -> None:
        self._files = {
            path: data.encode() if isinstance(data, str) else data for path, data in files.items()
        }
        self._paths = tuple(sorted(self._files))
        self.bytes_read = 0
        self.files_read: list[str] = []

    @property
    def paths(self) -> Sequence[str]:
        return self._paths

    def size(self, path: str) -> int:
        return len(self._files[path])

    def read(self, path: str, *, limit: int = 1_048_576) -> bytes:
        data = self._files[path][:limit]
        self.bytes_read += len(data)
        self.files_read.append(path)
        return data


def app_text(text: str) -> tuple[str, dict[str, str]]:
    """What comes before the first `-- path --` line, and the text of each file after one."""
    before, *parts = _MARK.split(text)
    return before, dict(zip(parts[::2], parts[1::2], strict=True))

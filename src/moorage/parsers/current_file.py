"""A page that a parser process shares with the gateway: the file that it reads right now.

When the process is killed, this is all that it has left to say.
"""

import mmap
import os

_LENGTH_BYTES = 2
_MAX_PATH_BYTES = 1024


class CurrentFile:
    """The page, by a descriptor of memory that both processes have."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    def write(self, path: str) -> None:
        """Says that `path` is read now."""
        data = path.encode(errors="replace")[:_MAX_PATH_BYTES]
        end = _LENGTH_BYTES + len(data)
        self._page[:_LENGTH_BYTES] = b"\0\0"  # never a length with another's path
        self._page[_LENGTH_BYTES:end] = data
        self._page[:_LENGTH_BYTES] = len(data).to_bytes(_LENGTH_BYTES, "big")

    def read(self) -> str | None:
        """What was said last; None for nothing. Whatever the other process wrote, it is a text."""
        length = int.from_bytes(self._page[:_LENGTH_BYTES], "big")
        if not 0 < length <= _MAX_PATH_BYTES:
            return None
        data = self._page[_LENGTH_BYTES : _LENGTH_BYTES + length]
        return data.decode(errors="replace").replace("\0", "\ufffd")

    def close(self) -> None:
        """Unmaps the page."""
        self._page.close()


def shared_memory() -> int:
    """A descriptor of one page of memory, which processes started with it inherit."""
    descriptor = os.memfd_create("moorage-parser", 0)
    os.ftruncate(descriptor, mmap.PAGESIZE)
    return descriptor

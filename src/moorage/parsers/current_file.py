"""A page of memory that a parser process shares with the gateway: which file it reads now.

When the process is killed, this still tells at which file.
"""

import mmap
import os

_LENGTH_BYTES = 2
_MAX_PATH_BYTES = 1024


class CurrentFile:
    """The shared page, mapped from a descriptor that both processes have."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    def write(self, path: str) -> None:
        """Stores that `path` is read now."""
        data = path.encode(errors="replace")[:_MAX_PATH_BYTES]
        end = _LENGTH_BYTES + len(data)
        self._page[:_LENGTH_BYTES] = b"\0\0"  # so that a length never goes with another path
        self._page[_LENGTH_BYTES:end] = data
        self._page[:_LENGTH_BYTES] = len(data).to_bytes(_LENGTH_BYTES, "big")

    def read(self) -> str | None:
        """Returns the path that was stored last, or None; valid text for any bytes in the page."""
        length = int.from_bytes(self._page[:_LENGTH_BYTES], "big")
        if not 0 < length <= _MAX_PATH_BYTES:
            return None
        data = self._page[_LENGTH_BYTES : _LENGTH_BYTES + length]
        return data.decode(errors="replace").replace("\0", "\ufffd")

    def close(self) -> None:
        """Unmaps the page."""
        self._page.close()


def shared_memory() -> int:
    """Returns a descriptor of one page of memory, for a `CurrentFile` in both processes."""
    descriptor = os.memfd_create("moorage-parser", 0)
    os.ftruncate(descriptor, mmap.PAGESIZE)
    return descriptor

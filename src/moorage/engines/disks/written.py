"""Counts the files that an app has written onto its disk since it was built.

It runs as root below directories that a hostile app may change meanwhile, so it never follows a
link, looks at so many entries, so deep, and takes so much processor time at most. Blocking; call
from a thread.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from moorage.engines.engine import WrittenFiles

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 16
_MAX_SECONDS = 0.25  # of this thread's processor time: a busy machine counts no less
_BLOCK_BYTES = 512  # of st_blocks (inode(7))
_OF_TOOLS = frozenset({"__pycache__", "node_modules", "tmp"})
"""What tools write for themselves, beside hidden directories."""


def written_since(roots: Iterable[Path], at_ns: int) -> WrittenFiles:
    """Counts the files below `roots` that changed after a time (their ctime, nanoseconds)."""
    count = _Count(at_ns)
    for root in roots:
        count.look_into(str(root), None, depth=0)
    return WrittenFiles(files=count.files, size_bytes=count.size_bytes, complete=count.complete)


class _Count:
    """What was found so far, and how much may still be looked at."""

    def __init__(self, at_ns: int) -> None:
        self.files, self.size_bytes, self.complete = 0, 0, True
        self._at_ns = at_ns
        self._entries_left = _MAX_ENTRIES
        self._deadline = time.thread_time() + _MAX_SECONDS

    def look_into(self, path: str, below: int | None, *, depth: int) -> None:
        """Counts the files of a directory and of those in it."""
        try:
            directory = os.open(path, _DIRECTORY, dir_fd=below)
        except OSError:  # it is gone, or something else has its name
            return
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if self._is_over():
                        return
                    self._look_at(entry, directory, depth=depth)
        except OSError:  # the disk is being unmounted
            self.complete = False
        finally:
            os.close(directory)

    def _look_at(self, entry: os.DirEntry[str], directory: int, *, depth: int) -> None:
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith(".") or entry.name in _OF_TOOLS:
                return
            if depth == _MAX_DEPTH:
                self.complete = False
                return
            self.look_into(entry.name, directory, depth=depth + 1)
        elif entry.is_file(follow_symlinks=False):
            self._add(entry)

    def _add(self, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # it is gone
            return
        if status.st_ctime_ns > self._at_ns:
            self.files += 1
            self.size_bytes += min(status.st_size, status.st_blocks * _BLOCK_BYTES)

    def _is_over(self) -> bool:
        self._entries_left -= 1
        if self._entries_left >= 0 and time.thread_time() <= self._deadline:
            return False
        self.complete = False
        return True

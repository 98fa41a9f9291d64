"""Copies an app's own files off its disk: to be built on another engine, or for its owner.

What counts is what the files take, as on the disk that they are on: holes stay holes, and further
names of a file stay names. So nothing that an app can put there makes a copy larger than its disk.

It runs as root below directories that a hostile app may change meanwhile, so it never follows a
link: each directory is opened relative to its parent. Blocking; call from a thread.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moorage.archive.tree import data_spans
from moorage.errors import DeployFailed, FailureCause

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_AT_ONCE = 1 << 24
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
_MAX_DEPTH = 64  # below an upload's own; a build may nest more than Python can
_MAX_ENTRIES = 1_000_000
_MAX_LINKED_BYTES = 1 << 26  # of paths that are remembered for further names of the same files
_TOO_DEEP = "the app's directories are nested too deeply to be moved"


@dataclass
class _Copy:
    """What is left out of a copy, and how much it may still write."""

    without: Collection[str]
    left_bytes: int
    left_entries: int = _MAX_ENTRIES
    linked: dict[tuple[int, int], Path] = field(default_factory=dict)
    left_linked_bytes: int = _MAX_LINKED_BYTES

    def enter(self) -> None:
        """Counts an entry. Raises DeployFailed when they are more than may be."""
        self.left_entries -= 1
        if self.left_entries < 0:
            raise DeployFailed(
                FailureCause.OUT_OF_DISK, f"the app has more than {_MAX_ENTRIES:,} files"
            )

    def take(self, written_bytes: int) -> None:
        """Counts what was written. Raises DeployFailed when it is more than may be."""
        self.left_bytes -= written_bytes
        if self.left_bytes < 0:
            raise DeployFailed(
                FailureCause.OUT_OF_DISK, "the app's files are larger than its disk: try again"
            )

    def remember(self, found: os.stat_result, path: Path) -> None:
        """Remembers where a file is that has further names; they are its copies beyond a bound."""
        size = len(os.fsencode(path))
        if found.st_nlink > 1 and size <= self.left_linked_bytes:
            self.left_linked_bytes -= size
            self.linked[found.st_dev, found.st_ino] = path


def copy_files(source: Path, target: Path, *, without: Collection[str], max_bytes: int) -> None:
    """Copies files below `source` into the new directory `target`, without directories so named.

    No upload holds a link or a device, so a build has made them: they are left out, but for further
    names of files. Raises DeployFailed for more than `max_bytes` outside of holes, or directories
    that are nested too deeply; OSError.
    """
    target.mkdir(mode=0o700)
    with no_long_paths(), contextlib.ExitStack() as opened:
        directory = os.open(source, _DIRECTORY)
        opened.callback(os.close, directory)
        _copy(directory, target, _Copy(without, max_bytes), depth=0)


@contextlib.contextmanager
def no_long_paths() -> Iterator[None]:
    """Raises DeployFailed in place of the OSError for a path that is longer than a path may be."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DeployFailed(FailureCause.BUILD_FAILED, _TOO_DEEP) from error


def _copy(directory: int, target: Path, copy: _Copy, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise DeployFailed(FailureCause.BUILD_FAILED, _TOO_DEEP)
    with os.scandir(directory) as entries:
        for entry in entries:
            copy.enter()
            if os.path.lexists(target / entry.name):  # moved by the app meanwhile, and seen twice
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in copy.without:
                    _copy_directory(entry.name, directory, target, copy, depth=depth)
            elif entry.is_file(follow_symlinks=False):
                _copy_file(entry.name, directory, target, copy)


def _copy_directory(name: str, directory: int, target: Path, copy: _Copy, *, depth: int) -> None:
    below = _open(name, _DIRECTORY, directory)
    if below is None:
        return
    try:
        (target / name).mkdir(mode=0o755)
        _copy(below, target / name, copy, depth=depth + 1)
    finally:
        os.close(below)


def _open(name: str, flags: int, directory: int) -> int | None:
    """Opens what has a name; None if it is gone, or something else has its name meanwhile."""
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None


def _copy_file(name: str, directory: int, target: Path, copy: _Copy) -> None:
    reading = _open(name, _FILE, directory)
    if reading is None:
        return
    try:
        found = os.fstat(reading)
        if not stat.S_ISREG(found.st_mode):
            return
        first = copy.linked.get((found.st_dev, found.st_ino))
        if first is not None:
            os.link(first, target / name)
            return
        mode = 0o755 if found.st_mode & 0o100 else 0o644
        writing = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _copy_data(reading, writing, found.st_size, copy)
        finally:
            os.close(writing)
        copy.remember(found, target / name)
    finally:
        os.close(reading)


def _copy_data(reading: int, writing: int, size: int, copy: _Copy) -> None:
    """Copies what is no hole of a file that had this size; an app may write to it meanwhile."""
    with os.fdopen(os.dup(reading), "rb", buffering=0) as file:
        parts = data_spans(file, size)
    for begin, length in parts:
        offset, end = begin, begin + length
        os.lseek(writing, offset, os.SEEK_SET)
        while offset < end:
            written = os.sendfile(writing, reading, offset, min(_AT_ONCE, end - offset))
            if not written:
                break
            copy.take(written)
            offset += written
    os.ftruncate(writing, size)

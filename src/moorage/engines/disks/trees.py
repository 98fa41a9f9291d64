"""Trees of files: copied within limits, compared, and removed, whatever an app has put there."""

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from moorage.archive.tree import data_spans
from moorage.engines.host import processes
from moorage.errors import DeployFailed, FailureCause

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

    No upload holds a link or a device, so a build has made them: they are left out, except further
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
                _leaving_copy_file(entry.name, directory, target, copy)


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


def _leaving_copy_file(name: str, directory: int, target: Path, copy: _Copy) -> None:
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


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotAFile(ValueError):
    """An entry of the source is neither a file nor a directory; `path` is below the source."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is not a regular file")
        self.path = path


def copy_tree(source: Path, target: Path, *, uid: int) -> None:
    """Copies files and directories below `source` into the existing `target`, owned by `uid`.

    Raises NotAFile for other entries, FileExistsError if a file exists already, another OSError if
    something else exists in place of a directory.
    """
    with _opened(target) as directory:
        _copy_into(source, directory, uid, "")


def subtract_tree(source: Path, target: Path) -> None:
    """Removes from `target` each file that is in `source`, and directories that become empty."""
    with _opened(target) as directory:
        _subtract_from(source, directory)


def remove_below(root: Path, path: str) -> None:
    """Removes the directory `path` below `root`; does nothing if a part of it is no directory."""
    *parents, name = path.split("/")
    with ExitStack() as opened:
        directory = opened.enter_context(_opened(root))
        for parent in parents:
            try:
                directory = opened.enter_context(_opened(parent, directory))
            except OSError:
                return  # it is missing, or no directory
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                remove_all(f"/proc/self/fd/{directory}/{name}", pass_fds=(directory,))


def remove_all(path: str, *, pass_fds: Sequence[int] = ()) -> None:
    """Removes a directory and everything below it, if it exists; follows no link.

    Uses `rm` unless it is empty, as a build may leave thousands of nested directories, for which
    recursion here would need too much stack or too many descriptors. Raises ToolFailed.
    """
    try:
        Path(path).rmdir()
    except FileNotFoundError:
        return
    except OSError:  # it is no empty directory
        processes.run(["rm", "-rf", "--one-file-system", "--", path], pass_fds=pass_fds)


@contextmanager
def _opened(path: Path | str, below: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY, dir_fd=below)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy_into(source: Path, target: int, uid: int, above: str) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{above}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                _copy_file(Path(entry.path), target, uid, path)
                continue
            with suppress(FileExistsError):
                os.mkdir(entry.name, 0o755, dir_fd=target)
                os.chown(entry.name, uid, uid, dir_fd=target, follow_symlinks=False)
            with _opened(entry.name, target) as directory:
                _copy_into(Path(entry.path), directory, uid, f"{path}/")


def _copy_file(source: Path, target: int, uid: int, path: str) -> None:
    reading = _open_file(source, path)
    try:
        mode = 0o755 if os.fstat(reading).st_mode & 0o100 else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writing = os.open(source.name, flags, mode, dir_fd=target)
        try:
            while os.sendfile(writing, reading, None, 1 << 30):
                pass
            os.fchown(writing, uid, uid)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _open_file(path: Path, name: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile(name) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(name)
    return descriptor


def _subtract_from(source: Path, target: int) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            with suppress(OSError):  # it is gone, or something else has its name
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=target)
                    continue
                with _opened(entry.name, target) as directory:
                    _subtract_from(Path(entry.path), directory)
                os.rmdir(entry.name, dir_fd=target)

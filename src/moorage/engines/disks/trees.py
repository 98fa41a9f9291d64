"""Copies files onto an app's disk and removes them, although the app may have put links there.

It runs as root, so it never follows a link: each directory is opened relative to its parent.
Blocking; call from a thread.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from moorage.engines.host import tool

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
        tool.run(["rm", "-rf", "--one-file-system", "--", path], pass_fds=pass_fds)


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
            shown = f"{above}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                _copy_file(Path(entry.path), target, uid, shown)
                continue
            with suppress(FileExistsError):
                os.mkdir(entry.name, 0o755, dir_fd=target)
                os.chown(entry.name, uid, uid, dir_fd=target, follow_symlinks=False)
            with _opened(entry.name, target) as directory:
                _copy_into(Path(entry.path), directory, uid, f"{shown}/")


def _copy_file(source: Path, target: int, uid: int, shown: str) -> None:
    reading = _open_file(source, shown)
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


def _open_file(path: Path, shown: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile(shown) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(shown)
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

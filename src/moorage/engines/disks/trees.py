"""Files put onto an app's disk, and taken off it, where the app may have put anything in the way.

All of it runs as root, so no link is followed anywhere: a directory is opened from within the one
above it. Blocking; call from a thread.
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
    """Something in the source is neither a file nor a directory; `path` is below the source."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is not a regular file")
        self.path = path


def copy_tree(source: Path, target: Path, *, uid: int) -> None:
    """Copy files and directories below `source` into the existing `target`, owned by `uid`.

    Raises NotAFile for what is neither; FileExistsError where a file is already, another OSError
    where something stands in a directory's place.
    """
    with _opened(target) as directory:
        _copy_into(source, directory, uid, "")


def subtract_tree(source: Path, target: Path) -> None:
    """Remove from `target` each file that `source` has too, and directories that become empty."""
    with _opened(target) as directory:
        _subtract_from(source, directory)


def remove_below(root: Path, path: str) -> None:
    """Remove the directory `path` below `root`; what is not directories all the way down stays."""
    *parents, name = path.split("/")
    with ExitStack() as opened:
        directory = opened.enter_context(_opened(root))
        for parent in parents:
            try:
                directory = opened.enter_context(_opened(parent, directory))
            except OSError:
                return  # not there, or no directory
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                remove_all(f"/proc/self/fd/{directory}/{name}", pass_fds=(directory,))


def remove_all(path: str, *, pass_fds: Sequence[int] = ()) -> None:
    """Remove a directory and all below it, however deep, following no link; none there is no error.

    By a process of its own, since a build may leave thousands of directories within each other:
    walking these takes a stack, or descriptors, without end. Raises ToolFailed.
    """
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
            with suppress(OSError):  # not there any more, or something else by now
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=target)
                    continue
                with _opened(entry.name, target) as directory:
                    _subtract_from(Path(entry.path), directory)
                os.rmdir(entry.name, dir_fd=target)

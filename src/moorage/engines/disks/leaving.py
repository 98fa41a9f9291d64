"""Copies an app's own files off its disk, as they were uploaded, to be built on another engine.

It runs as root below directories that a hostile app may change meanwhile, so it never follows a
link: each directory is opened relative to its parent. Blocking; call from a thread.
"""

import contextlib
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from moorage.errors import DeployFailed, FailureCause

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_AT_ONCE = 1 << 24
_MAX_DEPTH = 64  # below an upload's own; a build may nest more than Python can


@dataclass
class _Copy:
    """What is left out of a copy, and how much it may still write."""

    without: Collection[str]
    left_bytes: int

    def take(self, written_bytes: int) -> None:
        """Counts what was written. Raises DeployFailed when it is more than may be."""
        self.left_bytes -= written_bytes
        if self.left_bytes < 0:
            raise DeployFailed(
                FailureCause.OUT_OF_DISK,
                "the app's files can't be moved: with the holes of sparse files, or one file under "
                "several names, they are larger than its disk",
            )


def copy_files(source: Path, target: Path, *, without: Collection[str], max_bytes: int) -> None:
    """Copies files below `source` into the new directory `target`, without directories so named.

    No upload holds a link or a device, so a build has made them: they are left out. Raises
    DeployFailed for more than `max_bytes`, or directories that are nested too deeply; OSError.
    """
    target.mkdir(mode=0o700)
    with contextlib.ExitStack() as opened:
        directory = os.open(source, _DIRECTORY)
        opened.callback(os.close, directory)
        _copy(directory, target, _Copy(without, max_bytes), depth=0)


def _copy(directory: int, target: Path, copy: _Copy, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise DeployFailed(
            FailureCause.BUILD_FAILED, "the app's directories are nested too deeply to be moved"
        )
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in copy.without:
                    _copy_directory(entry.name, directory, target, copy, depth=depth)
            elif entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):  # the app has just removed it
                    _copy_file(entry.name, directory, target, copy)


def _copy_directory(name: str, directory: int, target: Path, copy: _Copy, *, depth: int) -> None:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:  # it is gone, or something else has its name
        return
    try:
        (target / name).mkdir(mode=0o755)
        _copy(below, target / name, copy, depth=depth + 1)
    finally:
        os.close(below)


def _copy_file(name: str, directory: int, target: Path, copy: _Copy) -> None:
    reading = os.open(name, _FILE, dir_fd=directory)
    try:
        found = os.fstat(reading)
        if not stat.S_ISREG(found.st_mode):
            return
        mode = 0o755 if found.st_mode & 0o100 else 0o644
        writing = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            while written := os.sendfile(writing, reading, None, _AT_ONCE):
                copy.take(written)
        finally:
            os.close(writing)
    finally:
        os.close(reading)

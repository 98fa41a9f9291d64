"""Unpacks the archive of a volume, whoever wrote it: nothing is made outside of a directory.

Each part of a path is opened relative to the one before it, and no link is followed. Links, modes,
times and holes are as they were; set-user-id bits, devices and the like are not. Blocking. It runs
in pods as well, so it needs nothing but the standard library.
"""

import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from moorage.engines.images.holes import Part
from moorage.engines.images.layer import LEFT_BY_MKFS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE_BYTES = 1 << 20
_MODE = 0o777


class ArchiveRefused(ValueError):
    """The archive is not one of a volume, or not the one that was meant; the message says why."""


@dataclass(frozen=True, kw_only=True)
class ArchiveBounds:
    """How much may be unpacked."""

    max_bytes: int  # of data
    max_entries: int = 1_000_000


def unpack(
    source: IO[bytes],
    directory: Path,
    bounds: ArchiveBounds,
    *,
    digest: str,
    owner: int | None = None,
) -> None:
    """Unpacks a gzipped archive below an empty directory.

    `digest` is what it must have (`sha256:…`); `owner` the user and group of what is made, if not
    this process's own. What was written before an error stays. Raises ArchiveRefused, OSError.
    """
    read = _Digested(source)
    with _opened(directory) as root, _Unpacker(root, bounds, owner).working() as unpacker:
        try:
            content = cast("IO[bytes]", read)
            with tarfile.open(fileobj=content, mode="r|gz", errors="surrogateescape") as archive:
                while (entry := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # it would remember each
                    unpacker.put(entry, archive)
        except ArchiveRefused:
            raise
        except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
            raise ArchiveRefused(f"the archive can't be read: {error}") from error
        if read.to_the_end() != digest:
            raise ArchiveRefused("the archive came otherwise than it was sent")
        unpacker.finish()


def empty(directory: Path) -> None:
    """Removes all that is below a directory, but what a file system has of its own."""
    with _opened(directory) as root:
        _empty(root)


def _empty(directory: int) -> None:
    for name in os.listdir(directory):
        found = os.lstat(name, dir_fd=directory)
        if name == LEFT_BY_MKFS and found.st_uid != os.getuid():
            continue
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=directory)
            continue
        os.chmod(name, 0o700, dir_fd=directory)
        with _opened(name, directory) as below:
            _empty(below)
        os.rmdir(name, dir_fd=directory)


class _Digested:
    """Takes a digest of what is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._digest.update(piece)
        return piece

    def to_the_end(self) -> str:
        """Reads what is left; returns the digest of all."""
        while self.read(_PIECE_BYTES):
            pass
        return f"sha256:{self._digest.hexdigest()}"


@dataclass
class _Unpacker:
    root: int
    bounds: ArchiveBounds
    owner: int | None
    _entries: int = 0
    _bytes: int = 0
    _directories: list[tuple[tuple[str, ...], int, float]] = field(default_factory=list)
    _above: tuple[str, ...] = ()  # the directory that was worked in last
    _descriptor: int = -1

    @contextmanager
    def working(self) -> Iterator["_Unpacker"]:
        try:
            yield self
        finally:
            self._leave()

    def put(self, entry: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self._entries += 1
        if self._entries > self.bounds.max_entries:
            raise ArchiveRefused(f"the archive has more than {self.bounds.max_entries:,} entries")
        path = _parts(entry.name)
        if not path:
            self._directories.append((path, entry.mode & _MODE, entry.mtime))
            return
        *above, name = path
        within = self._enter(tuple(above))
        if entry.isdir():
            os.mkdir(name, 0o700, dir_fd=within)
            self._directories.append((path, entry.mode & _MODE, entry.mtime))
        elif entry.issym():
            os.symlink(entry.linkname, name, dir_fd=within)
            os.utime(name, (entry.mtime,) * 2, dir_fd=within, follow_symlinks=False)
        elif entry.islnk():
            self._link(entry, name, within)
            return
        elif entry.isreg():
            self._file(entry, name, within, archive)
        else:
            raise ArchiveRefused(f"{name!r} is neither a file nor a directory nor a link")
        if self.owner is not None:
            os.chown(name, self.owner, self.owner, dir_fd=within, follow_symlinks=False)

    def finish(self) -> None:
        """Gives directories the modes in which nothing more might be made below them."""
        for path, mode, mtime in reversed(self._directories):
            within = self._enter(path)
            try:
                os.fchmod(within, mode)
                os.utime(within, (mtime, mtime))
            except PermissionError:
                if path:  # the volume's own directory is the cluster's
                    raise
        os.sync()  # the only other copy is removed soon

    def _file(
        self, entry: tarfile.TarInfo, name: str, within: int, archive: tarfile.TarFile
    ) -> None:
        parts = cast("list[Part]", entry.sparse) or [(0, entry.size)]
        self._bytes += sum(length for _, length in parts)
        if self._bytes > self.bounds.max_bytes:
            raise ArchiveRefused(f"the archive has more than {self.bounds.max_bytes:,} bytes")
        source = cast("IO[bytes]", archive.fileobj)
        source.seek(entry.offset_data)
        with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=within), "wb") as file:
            for offset, length in parts:
                file.seek(offset)
                _copy(source, file, length)
            file.truncate(entry.size)  # flushes before
            os.fchmod(file.fileno(), entry.mode & _MODE)
            os.utime(file.fileno(), (entry.mtime, entry.mtime))

    def _link(self, entry: tarfile.TarInfo, name: str, within: int) -> None:
        """Gives a file that was unpacked before another name."""
        *above, first = _parts(entry.linkname) or ("",)
        here = os.dup(within)
        try:
            there = self._enter(tuple(above))
            os.link(first, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _enter(self, path: tuple[str, ...]) -> int:
        """Returns a directory below the root, which the archive has made."""
        if self._descriptor >= 0 and path == self._above:
            return self._descriptor
        self._leave()
        descriptor = os.dup(self.root)
        for name in path:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        self._above, self._descriptor = path, descriptor
        return descriptor

    def _leave(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _parts(name: str) -> tuple[str, ...]:
    """Returns the path of an entry below the volume; its first part stands for that itself."""
    _, *path = name.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in path):
        raise ArchiveRefused(f"{name!r} is no path below a volume")
    return tuple(path)


def _copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
    while length:
        piece = source.read(min(length, _PIECE_BYTES))
        if not piece:
            raise ArchiveRefused("the archive ends in the middle of a file")
        target.write(piece)
        length -= len(piece)


@contextmanager
def _opened(name: str | Path, above: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

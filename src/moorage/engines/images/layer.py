"""Writes directories as one layer of an image: the same files always give the same bytes.

A volume becomes an archive in the same way (`LayerBounds.is_image`). The files may be a stranger's:
no link is followed, and what an image can't hold is left out or refused. Nothing may write to an
image's meanwhile. Blocking. It runs in pods as well, so it needs nothing but the standard library.
"""

import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from moorage.engines.images.beneath import Beneath
from moorage.engines.images.holes import MAX_BYTES, data_parts, map_of_parts, sparse_header

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_DEPTH = 200
_MAX_NAME_BYTES = 2048  # of a path: the kernel takes 4096, and who unpacks puts another before it
_PIECE_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_WHITEOUT = ".wh."  # what such a name removes is of the layers below (OCI image spec, layer.md)
_LEVEL = 1  # a layer is written once and read a few times: a third of the time, a tenth larger
_GZIP = 31  # wbits of zlib: a gzip header without name and time
_SHARED_MODE = 0o755

LEFT_BY_MKFS = "lost+found"
"""The directory that a file system has of its own, where a volume is one of its own."""


class LayerRefused(ValueError):
    """The files can't become a layer; the message says why, for their owner."""


class LayerUnreadable(LayerRefused):
    """The files are not all readable for who reads them; `owner` is whose the first such one is."""

    def __init__(self, message: str, owner: int) -> None:
        super().__init__(message)
        self.owner = owner


class LayerTooLarge(LayerRefused):
    """The files are more, or larger, than allowed."""


class Sink(Protocol):
    """Where a layer is written to."""

    def write(self, content: bytes, /) -> object:
        """Takes all of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class LayerBounds:
    """How much may be in a layer."""

    max_bytes: int  # of the unpacked archive; of a volume of what is in its files
    max_entries: int = 1_000_000
    is_image: bool = True  # False: of a volume, whose holes are kept, and any name is taken

    @property
    def what(self) -> str:
        """What is written, for a sentence."""
        return "the built files" if self.is_image else "the volume's files"


@dataclass(frozen=True)
class Place:
    """A directory, or one file, and its path in the image, such as `app`."""

    source: Path
    name: str
    uid: int = 0  # of its owner and group


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What was written."""

    digest: str  # of the compressed bytes
    diff_id: str  # of the archive itself
    size: int  # of the compressed bytes
    left_out: int = 0  # sockets, pipes and devices


def write_layer(
    places: Sequence[Place],
    out: Sink,
    bounds: LayerBounds,
    *,
    modified: int | None = None,
    over: Beneath | None = None,
) -> Layer:
    """Writes a gzipped archive with what is at the places, each with the directories above it.

    Times are the files' own in whole seconds, or `modified`: Python compares them with what its
    bytecode was made from. What lies `over` which the layer is laid is left out, and removed where
    it is gone. Raises LayerRefused, OSError.
    """
    writer = _Writer(_Compressed(out), bounds, modified, over or Beneath())
    for place in places:
        writer.put(place)
    return writer.end()


class _Compressed:
    """Compresses what is written, and takes digests before and after."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._size = 0

    def write(self, content: bytes) -> None:
        self._plain.update(content)
        self._emit(self._packer.compress(content))

    def end(self, left_out: int) -> Layer:
        self._emit(self._packer.flush())
        return Layer(
            digest=f"sha256:{self._packed.hexdigest()}",
            diff_id=f"sha256:{self._plain.hexdigest()}",
            size=self._size,
            left_out=left_out,
        )

    def _emit(self, packed: bytes) -> None:
        if packed:
            self._packed.update(packed)
            self._size += len(packed)
            self._out.write(packed)


class _Writer:
    """Writes entries in the order of their names."""

    def __init__(
        self, out: _Compressed, bounds: LayerBounds, modified: int | None, over: Beneath
    ) -> None:
        self._out = out
        self._bounds = bounds
        self._modified = modified
        self._over = over
        self._waiting: list[tarfile.TarInfo] = []  # unchanged directories, until one in them is not
        self._entries = self._bytes = self._left_out = 0
        self._above: set[str] = set()
        self._linked: dict[tuple[int, int], str] = {}

    def put(self, place: Place) -> None:
        """Writes the directories above a place, then what is there."""
        *parents, _ = place.name.split("/")
        for number in range(1, len(parents) + 1):
            self._put_parent("/".join(parents[:number]))
        with _opened(str(place.source.parent)) as directory:
            self._put_entry(directory, place.source.name, place.name, place.uid)

    def end(self) -> Layer:
        self._out.write(bytes(2 * _BLOCK))
        return self._out.end(self._left_out)

    def _put_parent(self, name: str) -> None:
        if name in self._above:
            return
        self._above.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, _SHARED_MODE
        self._header(entry)

    def _put_entry(self, directory: int, source: str, name: str, uid: int) -> None:
        self._check_name(source, name)
        try:
            self._put_found(directory, source, name, uid)
        except FileNotFoundError:  # an app that uses the volume has removed it meanwhile
            if self._bounds.is_image:
                raise

    def _put_found(self, directory: int, source: str, name: str, uid: int) -> None:
        found = os.lstat(source, dir_fd=directory)
        entry = self._entry(found, name, uid)
        is_beneath = self._over.has(name, found)
        if stat.S_ISDIR(found.st_mode):
            if self._is_left_by_mkfs(name, found, uid) or self._over.covers(name):
                return
            entry.type = tarfile.DIRTYPE
            with self._within(entry, is_beneath=is_beneath):
                self._put_below(directory, source, name, uid, of=found.st_uid)
        elif is_beneath:
            return
        elif stat.S_ISLNK(found.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(source, dir_fd=directory)
            self._header(entry)
        elif not stat.S_ISREG(found.st_mode):
            self._left_out += 1
        elif (first := self._linked.get((found.st_dev, found.st_ino))) is not None:
            entry.type, entry.linkname = tarfile.LNKTYPE, first
            self._header(entry)
        else:
            self._file(directory, source, entry, found)
            if found.st_nlink > 1:
                self._linked[found.st_dev, found.st_ino] = name

    def _is_left_by_mkfs(self, name: str, found: os.stat_result, uid: int) -> bool:
        is_its_name = name.count("/") == 1 and name.endswith(f"/{LEFT_BY_MKFS}")
        return is_its_name and not self._bounds.is_image and found.st_uid != uid

    def _entry(self, found: os.stat_result, name: str, uid: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.uid = entry.gid = uid
        entry.mode = stat.S_IMODE(found.st_mode) & 0o777
        entry.mtime = max(0, int(found.st_mtime)) if self._modified is None else self._modified
        return entry

    def _put_below(self, directory: int, source: str, name: str, uid: int, *, of: int) -> None:
        if name.count("/") > _MAX_DEPTH:
            raise LayerRefused(f"{_shown(name)}: directories are nested deeper than {_MAX_DEPTH}")
        with _readable(name, of), _opened(source, directory) as below:
            children = self._children(below)
            for child in children:
                self._put_entry(below, child, f"{name}/{child}", uid)
            for child in self._over.gone(name, children):
                self._header(tarfile.TarInfo(f"{name}/{_WHITEOUT}{child}"))

    @contextmanager
    def _within(self, entry: tarfile.TarInfo, *, is_beneath: bool) -> Iterator[None]:
        """Writes a directory; one that lies beneath only if something in it is written."""
        if not is_beneath:
            self._header(entry)
            yield
            return
        waiting = len(self._waiting)
        self._waiting.append(entry)
        yield
        del self._waiting[waiting:]

    def _children(self, directory: int) -> list[str]:
        """Returns the names in a directory, in order; stops reading when they are too many."""
        found: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                found.append(entry.name)
                if self._entries + len(found) > self._bounds.max_entries:
                    raise self._too_many()
        return sorted(found)

    def _check_name(self, source: str, name: str) -> None:
        if self._bounds.is_image and source.startswith(_WHITEOUT):
            raise LayerRefused(f"{_shown(name)}: no file of an image can begin with {_WHITEOUT!r}")
        if len(os.fsencode(name)) > _MAX_NAME_BYTES:
            raise LayerRefused(f"{_shown(name)}: the path is longer than {_MAX_NAME_BYTES:,} bytes")

    def _header(self, entry: tarfile.TarInfo, header: bytes = b"") -> None:
        above, self._waiting = self._waiting, []
        for each in above:
            self._header(each)
        self._entries += 1
        if self._entries > self._bounds.max_entries:
            raise self._too_many()
        header = header or entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        self._bytes += entry.size + (len(header) if self._bounds.is_image else 0)
        if self._bytes > self._bounds.max_bytes:
            raise LayerTooLarge(
                f"{self._bounds.what} are larger than {self._bounds.max_bytes // 1024**2:,} MiB"
            )
        self._out.write(header)

    def _file(
        self, directory: int, source: str, entry: tarfile.TarInfo, expected: os.stat_result
    ) -> None:
        with _readable(entry.name, expected.st_uid):
            descriptor = os.open(source, _FILE, dir_fd=directory)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            parts = whole = [(0, expected.st_size)]
            if not self._bounds.is_image:
                parts = data_parts(file, expected.st_size)
            if sum(length for _, length in parts) >= MAX_BYTES:
                parts = whole
            if parts == whole:
                entry.size = expected.st_size
                self._header(entry)
            else:
                header = sparse_header(entry, parts, size=expected.st_size)
                self._header(entry, header)
                self._out.write(map_of_parts(parts))
            for offset, length in parts:
                self._content(file, entry.name, offset, length)
        self._out.write(bytes(-sum(length for _, length in parts) % _BLOCK))

    def _content(self, file: FileIO, name: str, offset: int, length: int) -> None:
        file.seek(offset)
        while length and (piece := file.read(min(length, _PIECE_BYTES))):
            self._out.write(piece)
            length -= len(piece)
        if length and self._bounds.is_image:
            raise LayerRefused(f"{_shown(name)}: the file changed while it was read")
        while length:  # an app that uses the volume has made the file shorter meanwhile
            self._out.write(bytes(min(length, _PIECE_BYTES)))
            length -= min(length, _PIECE_BYTES)

    def _too_many(self) -> LayerTooLarge:
        return LayerTooLarge(f"{self._bounds.what} are more than {self._bounds.max_entries:,}")


@contextmanager
def _opened(path: str, below: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY, dir_fd=below)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _readable(name: str, owner: int) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise LayerUnreadable(f"{_shown(name)}: its owner may not read it", owner) from error


def _shown(name: str) -> str:
    """Returns a path as one line for a log."""
    text = os.fsencode(name).decode(errors="replace")
    return repr(text if len(text) <= 200 else f"{text[:100]}…{text[-100:]}")

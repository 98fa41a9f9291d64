"""A directory tree as a gzipped tar: the files of an app or of a volume, one part of an archive.

Links, modes, times and holes are kept; sockets, pipes, devices and rights such as set-user-id are
left out. Files with holes have the form that GNU tar calls sparse 1.0. The same files always give
the same bytes.

Whoever wrote the files or the archive may be hostile, and an app may change the files meanwhile: no
link is followed, each directory is opened relative to the one above it, and what is read is bounded
before it is kept. Blocking. It runs in pods as well: the standard library alone.
"""

import errno
import gzip
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO, Protocol, cast

MAX_ENTRIES = 1_000_000

LEFT_BY_MKFS = "lost+found"
"""The directory that a file system has of its own, where a volume is one."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 200
_MAX_NAME_BYTES = 3500  # of a path: the kernel takes 4096, and programs put another before it
_MAX_HEADER_BYTES = 16_384  # of a long name, or of what stands before a file with holes
_MAX_MAP_BYTES = 1 << 22  # of a file with holes: some 200,000 parts
_PIECE_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_LEVEL = 1  # a tree is written once and read once: a third of the time, a tenth larger
_GZIP = 31  # wbits of zlib: a gzip header without name and time
_MODE = 0o777
_MAX_SPARSE_BYTES = 8 * 1024**3  # the size of more data stands where other programs do not look
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
_MADE_UP = "GNUSparseFile.0/data"  # what programs see that do not know the form of holes

Span = tuple[int, int]
"""Where data begin in a file, and how many bytes they are."""


class TreeRefused(ValueError):
    """The files can't be written, or the archive can't be read; the message says why."""


class TreeUnreadable(TreeRefused):
    """The reader may not read some of the files; `owner` owns the first such file."""

    def __init__(self, message: str, owner: int) -> None:
        super().__init__(message)
        self.owner = owner


class Sink(Protocol):
    """Where an archive is written to."""

    def write(self, content: bytes, /) -> object:
        """Takes all of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree that was written to a file."""

    path: Path
    digest: str  # sha256:… of the file
    content_bytes: int  # what its files have, without holes
    entries: int  # files, directories and links


Left = Callable[[str, os.stat_result], bool]
"""Whether a file or directory is left out, by its path in the archive."""


def write_tree(
    source: Path,
    target: Path,
    *,
    max_bytes: int,
    name: str = "data",
    owner: int | None = None,
    left_out: Left | None = None,
) -> Tree:
    """Writes what is below a directory to the new file `target`; paths begin with `name`.

    `max_bytes` is what the files may have, without holes; `owner` the user who owns them, if not
    this process's. Raises TreeRefused, OSError.
    """
    with target.open("xb") as out:
        digest, content_bytes, entries = stream_tree(
            source, out, max_bytes=max_bytes, name=name, owner=owner, left_out=left_out
        )
    return Tree(path=target, digest=digest, content_bytes=content_bytes, entries=entries)


def stream_tree(
    source: Path,
    out: Sink,
    *,
    max_bytes: int,
    max_entries: int = MAX_ENTRIES,
    name: str = "data",
    owner: int | None = None,
    left_out: Left | None = None,
) -> tuple[str, int, int]:
    """As `write_tree`; returns digest, bytes and number of entries."""
    writer = _Writer(
        out,
        max_bytes=max_bytes,
        max_entries=max_entries,
        owner=os.getuid() if owner is None else owner,
        left_out=left_out,
    )
    with _opened(str(source.parent)) as directory:
        writer.put(directory, source.name, name)
    return writer.end()


def read_tree(
    source: IO[bytes],
    directory: Path,
    *,
    digest: str,
    max_bytes: int,
    max_entries: int = MAX_ENTRIES,
    owner: int | None = None,
) -> None:
    """Makes what is in an archive below an empty directory.

    `digest` is what the archive must have (`sha256:…`); `owner` the user and group of what is made,
    if not this process's own. What was made before an error stays. Raises TreeRefused, OSError.
    """
    raw = _Digesting(source)
    with _opened(directory) as root:
        maker = _Maker(root, max_bytes=max_bytes, max_entries=max_entries, owner=owner)
        try:
            for entry, plain in _plain_entries(cast("IO[bytes]", raw)):
                maker.put(entry, plain)
        finally:
            maker.leave()
        if raw.to_the_end() != digest:
            raise TreeRefused("the archive came otherwise than it was sent")
        maker.finish()


@dataclass(frozen=True, kw_only=True)
class TreeFile:
    """A file in an archive; its pieces must be taken before the next file is asked for."""

    path: str  # below the tree's root
    size: int
    executable: bool
    same_as: str  # the path of an earlier file that this is another name of; "": of none
    pieces: Iterator[bytes]  # of what it has, holes as zeros; none if it is another name


def tree_files(source: IO[bytes], *, max_bytes: int, max_entries: int) -> Iterator[TreeFile]:
    """Yields the files in an archive; directories and symbolic links are left out.

    `max_bytes` is what they may have, holes as well. Raises TreeRefused, OSError.
    """
    left = max_bytes
    for number, (entry, plain) in enumerate(_plain_entries(source)):
        if number >= max_entries:
            raise TreeRefused(f"the archive has more than {max_entries:,} entries")
        path, first = "/".join(entry.path), ""
        if entry.kind == tarfile.LNKTYPE:
            first = "/".join(_path(entry.link))
        elif entry.kind == tarfile.REGTYPE:
            left -= entry.size
            if left < 0:
                raise TreeRefused(f"the archive has more than {max_bytes:,} bytes")
        elif entry.kind in (tarfile.DIRTYPE, tarfile.SYMTYPE):
            continue
        else:
            raise TreeRefused(f"{_shown(path)} can't be in an archive")
        yield TreeFile(
            path=path,
            size=entry.size,
            executable=bool(entry.mode & 0o100),
            same_as=first,
            pieces=_pieces(entry, plain),
        )


def check_tree(source: IO[bytes], *, max_bytes: int, max_entries: int = MAX_ENTRIES) -> None:
    """Reads an archive as `read_tree` does, and makes nothing of it. Raises TreeRefused, OSError.

    Two entries of one path, and links to what is not there, are found by `read_tree` alone.
    """
    left = max_bytes
    for number, (entry, plain) in enumerate(_plain_entries(source)):
        left -= sum(length for _, length in entry.spans)
        if number >= max_entries or left < 0:
            raise TreeRefused("the archive has more than may be in it")
        if entry.kind == tarfile.LNKTYPE:
            _path(entry.link)
        elif entry.kind not in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.REGTYPE):
            raise TreeRefused(f"{_shown('/'.join(entry.path))} can't be in an archive")
        for _, length in entry.spans:
            for _piece in _data(plain, length):
                pass


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


def data_spans(file: FileIO, size: int) -> list[Span]:
    """Returns the parts of a file that are no hole; the whole of one without holes. Moves in it.

    The last part of one with a hole at its end has no bytes.
    """
    spans, at = [], 0
    while at < size:
        try:
            begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        if begin >= size:  # it grew meanwhile
            break
        at = min(os.lseek(file.fileno(), begin, os.SEEK_HOLE), size)
        spans.append((begin, at - begin))
    if at < size:
        spans.append((size, 0))
    return spans or [(0, 0)]


class _Writer:
    """Writes entries in the order of their names, compressed."""

    def __init__(
        self, out: Sink, *, max_bytes: int, max_entries: int, owner: int, left_out: Left | None
    ) -> None:
        self._out = out
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._digest = hashlib.sha256()
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._owner, self._left_out = owner, left_out
        self._bytes = self._entries = 0
        self._linked: dict[tuple[int, int], str] = {}
        self._waiting: list[tarfile.TarInfo] = []  # directories that are left out if nothing is in

    def put(self, directory: int, source: str, name: str) -> None:
        """Writes what has the name `source` in a directory, and all below it."""
        if len(os.fsencode(name)) > _MAX_NAME_BYTES:
            raise TreeRefused(f"{_shown(name)}: the path is longer than {_MAX_NAME_BYTES:,} bytes")
        try:
            self._put_found(directory, source, name)
        except OSError as error:
            if error.errno not in _GONE:  # an app has removed or replaced it meanwhile
                raise

    def end(self) -> tuple[str, int, int]:
        self._write(bytes(2 * _BLOCK))
        self._emit(self._packer.flush())
        return f"sha256:{self._digest.hexdigest()}", self._bytes, self._entries

    def _put_found(self, directory: int, source: str, name: str) -> None:
        found = os.lstat(source, dir_fd=directory)
        entry = tarfile.TarInfo(name)
        entry.mode = stat.S_IMODE(found.st_mode) & _MODE
        entry.mtime = max(0, int(found.st_mtime))
        if self._left_out is not None and self._left_out(name, found):
            return
        if stat.S_ISDIR(found.st_mode):
            is_mkfs_own = source == LEFT_BY_MKFS and found.st_uid != self._owner
            if not (is_mkfs_own and name.count("/") == 1):
                entry.type = tarfile.DIRTYPE
                self._put_directory(directory, source, entry, owner=found.st_uid)
        elif stat.S_ISLNK(found.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(source, dir_fd=directory)
            self._header(entry)
        elif not stat.S_ISREG(found.st_mode):
            return
        elif (first := self._linked.get((found.st_dev, found.st_ino))) is not None:
            entry.type, entry.linkname = tarfile.LNKTYPE, first
            self._header(entry)
        else:
            self._put_file(directory, source, entry, found)
            if found.st_nlink > 1:
                self._linked[found.st_dev, found.st_ino] = name

    def _put_directory(
        self, directory: int, source: str, entry: tarfile.TarInfo, *, owner: int
    ) -> None:
        name = entry.name
        if name.count("/") > _MAX_DEPTH:
            raise TreeRefused(f"{_shown(name)}: directories are nested deeper than {_MAX_DEPTH}")
        waiting = len(self._waiting)
        if self._left_out is None or "/" not in name:
            self._header(entry)
        else:
            self._waiting.append(entry)
        with _readable(name, owner), _opened(source, directory) as below:
            for child in self._children(below):
                self.put(below, child, f"{name}/{child}")
        del self._waiting[waiting:]

    def _children(self, directory: int) -> list[str]:
        """Returns the names in a directory, in order; stops reading when they are too many."""
        found: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                found.append(entry.name)
                if self._entries + len(found) > self._max_entries:
                    raise self._too_many()
        return sorted(found)

    def _put_file(
        self, directory: int, source: str, entry: tarfile.TarInfo, expected: os.stat_result
    ) -> None:
        with _readable(entry.name, expected.st_uid):
            descriptor = os.open(source, _FILE, dir_fd=directory)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            size = expected.st_size
            spans = data_spans(file, size)
            content = sum(length for _, length in spans)
            if content >= _MAX_SPARSE_BYTES:
                spans, content = [(0, size)], size
            if spans == [(0, size)]:
                entry.size = size
                self._header(entry, content_bytes=content)
            else:
                header = _sparse_header(entry, spans, size=size)
                self._header(entry, header + _map_of(spans), content_bytes=content)
            for offset, length in spans:
                self._copy(file, offset, length)
        self._write(bytes(-content % _BLOCK))

    def _copy(self, file: FileIO, offset: int, length: int) -> None:
        file.seek(offset)
        while length and (piece := file.read(min(length, _PIECE_BYTES))):
            self._write(piece)
            length -= len(piece)
        while length:  # an app has made the file shorter meanwhile
            self._write(bytes(min(length, _PIECE_BYTES)))
            length -= min(length, _PIECE_BYTES)

    def _header(
        self, entry: tarfile.TarInfo, header: bytes = b"", *, content_bytes: int = 0
    ) -> None:
        above, self._waiting = self._waiting, []
        for each in above:
            self._header(each)
        self._entries += 1
        if self._entries > self._max_entries:
            raise self._too_many()
        self._bytes += content_bytes
        if self._bytes > self._max_bytes:
            raise TreeRefused(f"the files are larger than {self._max_bytes // 1024**2:,} MiB")
        self._write(header or entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))

    def _write(self, content: bytes) -> None:
        self._emit(self._packer.compress(content))

    def _emit(self, packed: bytes) -> None:
        if packed:
            self._digest.update(packed)
            self._out.write(packed)

    def _too_many(self) -> TreeRefused:
        return TreeRefused(f"the files are more than {self._max_entries:,}")


def _map_of(spans: Sequence[Span]) -> bytes:
    """Returns what stands before the data of a file with holes, in whole blocks."""
    numbers = [len(spans), *(number for span in spans for number in span)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    return text + bytes(-len(text) % _BLOCK)


def _sparse_header(entry: tarfile.TarInfo, spans: Sequence[Span], *, size: int) -> bytes:
    name, entry.name = entry.name, _MADE_UP
    entry.size = len(_map_of(spans)) + sum(length for _, length in spans)
    entry.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    try:
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    finally:
        entry.name = name


def _plain_entries(source: IO[bytes]) -> Iterator[tuple["_Entry", IO[bytes]]]:
    """Yields the entries of a gzipped archive, and the stream with their data."""
    try:
        with gzip.GzipFile(fileobj=source, mode="rb") as file:
            plain = cast("IO[bytes]", file)
            for entry in _entries(plain):
                yield entry, plain
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TreeRefused(f"the archive can't be read: {error}") from error


def _pieces(entry: "_Entry", source: IO[bytes]) -> Iterator[bytes]:
    at = 0
    for offset, length in (*entry.spans, (entry.size, 0)):
        while at < offset:
            piece = bytes(min(offset - at, _PIECE_BYTES))
            at += len(piece)
            yield piece
        yield from _data(source, length)
        at += length


def _data(source: IO[bytes], length: int) -> Iterator[bytes]:
    """Yields the next bytes of an archive, which are a file's."""
    while length:
        piece = source.read(min(length, _PIECE_BYTES))
        if not piece:
            raise TreeRefused("the archive ends in the middle of a file")
        length -= len(piece)
        yield piece


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One entry of an archive; its data follow in the stream."""

    path: tuple[str, ...]  # below the tree's root, which has none
    kind: bytes
    link: str
    mode: int
    modified: int
    size: int  # of the file
    spans: list[Span]


def _entries(source: IO[bytes]) -> Iterator[_Entry]:
    """Reads headers of the forms that `write_tree` writes, and no others.

    The caller reads an entry's data before the next; this reads the rest of the last block.
    """
    long: dict[bytes, str] = {}
    sparse: dict[str, str] = {}
    while True:
        header = _header_at(source)
        if header is None:
            return
        kind, size = header.type, header.size
        if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            content = _small(source, size)
            long[kind] = content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            continue
        if kind == tarfile.XHDTYPE:
            sparse = _records(_small(source, size))
            continue
        name = long.get(tarfile.GNUTYPE_LONGNAME, header.name)
        real, spans, data = size, [(0, size)], size
        if sparse:
            if kind != tarfile.REGTYPE:
                raise TreeRefused(f"{_shown(name)} is no file, and has holes")
            name, real = sparse.get("GNU.sparse.name", name), _number(sparse)
            spans = _spans_at(source, size, real)
            data = sum(length for _, length in spans)
        elif kind not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            real, spans, data = 0, [], 0
        yield _Entry(
            path=_path(name),
            kind=tarfile.REGTYPE if kind == tarfile.AREGTYPE else kind,
            link=long.get(tarfile.GNUTYPE_LONGLINK, header.linkname),
            mode=header.mode & _MODE,
            modified=max(0, int(header.mtime)),
            size=real,
            spans=spans,
        )
        _exactly(source, -data % _BLOCK)
        long, sparse = {}, {}


def _header_at(source: IO[bytes]) -> tarfile.TarInfo | None:
    block = _exactly(source, _BLOCK)
    if block == bytes(_BLOCK):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise TreeRefused(f"the archive can't be read: {error}") from error
    if header.size < 0:
        raise TreeRefused("the archive can't be read: a negative size")
    return header


def _small(source: IO[bytes], size: int) -> bytes:
    if size > _MAX_HEADER_BYTES:
        raise TreeRefused("the archive can't be read: a header is too long")
    return _exactly(source, size + -size % _BLOCK)[:size]


def _records(content: bytes) -> dict[str, str]:
    """Reads the records of an extended header (POSIX pax): `length key=value`, lines."""
    found: dict[str, str] = {}
    while content:
        digits, space, _ = content[:8].partition(b" ")
        if not space or not digits.isdigit() or not 0 < int(digits) <= len(content):
            raise TreeRefused("the archive can't be read: an extended header is broken")
        record, content = content[len(digits) + 1 : int(digits) - 1], content[int(digits) :]
        key, _, value = record.decode("utf-8", "surrogateescape").partition("=")
        found[key] = value
    return found


def _number(sparse: dict[str, str]) -> int:
    digits = sparse.get("GNU.sparse.realsize", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise TreeRefused("the archive can't be read: a file with holes has no size")
    return int(digits)


def _spans_at(source: IO[bytes], size: int, real: int) -> list[Span]:
    """Reads where the data of a file with holes belong, as far as they lie within it."""
    text = _exactly(source, min(size, _BLOCK))
    count = text.partition(b"\n")[0]
    if not count.isdigit() or len(count) > 7:
        raise _broken_map()
    wanted, found, blocks = 1 + 2 * int(count), text.count(b"\n"), [text]
    while found < wanted:
        if len(blocks) * _BLOCK >= min(size, _MAX_MAP_BYTES):
            raise _broken_map()
        blocks.append(_exactly(source, _BLOCK))
        found += blocks[-1].count(b"\n")
    text = b"".join(blocks)
    lines = text.split(b"\n")[1:wanted]
    if not all(line.isdigit() and len(line) < 19 for line in lines):
        raise _broken_map()
    numbers = [int(line) for line in lines]
    spans = list(zip(numbers[::2], numbers[1::2], strict=True))
    at = 0
    for offset, length in spans:
        if offset < at or offset + length > real:
            raise _broken_map()
        at = offset + length
    if len(text) + sum(length for _, length in spans) != size:
        raise _broken_map()
    return spans


def _broken_map() -> TreeRefused:
    return TreeRefused("the archive can't be read: the map of a file's holes is broken")


@dataclass
class _Maker:
    """Makes files below a directory."""

    root: int
    max_bytes: int
    max_entries: int
    owner: int | None
    _entries: int = 0
    _bytes: int = 0
    _directories: list[_Entry] = field(default_factory=list)
    _above: tuple[str, ...] = ()  # the directory that was worked in last
    _descriptor: int = -1

    def put(self, entry: _Entry, source: IO[bytes]) -> None:
        self._entries += 1
        if self._entries > self.max_entries:
            raise TreeRefused(f"the archive has more than {self.max_entries:,} entries")
        if not entry.path:
            if entry.kind != tarfile.DIRTYPE:
                raise TreeRefused("the archive does not begin with a directory")
            self._directories.append(entry)
            return
        *above, name = entry.path
        within = self._enter(tuple(above))
        if entry.kind == tarfile.DIRTYPE:
            os.mkdir(name, 0o700, dir_fd=within)
            self._directories.append(entry)
        elif entry.kind == tarfile.SYMTYPE:
            os.symlink(entry.link, name, dir_fd=within)
            os.utime(name, (entry.modified,) * 2, dir_fd=within, follow_symlinks=False)
        elif entry.kind == tarfile.LNKTYPE:
            self._link(entry, name, within)
            return
        elif entry.kind == tarfile.REGTYPE:
            self._file(entry, name, within, source)
        else:
            raise TreeRefused(f"{_shown(name)} is neither a file nor a directory nor a link")
        if self.owner is not None:
            os.chown(name, self.owner, self.owner, dir_fd=within, follow_symlinks=False)

    def finish(self) -> None:
        """Gives directories the modes in which nothing more might be made below them."""
        try:
            for entry in reversed(self._directories):
                within = self._enter(entry.path)
                try:
                    os.fchmod(within, entry.mode)
                    os.utime(within, (entry.modified, entry.modified))
                except PermissionError:
                    if entry.path:  # the volume's own directory is the cluster's
                        raise
        finally:
            self.leave()
        os.sync()  # the only other copy is removed soon

    def leave(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _file(self, entry: _Entry, name: str, within: int, source: IO[bytes]) -> None:
        self._bytes += sum(length for _, length in entry.spans)
        if self._bytes > self.max_bytes:
            raise TreeRefused(f"the archive has more than {self.max_bytes:,} bytes")
        with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=within), "wb") as file:
            for offset, length in entry.spans:
                file.seek(offset)
                file.writelines(_data(source, length))
            file.truncate(entry.size)  # flushes before
            os.fchmod(file.fileno(), entry.mode)
            os.utime(file.fileno(), (entry.modified, entry.modified))

    def _link(self, entry: _Entry, name: str, within: int) -> None:
        """Gives a file that was made before another name."""
        *above, first = _path(entry.link) or ("",)
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
        self.leave()
        descriptor = os.dup(self.root)
        for name in path:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        self._above, self._descriptor = path, descriptor
        return descriptor


class _Digesting:
    """Takes a digest of what is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self._digest.update(piece)
        return piece

    def to_the_end(self) -> str:
        """Reads what is left; returns the digest of all."""
        while self.read(_PIECE_BYTES):
            pass
        return f"sha256:{self._digest.hexdigest()}"


def _path(name: str) -> tuple[str, ...]:
    """Returns the path of an entry below the tree's root, which its first part stands for."""
    _, *path = name.removesuffix("/").split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in path):
        raise TreeRefused(f"{_shown(name)} is no path below a directory")
    if len(path) > _MAX_DEPTH + 1 or len(os.fsencode(name)) > 2 * _MAX_NAME_BYTES:
        raise TreeRefused(f"{_shown(name)}: the path is too long")
    return tuple(path)


def _exactly(source: IO[bytes], size: int) -> bytes:
    content = source.read(size)
    while len(content) < size:
        piece = source.read(size - len(content))
        if not piece:
            raise TreeRefused("the archive ends too early")
        content += piece
    return content


@contextmanager
def _opened(path: str | Path, below: int | None = None) -> Iterator[int]:
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
        raise TreeUnreadable(f"{_shown(name)}: its owner may not read it", owner) from error


def _shown(name: str) -> str:
    """Returns a path as one line of text."""
    text = os.fsencode(name).decode(errors="replace")
    return repr(text if len(text) <= 200 else f"{text[:100]}…{text[-100:]}")

"""Inflates the files of a zip archive, and checks what its headers say."""

import os
import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from moorage.archive.tree import TreeRefused, check_tree, tree_files
from moorage.errors import UploadInvalid
from moorage.uploads.room import UploadLimits

_END = struct.Struct("<4s4H2IH")  # §4.3.16
_END64_LOCATOR = struct.Struct("<4sIQI")  # §4.3.15
_END64 = struct.Struct("<4sQ2H2I4Q")  # §4.3.14
_CENTRAL = struct.Struct("<4s6H3I5H2I")  # §4.3.12
_LOCAL = struct.Struct("<4s5H3I2H")  # §4.3.7
_MAX_COMMENT_BYTES = 0xFFFF
_UNKNOWN_16, _UNKNOWN_32 = 0xFFFF, 0xFFFFFFFF  # “see the zip64 record”
_ZIP64_EXTRA = 1
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_PATCHED = 1 << 5
_UTF8 = 1 << 11
STORED, DEFLATED = 0, 8
_ENTRIES_PER_FILE = 4
_DIRECTORY_BYTES = 4 * 1024 * 1024


class ArchiveEntry(msgspec.Struct, frozen=True):
    """One file or folder of an archive, from its central directory."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    header_at: int
    data_at: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether this names a folder."""
        return self.name.endswith("/")

    @property
    def executable(self) -> bool:
        """Whether its owner may execute it; other permissions are ignored."""
        return bool(self.mode & stat.S_IXUSR)


class _Directory(msgspec.Struct, frozen=True):
    """The position of the central directory, and how much it claims to hold."""

    offset: int
    size: int
    entries: int


def read_entries(archive: BinaryIO, limits: UploadLimits) -> list[ArchiveEntry]:
    """Returns every entry, in the order of the central directory, with `data_at` set.

    Raises UploadInvalid. Reads headers only. Memory: a few times the directory, which is limited to
    4 MiB and four times `limits.files` entries.
    """
    directory = _find_directory(archive)
    if directory.entries > limits.files * _ENTRIES_PER_FILE:
        raise UploadInvalid(f"the archive holds more than {limits.files} files")
    if directory.size > _DIRECTORY_BYTES:
        raise UploadInvalid(f"the archive's file names take more than {_DIRECTORY_BYTES} bytes")
    entries = list(_central_entries(archive, directory))
    if sum(entry.size for entry in entries) > limits.unpacked_bytes:
        raise UploadInvalid(f"the archive unpacks to more than {limits.unpacked_bytes} bytes")
    for entry in entries:
        _check_kind(entry)
    located = [_located(archive, entry) for entry in entries]
    _check_disjoint(located, directory.offset)
    return located


def _find_directory(archive: BinaryIO) -> _Directory:
    length = archive.seek(0, os.SEEK_END)
    tail_at = max(0, length - _END.size - _MAX_COMMENT_BYTES)
    archive.seek(tail_at)
    tail = archive.read()
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        if at + _END.size <= len(tail):
            record = _END.unpack_from(tail, at)
            if at + _END.size + record[7] == len(tail):
                return _described(archive, record, tail_at + at)
        at = tail.rfind(b"PK\5\6", 0, at)
    raise UploadInvalid("the data is not a complete zip archive")


def _described(archive: BinaryIO, record: tuple[int, ...], end_at: int) -> _Directory:
    """Returns the directory that the end record at `end_at` describes; it must be right before."""
    _, disk, first_disk, here, entries, size, offset, _ = record
    if _UNKNOWN_16 in (here, entries) or _UNKNOWN_32 in (size, offset):
        disk, first_disk, here, entries, size, offset, end_at = _described64(archive, end_at)
    if disk or first_disk or here != entries:
        raise UploadInvalid("the archive is one part of several: send a single one")
    if offset + size != end_at:
        raise UploadInvalid("the archive is damaged: its directory is not where it should be")
    if not entries:
        raise UploadInvalid("the archive is empty")
    return _Directory(offset=offset, size=size, entries=entries)


def _described64(archive: BinaryIO, end_at: int) -> tuple[int, ...]:
    locator_at = end_at - _END64_LOCATOR.size
    _, _, record_at, _ = _unpack(archive, _END64_LOCATOR, locator_at, b"PK\6\7")
    record = _unpack(archive, _END64, record_at, b"PK\6\6")
    if record_at + 12 + record[1] != locator_at:
        raise UploadInvalid("the archive is damaged: its zip64 record has the wrong length")
    return (*record[4:], record_at)


def _unpack(archive: BinaryIO, layout: struct.Struct, at: int, signature: bytes) -> tuple[int, ...]:
    if at >= 0:
        archive.seek(at)
        header = archive.read(layout.size)
        if len(header) == layout.size and header.startswith(signature):
            return layout.unpack(header)
    raise UploadInvalid("the archive is damaged: a header is not where it should be")


def _central_entries(archive: BinaryIO, directory: _Directory) -> Iterator[ArchiveEntry]:
    at = directory.offset
    end = at + directory.size
    for _ in range(directory.entries):
        header = _unpack(archive, _CENTRAL, at, b"PK\1\2")
        lengths = header[10:13]
        at += _CENTRAL.size + sum(lengths)
        if at > end:
            raise UploadInvalid("the archive is damaged: its directory is too short")
        yield _entry(header, archive.read(lengths[0]), archive.read(lengths[1]))
    if at != end:
        raise UploadInvalid("the archive is damaged: its directory holds more than it says")


def _entry(header: tuple[int, ...], raw_name: bytes, extra: bytes) -> ArchiveEntry:
    _, _, _, flags, method, _, _, crc, packed, size = header[:10]
    name = _name(raw_name, flags)
    size, packed, header_at = _wide((size, packed, header[16]), extra, name)
    return ArchiveEntry(
        name=name,
        raw_name=raw_name,
        flags=flags,
        method=method,
        crc=crc,
        packed=packed,
        size=size,
        mode=header[15] >> 16,
        header_at=header_at,
    )


def _name(raw_name: bytes, flags: int) -> str:
    """Returns the name as UTF-8 text, with or without the UTF-8 flag; refuses other code pages."""
    try:
        return raw_name.decode()
    except UnicodeDecodeError:
        shown = raw_name.decode(errors="backslashreplace")
        said = "is not" if flags & _UTF8 else "is neither ASCII nor"
        raise UploadInvalid(f"{said} a UTF-8 name", path=shown) from None


def _wide(fields: tuple[int, int, int], extra: bytes, name: str) -> tuple[int, int, int]:
    """Returns size, packed size and offset, from the zip64 field if they refer to it (§4.5.3)."""
    if _UNKNOWN_32 not in fields:
        return fields
    wide = _extra_field(extra, _ZIP64_EXTRA)
    needed = fields.count(_UNKNOWN_32)
    if len(wide) < 8 * needed:
        raise UploadInvalid("has a damaged zip64 field", path=name)
    values = iter(struct.unpack_from(f"<{needed}Q", wide))
    size, packed, offset = (next(values) if field == _UNKNOWN_32 else field for field in fields)
    return size, packed, offset


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _check_kind(entry: ArchiveEntry) -> None:
    """Raises UploadInvalid unless this is a plain file or folder that can be unpacked here."""
    kind = stat.S_IFMT(entry.mode)
    problem = None
    if entry.flags & _ENCRYPTED:
        problem = "is encrypted"
    elif entry.flags & _PATCHED or entry.method not in (STORED, DEFLATED):
        problem = "is compressed by a method other than deflate"
    elif kind == stat.S_IFLNK:
        problem = "is a symbolic link: put the file itself into the archive"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "is a device or another special file"
    elif (kind == stat.S_IFDIR and not entry.is_folder) or (
        entry.is_folder and (kind == stat.S_IFREG or entry.size)
    ):
        problem = "is a file and a folder at once"
    if problem is not None:
        raise UploadInvalid(problem, path=entry.name)


def _located(archive: BinaryIO, entry: ArchiveEntry) -> ArchiveEntry:
    """Returns `entry` with the start of its data, which only its local header has."""
    header = _unpack(archive, _LOCAL, entry.header_at, b"PK\3\4")
    _, _, flags, method, *_, name_length, extra_length = header
    if (
        archive.read(name_length) != entry.raw_name
        or method != entry.method
        or (flags ^ entry.flags) & (_ENCRYPTED | _PATCHED)
    ):
        raise UploadInvalid("is described in two different ways by the archive", path=entry.name)
    data_at = entry.header_at + _LOCAL.size + name_length + extra_length
    return msgspec.structs.replace(entry, data_at=data_at)


def _check_disjoint(entries: list[ArchiveEntry], limit: int) -> None:
    """Raises UploadInvalid when two entries share bytes, as the densest zip bombs do."""
    previous_end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_at):
        if entry.header_at < previous_end:
            raise UploadInvalid("overlaps another file of the archive", path=entry.name)
        previous_end = entry.data_at + entry.packed
    if previous_end > limit:
        raise UploadInvalid("the archive is damaged: a file runs into its directory")


# Matches nearly every path. No component begins with a dot, so none is `.` or `..`.
_PLAIN = re.compile(r"(?:[A-Za-z0-9_@+-][A-Za-z0-9_@+.-]*+/)*+[A-Za-z0-9_@+-][A-Za-z0-9_@+.-]*+")
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"  # controls, bidi
)
_DRIVE = re.compile(r"[A-Za-z]:")
_CLUTTER = ".DS_Store"


def check_path(path: str, limits: UploadLimits) -> None:
    """Checks that `path` is a relative, `/`-separated path that names one file below its root.

    Raises UploadInvalid for anything that a file system could interpret in another way: absolute
    paths, drive letters, backslashes, `.`, `..` and empty components, control and
    direction-changing characters. Raises it for paths beyond the limits too.
    """
    if not _PLAIN.fullmatch(path):
        problem = _problem(path)
        if problem is not None:
            raise UploadInvalid(problem, path=path)
    _measure(path, limits)


def is_clutter(path: str) -> bool:
    """Whether `path` is a file that macOS adds to folders and archives, and no app needs."""
    return path.startswith("__MACOSX/") or (
        path.endswith(_CLUTTER) and path.rpartition("/")[2] == _CLUTTER
    )


def _problem(path: str) -> str | None:
    if not path:
        return "is empty: every file needs a path"
    if _UNPRINTABLE.search(path):
        return "holds control characters"
    if "\\" in path:
        return "holds a backslash: separate folders with '/'"
    if path.startswith("/") or _DRIVE.match(path):
        return "is an absolute path: name files relative to the project's folder"
    components = path.split("/")
    if ".." in components:
        return "leads out of its folder by '..'"
    if "." in components:
        return "holds a '.' component: leave it out"
    if "" in components:
        return "holds an empty component: remove the doubled or final '/'"
    return None


def _measure(path: str, limits: UploadLimits) -> None:
    length = len(path) if path.isascii() else len(path.encode())
    if length > limits.path_length:
        raise UploadInvalid(f"is longer than {limits.path_length} bytes", path=path)
    if path.count("/") >= limits.path_depth:
        raise UploadInvalid(f"lies deeper than {limits.path_depth} folders", path=path)
    if length > limits.component_length:
        for component in path.split("/"):
            if len(component.encode()) > limits.component_length:
                raise UploadInvalid(
                    f"has a component longer than {limits.component_length} bytes", path=path
                )


def _folded(path: str) -> str:
    """Returns the path as a file system that ignores letter case and Unicode form compares it."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


class PathSet:
    """The paths of one upload; refuses two that could be the same on some file system."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._known: set[str] = set()

    def add_file(self, path: str) -> None:
        """Adds a file's path. Raises UploadInvalid when it is unsafe or clashes with another."""
        check_path(path, self._limits)
        folded = _folded(path)
        if folded in self._files or folded in self._folders:
            raise UploadInvalid(self._clash(path, folded), path=path)
        self._files[folded] = path
        if len(self._files) > self._limits.files:
            raise UploadInvalid(f"holds more than {self._limits.files} files")
        self._add_parents(path)

    def add_folder(self, path: str) -> None:
        """Adds a folder's path, without a final `/`. Raises UploadInvalid as `add_file` does."""
        check_path(path, self._limits)
        self._add_parents(f"{path}/")

    def _add_parents(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        while folder and folder not in self._known:
            self._known.add(folder)
            folded = _folded(folder)
            if folded in self._files:
                raise UploadInvalid("is a file and a folder at once", path=self._files[folded])
            other = self._folders.setdefault(folded, folder)
            if other != folder:
                raise UploadInvalid(
                    f"lies in a folder that {_differs(other)}", path=path.rstrip("/")
                )
            folder = folder.rpartition("/")[0]

    def _clash(self, path: str, folded: str) -> str:
        if folded in self._folders:
            return "is a file and a folder at once"
        other = self._files[folded]
        return "is there twice" if other == path else _differs(other)


def _differs(other: str) -> str:
    return f"differs from {other!r} only in letter case or Unicode form"


_PIECE = 64 * 1024
_RATIO_FLOOR = 1024 * 1024


class Unpacked(msgspec.Struct, frozen=True, array_like=True):
    """One file of an archive, and its position in the unpacked data."""

    path: str
    offset: int
    size: int
    executable: bool


def unpack(
    archive: BinaryIO,
    write: Callable[[bytes], None],
    limits: UploadLimits,
    begin: Callable[[str], None] | None = None,
) -> list[Unpacked]:
    """Unpacks every file of `archive`, except empty folders and files that macOS adds.

    Their contents go to `write`, one after the other; before each, `begin` gets its path. All
    headers and names are checked before the first byte is inflated. Raises UploadInvalid, and what
    `write` raises.
    """
    entries = _files(read_entries(archive, limits), limits)
    budget = _Budget(limits, packed_total=sum(entry.packed for entry in entries))
    unpacked = []
    offset = 0
    for entry in entries:
        if begin is not None:
            begin(entry.name)
        for piece in _verified(entry, _inflated(archive, entry), budget):
            write(piece)
        unpacked.append(Unpacked(entry.name, offset, entry.size, entry.executable))
        offset += entry.size
    return unpacked


def unpack_tree(
    archive: BinaryIO,
    write: Callable[[bytes], None],
    limits: UploadLimits,
    begin: Callable[[str], None] | None = None,
) -> list[Unpacked]:
    """As `unpack`, for the files of an export (`archive.tree`); links are left out."""
    known, unpacked, offset = PathSet(limits), dict[str, Unpacked](), 0
    try:
        for file in tree_files(
            archive, max_bytes=limits.unpacked_bytes, max_entries=4 * limits.files
        ):
            if begin is not None:
                begin(file.path)
            known.add_file(file.path)
            if file.same_as:
                first = unpacked.get(file.same_as)
                if first is not None:
                    unpacked[file.path] = msgspec.structs.replace(first, path=file.path)
                continue
            for piece in file.pieces:
                write(piece)
            unpacked[file.path] = Unpacked(file.path, offset, file.size, file.executable)
            offset += file.size
    except TreeRefused as error:
        raise UploadInvalid(f"is no export's part: {error}", path="files.tar.gz") from error
    return [file for path, file in unpacked.items() if not is_clutter(path)]


def check_volume(archive: BinaryIO, *, offset: int, max_bytes: int) -> None:
    """Checks the volume of an export, which begins at `offset`. Raises UploadInvalid, OSError."""
    archive.seek(offset)
    try:
        check_tree(archive, max_bytes=max_bytes)
    except TreeRefused as error:
        raise UploadInvalid(f"is no export's part: {error}", path="volume.tar.gz") from error


def _files(entries: list[ArchiveEntry], limits: UploadLimits) -> list[ArchiveEntry]:
    paths = PathSet(limits)
    files = []
    for entry in entries:
        if is_clutter(entry.name):
            continue
        if entry.is_folder:
            paths.add_folder(entry.name[:-1])
        else:
            paths.add_file(entry.name)
            files.append(entry)
    if not files:
        raise UploadInvalid("the archive holds no files")
    return files


class _Budget:
    """Counts the bytes that are inflated, and refuses too many."""

    def __init__(self, limits: UploadLimits, *, packed_total: int) -> None:
        self._limits = limits
        self._max_bytes = min(limits.unpacked_bytes, self._by_ratio(packed_total))
        self._total = 0

    def _by_ratio(self, packed: int) -> int:
        return max(_RATIO_FLOOR, packed * self._limits.archive_ratio)

    def spend(self, entry: ArchiveEntry, *, piece: int, so_far: int) -> None:
        """Adds `piece` bytes of `entry`, which are `so_far` with those before.

        Raises UploadInvalid when that is too much.
        """
        self._total += piece
        if so_far > entry.size:
            raise UploadInvalid("is longer than the archive says", path=entry.name)
        if so_far > self._by_ratio(entry.packed):
            raise UploadInvalid(
                f"unpacks to more than {self._limits.archive_ratio} times its packed size",
                path=entry.name,
            )
        if self._total > self._max_bytes:
            raise UploadInvalid(f"the archive unpacks to more than {self._max_bytes} bytes")


def _verified(entry: ArchiveEntry, pieces: Iterator[bytes], budget: _Budget) -> Iterator[bytes]:
    """Yields `pieces`; checks the budget for each, and at the end the header's size and CRC-32."""
    size = crc = 0
    for piece in pieces:
        size += len(piece)
        budget.spend(entry, piece=len(piece), so_far=size)
        crc = zlib.crc32(piece, crc)
        yield piece
    if size != entry.size:
        raise UploadInvalid("is shorter than the archive says", path=entry.name)
    if crc != entry.crc:
        raise UploadInvalid("is damaged: its checksum does not match", path=entry.name)


def _inflated(archive: BinaryIO, entry: ArchiveEntry) -> Iterator[bytes]:
    packed = _packed(archive, entry)
    if entry.method != DEFLATED:
        yield from packed
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in packed:
            rest = piece
            while rest:
                yield inflater.decompress(rest, _PIECE)
                rest = inflater.unconsumed_tail or inflater.unused_data
                if inflater.eof and rest:
                    raise zlib.error
        while not inflater.eof and (inflated := inflater.decompress(b"", _PIECE)):
            yield inflated
    except zlib.error:
        raise UploadInvalid("is damaged: its data can't be inflated", path=entry.name) from None
    if not inflater.eof:
        raise UploadInvalid("is damaged: its data ends early", path=entry.name)


def _packed(archive: BinaryIO, entry: ArchiveEntry) -> Iterator[bytes]:
    archive.seek(entry.data_at)
    left = entry.packed
    while left:
        piece = archive.read(min(left, _PIECE))
        if not piece:
            raise UploadInvalid("is damaged: its data ends early", path=entry.name)
        left -= len(piece)
        yield piece

"""The central directory of a zip archive, read strictly and checked before anything is unpacked.

Follows APPNOTE 6.3.10, without what no honest archive of an app needs: split archives, encryption,
methods other than stored and deflated, links and devices, data before or after the archive, entries
that share bytes. An archive is refused when the two headers of an entry differ.

It does not use `zipfile`, which accepts what it can guess (prefixed archives, counts that do not
match, names cut at a null byte or read as cp437). End record, names and local headers would have to
be read here too, and attacks use the differences between two parsers of one archive.
"""

import os
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from moorage.errors import UploadInvalid
from moorage.uploads.limits import UploadLimits

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

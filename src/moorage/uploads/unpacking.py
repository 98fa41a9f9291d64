"""Inflates the files of a zip archive, and checks what its headers say."""

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from moorage.archive.tree import TreeRefused, check_tree, tree_files
from moorage.errors import UploadInvalid
from moorage.uploads.archive import DEFLATED, ArchiveEntry, read_entries
from moorage.uploads.limits import UploadLimits
from moorage.uploads.paths import PathSet, is_clutter

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

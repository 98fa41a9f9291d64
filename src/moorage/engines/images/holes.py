"""Files with holes in archives: the form that GNU tar calls sparse 1.0, which `tarfile` reads.

A file's entry has a map, and then its data alone: the map says where they belong. Standard library
alone.
"""

import errno
import os
import tarfile
from collections.abc import Sequence
from io import FileIO

Part = tuple[int, int]
"""Where data begin in a file, and how many bytes they are."""

MAX_BYTES = 8 * 1024**3
"""Of a file's data: `tarfile` loses its way behind an entry that says how large it is elsewhere."""

_BLOCK = tarfile.BLOCKSIZE
_MADE_UP = "GNUSparseFile.0/data"  # what programs see that do not know the form


def data_parts(file: FileIO, size: int) -> list[Part]:
    """Returns the parts of a file that are no hole; the whole of one without holes. Moves in it.

    The last part of one with a hole at its end has no bytes.
    """
    parts, at = [], 0
    while at < size:
        try:
            begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = min(os.lseek(file.fileno(), begin, os.SEEK_HOLE), size)
        parts.append((begin, at - begin))
    if at < size:
        parts.append((size, 0))
    return parts or [(0, 0)]


def map_of_parts(parts: Sequence[Part]) -> bytes:
    """Returns what stands before the data, in whole blocks."""
    numbers = [len(parts), *(number for part in parts for number in part)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    return text + bytes(-len(text) % _BLOCK)


def sparse_header(entry: tarfile.TarInfo, parts: Sequence[Part], *, size: int) -> bytes:
    """Returns the header of a file of this size; sets the size of what follows in the entry."""
    name, entry.name = entry.name, _MADE_UP
    entry.size = len(map_of_parts(parts)) + sum(length for _, length in parts)
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

"""Computes digests of sparse files without reading their holes."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 1024 * 1024
_ZEROS = bytes(BLOCK_BYTES)


class Digest:
    """SHA-256 over a file's blocks that are not all zeros, each after its number, and its size.

    So holes cost nothing, and a block of zeros counts like a hole.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, number: int, block: bytes) -> None:
        """Adds a block that is not all zeros."""
        self._hash.update(number.to_bytes(8, "big"))
        self._hash.update(block)

    def hex(self, size: int) -> str:
        """Returns the digest of a file of `size` bytes."""
        self._hash.update(size.to_bytes(8, "big"))
        return self._hash.hexdigest()


def is_zero(block: bytes) -> bool:
    """Returns whether a block of at most BLOCK_BYTES is all zeros."""
    return block == _ZEROS if len(block) == BLOCK_BYTES else not any(block)


def digest_of(path: Path) -> str:
    """Returns the digest of a file. Raises OSError."""
    digest = Digest()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in _numbers_with_data(descriptor):
            block = os.pread(descriptor, BLOCK_BYTES, number * BLOCK_BYTES)
            if not is_zero(block):
                digest.add(number, block)
        return digest.hex(os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _numbers_with_data(descriptor: int) -> Iterator[int]:
    """Returns the numbers of all blocks that are not wholly in a hole, each once."""
    done, end = 0, 0
    while True:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole follows
                return
            raise
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        last = -(-end // BLOCK_BYTES)
        yield from range(max(done, begin // BLOCK_BYTES), last)
        done = max(done, last)

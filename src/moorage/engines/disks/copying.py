"""Copies a disk's image, keeping holes, and consistently even while an app writes to it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.disks.disk import Disk
from moorage.engines.host.kernel import version as kernel

FREEZE_SECONDS = 10.0  # how long a copy of an app's disk may delay the app's writes
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CHUNK_BYTES = 16 * 1024 * 1024
# The errors if the file system can't share blocks, or not between these two files.
_NO_CLONES = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV)


class CopyTooSlow(OSError):
    """The disk could not be copied while it may be kept frozen: the machine's disk is too slow."""


def copy_disk(disk: Disk, image: Path, clock: Clock) -> None:
    """Copies the disk to a new image; writes to the disk wait meanwhile.

    Leaves no image if it raises CopyTooSlow or OSError.
    """
    try:
        if disk.mounted:
            kernel.sync(disk.mount_point)  # so that the freeze has little left to write
            with kernel.frozen(disk.mount_point):
                copy_image(disk.image, image, clock=clock, within_seconds=FREEZE_SECONDS)
        else:
            copy_image(disk.image, image, clock=clock)
    except BaseException:
        image.unlink(missing_ok=True)
        raise


def copy_image(
    source: Path, target: Path, *, clock: Clock, within_seconds: float = float("inf")
) -> None:
    """Copies a file, sharing its blocks if possible, else keeping holes. Raises CopyTooSlow."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if _clone(reading, writing):
            return
        deadline = clock.monotonic_seconds() + within_seconds
        os.ftruncate(writing, os.fstat(reading).st_size)
        for offset, length in _chunks(reading):
            _copy_range(reading, writing, offset, length)
            if clock.monotonic_seconds() > deadline:
                raise CopyTooSlow(f"{source} was not copied within {within_seconds:g} s")
    finally:
        os.close(reading)
        os.close(writing)


def _clone(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno in _NO_CLONES:
            return False
        raise
    return True


def _chunks(descriptor: int) -> Iterator[tuple[int, int]]:
    """Returns offset and length of pieces of all data that is not in a hole."""
    end = 0
    while True:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole follows
                return
            raise
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        for offset in range(begin, end, _CHUNK_BYTES):
            yield offset, min(_CHUNK_BYTES, end - offset)


def _copy_range(reading: int, writing: int, offset: int, length: int) -> None:
    while length > 0:
        copied = os.copy_file_range(reading, writing, length, offset, offset)
        if copied == 0:
            raise OSError(errno.EIO, "the image became shorter while it was copied")
        offset += copied
        length -= copied

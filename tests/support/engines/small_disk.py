"""A machine's disk that is small: an ext4 in a file, mounted for one test."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024


@contextlib.contextmanager
def small_disk(directory: Path, size_mib: int) -> Iterator[Path]:
    """Where it is mounted; everything on it must be unmounted by the end."""
    image, mount_point = directory / "small.img", directory / "small"
    with image.open("xb") as file:
        file.truncate(size_mib * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    mount_point.mkdir()
    subprocess.run(["mount", "-o", "loop", image, mount_point], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)
        image.unlink()


def free_mib(directory: Path) -> float:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize / MIB


def fill(directory: Path, *, leave_mib: int = 0) -> Path:
    """A file that takes what is free, but for so much."""
    filler = directory / "filler"
    with filler.open("wb") as file:
        end, size = 0, 64 * MIB
        while size >= 4096:
            if free_mib(directory) - size / MIB < leave_mib or not _grow(file.fileno(), end, size):
                size //= 2
            else:
                end += size
    return filler


def _grow(file: int, end: int, size: int) -> bool:
    try:
        os.posix_fallocate(file, end, size)
    except OSError:
        return False
    return True


def errors_in(image: Path) -> bool:
    """Whether an ext4 in a file says that the kernel found errors in it."""
    shown = subprocess.run(
        ["dumpe2fs", "-h", image], capture_output=True, text=True, check=True
    ).stdout
    return "with errors" in shown or "FS Error count" in shown

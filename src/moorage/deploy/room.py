"""Room: whether the disk takes another app."""

import shutil
from pathlib import Path

from moorage.errors import NoCapacity


def check_room(directory: Path, *, reserve_bytes: int) -> None:
    """Raise NoCapacity when less is free: disks are sparse, so what is free is what counts."""
    if shutil.disk_usage(directory).free < reserve_bytes:
        raise NoCapacity

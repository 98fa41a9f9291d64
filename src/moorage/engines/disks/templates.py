"""Empty disks: one is made of each size, and copied for each new disk.

A copy takes a millisecond, mkfs ten or more. Templates of an earlier process are not used, as a
crash of the machine may have damaged them. Blocking; call from a thread.
"""

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.disks.copying import copy_image
from moorage.engines.disks.disk import make_image


@dataclass(frozen=True, kw_only=True)
class DiskTemplates:
    """The empty disks of one gateway, in a directory of their own."""

    directory: Path
    clock: Clock
    _made: set[int] = field(default_factory=set)  # sizes, in bytes
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Makes the directory, and removes what was in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o700)

    def put(self, image: Path, size_bytes: int) -> None:
        """Makes a new, empty ext4 in a file, replacing what was there. Raises OSError."""
        blank = self.directory / f"{size_bytes}.img"
        with self._lock:
            if size_bytes not in self._made or not blank.exists():
                make_image(blank, size_bytes)
                self._made.add(size_bytes)
        image.unlink(missing_ok=True)
        copy_image(blank, image, clock=self.clock)

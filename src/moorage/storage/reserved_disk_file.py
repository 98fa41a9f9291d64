"""Ballast: disk space that is held back, and freed for the database when the disk is full."""

import os
from pathlib import Path

import structlog

log = structlog.get_logger()


class ReservedDiskFile:
    """A file of `size_bytes` that nothing reads. Its methods block for milliseconds."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def adjust(self, *, free_bytes: int, spare_bytes: int) -> None:
        """Removes the file when less than its size is free; makes it again when more is spare."""
        if self._path.exists():
            if free_bytes < self._size_bytes:
                self._path.unlink()
                log.error("the disk is full: ballast dropped", bytes=self._size_bytes)
        elif self._size_bytes and spare_bytes > self._size_bytes:
            self._allocate()

    def _allocate(self) -> None:
        with self._path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
            except OSError as error:
                self._path.unlink()
                log.warning("no room for ballast", error=str(error))

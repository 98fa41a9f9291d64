"""Ballast: room on the disk that the database keeps for itself, and is given when none is left."""

import os
from pathlib import Path

import structlog

log = structlog.get_logger()


class Ballast:
    """A file of so many bytes that nothing reads; blocks for milliseconds."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def tend(self, *, free_bytes: int, spare_bytes: int) -> None:
        """Drop it when less is free than it holds; take it up again when as much is to spare."""
        if self._path.exists():
            if free_bytes < self._size_bytes:
                self._path.unlink()
                log.error("the disk is full: ballast dropped", bytes=self._size_bytes)
        elif self._size_bytes and spare_bytes > self._size_bytes:
            self._take_up()

    def _take_up(self) -> None:
        with self._path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
            except OSError as error:
                self._path.unlink()
                log.warning("no room for ballast", error=str(error))

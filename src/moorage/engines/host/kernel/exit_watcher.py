"""Learns from the kernel which apps have ended, without polling.

bwrap keeps an app's status file open until the app's command has ended, and the kernel reports when
a file that was open for writing is closed (inotify(7)). One descriptor serves all apps.
"""

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_IN_CLOSE_WRITE, _IN_IGNORED = 0x8, 0x8000
_EVENT = struct.Struct("=iIII")  # struct inotify_event: watch, mask, cookie, length of a name
_READ_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)

logger = logging.getLogger(__name__)


class ExitWatcher:
    """Watches status files. Reports an exit only if `confirm`, called in the event loop, agrees."""

    def __init__(self, confirm: Callable[[str], bool]) -> None:
        self._confirm = confirm
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._watched: dict[int, str] = {}
        self._awaited: set[str] = set()
        self._descriptor: int | None = None

    def open(self) -> None:
        """Starts watching. Raises OSError."""
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Stops watching."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None
        self._watched.clear()
        self._awaited.clear()

    def watch(self, deployment_id: str, status_file: Path) -> None:
        """Watches a deployment's app until the file is removed.

        Logs a warning if the kernel refuses, as it limits the number of watches. Other checks will
        find the exit later.
        """
        if self._descriptor is None:
            return
        mask = ctypes.c_uint32(_IN_CLOSE_WRITE)
        try:
            path = os.fsencode(status_file)
            watch = _checked(_libc.inotify_add_watch(self._descriptor, path, mask))
        except OSError as error:
            logger.warning("the end of %s won't be told: %s", deployment_id, error)
        else:
            self._watched[watch] = deployment_id
            self._awaited.add(deployment_id)

    def awaits(self, deployment_id: str) -> bool:
        """Returns whether the kernel has yet to report the end of an app's command.

        From then on, or where it is not watched, others must look whether the app still runs.
        """
        return deployment_id in self._awaited

    def report(self, deployment_id: str) -> None:
        """Reports an end that the engine has learnt of in another way."""
        if self._confirm(deployment_id):
            self._ended.put_nowait(deployment_id)

    async def next(self) -> str:
        """Waits until an app has ended; returns its deployment id."""
        return await self._ended.get()

    def _read(self) -> None:
        if self._descriptor is None:
            return
        for watch, mask in _events(os.read(self._descriptor, _READ_BYTES)):
            deployment_id = self._watched.get(watch, "")
            self._awaited.discard(deployment_id)
            if mask & _IN_IGNORED:  # the file is gone
                self._watched.pop(watch, None)
            elif deployment_id:
                self.report(deployment_id)


def _events(read: bytes) -> Iterator[tuple[int, int]]:
    """Returns watch and mask of each event."""
    offset = 0
    while offset < len(read):
        watch, mask, _, length = _EVENT.unpack_from(read, offset)
        yield watch, mask
        offset += _EVENT.size + length


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

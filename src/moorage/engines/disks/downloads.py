"""A wallet's cache of downloads. One build at a time uses it.

It is a disk of its own, so that it can't fill another. The gateway reads nothing in it; if it is
full or damaged, the gateway replaces it.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from moorage.engines.disks.caches import Caches
from moorage.engines.disks.disk import Disk, is_clean, make_owned
from moorage.engines.disks.templates import DiskTemplates
from moorage.threads import in_thread

_SHARE = 2  # half of a wallet's limit is for its downloads, unless a build needs more
_FULL_SHARE = 8  # with less than an eighth free, it is replaced before a build

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Downloads:
    """The downloads of all wallets; remembers which are in use."""

    templates: DiskTemplates
    caches: Caches
    mount_points: Path
    _leased: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def leased(self, owner: str, uid: int) -> AsyncIterator[Path | None]:
        """Mounts a wallet's cache as a directory of `uid`; None if it has none, or it is in use."""
        directory = self.caches.of(owner)
        if directory is None or owner in self._leased:
            yield None
            return
        disk = self._disk(directory)
        self._leased.add(owner)
        size_bytes = self.caches.wallet_bytes // _SHARE
        try:
            yield await in_thread(self._open, disk, uid, size_bytes=size_bytes)
        finally:
            await in_thread(_close, disk)
            self._leased.discard(owner)

    def renew(self, owner: str, uid: int) -> Path | None:
        """Replaces a leased cache that was full by an empty one of the wallet's whole limit.

        Returns its directory; None if that fails.
        """
        directory = self.caches.of(owner)
        if directory is None or owner not in self._leased:
            return None
        disk = self._disk(directory)
        _remove(disk)
        return self._open(disk, uid, size_bytes=self.caches.wallet_bytes)

    def _disk(self, directory: Path) -> Disk:
        return Disk(
            image=directory / "downloads.img",
            mount_point=self.mount_points / f"{directory.name}.downloads",
        )

    def _open(self, disk: Disk, uid: int, *, size_bytes: int) -> Path | None:
        """Mounts the cache and returns its directory; None if that fails."""
        files = disk.mount_point / "files"
        try:
            if not _is_usable(disk, uid, size_bytes):
                self.templates.put(disk.image, size_bytes)
                disk.mount(uid)
                disk.mount_point.chmod(0o711)
                make_owned(files, uid)
            self.caches.use(disk.image)
        except OSError as error:
            logger.warning("a build goes without its wallet's downloads: %s", error)
            _remove(disk)
            return None
        return files


def _is_usable(disk: Disk, uid: int, size_bytes: int) -> bool:
    """Mounts the cache of earlier builds; removes it and returns False if it can't be used."""
    if not disk.image.exists():
        return False
    try:
        if is_clean(disk.image) and disk.image.stat().st_size >= size_bytes:
            disk.mount(uid)
            if disk.free_bytes * _FULL_SHARE >= size_bytes:
                return True
    except OSError as error:
        logger.warning("downloads are damaged and are thrown away: %s", error)
    disk.remove()
    return False


def _close(disk: Disk) -> None:
    """Unmounts the cache; it costs no build that this fails."""
    try:
        if not disk.release():  # it is still in use, and must not be mounted twice
            disk.image.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("downloads can't be unmounted: %s", error)


def _remove(disk: Disk) -> None:
    """Removes the cache, as far as that works; what is left of it is not used again."""
    try:
        disk.remove()
    except OSError as error:
        logger.warning("downloads can't be removed: %s", error)

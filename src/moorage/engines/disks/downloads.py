"""A build's disk for downloads: those of its wallet's earlier builds, or an empty one.

It is sparse and lies in the deployment's directory, as its own disk does, so that what watches the
machine's disk sees both. Afterwards it becomes the wallet's, if that may keep as much; else it is
thrown away. The gateway reads nothing in it; if it is half full or damaged, an empty one is taken.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.disks.caches import Caches
from moorage.engines.disks.disk import DOWNLOADS_IMAGE, Disk, is_clean, make_owned, taken_bytes
from moorage.engines.disks.templates import DiskTemplates
from moorage.threads import in_thread

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Downloads:
    """Makes the disks for downloads, of `size_bytes` each, and keeps those that may be kept."""

    templates: DiskTemplates
    caches: Caches
    mount_points: Path
    size_bytes: int

    def disk(self, deployment: Path) -> Disk:
        """Returns the disk of the build in a deployment's directory."""
        return Disk(
            image=deployment / DOWNLOADS_IMAGE,
            mount_point=self.mount_points / downloads_mount(deployment.name),
        )

    @asynccontextmanager
    async def leased(self, deployment: Path, owner: str, uid: int) -> AsyncIterator[Path | None]:
        """Mounts a wallet's downloads as a directory of `uid`; None for nobody's build.

        Where nothing is kept, or another build has it, it is an empty one.
        """
        if not owner:
            yield None
            return
        disk = self.disk(deployment)
        try:
            yield await in_thread(self._open, disk, owner, uid)
        finally:
            await in_thread(self._close, disk, owner)

    def _open(self, disk: Disk, owner: str, uid: int) -> Path | None:
        """Mounts the disk and returns its directory; None if that fails."""
        files = disk.mount_point / "files"
        try:
            if not self._is_usable(disk, owner, uid):
                self.templates.put(disk.image, self.size_bytes)
                disk.mount(uid)
                disk.mount_point.chmod(0o711)
                make_owned(files, uid)
        except OSError as error:
            logger.warning("a build goes without a disk for downloads: %s", error)
            _remove(disk)
            return None
        return files

    def _is_usable(self, disk: Disk, owner: str, uid: int) -> bool:
        """Mounts what the wallet has kept; removes it and returns False if it can't be used."""
        kept = self._kept(owner)
        if kept is None or not kept.exists():
            return False
        try:
            kept.replace(disk.image)
            if is_clean(disk.image) and disk.image.stat().st_size >= self.size_bytes:
                disk.mount(uid)
                if disk.free_bytes * 2 >= self.size_bytes:
                    return True
        except OSError as error:
            logger.warning("downloads are damaged and are thrown away: %s", error)
        disk.remove()
        return False

    def _close(self, disk: Disk, owner: str) -> None:
        """Unmounts the disk, and keeps it if it may be kept; it costs no build that this fails."""
        try:
            # One that is still in use must not be mounted twice.
            is_free = disk.release() and disk.image.exists()
            kept = self._kept(owner)
            if is_free and kept is not None and self._may_stay(disk):
                self.caches.use(disk.image)
                disk.image.replace(kept)
        except OSError as error:
            logger.warning("downloads can't be kept: %s", error)
        _remove(disk)

    def _may_stay(self, disk: Disk) -> bool:
        return taken_bytes(str(disk.image)) <= self.caches.wallet_bytes

    def _kept(self, owner: str) -> Path | None:
        directory = self.caches.of(owner)
        return None if directory is None else directory / DOWNLOADS_IMAGE


def downloads_mount(deployment_id: str) -> str:
    """Returns the name of the directory in which a build's downloads are mounted."""
    return f"{deployment_id}.downloads"


def _remove(disk: Disk) -> None:
    """Removes the disk, as far as that works; what is left of it is not used again."""
    try:
        disk.remove()
    except OSError as error:
        logger.warning("downloads can't be removed: %s", error)

"""A volume: a disk that outlives deployments, mounted at `/data` of its app.

Its blocks are allocated when it is made, if the machine's file system can do that, so that it
always has room.

While a new version replaces an old one, both use the volume: the disk is mounted once, and each app
has a view of it in which it owns the files (`idmap`). Blocking; call from a thread.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.carried import VolumeArchive, VolumeContent, lack_of_room
from moorage.engines.disks.disk import (
    IMAGE,
    Disk,
    allocate,
    capacity_bytes,
    check_image,
    mount_image,
)
from moorage.engines.disks.leaving import copy_files
from moorage.engines.disks.unpacking import ArchiveBounds, ArchiveRefused, unpack
from moorage.engines.failure import not_carried
from moorage.engines.host import tool
from moorage.engines.images.layer import LayerBounds, LayerRefused, Place, write_layer
from moorage.engines.isolation import idmap
from moorage.errors import DeployFailed, FailureCause

MIN_BYTES = 32 * 1024 * 1024
_NO_ROOM = "the gateway's disk has no room for the volume: try again later"
_DISK = ".disk"  # no deployment's id begins with a dot
_DATA = "data"

logger = logging.getLogger(__name__)


def mkfs_argv(image: Path) -> list[str]:
    """Returns the command that makes an ext4 with a journal, to survive a crash of the machine."""
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    return ["mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", "-E", options, str(image)]


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One volume. `directory` has its image, `mounts` the mounted disk and its views."""

    directory: Path
    mounts: Path

    @property
    def disk(self) -> Disk:
        """The disk, with file owners as on disk."""
        return Disk(image=self.directory / IMAGE, mount_point=self.mounts / _DISK)

    def show(self, deployment_id: str, uid: int, *, size_bytes: int) -> Path:
        """Mounts a view for a deployment's app, in which `uid` owns the files; returns where.

        Makes the volume if it does not exist. Raises OSError, DeployFailed.
        """
        with self.alone():
            if not self.disk.image.exists():
                self._create(size_bytes)
            elif not self.disk.mounted:
                self._allocate()
                mount_image(self.disk.image, self.disk.mount_point)
            view = self.mounts / deployment_id
            self._unmount(view)  # it may be for another uid
            view.mkdir(mode=0o700)
            idmap.mount_mapped(self.disk.mount_point / _DATA, view, uid)
            return view

    def mend(self) -> bool:
        """Repairs errors that the kernel found, unless an app uses it; returns whether it did.

        Raises OSError if they can't be repaired.
        """
        with self.alone():
            if self.users() or not self.disk.has_failed:
                return False
            self.disk.release()
            check_image(self.disk.image)
            return True

    def hide(self, deployment_id: str) -> None:
        """Unmounts a deployment's view, and the disk if that was the last view."""
        if not self.directory.is_dir():
            return
        with self.alone():
            self._unmount(self.mounts / deployment_id)
            if not self.users():
                self.close()

    def close(self) -> None:
        """Unmounts the disk; there must be no view."""
        self.disk.release()  # waits, so that it is never mounted twice
        if self.mounts.is_dir():
            self.mounts.rmdir()

    def users(self) -> set[str]:
        """Returns the ids of the deployments that have a view."""
        if not self.mounts.is_dir():
            return set()
        return {path.name for path in self.mounts.iterdir()} - {_DISK}

    def export(self, target: Path) -> None:
        """Copies the files into the new directory `target`; nothing for a volume never made.

        Holes and further names of files are kept. Raises DeployFailed for directories that are
        nested too deeply, OSError.
        """
        if not self.disk.image.exists():
            return
        with self._shown() as data:
            copy_files(data, target, without=(), max_bytes=capacity_bytes(data))

    def content(self) -> VolumeContent:
        """Returns how much is in it; nothing of a volume that was never made."""
        if not self.disk.image.exists():
            return VolumeContent(size_bytes=0, files=0)
        with self._shown() as data:
            status = os.statvfs(data)
            return VolumeContent(
                size_bytes=(status.f_blocks - status.f_bfree) * status.f_frsize,
                files=status.f_files - status.f_ffree,
            )

    def pack(self, target: Path, *, max_bytes: int) -> VolumeArchive:
        """Writes the files to the new file `target`. Raises DeployFailed, OSError."""
        if self.users():
            raise DeployFailed(FailureCause.INTERRUPTED, "the volume is in use")
        bounds = LayerBounds(max_bytes=max_bytes, is_image=False)
        with self._shown() as data, target.open("xb") as out:
            place = Place(data, _DATA, idmap.OWNER)
            try:
                layer = write_layer([place], out, bounds)
            except LayerRefused as error:
                raise not_carried(f"{error}") from error
        return VolumeArchive(path=target, digest=layer.digest)

    def prepare(self, size_bytes: int, needed: VolumeContent) -> None:
        """Makes a new, empty disk, with room for so much. Raises DeployFailed, OSError."""
        with self.alone():
            if self.users():
                raise DeployFailed(FailureCause.INTERRUPTED, "the volume is in use")
            self._create(size_bytes)
            data = self.disk.mount_point / _DATA
            try:
                if why := lack_of_room(os.statvfs(data), needed):
                    raise not_carried(why)
            finally:
                self.close()

    def fill(self, archive: VolumeArchive) -> None:
        """Unpacks an archive into the empty disk. Raises DeployFailed, OSError."""
        with self._shown() as data, archive.path.open("rb") as source:
            bounds = ArchiveBounds(max_bytes=capacity_bytes(data))
            try:
                unpack(source, data, bounds, digest=archive.digest, owner=idmap.OWNER)
            except ArchiveRefused as error:
                raise not_carried(f"{error}") from error
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise not_carried("its files do not fit into the new one") from error

    def clear(self) -> None:
        """Deletes the content, unless there is a view; the next view will be empty.

        The directory stays, as others may be waiting for its lock.
        """
        if not self.directory.is_dir():
            return
        with self.alone():
            if not self.users():
                self.close()
                self.disk.image.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the volume with its content."""
        with self.alone():
            for deployment_id in self.users():
                self._unmount(self.mounts / deployment_id)
            self.close()
            shutil.rmtree(self.directory)

    @contextmanager
    def _shown(self) -> Iterator[Path]:
        """Gives the directory with the files, with owners as on disk; mounts it if need be."""
        with self.alone():
            is_lent = self.disk.mounted
            if not is_lent:
                mount_image(self.disk.image, self.disk.mount_point)
            try:
                yield self.disk.mount_point / _DATA
            finally:
                if not is_lent:
                    self.close()

    def _create(self, size_bytes: int) -> None:
        """Makes and mounts a new disk; the image gets its name when it is complete."""
        unfinished = self.directory / "unfinished.img"
        self.close()
        unfinished.unlink(missing_ok=True)
        with unfinished.open("xb") as image:
            os.fchmod(image.fileno(), 0o600)
            image.truncate(max(size_bytes, MIN_BYTES))
        try:
            allocate(unfinished)
            tool.run(mkfs_argv(unfinished))
        except OSError as error:
            unfinished.unlink()  # frees the space that it took
            if error.errno != errno.ENOSPC:
                raise
            raise DeployFailed(FailureCause.OUT_OF_DISK, _NO_ROOM) from error
        mount_image(unfinished, self.disk.mount_point)
        self.disk.mount_point.chmod(0o700)
        data = self.disk.mount_point / _DATA
        data.mkdir(mode=0o700)
        os.chown(data, idmap.OWNER, idmap.OWNER)
        unfinished.rename(self.disk.image)

    def _allocate(self) -> None:
        """Allocates the blocks of a volume that was restored, or made by an older version."""
        try:
            allocate(self.disk.image)
        except OSError as error:
            logger.warning("volume %s stays sparse: %s", self.directory.name, error)

    def _unmount(self, view: Path) -> None:
        Disk(image=self.disk.image, mount_point=view).unmount()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Locks the volume: no other process mounts or unmounts it meanwhile. Blocks."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.mounts.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

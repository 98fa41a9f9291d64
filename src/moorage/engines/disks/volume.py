"""A volume: a disk that outlives deployments, `/data` of the app that has it.

Its blocks are there from the beginning, where the machine's file system can do that: whoever fills
that cannot take them.

While a new version takes over from an old one, both have it: the disk is mounted once, and each app
sees it through a view in which the files are its own (`idmap`). Blocking; call from a thread.
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

from moorage.engines.disks.disk import IMAGE, Disk, allocate, check_image, mount_image
from moorage.engines.host import tool
from moorage.engines.isolation import idmap
from moorage.errors import DeployFailed, FailureCause

MIN_BYTES = 32 * 1024 * 1024
_NO_ROOM = "the gateway's disk has no room for the volume: try again later"
_DISK = ".disk"  # no deployment's id begins with a dot
_DATA = "data"

logger = logging.getLogger(__name__)


def mkfs_argv(image: Path) -> list[str]:
    """Makes an ext4 with a journal: what is kept here must outlive a crash of the machine."""
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    return ["mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", "-E", options, str(image)]


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One volume. `directory` holds its image; `mounts` the mounted disk and the views of it."""

    directory: Path
    mounts: Path

    @property
    def disk(self) -> Disk:
        """The disk, its files owned as they are on it."""
        return Disk(image=self.directory / IMAGE, mount_point=self.mounts / _DISK)

    def show(self, deployment_id: str, uid: int, *, size_bytes: int) -> Path:
        """Where the app of a deployment, which has `uid`, finds the volume; made when it is new.

        Raises OSError, DeployFailed.
        """
        with self.alone():
            if not self.disk.image.exists():
                self._create(size_bytes)
            elif not self.disk.mounted:
                self._allocate()
                mount_image(self.disk.image, self.disk.mount_point)
            view = self.mounts / deployment_id
            self._unmount(view)  # it may be another uid's
            view.mkdir(mode=0o700)
            idmap.mount_mapped(self.disk.mount_point / _DATA, view, uid)
            return view

    def mend(self) -> bool:
        """Mend the errors that the kernel found in it, unless somebody has it; whether it did.

        Raises OSError when they can't be mended.
        """
        with self.alone():
            if self.users() or not self.disk.has_failed:
                return False
            self.disk.release()
            check_image(self.disk.image)
            return True

    def hide(self, deployment_id: str) -> None:
        """Take a deployment's view away, and unmount the disk when it was the last."""
        if not self.directory.is_dir():
            return
        with self.alone():
            self._unmount(self.mounts / deployment_id)
            if not self.users():
                self.close()

    def close(self) -> None:
        """Unmount the disk; nobody may have a view of it."""
        self.disk.release()  # or it might be mounted twice, for a moment
        if self.mounts.is_dir():
            self.mounts.rmdir()

    def users(self) -> set[str]:
        """The deployments that have a view of it."""
        if not self.mounts.is_dir():
            return set()
        return {path.name for path in self.mounts.iterdir()} - {_DISK}

    def clear(self) -> None:
        """Take away what is in it, unless somebody has a view of it; the next one finds it empty.

        Its directory stays: who waits for its lock is to have the lock of this one.
        """
        if not self.directory.is_dir():
            return
        with self.alone():
            if not self.users():
                self.close()
                self.disk.image.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take it away with all that is in it."""
        with self.alone():
            for deployment_id in self.users():
                self._unmount(self.mounts / deployment_id)
            self.close()
            shutil.rmtree(self.directory)

    def _create(self, size_bytes: int) -> None:
        """A new, mounted disk; it has its name only once it is whole."""
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
            unfinished.unlink()  # it has taken what there was
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
        """Give one its blocks that has not all of them: it was restored, or is an old one."""
        try:
            allocate(self.disk.image)
        except OSError as error:
            logger.warning("volume %s stays sparse: %s", self.directory.name, error)

    def _unmount(self, view: Path) -> None:
        Disk(image=self.disk.image, mount_point=view).unmount()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody mounts or unmounts it meanwhile, in whatever process; blocks until so."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.mounts.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

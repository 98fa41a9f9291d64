"""Volumes on this machine: disks that outlive deployments, mounted at `/data` of their apps.

Its blocks are allocated when it is made, if the machine's file system can do that, so that it
always has room.

While a new version replaces an old one, both use the volume: the disk is mounted once, and each app
has a view of it in which it owns the files (`idmap`). Blocking; call from a thread.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.archive.tree import Tree, TreeRefused, read_tree, write_tree
from moorage.engines.disks.disk import (
    IMAGE,
    Disk,
    allocate,
    capacity_bytes,
    check_image,
    filesystem_bytes,
    growths,
    mount_image,
    resize_image,
)
from moorage.engines.failure import not_carried
from moorage.engines.host import mounts, processes
from moorage.engines.host.configuration import FOLDERS, HostConfiguration
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

    @property
    def is_made(self) -> bool:
        """Whether it has a disk."""
        return self.disk.image.exists()

    def show(self, deployment_id: str, uid: int, *, size_bytes: int, grows: bool = False) -> Path:
        """Mounts a view for a deployment's app, in which `uid` owns the files; returns where.

        Makes the volume if it does not exist; with `grows`, it has that size at least then. Raises
        OSError, DeployFailed.
        """
        with self.alone():
            if not self.disk.image.exists():
                self._create(size_bytes)
            else:
                if grows and filesystem_bytes(self.disk.image) < size_bytes:
                    self._enlarge(size_bytes)
                if not self.disk.mounted:
                    self._allocate()
                    self._fill_image()
                    mount_image(self.disk.image, self.disk.mount_point)
            view = self.mounts / deployment_id
            self._unmount(view)  # it may be for another uid
            view.mkdir(mode=0o700)
            mounts.mount_mapped(self.disk.mount_point / _DATA, view, uid)
            return view

    def repair(self) -> bool:
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

    def read(self, target: Path, *, max_bytes: int | None) -> Tree | None:
        """Writes the files to the new file `target`; None for a volume that was never made.

        Raises DeployFailed, OSError.
        """
        if not self.disk.image.exists():
            return None
        with self._shown() as data:
            try:
                return write_tree(
                    data, target, max_bytes=max_bytes or capacity_bytes(data), owner=mounts.OWNER
                )
            except TreeRefused as error:
                raise not_carried(f"{error}") from error

    def write(self, tree: Tree, *, size_bytes: int) -> None:
        """Makes a new disk with these files. Raises DeployFailed, OSError."""
        with self.alone():
            if self.users():
                raise DeployFailed(FailureCause.INTERRUPTED, "the volume is in use")
            try:
                self._create(size_bytes, tree)
            finally:
                self.close()

    def delete(self, *, unless_used: bool) -> None:
        """Removes the volume with its content.

        With `unless_used` only if there is no view; the directory stays, as others may be waiting
        for its lock.
        """
        if not self.directory.is_dir():
            return
        with self.alone():
            if not unless_used:
                for deployment_id in self.users():
                    self._unmount(self.mounts / deployment_id)
                self.close()
                shutil.rmtree(self.directory)
            elif not self.users():
                self.close()
                self.disk.image.unlink(missing_ok=True)

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

    def _create(self, size_bytes: int, tree: Tree | None = None) -> None:
        """Makes and mounts a new disk; the image gets its name when it is complete, files too."""
        unfinished = self.directory / "unfinished.img"
        self.close()
        unfinished.unlink(missing_ok=True)
        with unfinished.open("xb") as image:
            os.fchmod(image.fileno(), 0o600)
            image.truncate(max(size_bytes, MIN_BYTES))
        try:
            allocate(unfinished)
            processes.run(mkfs_argv(unfinished))
        except OSError as error:
            unfinished.unlink()  # frees the space that it took
            if error.errno != errno.ENOSPC:
                raise
            raise DeployFailed(FailureCause.OUT_OF_DISK, _NO_ROOM) from error
        mount_image(unfinished, self.disk.mount_point)
        self.disk.mount_point.chmod(0o700)
        data = self.disk.mount_point / _DATA
        data.mkdir(mode=0o700)
        os.chown(data, mounts.OWNER, mounts.OWNER)
        if tree is not None:
            _fill(data, tree)
        unfinished.rename(self.disk.image)

    def _enlarge(self, size_bytes: int) -> None:
        """Makes the disk larger, also while apps use it, if the kernel lets this process do that.

        Else it is larger once it is mounted again. Raises OSError, DeployFailed.
        """
        before = self.disk.image.stat().st_size
        os.truncate(self.disk.image, max(before, size_bytes))
        try:
            allocate(self.disk.image)
        except OSError as error:
            os.truncate(self.disk.image, before)
            if error.errno != errno.ENOSPC:
                raise
            raise DeployFailed(FailureCause.OUT_OF_DISK, _NO_ROOM) from error
        if self.disk.mounted:
            device = mounts.grow_loop(self.disk.mount_point)
            try:
                processes.run(["resize2fs", str(device)])
            except processes.ToolFailed as error:  # without CAP_SYS_RESOURCE
                logger.warning("volume %s grows at its next mount: %s", self.directory.name, error)

    def _fill_image(self) -> None:
        """Lets the file system of an unmounted disk take its whole image."""
        size_bytes = self.disk.image.stat().st_size
        if filesystem_bytes(self.disk.image) < size_bytes // 4096 * 4096:
            resize_image(self.disk.image, size_bytes)

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


def _fill(data: Path, tree: Tree) -> None:
    try:
        with tree.path.open("rb") as source:
            read_tree(
                source,
                data,
                digest=tree.digest,
                max_bytes=capacity_bytes(data),
                owner=mounts.OWNER,
            )
    except TreeRefused as error:
        raise not_carried(f"{error}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise not_carried("its files do not fit into the new one") from error


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """`directory` has the images, `mounts` the mounted disks and the apps' views of them."""

    directory: Path
    mounts: Path

    @classmethod
    def of(cls, configuration: HostConfiguration) -> "Volumes":
        """Returns the volumes of a gateway, which all its engines on this machine share."""
        return cls(
            directory=configuration.state_dir / "volumes",
            mounts=configuration.volume_mounts or configuration.run_dir / "volumes",
        )

    def open(self) -> None:
        """Makes the directories; apps' users must be able to pass the one with the mounts."""
        self.mounts.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.mounts.mkdir(exist_ok=True, mode=0o711)
        self.directory.mkdir(exist_ok=True, mode=0o700)

    def volume(self, volume_id: str) -> Volume:
        """Returns a volume, which need not exist."""
        return Volume(directory=self.directory / volume_id, mounts=self.mounts / volume_id)

    def ids(self) -> set[str]:
        """Returns the ids of all volumes of which anything is on this machine."""
        return {path.name for path in self.directory.iterdir()}

    def mounted(self) -> Iterator[Volume]:
        """Returns the volumes that are mounted."""
        return (self.volume(mounts.name) for mounts in self.mounts.iterdir())

    def growth(self) -> dict[str, int]:
        """Returns how many bytes each volume can still grow."""
        return growths(self.directory)

    def hide(self, deployment_id: str) -> None:
        """Unmounts a deployment's views of volumes."""
        for volume in self.mounted():
            if (volume.mounts / deployment_id).is_dir():
                volume.hide(deployment_id)

    def close(self) -> None:
        """Removes the directory with the mounts, unless another engine has some there."""
        with contextlib.suppress(OSError):
            self.mounts.rmdir()

    def sweep(self, kept: Set[str]) -> None:
        """Unmounts the views of all but the kept deployments, and disks without a view.

        What any engine of the gateway has is kept, as that one removes it itself.
        """
        beside = self.directory.parent
        for folder in FOLDERS:
            with contextlib.suppress(FileNotFoundError):
                kept = kept | {path.name for path in (beside / folder).iterdir()}
        for volume in self.mounted():
            for deployment_id in volume.users() - kept:
                volume.hide(deployment_id)
            if not volume.users():  # a crash happened between its mount and the view's
                volume.close()

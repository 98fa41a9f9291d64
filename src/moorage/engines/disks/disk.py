"""Disks: sparse files, each holding a small ext4, so that a full one harms nobody else.

Inside an app's: `app/` (the files, `/app`), `home/` (`/home/app`), `tmp/` (`/tmp` of builds) belong
to the app (on the disk itself to `idmap.OWNER`, so that it fits any slot), `etc/` to root.
Blocking; call from a thread.
"""

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.disks.trees import remove_all, remove_below
from moorage.engines.host import kernel, tool
from moorage.engines.isolation import idmap
from moorage.errors import DeployFailed, FailureCause

IMAGE = "disk.img"
"""What the image is called in a deployment's or a volume's directory."""

NO_SPACE = (
    "the gateway's disk is nearly full, and this was writing most: it was ended, and is started "
    "again when there is room"
)
MIN_BYTES = 8 * 1024 * 1024
_MOUNT_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOATIME
CACHES = (
    ".pnpm-store",
    ".npm/_cacache",
    ".cache/uv",
    ".cache/pip",
    ".cache/yarn",
    ".cache/pnpm",
    ".bun/install",
)

# Where ext4's superblock says whether the file system was unmounted in order, and had no errors.
_STATE_OFFSET = 1024 + 0x3A
_STATE_CLEAN = 1
_STATE_ERRORS = 2

_LEFT_UNCORRECTED = 4  # what e2fsck(8) ends with

_BLOCK_BYTES = 512  # of st_blocks (inode(7))

_RELEASE_SECONDS = 2.0
_POLL_SECONDS = 0.001


def mkfs_argv(image: Path) -> list[str]:
    """Makes an ext4 without journal or reserve: about 9 ms, and 700 KB of a sparse GiB."""
    return [
        "mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", "-O", "^has_journal",
        "-E", "lazy_itable_init=1,nodiscard", str(image),
    ]  # fmt: skip


@dataclass(frozen=True)
class Disk:
    """A disk: its image, and where it is mounted."""

    image: Path
    mount_point: Path

    @property
    def mounted(self) -> bool:
        """Whether the disk is mounted now."""
        return self.mount_point.is_dir() and os.path.ismount(self.mount_point)

    @property
    def free_bytes(self) -> int:
        """What may still be written; nothing when no more files can be made."""
        return free_bytes(self.mount_point)

    def mount(self, uid: int) -> None:
        """Mount the disk, unless it is, as `uid`'s. Raises OSError."""
        if self.mounted:
            return
        mount_image(self.image, self.mount_point)
        try:
            idmap.map_mounted(self.mount_point, uid)
        except BaseException:
            self.unmount()
            raise

    @property
    def has_failed(self) -> bool:
        """Whether the kernel found errors in it, mounted or not, and nobody mended them since."""
        return self.image.exists() and has_errors(self.image)

    def unmount(self) -> None:
        """Unmount the disk if it is mounted; its loop device goes with its last user."""
        if self.mounted:
            try:
                kernel.unmount(self.mount_point)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                kernel.unmount(self.mount_point, detach=True)  # somebody reads it just now
        self.mount_point.rmdir() if self.mount_point.is_dir() else None

    def release(self) -> bool:
        """Unmount the disk and see its image whole, and nobody's; False when somebody has it still.

        A process that was killed may, for a moment.
        """
        if not self.mounted:
            self.unmount()
            return True
        device = self.mount_point.stat().st_dev
        self.unmount()
        backing = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file")
        deadline = time.monotonic() + _RELEASE_SECONDS
        while _read(backing) == f"{self.image}\n":
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def remove(self) -> None:
        """Unmount the disk and delete it."""
        self.unmount()
        self.image.unlink(missing_ok=True)


@dataclass(frozen=True)
class AppDisk(Disk):
    """One app's disk."""

    @property
    def app(self) -> Path:
        """The app's files, `/app` inside."""
        return self.mount_point / "app"

    @property
    def home(self) -> Path:
        """The app's home, `/home/app` inside."""
        return self.mount_point / "home"

    @property
    def tmp(self) -> Path:
        """A build's `/tmp`."""
        return self.mount_point / "tmp"

    @property
    def etc(self) -> Path:
        """The app's own files of `/etc`."""
        return self.mount_point / "etc"

    def give_to(self, uid: int) -> None:
        """Mount a blank disk and make an app's directories. Raises OSError."""
        self.mount(uid)
        self.mount_point.chmod(0o711)  # the app's uid passes through, and reads nothing here
        make_owned(self.app, uid)
        make_owned(self.home, uid)
        self.make_tmp(uid)

    def make_tmp(self, uid: int) -> None:
        """An empty `/tmp` for a build. Raises OSError."""
        make_owned(self.tmp, uid)

    def clear_build_leftovers(self) -> None:
        """Remove a build's `/tmp` and the package managers' caches."""
        remove_all(str(self.tmp))
        for cache in CACHES:
            remove_below(self.home, cache)


def make_image(image: Path, size_bytes: int) -> None:
    """A new, empty ext4 in a file. Raises OSError."""
    image.unlink(missing_ok=True)
    with image.open("xb") as file:
        file.truncate(max(size_bytes, MIN_BYTES))
    tool.run(mkfs_argv(image))


def free_bytes(directory: Path) -> int:
    """What may still be written to the file system of a directory; 0 when it takes no more files.

    Raises OSError.
    """
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize if status.f_favail or not status.f_files else 0


def growth_bytes(image: str) -> int:
    """What a sparse file may still take of the disk it is on. Raises OSError."""
    status = os.stat(image)  # noqa: PTH116 (many times a second: without making a path)
    return max(0, status.st_size - status.st_blocks * _BLOCK_BYTES)


def taken_bytes(image: str) -> int:
    """What a sparse file has of the disk it is on. Raises OSError."""
    return os.stat(image).st_blocks * _BLOCK_BYTES  # noqa: PTH116 (as above)


def make_owned(directory: Path, uid: int) -> None:
    """A new directory that is `uid`'s alone. Raises OSError."""
    directory.mkdir(mode=0o700)
    os.chown(directory, uid, uid)


def disk_failure(error: OSError, size_bytes: int) -> Exception:
    """The app's failure when `error` says that its disk is full, else `error` itself."""
    if error.errno != errno.ENOSPC:
        return error
    size = f"{size_bytes // (1024 * 1024)} MiB"
    return DeployFailed(FailureCause.OUT_OF_DISK, f"the app's disk of {size} is full")


def mount_image(image: Path, mount_point: Path) -> None:
    """Mount an ext4 in a file, with owners as they are on disk; checks it when it was not unmounted
    in order. Raises OSError.
    """
    if not is_clean(image):
        check_image(image)
    mount_point.mkdir(parents=True, exist_ok=True)
    descriptor, device = kernel.attach_loop(image)
    try:
        kernel.mount(device, mount_point, "ext4", _MOUNT_FLAGS, "errors=remount-ro")
    finally:
        os.close(descriptor)


def check_image(image: Path) -> None:
    """Mend the file system in a file, which is not mounted. Raises OSError when it can't be."""
    check = ["e2fsck", "-y", str(image)]
    tool.run(check, accept=(0, 1, _LEFT_UNCORRECTED))
    tool.run(check, accept=(0, 1))  # what is mended may bring to light what else there is


def allocate(image: Path) -> bool:
    """Give a sparse file all its blocks, so that writing to it never lacks any.

    False where the file system can't. Raises OSError, as when there are not so many.
    """
    with image.open("rb+") as file:
        try:
            kernel.allocate(file.fileno(), os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # gone by now
        return ""


def is_clean(image: Path) -> bool:
    """Whether the file system in a file was unmounted in order, without errors. Raises OSError."""
    return _state(image) == _STATE_CLEAN


def has_errors(image: Path) -> bool:
    """Whether the kernel found errors in the file system in a file, and nobody mended them since.

    Raises OSError.
    """
    return bool(_state(image) & _STATE_ERRORS)


def _state(image: Path) -> int:
    with image.open("rb") as file:
        file.seek(_STATE_OFFSET)
        return int.from_bytes(file.read(2), "little")

"""Disks: sparse files that contain a small ext4, so that an app can fill only its own disk.

An app's disk has `app/` (mounted at `/app`), `home/` (`/home/app`) and `tmp/` (`/tmp` of builds),
which belong to the app (on the disk to `idmap.OWNER`, so that it fits any slot), and `etc/`, which
belongs to root, as does `built`, whose time is the end of the build. Blocking; call from a thread.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from moorage.archive.tree import Tree
from moorage.engines.disks.trees import remove_all, remove_below
from moorage.engines.disks.written import read_written, written_since
from moorage.engines.engine import WrittenFiles
from moorage.engines.host import tool
from moorage.engines.host.kernel import version as kernel
from moorage.engines.isolation import idmap
from moorage.errors import DeployFailed, FailureCause

IMAGE = "disk.img"
"""The image's file name in a deployment's or a volume's directory."""
DOWNLOADS_IMAGE = "downloads.img"
"""The file name of a disk for downloads, in the directory of a build or of a wallet's caches."""

NO_SPACE = (
    "the gateway's disk is nearly full, and this was writing most: it was ended, and is started "
    "again when there is room"
)
MIN_BYTES = 8 * 1024 * 1024
_MOUNT_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOATIME
APP_CACHES = (".pnpm-store",)  # below the app's own files
CACHES = (
    ".npm/_cacache",
    ".cache/uv",
    ".cache/pip",
    ".cache/yarn",
    ".cache/pnpm",
    ".bun/install",
)

# The field of ext4's superblock that says whether it was unmounted cleanly and has errors.
_STATE_OFFSET = 1024 + 0x3A
_STATE_CLEAN = 1
_STATE_ERRORS = 2

_LEFT_UNCORRECTED = 4  # e2fsck(8)'s exit code

_BLOCK_BYTES = 512  # of st_blocks (inode(7))

_RELEASE_SECONDS = 2.0
_POLL_SECONDS = 0.001


def mkfs_argv(image: Path) -> list[str]:
    """Returns the command that makes an ext4 without journal or reserve.

    It takes about 9 ms, and 700 KB for a sparse GiB.
    """
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
        """The bytes that can still be written; 0 if no more files can be made."""
        return free_bytes(self.mount_point)

    def mount(self, uid: int) -> None:
        """Mounts the disk with `uid` as the owner of its files, unless mounted. Raises OSError."""
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
        """Whether the kernel found errors in it that have not been repaired."""
        return self.image.exists() and has_errors(self.image)

    def unmount(self) -> None:
        """Unmounts the disk if it is mounted; its loop device is freed after its last use."""
        if self.mounted:
            try:
                kernel.unmount(self.mount_point)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                kernel.unmount(self.mount_point, detach=True)  # it is being read at this moment
        self.mount_point.rmdir() if self.mount_point.is_dir() else None

    def release(self) -> bool:
        """Unmounts the disk and waits until nothing uses its image; returns False if that fails.

        A process that was killed may use it for a moment.
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
        """Unmounts the disk and deletes it."""
        self.unmount()
        self.image.unlink(missing_ok=True)


@dataclass(frozen=True)
class AppDisk(Disk):
    """One app's disk."""

    @property
    def app(self) -> Path:
        """The directory mounted at `/app`."""
        return self.mount_point / "app"

    @property
    def home(self) -> Path:
        """The directory mounted at `/home/app`."""
        return self.mount_point / "home"

    @property
    def tmp(self) -> Path:
        """The directory mounted at a build's `/tmp`."""
        return self.mount_point / "tmp"

    @property
    def etc(self) -> Path:
        """The app's own files of `/etc`."""
        return self.mount_point / "etc"

    def mark_built(self) -> None:
        """Notes on the disk that its build ends now; copies of the disk keep that time."""
        with suppress(OSError):  # the disk is full: what is written later stays unknown
            self._built.unlink(missing_ok=True)
            self._built.touch()

    def written(self) -> WrittenFiles | None:
        """Returns what was written since the build; None if it is not mounted, or not known."""
        try:
            built_ns = self._built.stat().st_ctime_ns
        except OSError:
            return None
        return written_since(self.app, self.home, built_ns)

    def read_written(self, target: Path, *, max_bytes: int | None) -> Tree:
        """Takes what was written below `app` since the build. Raises DeployFailed, OSError.

        All that is there, if nobody noted when that was: such apps are older than the notes.
        """
        built_ns = self._built.stat().st_ctime_ns if self._built.exists() else 0
        size = max_bytes or capacity_bytes(self.app)
        return read_written(self.app, target, since_ns=built_ns, max_bytes=size)

    @property
    def _built(self) -> Path:
        return self.mount_point / "built"

    def give_to(self, uid: int) -> None:
        """Mounts an empty disk and makes an app's directories. Raises OSError."""
        self.mount(uid)
        self.mount_point.chmod(0o711)  # the app's user may pass through, but not list it
        make_owned(self.app, uid)
        make_owned(self.home, uid)
        self.make_tmp(uid)

    def make_tmp(self, uid: int) -> None:
        """Makes an empty `/tmp` for a build. Raises OSError."""
        make_owned(self.tmp, uid)

    def clear_build_leftovers(self) -> None:
        """Removes a build's `/tmp` and the package managers' caches."""
        remove_all(str(self.tmp))
        for directory, caches in ((self.home, CACHES), (self.app, APP_CACHES)):
            for cache in caches:
                remove_below(directory, cache)


def make_image(image: Path, size_bytes: int) -> None:
    """Makes a new, empty ext4 in a file. Raises OSError."""
    image.unlink(missing_ok=True)
    with image.open("xb") as file:
        file.truncate(max(size_bytes, MIN_BYTES))
    tool.run(mkfs_argv(image))


def free_bytes(directory: Path) -> int:
    """Returns the bytes that can still be written to a directory's file system.

    Returns 0 if no more files can be made. Raises OSError.
    """
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize if status.f_favail or not status.f_files else 0


def capacity_bytes(directory: Path) -> int:
    """Returns the size of a directory's file system. Raises OSError."""
    status = os.statvfs(directory)
    return status.f_blocks * status.f_frsize


def growth_bytes(image: str) -> int:
    """Returns how many bytes a sparse file can still grow on disk. Raises OSError."""
    status = os.stat(image)  # noqa: PTH116 (called many times a second: Path is slow)
    return max(0, status.st_size - status.st_blocks * _BLOCK_BYTES)


def growths(directory: Path) -> dict[str, int]:
    """Returns how many bytes the disk in each directory below `directory` can still grow."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found[entry.name] = growth_bytes(f"{entry.path}/{IMAGE}")
    return found


def taken_bytes(image: str) -> int:
    """Returns how many bytes a sparse file takes on disk. Raises OSError."""
    return os.stat(image).st_blocks * _BLOCK_BYTES  # noqa: PTH116 (as above)


def make_owned(directory: Path, uid: int) -> None:
    """Makes a directory that only `uid` may enter. Raises OSError."""
    directory.mkdir(mode=0o700)
    os.chown(directory, uid, uid)


def disk_failure(error: OSError, size_bytes: int) -> Exception:
    """Returns the app's failure if `error` means that its disk is full, else `error` itself."""
    if error.errno != errno.ENOSPC:
        return error
    size = f"{size_bytes // (1024 * 1024)} MiB"
    return DeployFailed(FailureCause.OUT_OF_DISK, f"the app's disk of {size} is full")


def mount_image(image: Path, mount_point: Path) -> None:
    """Mounts an ext4 in a file, with owners as on disk. Raises OSError.

    Repairs it first if it was not unmounted cleanly.
    """
    with _unchecked(image) as lock:
        if not is_clean(image):
            _check(image, lock)
        mount_point.mkdir(parents=True, exist_ok=True)
        descriptor, device = kernel.attach_loop(image)
        try:
            kernel.mount(device, mount_point, "ext4", _MOUNT_FLAGS, "errors=remount-ro")
        finally:
            os.close(descriptor)


def check_image(image: Path) -> None:
    """Repairs the file system in a file, which must not be mounted. Raises OSError."""
    with _unchecked(image) as lock:
        _check(image, lock)


def _check(image: Path, lock: int) -> None:
    check = ["e2fsck", "-y", str(image)]
    tool.run(check, accept=(0, 1, _LEFT_UNCORRECTED), pass_fds=(lock,))
    tool.run(check, accept=(0, 1), pass_fds=(lock,))  # a repair may uncover further errors


@contextmanager
def _unchecked(image: Path) -> Iterator[int]:
    """Waits until no other process checks the image; gives a lock to hand on to one that does.

    With it, the check of a gateway that was killed keeps the next one waiting until it has ended.
    """
    lock = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def allocate(image: Path) -> bool:
    """Allocates all blocks of a sparse file, so that writes to it always have room.

    Returns False if the file system can't. Raises OSError, such as for lack of space.
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
    except OSError:  # it is gone
        return ""


def is_clean(image: Path) -> bool:
    """Returns whether the file system in a file was unmounted cleanly, without errors.

    Raises OSError.
    """
    return _state(image) == _STATE_CLEAN


def has_errors(image: Path) -> bool:
    """Returns whether the kernel found errors in it that have not been repaired. Raises OSError."""
    return bool(_state(image) & _STATE_ERRORS)


def _state(image: Path) -> int:
    with image.open("rb") as file:
        file.seek(_STATE_OFFSET)
        return int.from_bytes(file.read(2), "little")

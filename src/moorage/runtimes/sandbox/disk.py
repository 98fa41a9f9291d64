"""An app's disk: a sparse file holding a small ext4, so that a full one harms nobody else.

Inside: `app/` (the files, `/app`), `home/` (`/home/app`), `tmp/` (`/tmp` of builds) belong to the
app (on the disk itself to `idmap.OWNER`, so that it fits any slot), `etc/` to root. Blocking; call
from a thread.
"""

import errno
import os
import shutil
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from moorage.runtimes.sandbox import idmap, kernel, tool

MIN_BYTES = 8 * 1024 * 1024
_MOUNT_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOATIME
_CACHES = (".npm/_cacache", ".cache/uv", ".cache/pip", ".cache/yarn", ".cache/pnpm", ".bun/install")

# Where ext4's superblock says whether the file system was unmounted in order.
_STATE_OFFSET = 1024 + 0x3A
_STATE_CLEAN = 1


class NotAFile(ValueError):
    """Something in the source is neither a file nor a directory; `path` is below the source."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is not a regular file")
        self.path = path


def mkfs_argv(image: Path) -> list[str]:
    """Makes an ext4 without journal or reserve: about 9 ms, and 700 KB of a sparse GiB."""
    return [
        "mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", "-O", "^has_journal",
        "-E", "lazy_itable_init=1,nodiscard", str(image),
    ]  # fmt: skip


@dataclass(frozen=True)
class Disk:
    """One app's disk: its image, and where it is mounted."""

    image: Path
    mount_point: Path

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

    @property
    def mounted(self) -> bool:
        """Whether the disk is mounted now."""
        return self.mount_point.is_dir() and os.path.ismount(self.mount_point)

    def create(self, *, size_bytes: int, uid: int) -> None:
        """A new, empty, mounted disk. Raises OSError."""
        self.image.unlink(missing_ok=True)
        with self.image.open("xb") as image:
            image.truncate(max(size_bytes, MIN_BYTES))
        tool.run(mkfs_argv(self.image))
        self.mount(uid)
        self.mount_point.chmod(0o711)  # the app's uid passes through, and reads nothing here
        for directory in (self.app, self.home, self.tmp):
            directory.mkdir(mode=0o700)
            os.chown(directory, uid, uid)

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

    def unmount(self) -> None:
        """Unmount the disk if it is mounted; its loop device goes with it."""
        if self.mounted:
            try:
                kernel.unmount(self.mount_point)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                kernel.unmount(self.mount_point, detach=True)  # somebody reads it just now
        self.mount_point.rmdir() if self.mount_point.is_dir() else None

    def remove(self) -> None:
        """Unmount the disk and delete it."""
        self.unmount()
        self.image.unlink(missing_ok=True)

    def clear_build_leftovers(self) -> None:
        """Empty a build's `/tmp` and the package managers' caches."""
        shutil.rmtree(self.tmp, ignore_errors=True)
        for cache in _CACHES:
            remove_below(self.home, cache)

    @property
    def free_bytes(self) -> int:
        """What may still be written."""
        status = os.statvfs(self.mount_point)
        return status.f_bavail * status.f_frsize if status.f_favail else 0


def mount_image(image: Path, mount_point: Path) -> None:
    """Mount an ext4 in a file, with owners as they are on disk; checks it when it was not unmounted
    in order. Raises OSError.
    """
    if not _is_clean(image):
        tool.run(["e2fsck", "-y", str(image)], accept=(0, 1))
    mount_point.mkdir(parents=True, exist_ok=True)
    descriptor, device = kernel.attach_loop(image)
    try:
        kernel.mount(device, mount_point, "ext4", _MOUNT_FLAGS, "errors=remount-ro")
    finally:
        os.close(descriptor)


def _is_clean(image: Path) -> bool:
    with image.open("rb") as file:
        file.seek(_STATE_OFFSET)
        return int.from_bytes(file.read(2), "little") == _STATE_CLEAN


def remove_below(root: Path, path: str) -> None:
    """Remove the directory `path` below `root`, where an app may have put anything in its way.

    No link is followed: what is not made of directories all the way down stays.
    """
    *parents, name = path.split("/")
    with ExitStack() as opened:
        directory = _open_directory(root, None, opened)
        for parent in parents:
            try:
                directory = _open_directory(parent, directory, opened)
            except OSError:
                return  # not there, or no directory
        shutil.rmtree(name, ignore_errors=True, dir_fd=directory)


def _open_directory(path: Path | str, below: int | None, opened: ExitStack) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=below)
    opened.callback(os.close, descriptor)
    return descriptor


def copy_tree(source: Path, target: Path, *, uid: int) -> None:
    """Copy files and directories below `source` into the existing `target`, owned by `uid`.

    No link is followed anywhere. Raises NotAFile for what is neither, OSError.
    """
    for directory, names, files in os.walk(source):
        below = Path(directory).relative_to(source)
        for name in names:
            _require_directory(Path(directory, name), str(below / name))
            (target / below / name).mkdir(mode=0o755)
            os.chown(target / below / name, uid, uid)
        for name in files:
            _copy_file(Path(directory, name), target / below / name, uid, str(below / name))


def _require_directory(path: Path, shown: str) -> None:
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise NotAFile(shown)


def _copy_file(source: Path, target: Path, uid: int, shown: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        reading = os.open(source, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile(shown) from error
        raise
    try:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(shown)
        mode = 0o755 if status.st_mode & 0o100 else 0o644
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            while os.sendfile(writing, reading, None, 1 << 30):
                pass
            os.fchown(writing, uid, uid)
        finally:
            os.close(writing)
    finally:
        os.close(reading)

"""The disk of a deployment: an image that is mounted, copied, checked and grows."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import scandir
from pathlib import Path

from moorage.archive.tree import Tree, TreeRefused, write_tree
from moorage.clock import Clock, SystemClock
from moorage.engines.disks.trees import remove_all, remove_below
from moorage.engines.engine import WrittenFiles
from moorage.engines.failure import not_taken_along
from moorage.engines.host import mounts, processes
from moorage.engines.host import mounts as kernel
from moorage.errors import DeployFailed, FailureCause
from moorage.failpoints import failpoint

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 16
_MAX_SECONDS = 0.25  # of this thread's processor time: a busy machine counts no less
_MAX_NAMED = 10
_MAX_NAME_CHARS = 200
_OF_TOOLS = frozenset(
    (
        *("__pycache__", "node_modules", "tmp", ".cache", ".config", ".local", ".git", ".venv"),
        *(".npm", ".pnpm-store", ".yarn", ".bun", ".deno", ".cargo", ".gradle", ".m2", ".bundle"),
        *(".next", ".nuxt", ".output", ".svelte-kit", ".vite", ".turbo", ".nx", ".angular"),
        *(".astro", ".parcel-cache", ".docusaurus", ".pytest_cache", ".mypy_cache"),
        *(".ruff_cache", ".streamlit", ".gradio", ".dockerfile", ".image"),
    )
)
"""Directories that tools write for themselves; beside these, all hidden ones of the home."""


def written_since(app: Path, home: Path, at_ns: int) -> WrittenFiles:
    """Counts the files that changed after a time (their ctime, nanoseconds).

    `app` is what the app sees as /app, `home` as /home/app.
    """
    count = _Count(at_ns)
    inside, outside = list[str](), list[str]()
    count.count_in(str(app), None, within="/app", into=inside)
    count.count_in(str(home), None, within="/home/app", into=outside)
    return WrittenFiles(
        files=count.files,
        size_bytes=count.size_bytes,
        complete=count.complete,
        paths=tuple(sorted(inside)),
        outside=tuple(sorted(outside)),
    )


def read_written(app: Path, target: Path, *, since_ns: int, max_bytes: int) -> Tree:
    """Writes the files below `app` that changed after a time, and the links, to a new file.

    Raises DeployFailed for more than `max_bytes`, OSError.
    """

    def left_out(name: str, found: os.stat_result) -> bool:
        if stat.S_ISDIR(found.st_mode):
            return name.rpartition("/")[2] in _OF_TOOLS
        return found.st_ctime_ns <= since_ns

    try:
        return write_tree(app, target, max_bytes=max_bytes, owner=mounts.OWNER, left_out=left_out)
    except TreeRefused as error:
        raise not_taken_along(f"{error}") from error


class _Count:
    """What was found so far, and how much may still be counted."""

    def __init__(self, at_ns: int) -> None:
        self.files, self.size_bytes, self.complete = 0, 0, True
        self._at_ns = at_ns
        self._entries_left = _MAX_ENTRIES
        self._deadline = time.thread_time() + _MAX_SECONDS

    def count_in(
        self, path: str, below: int | None, *, within: str, into: list[str], depth: int = 0
    ) -> None:
        """Counts the files of a directory and of those in it; names the first of them."""
        try:
            directory = os.open(path, _DIRECTORY, dir_fd=below)
        except OSError:  # it is gone, or something else has its name
            return
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if self._is_over():
                        return
                    self._count(entry, directory, within=within, into=into, depth=depth)
        except OSError:  # the disk is being unmounted
            self.complete = False
        finally:
            os.close(directory)

    def _count(
        self,
        entry: os.DirEntry[str],
        directory: int,
        *,
        within: str,
        into: list[str],
        depth: int,
    ) -> None:
        inside = f"{within}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            hidden_at_home = entry.name.startswith(".") and within.startswith("/home")
            if hidden_at_home or entry.name in _OF_TOOLS:
                return
            if depth == _MAX_DEPTH:
                self.complete = False
                return
            self.count_in(entry.name, directory, within=inside, into=into, depth=depth + 1)
        elif entry.is_file(follow_symlinks=False) and self._add(entry) and len(into) < _MAX_NAMED:
            into.append(_readable(inside))

    def _add(self, entry: os.DirEntry[str]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # it is gone
            return False
        if status.st_ctime_ns <= self._at_ns:
            return False
        self.files += 1
        self.size_bytes += min(status.st_size, status.st_blocks * _BLOCK_BYTES)
        return True

    def _is_over(self) -> bool:
        self._entries_left -= 1
        if self._entries_left >= 0 and time.thread_time() <= self._deadline:
            return False
        self.complete = False
        return True


def _readable(path: str) -> str:
    """Returns a path, which its app has named, as a line of text."""
    text = os.fsencode(path).decode(errors="replace")
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return text if len(text) <= _MAX_NAME_CHARS else f"{text[:_MAX_NAME_CHARS]}…"


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
_SUPERBLOCK = 1024
_STATE_OFFSET = _SUPERBLOCK + 0x3A
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
            mounts.map_mounted(self.mount_point, uid)
        except BaseException:
            self.unmount()
            raise

    def fit(self, size_bytes: int, uid: int) -> None:
        """Gives the disk another size, and mounts it again; nothing may use it.

        A crash, and a failure, leave it as it was. Raises DeployFailed if its files need more,
        OSError.
        """
        if filesystem_bytes(self.image) == max(size_bytes, MIN_BYTES):
            return
        if not self.release():
            raise OSError(errno.EBUSY, "the disk is still in use", str(self.image))
        resized = self.image.with_suffix(".resized")  # one that is made smaller halfway is lost
        try:
            copy_image(self.image, resized, clock=SystemClock())
            resize_image(resized, max(size_bytes, MIN_BYTES))
            with resized.open("rb") as file:
                os.fsync(file.fileno())
            failpoint("resized")
            resized.replace(self.image)
        except processes.ToolFailed as error:
            resized.unlink()
            size = f"{size_bytes // (1024 * 1024)} MiB"
            raise DeployFailed(
                FailureCause.OUT_OF_DISK,
                f"the app's files do not fit on a disk of {size}; choose a larger size",
            ) from error
        self.mount(uid)

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
    processes.run(mkfs_argv(image))


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


def filesystem_bytes(image: Path) -> int:
    """Returns the size of the ext4 in a file, which may be larger. Raises OSError."""
    with image.open("rb") as file:
        file.seek(_SUPERBLOCK)
        block = file.read(0x1C)
    blocks, log_size = (int.from_bytes(block[at : at + 4], "little") for at in (0x4, 0x18))
    return blocks * 1024 << log_size


def resize_image(image: Path, size_bytes: int) -> None:
    """Makes the ext4 in a file, which must not be mounted, larger or smaller.

    Raises ToolFailed if its files need more, OSError.
    """
    with _unchecked(image) as lock:
        processes.run(["e2fsck", "-f", "-y", str(image)], accept=(0, 1), pass_fds=(lock,))
        if size_bytes > image.stat().st_size:
            os.truncate(image, size_bytes)
        kib = f"{size_bytes // 1024}K"
        # Forced, as its own estimate of the least is up to twice that.
        processes.run(["resize2fs", "-f", str(image), kib], pass_fds=(lock,))
        os.truncate(image, size_bytes)


def check_image(image: Path) -> None:
    """Repairs the file system in a file, which must not be mounted. Raises OSError."""
    with _unchecked(image) as lock:
        _check(image, lock)


def _check(image: Path, lock: int) -> None:
    check = ["e2fsck", "-y", str(image)]
    processes.run(check, accept=(0, 1, _LEFT_UNCORRECTED), pass_fds=(lock,))
    processes.run(check, accept=(0, 1), pass_fds=(lock,))  # a repair may uncover further errors


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


_LOOKS_A_ROUND = 30
"""Each so many measurements all disks are measured, also of apps that ran between two of them."""


class Growths:
    """Remembers the disks that were at rest when they were measured, as they do not change."""

    def __init__(self) -> None:
        self._at_rest: Mapping[str, int] = {}
        self._looks = 0

    def measure(self, directory: Path, *, in_use: Collection[str]) -> dict[str, int]:
        """Returns how many bytes the disk in each directory below `directory` can still grow.

        Those in `in_use` are mounted or worked on: they are measured each time.
        """
        known = self._at_rest if self._looks % _LOOKS_A_ROUND else {}
        self._looks += 1
        found, at_rest = {}, {}
        with scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                growth = None if name in in_use else known.get(name)
                if growth is None:
                    with suppress(FileNotFoundError, NotADirectoryError):
                        growth = growth_bytes(f"{entry.path}/{IMAGE}")
                if growth is None:
                    continue
                found[name] = growth
                if name not in in_use:
                    at_rest[name] = growth
        self._at_rest = at_rest
        return found


FREEZE_SECONDS = 10.0  # how long a copy of an app's disk may delay the app's writes
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CHUNK_BYTES = 16 * 1024 * 1024
# The errors if the file system can't share blocks, or not between these two files.
_NO_CLONES = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV)


class CopyTooSlow(OSError):
    """The disk could not be copied while it may be kept frozen: the machine's disk is too slow."""


def copy_disk(disk: Disk, image: Path, clock: Clock) -> None:
    """Copies the disk to a new image; writes to the disk wait meanwhile.

    Leaves no image if it raises CopyTooSlow or OSError.
    """
    try:
        if disk.mounted:
            kernel.sync(disk.mount_point)  # so that the freeze has little left to write
            with kernel.frozen(disk.mount_point, patience_seconds=2 * FREEZE_SECONDS):
                copy_image(disk.image, image, clock=clock, within_seconds=FREEZE_SECONDS)
        else:
            copy_image(disk.image, image, clock=clock)
    except BaseException:
        image.unlink(missing_ok=True)
        raise


def copy_image(
    source: Path, target: Path, *, clock: Clock, within_seconds: float = float("inf")
) -> None:
    """Copies a file, sharing its blocks if possible, else keeping holes. Raises CopyTooSlow."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if _clone(reading, writing):
            return
        deadline = clock.monotonic_seconds() + within_seconds
        os.ftruncate(writing, os.fstat(reading).st_size)
        for offset, length in _chunks(reading):
            _copy_range(reading, writing, offset, length)
            if clock.monotonic_seconds() > deadline:
                raise CopyTooSlow(f"{source} was not copied within {within_seconds:g} s")
    finally:
        os.close(reading)
        os.close(writing)


def _clone(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno in _NO_CLONES:
            return False
        raise
    return True


def _chunks(descriptor: int) -> Iterator[tuple[int, int]]:
    """Returns offset and length of pieces of all data that is not in a hole."""
    end = 0
    while True:
        try:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole follows
                return
            raise
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        for offset in range(begin, end, _CHUNK_BYTES):
            yield offset, min(_CHUNK_BYTES, end - offset)


def _copy_range(reading: int, writing: int, offset: int, length: int) -> None:
    while length > 0:
        copied = os.copy_file_range(reading, writing, length, offset, offset)
        if copied == 0:
            raise OSError(errno.EIO, "the image became shorter while it was copied")
        offset += copied
        length -= copied


@dataclass(frozen=True, kw_only=True)
class DiskTemplates:
    """The empty disks of one gateway, in a directory of their own."""

    directory: Path
    clock: Clock
    _made: set[int] = field(default_factory=set)  # sizes, in bytes
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Makes the directory, and removes what was in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o700)

    def put(self, image: Path, size_bytes: int) -> None:
        """Makes a new, empty ext4 in a file, replacing what was there. Raises OSError."""
        blank = self.directory / f"{size_bytes}.img"
        with self._lock:
            if size_bytes not in self._made or not blank.exists():
                make_image(blank, size_bytes)
                self._made.add(size_bytes)
        image.unlink(missing_ok=True)
        copy_image(blank, image, clock=self.clock)

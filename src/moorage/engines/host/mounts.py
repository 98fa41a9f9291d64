"""Wraps system calls for mounts, loop devices, namespaces, and mounts with mapped owners."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moorage.engines.host import processes

MS_NOSUID, MS_NODEV, MS_NOATIME, MS_BIND = 0x2, 0x4, 0x400, 0x1000
_MNT_DETACH = 0x2

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
_LO_FLAGS_AUTOCLEAR = 4  # the kernel frees the device when its last user is gone
_LOOP_TRIES = 64  # another process may take the device between asking for it and using it

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
_FROZEN_POLL_SECONDS = 0.02

_CLONE_NEWNET = 0x40000000

# libc has no functions for these; the numbers are the same on every architecture.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_IDMAP = 0x00100000  # Linux 5.12

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: Path | str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def mount(source: Path | str, target: Path, kind: str | None, flags: int, data: str = "") -> None:
    """Mounts a file system (mount(2)). Raises OSError."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, target)


def unmount(target: Path, *, detach: bool = False) -> None:
    """Unmounts (umount2(2)); with `detach`, at once, although still in use. Raises OSError."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH if detach else 0), target)


def clone_mount(directory: Path) -> int:
    """Returns a descriptor of a new, unattached mount of `directory` (open_tree(2)).

    Raises OSError.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    descriptor: int = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(directory), flags)
    _check(min(descriptor, 0), directory)
    return descriptor


def map_owners(mount: int, namespace: int) -> None:
    """Maps file owners in an unattached mount as in a user namespace (mount_setattr(2)).

    Raises OSError.
    """
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, namespace)
    size = ctypes.c_size_t(len(attributes))
    result = _libc.syscall(_SYS_MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH, attributes, size)
    _check(result, f"fd {mount}")


def attach_mount(mount: int, target: Path) -> None:
    """Attaches an unattached mount at `target` (move_mount(2)). Raises OSError."""
    result = _libc.syscall(
        *(_SYS_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    )
    _check(result, target)


def allocate(file: int, size_bytes: int) -> None:
    """Allocates all blocks of an open file, keeping its content (fallocate(2)).

    Raises OSError; EOPNOTSUPP if the file system can't.
    """
    offset, length = ctypes.c_int64(0), ctypes.c_int64(size_bytes)
    _check(_libc.fallocate(file, 0, offset, length), f"fd {file}")


def sync(mount_point: Path) -> None:
    """Writes a file system's data from memory to its device (syncfs(2)). Raises OSError."""
    with _opened(mount_point) as descriptor:
        _check(_libc.syncfs(descriptor), mount_point)


@contextmanager
def frozen(mount_point: Path, *, patience_seconds: float) -> Iterator[None]:
    """Freezes a file system: its device is consistent, and writers wait.

    One that is frozen longer than the patience was left so by a process that was killed: it is
    thawed first. Thaws through the open descriptor, as another process may unmount it. Raises
    OSError: EINVAL if nothing is mounted there, so as not to freeze the parent.
    """
    with _opened(mount_point) as descriptor:
        if os.fstat(descriptor).st_dev == mount_point.parent.stat().st_dev:
            raise OSError(errno.EINVAL, "nothing is mounted", str(mount_point))
        _freeze(descriptor, until=time.monotonic() + patience_seconds)
        try:
            yield
        finally:
            fcntl.ioctl(descriptor, _FITHAW, 0)


def _freeze(descriptor: int, *, until: float) -> None:
    while True:
        try:
            fcntl.ioctl(descriptor, _FIFREEZE, 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        else:
            return
        if time.monotonic() < until:
            time.sleep(_FROZEN_POLL_SECONDS)
        else:
            with suppress(OSError):  # it was thawed just now
                fcntl.ioctl(descriptor, _FITHAW, 0)


def thaw(mount_point: Path) -> bool:
    """Thaws a file system; returns False if it was not frozen. Raises OSError."""
    with _opened(mount_point) as descriptor:
        try:
            fcntl.ioctl(descriptor, _FITHAW, 0)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
    return True


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Opens a directory. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def grow_loop(mount_point: Path) -> Path:
    """Gives the loop device that is mounted somewhere its file's size; returns the device.

    Raises OSError.
    """
    number = mount_point.stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    device = Path("/dev") / name
    descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _LOOP_SET_CAPACITY)
    finally:
        os.close(descriptor)
    return device


def attach_loop(image: Path) -> tuple[int, Path]:
    """Makes a loop device for `image`; returns an open descriptor and the device's path.

    The kernel frees the device once the descriptor is closed and it is not mounted. Raises OSError.
    """
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(_LOOP_TRIES):
            device = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, _loop_config(backing))
            except OSError:
                os.close(descriptor)
                if attempt == _LOOP_TRIES - 1:
                    raise
            else:
                return descriptor, device
        raise AssertionError("unreachable")
    finally:
        os.close(control)
        os.close(backing)


def _loop_config(backing: int) -> bytes:
    """Returns `struct loop_config`: descriptor, block size (0: default), `struct loop_info64`."""
    info = bytearray(232)
    struct.pack_into("=I", info, 52, _LO_FLAGS_AUTOCLEAR)  # lo_flags
    return struct.pack("=II", backing, 0) + bytes(info) + bytes(64)


def socket_in(namespace: Path, family: int, kind: int, protocol: int) -> socket.socket:
    """Returns a socket in a network namespace, which any thread can use. Raises OSError.

    A new thread makes it, as entering the namespace changes the thread for good.
    """
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check(_libc.setns(descriptor, _CLONE_NEWNET), namespace)
                made.append(socket.socket(family, kind, protocol))
            finally:
                os.close(descriptor)
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter, name="namespace")
    thread.start()
    thread.join()
    result = made[0]
    if isinstance(result, OSError):
        raise result
    return result


OWNER = 1000  # user and group id of apps' files on disk


class IdmapUnsupported(OSError):
    """The owners of mounted files can't be mapped: that takes Linux 5.12 or later, and ext4."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, f"{self.__doc__} {error.strerror}")


def mount_mapped(source: Path, target: Path, uid: int) -> None:
    """Mounts the directory `source` at `target` too, with `uid` in place of OWNER.

    Both must exist. `source` must not be such a mount itself, and may have several. Raises
    IdmapUnsupported, OSError.
    """
    with _mapped(source, uid) as view:
        attach_mount(view, target)


def map_mounted(mount_point: Path, uid: int) -> None:
    """Replaces a mount by one with `uid` in place of OWNER. Raises IdmapUnsupported, OSError."""
    with _mapped(mount_point, uid) as view:
        unmount(mount_point)
        attach_mount(view, mount_point)


@contextmanager
def _mapped(source: Path, uid: int) -> Iterator[int]:
    with _owners(uid) as owners:
        view = clone_mount(source)
        try:
            try:
                map_owners(view, owners)
            except OSError as error:
                raise IdmapUnsupported(error) from error
            yield view
        finally:
            os.close(view)


@contextmanager
def _owners(uid: int) -> Iterator[int]:
    """Returns a user namespace that maps OWNER to `uid`, and root to root if `uid` is not that."""
    with _member() as pid:
        for kind in ("uid_map", "gid_map"):
            root = "0 0 1\n" if uid else ""  # an id is mapped once
            Path(f"/proc/{pid}/{kind}").write_text(f"{root}{OWNER} {uid} 1\n")
        descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _member() -> Iterator[int]:
    """Starts a process in a new user namespace; a process with threads can't enter one itself."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        member = subprocess.Popen(
            ["unshare", "--user", "cat"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            env=processes.ENVIRONMENT,
            cwd="/",
        )
        theirs.close()
        try:
            ours.sendall(b"\n")
            if not ours.recv(1):  # `cat` answers, once `unshare` has executed it
                raise OSError(errno.EPERM, "no user namespace can be made")
            yield member.pid
        finally:
            ours.close()
            member.wait()

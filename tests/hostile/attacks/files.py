"""Attempts to read or change files that are not the app's own."""

import contextlib
import ctypes
import os
import stat
from pathlib import Path

from attempt import Refused, main, syscall

AT_FDCWD = -100


def read(path: str) -> str:
    """Read a file."""
    return f"{len(Path(path).read_bytes())} bytes"


def read_for(path: str, needle: str) -> str:
    """Find a text in a file."""
    if needle.encode() not in Path(path).read_bytes():
        raise Refused("holds something else")
    return f"found {needle}"


def sweep(root: str, backwards: str) -> str:
    """Find a text in any small file below `root`, system directories aside.

    The text is given backwards, so that what asks for it does not hold it.
    """
    needle = backwards[::-1].encode()
    aside = {"/proc", "/sys", "/usr", "/dev"}
    for directory, names, files in os.walk(root):
        names[:] = [n for n in names if str(Path(directory, n)) not in aside]
        for name in files:
            path = Path(directory, name)
            if _holds(path, needle):
                return f"found in {path}"
    raise Refused("found nowhere")


def _holds(path: Path, needle: bytes) -> bool:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > 1 << 20:
            return False
        return needle in path.read_bytes()
    except OSError:
        return False


def listing(path: str) -> str:
    """List a directory."""
    return f"{len(list(Path(path).iterdir()))} entries"


def create_in(*directories: str) -> str:
    """Create a file in any of the directories (and remove it at once)."""
    last = OSError(2, "")
    for directory in directories:
        path = Path(directory, f".moorage-hostile-{os.getpid()}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            last = error
        else:
            path.unlink()
            return f"created {path}"
    raise last


def open_to_write(*paths: str) -> str:
    """Open any of the files for writing; nothing is written."""
    last = OSError(2, "")
    for path in paths:
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError as error:
            last = error
        else:
            return f"opened {path}"
    raise last


def host_facts(*paths: str) -> str:
    """Read what the kernel tells of the whole machine: any of these that says anything."""
    told = []
    for path in paths:
        with contextlib.suppress(OSError):
            if Path(path).is_dir() and list(Path(path).iterdir()):
                told.append(path)
        with contextlib.suppress(OSError):
            if Path(path).read_bytes():
                told.append(path)
    if not told:
        raise Refused("nothing is told")
    return f"read {told}"


def make_cgroup() -> str:
    """Make a cgroup of one's own (and remove it), which would have no limits."""
    last = OSError(2, "")
    roots = [*Path("/sys/fs/cgroup").glob("*"), Path("/sys/fs/cgroup")]
    for root in [r for r in roots if r.is_dir()]:
        group = root / f"moorage-hostile-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            last = error
        else:
            group.rmdir()
            return f"made {group}"
    raise last


def mknod(directory: str, major: str, minor: str) -> str:
    """Make a character device and open it."""
    path = Path(directory, f"node-{os.getpid()}")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(int(major), int(minor)))
    try:
        os.close(os.open(path, os.O_RDONLY))
    finally:
        path.unlink()
    return "made and opened"


def devices() -> str:
    """Open any device besides the harmless pseudo devices."""
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    opened = []
    for path in Path("/dev").rglob("*"):
        if path.name in harmless or path.parent.name == "pts":
            continue
        try:
            mode = path.lstat().st_mode
            if not stat.S_ISBLK(mode) and not stat.S_ISCHR(mode):
                continue
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError:  # others' come and go
            continue
        opened.append(str(path))
    if not opened:
        raise Refused("none opened")
    return f"opened {len(opened)}: {opened[:5]}"


def hardlink(target: str, directory: str) -> str:
    """Keep a file of somebody else's by a second name."""
    path = Path(directory, f"link-{os.getpid()}")
    os.link(target, path)
    path.unlink()
    return "linked"


def chown_root(directory: str) -> str:
    """Give a file to root."""
    path = Path(directory, f"owned-{os.getpid()}")
    path.write_text("")
    try:
        os.chown(path, 0, 0)
        if os.getuid() and path.stat().st_uid != 0:
            raise Refused("still one's own")
    finally:
        path.unlink()
    return "owned by root"


def file_capability(directory: str) -> str:
    """Mark a file of one's own with a capability."""
    path = Path(directory, f"capable-{os.getpid()}")
    path.write_text("")
    try:
        value = b"\x01\x00\x00\x02" + (1 << 21).to_bytes(4, "little") + bytes(12)
        os.setxattr(path, "security.capability", value)
    finally:
        path.unlink()
    return "marked"


def open_by_handle(path: str) -> str:
    """Open a file by its handle, past every mount and directory permission."""
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(handle).value = 128
    mount_id = ctypes.c_int()
    syscall("name_to_handle_at", AT_FDCWD, path.encode(), handle, ctypes.byref(mount_id), 0)
    mount_fd = os.open(Path(path).parent, os.O_RDONLY)
    fd = syscall("open_by_handle_at", mount_fd, handle, os.O_RDONLY)
    return f"opened as {fd}"


def inherited() -> str:
    """Find a descriptor that is a way out: any beyond the standard three, any directory."""
    found = []
    for fd in range(256):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        if fd > 2 or stat.S_ISDIR(mode):
            found.append((fd, str(Path(f"/proc/self/fd/{fd}").readlink())))
    if not found:
        raise Refused("only the standard three")
    return f"holds {found}"


main(
    {
        "read": read,
        "read-for": read_for,
        "sweep": sweep,
        "listing": listing,
        "create-in": create_in,
        "open-to-write": open_to_write,
        "host-facts": host_facts,
        "make-cgroup": make_cgroup,
        "mknod": mknod,
        "devices": devices,
        "hardlink": hardlink,
        "chown-root": chown_root,
        "file-capability": file_capability,
        "open-by-handle": open_by_handle,
        "inherited": inherited,
    }
)

"""Attempts to use parts of the kernel that an app has no business with."""

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import termios
from pathlib import Path

from attempt import Refused, main, syscall

CLONE = {
    "time": 0x00000080,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
SIGCHLD = 17
MS_REMOUNT, MS_BIND = 32, 4096
MNT_DETACH = 2
TIOCSTI = getattr(termios, "TIOCSTI", 0x5412)
TIOCLINUX = 0x541C


def unshare(kind: str) -> str:
    """Make a new namespace."""
    syscall("unshare", CLONE[kind])
    return "made"


def clone_user() -> str:
    """Start a process in a new user namespace."""
    if syscall("clone", CLONE["user"] | SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)
    os.wait()
    return "started"


def clone3_user() -> str:
    """The same by clone3, whose flags a filter can't see."""
    arguments = struct.pack("=11Q", CLONE["user"], 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0)
    if syscall("clone3", arguments, len(arguments)) == 0:
        os._exit(0)
    os.wait()
    return "started"


def setns(pid: str, kind: str) -> str:
    """Join the namespace of another process."""
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
    syscall("setns", fd, 0)
    return "joined"


def mount_tmpfs(directory: str) -> str:
    """Mount a file system."""
    syscall("mount", b"none", directory.encode(), b"tmpfs", 0, 0)
    return "mounted"


def mount_proc(directory: str) -> str:
    """Mount a fresh proc, unmasked."""
    syscall("mount", b"none", directory.encode(), b"proc", 0, 0)
    return "mounted"


def remount_root() -> str:
    """Make the read-only root writable."""
    syscall("mount", 0, b"/", 0, MS_REMOUNT | MS_BIND, 0)
    return "remounted"


def umount(path: str) -> str:
    """Take a mount away, to see what it covers."""
    syscall("umount2", path.encode(), MNT_DETACH)
    return "unmounted"


def fsopen() -> str:
    """Begin a mount by the new interface."""
    os.close(syscall("fsopen", b"tmpfs", 0))
    return "opened"


def open_tree() -> str:
    """Clone a mount by the new interface."""
    os.close(syscall("open_tree", -100, b"/", 1))
    return "cloned"


def pivot_root(directory: str) -> str:
    """Change the root of the mount namespace; the arguments are wrong, so only the right counts."""
    try:
        syscall("pivot_root", directory.encode(), directory.encode())
    except OSError as error:
        if error.errno == 1:
            raise
    return "allowed"


def chroot_escape(directory: str, evidence: str) -> str:
    """Step out of a chroot by keeping a descriptor outside of it."""
    jail = Path(directory, f"jail-{os.getpid()}")
    jail.mkdir()
    outside = os.open("/", os.O_RDONLY)
    try:
        os.chroot(jail)
        os.fchdir(outside)
        os.chroot(".")
    finally:
        with contextlib.suppress(OSError):
            jail.rmdir()
    if not Path(evidence).exists():
        raise Refused("still inside")
    return "stepped out"


def io_uring() -> str:
    """Make an io_uring, whose requests no seccomp filter sees."""
    os.close(syscall("io_uring_setup", 1, bytes(120)))
    return "made"


def asynchronous_io() -> str:
    """Take contexts of the kernel's asynchronous I/O, of which all of the machine has so many."""
    context = ctypes.c_ulong(0)
    syscall("io_setup", 1024, ctypes.byref(context))
    return "taken"


def huge_pages() -> str:
    """Get a file in huge pages, which the operator reserved, and no control group counts."""
    os.close(syscall("memfd_create", b"hostile", 0x4))
    return "made"


def bpf() -> str:
    """Make a BPF map."""
    os.close(syscall("bpf", 0, struct.pack("=IIII112x", 2, 4, 4, 1), 128))
    return "made"


def perf() -> str:
    """Open a performance counter."""
    attributes = struct.pack("=IIQ96x", 1, 112, 0)
    os.close(syscall("perf_event_open", attributes, 0, -1, -1, 0))
    return "opened"


def userfaultfd() -> str:
    """Handle page faults oneself: kernel exploits stretch races so."""
    os.close(syscall("userfaultfd", 0))
    return "opened"


def keyring() -> str:
    """Add a key to the kernel's keyrings, which no namespace separates."""
    syscall("add_key", b"user", b"moorage-hostile", b"x", 1, -2)
    return "added"


def keyctl() -> str:
    """Ask for the session keyring, which may be the host's."""
    return f"keyring {syscall('keyctl', 0, -3, 0)}"


def personality() -> str:
    """Switch off the non-executable stack."""
    syscall("personality", 0x0400000)
    return "switched"


def fanotify() -> str:
    """Watch a whole file system."""
    os.close(syscall("fanotify_init", 4, 0))
    return "watching"


def kernel_log() -> str:
    """Read the kernel's log."""
    buffer = ctypes.create_string_buffer(4096)
    return f"{syscall('syslog', 3, buffer, 4096)} bytes"


def tiocsti() -> str:
    """Type into the terminal that started the app."""
    last = OSError(25, "")
    for path in ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
            fcntl.ioctl(fd, TIOCSTI, b"#")
        except OSError as error:
            last = error
        else:
            return f"typed into {path}"
    raise last


def _int80(number: int, first: int, second: int = 0, third: int = 0) -> int:
    """A system call by the 32-bit entry of x86-64, whose numbers a 64-bit filter misreads."""
    code = b"\x53"  # push rbx
    for register, value in ((0xB8, number), (0xBB, first), (0xB9, second), (0xBA, third)):
        code += bytes([register]) + struct.pack("<I", value)
    code += b"\xcd\x80\x5b\xc3"  # int 0x80; pop rbx; ret
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result < 0:
        raise OSError(-result, "")
    return result


def unshare_32() -> str:
    """Make a user namespace by the 32-bit entry."""
    _int80(310, CLONE["user"])
    return "made"


def vsock_32() -> str:
    """Open a vsock by the 32-bit entry."""
    os.close(_int80(359, 40, 1))
    return "opened"


main(
    {
        "unshare": unshare,
        "clone-user": clone_user,
        "clone3-user": clone3_user,
        "setns": setns,
        "mount-tmpfs": mount_tmpfs,
        "mount-proc": mount_proc,
        "remount-root": remount_root,
        "umount": umount,
        "fsopen": fsopen,
        "open-tree": open_tree,
        "pivot-root": pivot_root,
        "chroot-escape": chroot_escape,
        "io-uring": io_uring,
        "asynchronous-io": asynchronous_io,
        "huge-pages": huge_pages,
        "bpf": bpf,
        "perf": perf,
        "userfaultfd": userfaultfd,
        "keyring": keyring,
        "keyctl": keyctl,
        "personality": personality,
        "fanotify": fanotify,
        "kernel-log": kernel_log,
        "tiocsti": tiocsti,
        "unshare-32": unshare_32,
        "vsock-32": vsock_32,
    }
)

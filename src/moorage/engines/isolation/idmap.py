"""Mounts that show an app as the owner of files which on disk are another's (MOUNT_ATTR_IDMAP).

On every disk the apps' files are OWNER's, whichever slot an app has: a disk can be copied, given to
another slot, or seen by two at once, and no file changes hands. Root's files stay root's; of any
other id nothing can be made there, and what there is belongs to nobody.
"""

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage.engines.host import kernel, tool

OWNER = 1000  # user and group id, on disk, of all that is an app's


class IdmapUnsupported(OSError):
    """The owners of mounted files can't be mapped: that takes Linux 5.12 or later, and ext4."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, f"{self.__doc__} {error.strerror}")


def mount_mapped(source: Path, target: Path, uid: int) -> None:
    """Show the directory `source` at `target` too, where what is OWNER's belongs to `uid`.

    Both exist; `source` is itself no such view, and may have several. Raises IdmapUnsupported,
    OSError.
    """
    with _mapped(source, uid) as view:
        kernel.attach_mount(view, target)


def map_mounted(mount_point: Path, uid: int) -> None:
    """Replace what is mounted by such a view of it. Raises IdmapUnsupported, OSError."""
    with _mapped(mount_point, uid) as view:
        kernel.unmount(mount_point)
        kernel.attach_mount(view, mount_point)


@contextmanager
def _mapped(source: Path, uid: int) -> Iterator[int]:
    with _owners(uid) as owners:
        view = kernel.clone_mount(source)
        try:
            try:
                kernel.map_owners(view, owners)
            except OSError as error:
                raise IdmapUnsupported(error) from error
            yield view
        finally:
            os.close(view)


@contextmanager
def _owners(uid: int) -> Iterator[int]:
    """A user namespace in which OWNER is `uid` outside, and root is root."""
    with _member() as pid:
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{kind}").write_text(f"0 0 1\n{OWNER} {uid} 1\n")
        descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _member() -> Iterator[int]:
    """A process in a new user namespace: only what has no threads can make one (unshare(2))."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        member = subprocess.Popen(
            ["unshare", "--user", "cat"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            env=tool.ENVIRONMENT,
            cwd="/",
        )
        theirs.close()
        try:
            ours.sendall(b"\n")
            if not ours.recv(1):  # the answer of `cat`, which `unshare` has become by then
                raise OSError(errno.EPERM, "no user namespace can be made")
            yield member.pid
        finally:
            ours.close()
            member.wait()

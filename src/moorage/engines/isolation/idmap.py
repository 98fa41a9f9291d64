"""Makes mounts that map the owner of files on disk to an app's user (MOUNT_ATTR_IDMAP).

On every disk, OWNER owns the apps' files, whichever slot an app has: a disk can be copied, given to
another slot, or used by two apps at the same time, without changing owners. Root's files stay
root's. Files of other ids can't be made there, and existing ones appear as nobody's.
"""

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage.engines.host import tool
from moorage.engines.host.kernel import version as kernel

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
        kernel.attach_mount(view, target)


def map_mounted(mount_point: Path, uid: int) -> None:
    """Replaces a mount by one with `uid` in place of OWNER. Raises IdmapUnsupported, OSError."""
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
            env=tool.ENVIRONMENT,
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

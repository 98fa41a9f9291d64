"""Small files that are written whole or not at all, and that only their owner may read."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_READ_BYTES = 4096


def read_file(path: str) -> bytes:
    """Returns a file's content. Raises OSError.

    For files that are read often: it makes half the system calls of a file object.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while piece := os.read(descriptor, _READ_BYTES):
            content += piece
        return content
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, in place of what is there."""
    with _draft(path, content) as draft:
        draft.replace(path)


def overwrite_file(path: Path, content: bytes) -> None:
    """Overwrites a small file in the blocks that it already has, as a full disk has no others.

    Where `content` is shorter than the file, spaces fill the rest. A crash of the machine may leave
    half of it. Raises OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.ljust(os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)


def create_file(path: Path, content: bytes) -> None:
    """Writes `content` to `path` and syncs it to disk, unless a file is there already."""
    with _draft(path, content, on_disk=True) as draft, suppress(FileExistsError):
        path.hardlink_to(draft)


@contextmanager
def _draft(path: Path, content: bytes, *, on_disk: bool = False) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if on_disk:
                file.flush()
                os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)

"""Small files: they appear whole or not at all, and their owner alone may read them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_READ_BYTES = 4096


def read_file(path: str) -> bytes:
    """A file's content, in half the system calls of a file object: for what is read all the time.

    Raises OSError.
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
    """Put `content` at `path`, in place of what is there."""
    with _draft(path, content) as draft:
        draft.replace(path)


def overwrite_file(path: Path, content: bytes) -> None:
    """Put `content` over a small file, in the blocks that it has: for a disk without a free one.

    What is longer than it was is filled up with spaces. A crash of the machine may leave half of
    it. Raises OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.ljust(os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)


def create_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` and on disk, unless something is there: what came first stays."""
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

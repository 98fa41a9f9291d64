"""Small files that are written whole or not at all, and that only their owner may read."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moorage.errors import ConfigurationInvalid

_READ_BYTES = 4096
_MAX_SECRET_BYTES = 256  # a key of 64 hex digits, 0x and a line end take 67


def secret_text(path: Path, *, option: str) -> str:
    """Returns the secret in a file that the setting `option` names, without blanks around it.

    Raises ConfigurationInvalid for a file that cannot be read, or that others may read.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_SECRET_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationInvalid(f"{option}: {path} cannot be read.") from problem
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(
            f"{option}: others may read {path}; `chmod 600 {path}`, and better take a fresh one."
        )
    return text


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

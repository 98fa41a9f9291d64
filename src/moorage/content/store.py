"""Content stores: what one does, the rule for keys, one in a directory, and how one is opened."""

import configparser
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from moorage.errors import ConfigurationInvalid, ContentUnavailable
from moorage.threads import in_thread

_PART = r"[a-z0-9][a-z0-9._-]{0,127}"
_KEY = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}")
_DRAFT = re.compile(r"\.[0-9a-f]{16}")
_DRAFT_SECONDS = 86_400


class Item(NamedTuple):
    """One stored file."""

    key: str
    size: int
    changed_at_ms: int  # by the store's clock


class Reader(Protocol):
    """What a stream is read from."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; none at the end."""
        ...


class Writer(Protocol):
    """What a stream is written to."""

    def write(self, piece: bytes, /) -> int | None:
        """Writes all of `piece`."""
        ...

    def flush(self) -> None:
        """Does nothing that a caller relies on."""
        ...


_T = TypeVar("_T")


class ContentStore(Protocol):
    """Keeps files under keys. All methods raise ContentUnavailable when the outcome is not known.

    A key has up to eight parts of lower-case letters, digits, `.`, `_` and `-`, with slashes
    between; ValueError for any other.
    """

    async def put(self, key: str, source: Path) -> None:
        """Stores a copy of a file, in place of what the key had; readers find one or the other."""
        ...

    async def get(self, key: str, target: Path) -> None:
        """Writes a copy to `target`, whole or not at all. Raises FileNotFoundError."""
        ...

    async def put_stream(self, key: str, write: Callable[[Writer], object]) -> None:
        """As `put`, of what `write` writes in a thread; nothing is stored if it raises.

        An OSError of `write` is ContentUnavailable.
        """
        ...

    async def get_stream(self, key: str, read: Callable[[Reader], _T]) -> _T:
        """Returns what `read` does, which reads the file in a thread. Raises FileNotFoundError."""
        ...

    async def exists(self, key: str) -> bool:
        """Returns whether the key has a file."""
        ...

    async def items(self, prefix: str) -> list[Item]:
        """Returns the files whose keys begin with `prefix`, a key, and a slash; by key."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the key's file, if it has one."""
        ...


def why_unavailable(error: Exception) -> str:
    """Returns what the store's client said, in one line; `error` is what a method has raised."""
    return str(error.__cause__ or error).strip().splitlines()[0][:300]


def check_key(key: str) -> str:
    """Returns the key. Raises ValueError for one that breaks the rule."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} is not a key of a content store")
    return key


class DirectoryStore:
    """A `ContentStore`: a key is the file's path below `root`; drafts begin with a dot.

    Drafts that nobody has written to for a day, as their process was killed, are removed.

    `root` must be there: without it, the file system that it is on is not mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, source: Path) -> None:
        """As `ContentStore.put`; what was put is on the disk."""
        await self.put_stream(key, partial(_copy_of, source))

    async def put_stream(self, key: str, write: Callable[[Writer], object]) -> None:
        """As `ContentStore.put_stream`."""
        path = self._path(key)

        def put() -> None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, write)
            _remove_drafts(beside=path)
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        await self._in_store(put)

    async def get(self, key: str, target: Path) -> None:
        """As `ContentStore.get`."""
        path = self._path(key)
        await self._in_store(lambda: _write(target, partial(_copy_of, path)))

    async def get_stream(self, key: str, read: Callable[[Reader], _T]) -> _T:
        """As `ContentStore.get_stream`."""
        path = self._path(key)

        def get() -> _T:
            with path.open("rb") as source:
                return read(source)

        return await self._in_store(get)

    async def exists(self, key: str) -> bool:
        """As `ContentStore.exists`."""
        return await self._in_store(self._path(key).is_file)

    async def items(self, prefix: str) -> list[Item]:
        """As `ContentStore.items`."""
        directory = self._path(prefix)
        return await self._in_store(lambda: sorted(self._below(directory)))

    async def delete(self, key: str) -> None:
        """As `ContentStore.delete`; its directory stays, as another gateway may put into it."""
        path = self._path(key)
        await self._in_store(lambda: path.unlink(missing_ok=True))

    async def _in_store(self, work: Callable[[], _T]) -> _T:
        def if_mounted() -> _T:
            if not self._root.is_dir():
                raise NotADirectoryError(f"there is no directory {self._root}")
            return work()

        try:
            return await in_thread(if_mounted)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ContentUnavailable from error

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _below(self, directory: Path) -> list[Item]:
        found = []
        for parent, _, names in os.walk(directory):
            for name in names:
                path = Path(parent) / name
                if name.startswith("."):
                    continue
                with suppress(FileNotFoundError):  # it was deleted meanwhile
                    status = path.stat()
                    key = path.relative_to(self._root).as_posix()
                    found.append(Item(key, status.st_size, status.st_mtime_ns // 1_000_000))
        return found


def _remove_drafts(beside: Path) -> None:
    oldest = beside.stat().st_mtime - _DRAFT_SECONDS  # by the store's clock
    for path in beside.parent.iterdir():
        with suppress(FileNotFoundError):  # another has removed it
            if _DRAFT.fullmatch(path.name) and path.stat().st_mtime < oldest:
                path.unlink()


def _copy_of(source: Path, target: Writer) -> None:
    with source.open("rb") as reading:
        shutil.copyfileobj(reading, target)


def _write(target: Path, write: Callable[[Writer], object]) -> None:
    """Writes a file, so that `target` is whole at any time. Raises OSError."""
    draft = target.with_name(f".{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as writing:
            write(writing)
            writing.flush()
            os.fsync(writing.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


_KEYS = {"access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key"}
_PLACE = {"region": "region", "endpoint": "endpoint_url"}


def open_content(address: str, credentials_file: str = "") -> ContentStore | None:
    """Returns the store of `content_url`; None where each gateway keeps its files.

    Raises ConfigurationInvalid.
    """
    if not address:
        return None
    url = urlsplit(address)
    if url.scheme == "file":
        return DirectoryStore(Path(url.path))
    prefix = url.path.strip("/")
    try:
        if prefix:
            check_key(prefix)
    except ValueError as error:
        raise ConfigurationInvalid(f"{address}: {error}") from error
    from moorage.content.s3 import S3Store  # noqa: PLC0415  (20 ms that one process does not need)

    found = credentials_in(Path(credentials_file)) if credentials_file else {}
    return S3Store(
        url.netloc,
        prefix=prefix,
        endpoint=found.get("endpoint", ""),
        region=found.get("region", ""),
        credentials=found or None,
    )


def credentials_in(file: Path) -> dict[str, str]:
    """Returns what a file as AWS's tools have it says of a bucket. Raises ConfigurationInvalid.

    It is for its owner's eyes only. Its section is `[default]`, with the two keys at least.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        mode = file.stat().st_mode
        parser.read_string(file.read_text())
        section = parser["default"]
        found = {ours: section[theirs] for ours, theirs in _KEYS.items()}
        found |= {ours: section[theirs] for ours, theirs in _PLACE.items() if theirs in section}
    except (OSError, UnicodeDecodeError, KeyError, configparser.Error):
        raise ConfigurationInvalid(
            f"{file} must have a section [default] with "
            "aws_access_key_id and aws_secret_access_key."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(f"others may read {file}; `chmod 600 {file}`.")
    return found

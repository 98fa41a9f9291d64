"""A content store in a directory, which several machines may share by a network's file system."""

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from moorage.content.store import Item, check_key
from moorage.errors import ContentUnavailable
from moorage.threads import in_thread

_T = TypeVar("_T")


class DirectoryStore:
    """A `ContentStore`: a key is the file's path below `root`; drafts begin with a dot.

    `root` must be there: without it, the file system that it is on is not mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, source: Path) -> None:
        """As `ContentStore.put`; what was put is on the disk."""
        path = self._path(key)

        def put() -> None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _copy(source, path)
            _sync(path.parent)

        await self._in_store(put)

    async def get(self, key: str, target: Path) -> None:
        """As `ContentStore.get`."""
        path = self._path(key)
        await self._in_store(lambda: _copy(path, target))

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
                raise NotADirectoryError(f"content_url: there is no directory {self._root}")
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


def _copy(source: Path, target: Path) -> None:
    """Copies a file, so that `target` is whole at any time. Raises OSError."""
    draft = target.with_name(f".{secrets.token_hex(8)}")
    try:
        with source.open("rb") as reading, draft.open("xb") as writing:
            shutil.copyfileobj(reading, writing)
            writing.flush()
            os.fsync(writing.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

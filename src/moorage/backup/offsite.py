"""A gateway's encrypted backups in a content store, each one object in a folder of the gateway's.

An object is there when all of it was stored, and is named for the time when it was made. The store
may have folders of other gateways, and whatever else.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pyrage.x25519 import Identity, Recipient

from moorage.backup.archive import (
    NAME,
    Manifest,
    find_compressor,
    packed,
    unpack_stream,
)
from moorage.backup.encryption import decrypt, encrypt
from moorage.clock import iso_utc
from moorage.content.store import ContentStore, Item, Reader, Writer
from moorage.errors import BackupFailed, BackupInvalid
from moorage.failpoints import failpoint

FOLDER = r"moorage-[0-9a-f]{32}"
"""A folder's name: with the id of the gateway's data directory."""

MIN_KEPT = 7
"""So many are never pruned, however old they are."""

_SUFFIXES = {"zstd": "zst", "gzip": "gz"}
_COMPRESSORS = {suffix: name for name, suffix in _SUFFIXES.items()}
_FILE = re.compile(r"(\d{8}t\d{6}\.\d{3}z)\.tar\.(zst|gz)\.age", re.ASCII)
_DAY_MS = 24 * 3_600_000


def folder_of(gateway: str) -> str:
    """Returns the name of the folder of the gateway with this id."""
    return f"moorage-{gateway}"


class Stored(NamedTuple):
    """A backup that was stored whole."""

    name: str  # in its folder
    size: int  # bytes, encrypted


class _Counted:
    """Counts the bytes that are written."""

    def __init__(self, target: Writer) -> None:
        self._target = target
        self.size = 0

    def write(self, piece: bytes, /) -> int:
        self._target.write(piece)
        self.size += len(piece)
        return len(piece)

    def flush(self) -> None:
        self._target.flush()


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The backups of one gateway. All methods raise ContentUnavailable."""

    store: ContentStore
    name: str

    async def put(self, directory: Path, manifest: Manifest, *recipients: Recipient) -> Stored:
        """Stores the files that a manifest names, which is beside them. Raises BackupFailed."""
        compressor = find_compressor()
        name = f"{_stamp(manifest.created_at)}.tar.{_SUFFIXES[compressor]}.age"
        paths = [NAME, *(entry.path for entry in manifest.entries)]
        size = 0

        def write(target: Writer) -> None:
            nonlocal size
            counted = _Counted(target)
            with packed(directory, paths, compressor) as source:
                encrypt(source, counted, *recipients)
            size = counted.size
            failpoint("backup sent")

        await self.store.put_stream(f"{self.name}/{name}", write)
        failpoint("backup stored")
        return Stored(name=name, size=size)

    async def backups(self) -> list[Item]:
        """Returns what is there, the first made first; nothing that is not named as a backup.

        One that is named for a later time than it was stored at counts as of then.
        """
        items = await self.store.items(self.name)
        found = [item for item in items if _FILE.fullmatch(self._named(item))]
        return sorted(
            found, key=lambda item: min(self._named(item), _stamp(iso_utc(item.changed_at_ms)))
        )

    def _named(self, item: Item) -> str:
        return item.key.removeprefix(f"{self.name}/")

    async def prune(self, newest: Stored, *, keep_days: int) -> int:
        """Deletes backups that are older than `newest` by more than so many days, but MIN_KEPT.

        Times are the store's, whatever clock the gateway has. Returns how many were deleted.
        Raises BackupFailed, with nothing deleted, if `newest` is not there as it was stored.
        """
        by_age = sorted(await self.backups(), key=lambda item: item.changed_at_ms)
        there = [item for item in by_age if item.key == f"{self.name}/{newest.name}"]
        if [item.size for item in there] != [newest.size]:
            raise BackupFailed(f"The store does not list {newest.name} as it was stored.")
        until_ms = there[0].changed_at_ms - keep_days * _DAY_MS
        old = [item for item in by_age[:-MIN_KEPT] if item.changed_at_ms < until_ms]
        for item in old:
            await self.store.delete(item.key)
            failpoint("backup pruned")
        return len(old)

    async def get(self, name: str, directory: Path, identities: list[Identity]) -> Manifest:
        """Unpacks one, the newest with an empty name, into an empty directory.

        Raises BackupFailed if there is none; BackupInvalid if it is damaged, was made by another
        gateway or at another time than its name says, or is another's to open.
        """
        if not name:
            return await self._get_newest(directory, identities)
        read = partial(unpack_encrypted, name=name, directory=directory, identities=identities)
        try:
            manifest = await self.store.get_stream(f"{self.name}/{name}", read)
        except FileNotFoundError:
            raise BackupFailed(f"There is no {name} in {self.name}.") from None
        if (
            not name.startswith(f"{_stamp(manifest.created_at)}.")
            or folder_of(manifest.gateway) != self.name
        ):
            raise BackupInvalid(
                f"It is of the gateway {manifest.gateway or '(unknown)'} and of "
                f"{manifest.created_at}, not what {self.name}/{name} says."
            )
        return manifest

    async def _get_newest(self, directory: Path, identities: list[Identity]) -> Manifest:
        names = [self._named(item) for item in await self.backups()]
        if not names:
            raise BackupFailed(f"There is no backup in {self.name}.")
        try:
            return await self.get(names[-1], directory, identities)
        except BackupInvalid as error:
            older = ", ".join(reversed(names[-4:-1])) or "there is none"
            raise BackupInvalid(
                f"The newest, {names[-1]}, is not good. {error.message} Before it: {older}."
            ) from error


def unpack_encrypted(
    source: Reader, *, name: str, directory: Path, identities: list[Identity]
) -> Manifest:
    """Unpacks what was stored under this name. Raises as `archive.unpack` and `decrypt` do."""
    named = _FILE.fullmatch(name)
    if named is None:
        raise BackupInvalid(f"{name} is not the name of an off-site backup.")
    feed = partial(decrypt, source, identities=identities)
    return unpack_stream(feed, _COMPRESSORS[named[2]], directory)


def _stamp(time: str) -> str:
    """Returns a time as names say it: 20260407t100000.000z."""
    return time.replace("-", "").replace(":", "").lower()

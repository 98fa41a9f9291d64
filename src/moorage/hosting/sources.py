"""What deployments are made of: stored uploads that gateways share, and the files laid out."""

import hashlib
import shutil
import tarfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import structlog

from moorage.clock import Clock
from moorage.content.store import ContentStore, Item
from moorage.errors import ContentUnavailable, UploadNotFound
from moorage.failpoints import failpoint
from moorage.threads import in_thread
from moorage.uploads.reader import Upload
from moorage.uploads.room import Arriving, RoomLimits, Uploader
from moorage.uploads.stored import KEPT_MS, Stored, StoredUploads, no_room, taken_bytes

_SHARED_UPLOADS_PREFIX = "uploads"
_SKEW_MS = 600_000  # by which the store's clock and a gateway's may differ


class SharedUploads:
    """Those of this gateway, and those in the content store if there is one."""

    def __init__(
        self, own: StoredUploads, store: ContentStore | None, *, limits: RoomLimits, clock: Clock
    ) -> None:
        self._own = own
        self._store = store
        self._limits = limits
        self._clock = clock

    async def put(
        self,
        stream: AsyncIterator[bytes],
        *,
        wallet: str,
        sha256: str,
        content_length: int | None,
        uploader: Uploader,
        arriving: Arriving,
    ) -> Stored:
        """As `StoredUploads.put`. Raises ContentUnavailable as well."""
        stored = await self._own.put(
            stream,
            wallet=wallet,
            sha256=sha256,
            content_length=content_length,
            uploader=uploader,
            arriving=arriving,
        )
        if self._store is not None:
            key = _key(wallet, sha256, has_paid=uploader.has_paid)
            with suppress(FileNotFoundError):  # newer ones of the wallet needed the room meanwhile
                await self._store.put(key, self._own.path(wallet, sha256))
                await self._bound(self._store, key, has_paid=uploader.has_paid)
        return stored

    async def open(
        self, wallet: str, uploader: Uploader, arriving: Arriving, sha256: str
    ) -> BinaryIO:
        """Opens an upload of this wallet to read it; brings it here if it was stored elsewhere.

        Raises UploadNotFound, ContentUnavailable, and what `StoredUploads.bring` raises.
        """
        try:
            return self._own.open(wallet, sha256)
        except UploadNotFound:
            if self._store is None:
                raise
            await self._bring(self._store, wallet, sha256, uploader, arriving)
        return self._own.open(wallet, sha256)

    def purge(self) -> None:
        """Removes what has expired here."""
        self._own.purge()

    async def purge_store(self) -> None:
        """Removes what has expired in the content store. Raises ContentUnavailable."""
        if self._store is None:
            return
        oldest_ms = self._clock.now_ms() - KEPT_MS - _SKEW_MS
        for item in await self._store.items(_SHARED_UPLOADS_PREFIX):
            if item.changed_at_ms < oldest_ms:
                await self._store.delete(item.key)

    async def _bring(
        self,
        store: ContentStore,
        wallet: str,
        sha256: str,
        uploader: Uploader,
        arriving: Arriving,
    ) -> None:
        """Brings an upload here if the store has it."""
        for has_paid in (True, False):
            key = _key(wallet, sha256, has_paid=has_paid)
            found = [it for it in await store.items(key.rpartition("/")[0]) if it.key == key]
            for item in found:
                with suppress(FileNotFoundError):  # it expired meanwhile
                    return await self._own.bring(
                        partial(store.get, key),
                        wallet=wallet,
                        stored=Stored(sha256, item.size, item.changed_at_ms + KEPT_MS),
                        uploader=uploader,
                        arriving=arriving,
                    )
        return None

    async def _bound(self, store: ContentStore, key: str, *, has_paid: bool) -> None:
        """Removes a wallet's oldest uploads beyond its share; what was just put, beyond the total.

        It is looked at after the put, so that puts at other gateways in the same moment count.
        """
        limits = self._limits
        of_one = limits.wallet_bytes if has_paid else limits.stranger_bytes
        of_all = limits.paid_bytes if has_paid else limits.strangers_bytes
        found = await store.items(_class(has_paid=has_paid))
        prefix = f"{key.rpartition('/')[0]}/"
        own = sorted(
            (it for it in found if it.key.startswith(prefix) and it.key != key),
            key=lambda it: it.changed_at_ms,
        )
        newest = [it for it in found if it.key == key]
        while own and _bytes([*own, *newest]) > of_one:
            oldest = own.pop(0)
            found.remove(oldest)
            await store.delete(oldest.key)
        if _bytes(found) > of_all:
            await store.delete(key)
            raise no_room()


def _bytes(items: Iterable[Item]) -> int:
    return sum(taken_bytes(item.size) for item in items)


def _class(*, has_paid: bool) -> str:
    return f"{_SHARED_UPLOADS_PREFIX}/{'paid' if has_paid else 'strangers'}"


def _key(wallet: str, sha256: str, *, has_paid: bool) -> str:
    owner = hashlib.sha256(wallet.encode()).hexdigest()[:32]
    return f"{_class(has_paid=has_paid)}/{owner}/{sha256.lower()}"


log = structlog.get_logger()

_PREFIX = "sources"
_DRAFT = ".draft"
_VOLUME = ".volume"  # behind a deployment's id: what its project's volume is to begin with


class Sources:
    """Keeps files in `directory`, and in `store` if there is one."""

    def __init__(self, directory: Path, store: ContentStore | None = None) -> None:
        self._directory = directory
        self._store = store

    @property
    def is_shared(self) -> bool:
        """Whether other gateways can read the files as well."""
        return self._store is not None

    def path(self, deployment_id: str) -> Path:
        """Returns the directory of a deployment's files."""
        return self._directory / deployment_id

    def volume_path(self, deployment_id: str) -> Path:
        """Returns where the volume is with which a deployment's project begins."""
        return self._directory / f"{deployment_id}{_VOLUME}"

    async def volume(self, deployment_id: str) -> Path | None:
        """Returns the volume with which a deployment's project begins; brings it here.

        None if it begins with nothing. Raises ContentUnavailable.
        """
        path = self.volume_path(deployment_id)
        if not path.exists() and self._store is not None:
            with suppress(FileNotFoundError):
                await self._store.get(f"{_PREFIX}/{path.name}", path)
        return path if path.exists() else None

    async def keep(self, deployment_id: str, upload: Upload) -> None:
        """Lays an upload's files down for a deployment. Raises OSError, ContentUnavailable."""
        directory = self.path(deployment_id)
        await in_thread(_materialise, upload, directory)
        if upload.volume is not None:
            path = self.volume_path(deployment_id)
            await in_thread(upload.volume.write, path)
            if self._store is not None:
                await self._store.put(f"{_PREFIX}/{path.name}", path)
        if self._store is None:
            return
        archive = directory.with_suffix(f"{_DRAFT}.tar")
        try:
            await in_thread(_pack, directory, archive)
            await self._store.put(f"{_PREFIX}/{deployment_id}", archive)
        finally:
            archive.unlink(missing_ok=True)
        failpoint("stored")

    async def fetch(self, deployment_id: str) -> bool:
        """Brings the files here if another gateway keeps them; returns whether there are any.

        Raises ContentUnavailable.
        """
        directory = self.path(deployment_id)
        if self._store is None or directory.is_dir():
            return directory.is_dir()
        archive = directory.with_suffix(f"{_DRAFT}.tar")
        try:
            await self._store.get(f"{_PREFIX}/{deployment_id}", archive)
            await in_thread(_unpack, archive, directory)
        except FileNotFoundError:
            return False
        finally:
            archive.unlink(missing_ok=True)
        return True

    async def exists(self, deployment_id: str) -> bool:
        """Returns whether any gateway keeps files of a deployment. Raises ContentUnavailable."""
        if self._store is None:
            return self.path(deployment_id).exists()
        return await self._store.exists(f"{_PREFIX}/{deployment_id}")

    async def drop(self, deployment_id: str) -> None:
        """Removes a deployment's files; what cannot be removed now is swept later."""
        await in_thread(_remove, self.path(deployment_id))
        await in_thread(_remove, self.volume_path(deployment_id))
        if self._store is None:
            return
        try:
            await self._store.delete(f"{_PREFIX}/{deployment_id}")
            await self._store.delete(f"{_PREFIX}/{deployment_id}{_VOLUME}")
        except ContentUnavailable as error:
            log.warning("source is not removed", deployment=deployment_id, error=error.message)

    def here(self) -> list[str]:
        """Returns the deployments with files in this gateway's directory."""
        return sorted(path.name for path in self._directory.iterdir() if path.is_dir())

    async def older(self, *, min_age_seconds: float) -> list[str]:
        """Returns the deployments with files of at least this age. Raises ContentUnavailable."""
        newest = time.time() - min_age_seconds  # the time of files is the machine's
        paths = sorted(self._directory.iterdir())
        found = {
            _owner(path.name)
            for path in paths
            if not min_age_seconds or path.stat().st_mtime < newest
        }
        if self._store is not None:
            for item in await self._store.items(_PREFIX):
                if item.changed_at_ms < newest * 1000:
                    found.add(_owner(item.key.rpartition("/")[2]))
        return sorted(found)


def _owner(name: str) -> str:
    return name.removesuffix(_VOLUME)


def _materialise(upload: Upload, directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True)
    upload.materialise(directory)


def _remove(path: Path) -> None:
    if path.is_file():  # an archive that a crash left
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _pack(directory: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as packed:
        packed.add(directory, arcname=".")


def _unpack(archive: Path, directory: Path) -> None:
    """Unpacks what `_pack` packed; `directory` is there once it is whole."""
    draft = directory.with_suffix(_DRAFT)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    with tarfile.open(archive) as packed:
        packed.extractall(draft, filter="data")
    draft.chmod(0o700)
    draft.rename(directory)

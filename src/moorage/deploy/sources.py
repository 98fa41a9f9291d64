"""The uploaded files of deployments that are not built yet: a directory for each.

Where gateways on several machines share a content store, a deployment's files lie there as well, as
one archive: another gateway may build it. They are there before the row that promises them.
"""

import shutil
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import structlog

from moorage.content.store import ContentStore
from moorage.errors import ContentUnavailable
from moorage.failpoints import failpoint
from moorage.threads import in_thread
from moorage.uploads.tree import Upload

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

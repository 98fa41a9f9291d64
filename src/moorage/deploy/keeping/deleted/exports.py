"""Exports: an archive of what a project has, for its owner, as an operator will delete it."""

import os
import shutil
import stat
import tarfile
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import IO, cast

import msgspec

from moorage.clock import iso_utc
from moorage.core import Core
from moorage.deploy.work.moving import INSTALLED
from moorage.engines.engine import Engine
from moorage.engines.images.holes import MAX_BYTES, data_parts, map_of_parts, sparse_header
from moorage.engines.locks import Locks
from moorage.errors import DeployFailed
from moorage.records.deployment import LogKind
from moorage.records.project import Project
from moorage.storage.apps.addresses import domains
from moorage.storage.operation import exports
from moorage.storage.operation.exports import Export
from moorage.threads import in_thread

EXPORTS = "exports"
"""The directory of archives in the data directory, and their place in a content store."""

_CONTENTS = "export.json"
_VOLUME = "data"
_OLD_SECONDS = 3600.0  # a file is there before its row
_LINES = 10_000
_MAX_LOG_LETTERS = 1 << 25  # far beyond what a log keeps; an app may write as fast as it is read


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The document `export.json` of an archive."""

    project: str
    wallet: str
    made_at: str  # ISO 8601
    domains: list[str]
    variables: list[str]  # the names: nobody is told the values
    build_variables: list[str]
    left_out: dict[str, str]  # what is not in the archive, and why


class VolumeMoves(OSError):
    """A volume that is on its way to another engine is exported when it has come there."""


class ExportFiles:
    """The archives' files: in the data directory, and where other gateways find them."""

    def __init__(self, core: Core) -> None:
        self._db = core.db
        self._directory = core.data_dir / EXPORTS
        self._store = core.content

    def draft(self, name: str) -> Path:
        """Returns an empty directory in which an archive is made."""
        draft = self._directory / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        return draft

    def free_bytes(self) -> int:
        """Returns how much is free where archives are made."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return shutil.disk_usage(self._directory).free

    async def put(self, export: Export, archive: Path) -> None:
        """Takes an archive. Raises ContentUnavailable, OSError."""
        if self._store is not None:
            await self._store.put(f"{EXPORTS}/{export.stored_as}", archive)
        await in_thread(archive.replace, self._directory / export.stored_as)

    async def path(self, export: Export) -> Path:
        """Returns where an archive is on this machine.

        Raises FileNotFoundError, ContentUnavailable, OSError.
        """
        path = self._directory / export.stored_as
        if not path.exists() and self._store is not None:
            await in_thread(self._directory.mkdir, mode=0o700, exist_ok=True)
            await self._store.get(f"{EXPORTS}/{export.stored_as}", path)
        if not path.exists():
            raise FileNotFoundError(path)
        return path

    async def lacks_volume(self, export: Export) -> bool:
        """Returns whether an archive is without a volume, or with a part of one.

        One may be older than the volume; an earlier version of the gateway left out what could not
        be had. Reads it up to where it says so. Raises as `path`.
        """
        return await in_thread(_lacks_volume, await self.path(export))

    async def has(self, export: Export) -> bool:
        """Returns whether an archive is there; a backup has its row alone.

        Raises ContentUnavailable.
        """
        if (self._directory / export.stored_as).exists():
            return True
        return self._store is not None and await self._store.exists(f"{EXPORTS}/{export.stored_as}")

    async def remove(self, export: Export) -> None:
        """Removes an archive, if there is one. Raises ContentUnavailable, OSError."""
        if self._store is not None:
            await self._store.delete(f"{EXPORTS}/{export.stored_as}")
        (self._directory / export.stored_as).unlink(missing_ok=True)

    async def sweep(self) -> None:
        """Removes old files of this machine that no row has. Raises DatabaseUnavailable."""
        kept = {each.stored_as for each in await exports.every(self._db)}
        await in_thread(self._remove_all_but, kept)

    def _remove_all_but(self, kept: Collection[str]) -> None:
        if not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            is_old = time.time() - path.stat().st_mtime > _OLD_SECONDS
            if path.name not in kept and is_old:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class Exporter:
    """Makes archives of projects: files, the volume, logs, and what is set."""

    def __init__(
        self, core: Core, runtime: Engine, files: ExportFiles, *, volume_locks: Locks
    ) -> None:
        """A move of a volume holds its lock as well."""
        self.files = files
        self._volume_locks = volume_locks
        self._core = core
        self._runtime = runtime

    async def make(self, project: Project) -> Path:
        """Makes an archive; the caller takes it.

        Files that an engine can't give are left out, and named: their owner has uploaded them.
        Raises DeployFailed for a volume that can't be read as it is, VolumeMoves, OSError,
        DatabaseUnavailable, ClusterUnavailable.
        """
        draft = await in_thread(self.files.draft, project.id)
        try:
            content = draft / project.unique_name
            content.mkdir(mode=0o700)
            left_out = await self._copy(project, content)
            contents = await self._contents(project, left_out)
            await in_thread((content / _CONTENTS).write_bytes, msgspec.json.encode(contents))
            archive = draft.with_suffix(".tar.gz")
            await in_thread(_pack, content, archive)
        finally:
            await in_thread(shutil.rmtree, draft)
        return archive

    async def _copy(self, project: Project, content: Path) -> dict[str, str]:
        """Copies files, logs and volume; returns what could not be had, and why."""
        left_out: dict[str, str] = {}
        serving = project.serving_deployment_id
        if serving is not None:
            try:
                await self._runtime.export_files(serving, content / "files", without=INSTALLED)
            except DeployFailed as error:
                left_out["files"] = error.message
            for kind in LogKind:
                await in_thread(_write_lines, content / f"{kind}.log", [])
                async for lines in self._lines(serving, kind):
                    await in_thread(_write_lines, content / f"{kind}.log", lines)
        if project.volume:
            if self._volume_locks.is_held(project.id):
                raise VolumeMoves("The volume is just being moved to another engine.")
            async with self._volume_locks.alone(project.id):
                await self._runtime.export_volume(project.id, content / _VOLUME)
        return left_out

    async def _lines(self, deployment_id: str, kind: LogKind) -> AsyncIterator[list[str]]:
        after, left = 0, _MAX_LOG_LETTERS
        while left > 0:
            page = await self._runtime.read_log(deployment_id, kind, after=after, limit=_LINES)
            if page.next <= after:
                return
            lines = [f"{iso_utc(line.at_ms)} {line.stream} {line.text}" for line in page.lines]
            yield lines
            after, left = page.next, left - sum(map(len, lines)) - 1

    async def _contents(self, project: Project, left_out: dict[str, str]) -> Contents:
        variables = self._core.vault.open(project.variables, project.id)
        return Contents(
            project=project.unique_name,
            wallet=project.wallet,
            made_at=iso_utc(self._core.clock.now_ms()),
            domains=list(await domains.verified_of(self._core.db, project.id)),
            variables=sorted(variables.run),
            build_variables=sorted(variables.build),
            left_out=left_out,
        )


def _lacks_volume(archive: Path) -> bool:
    """Returns whether `_pack` was given no volume, or its contents say that it was left out."""
    has_files = False
    with tarfile.open(archive, "r|gz") as packed:
        while (member := packed.next()) is not None:
            packed.members.clear()  # type: ignore[attr-defined]  # it would remember each
            _, _, name = member.name.partition("/")
            has_files = has_files or name.partition("/")[0] == _VOLUME  # the names are in order
            if name == _CONTENTS and (file := packed.extractfile(member)) is not None:
                left_out = msgspec.json.decode(file.read(), type=Contents).left_out
                return not has_files or _VOLUME in left_out
    return True


def _write_lines(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="utf-8", errors="replace") as log:
        log.writelines(f"{line}\n" for line in lines)


def _pack(content: Path, archive: Path) -> None:
    """Writes an archive of a directory; nothing in it has an owner. Holes and names are kept."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        _put(packed, str(content), content.name, {})
    archive.chmod(0o600)


def _put(packed: tarfile.TarFile, path: str, name: str, linked: dict[tuple[int, int], str]) -> None:
    """Adds what is at a path, in the order of names; `linked` are files with further names."""
    found = os.lstat(path)
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        entry.type = tarfile.DIRTYPE
        packed.addfile(entry)
        with os.scandir(path) as entries:
            children = sorted(each.name for each in entries)
        for child in children:
            _put(packed, f"{path}/{child}", f"{name}/{child}", linked)
    elif (first := linked.get((found.st_dev, found.st_ino))) is not None:
        entry.type, entry.linkname = tarfile.LNKTYPE, first
        packed.addfile(entry)
    else:
        _put_file(packed, path, entry, size=found.st_size)
        if found.st_nlink > 1:
            linked[found.st_dev, found.st_ino] = name
    packed.members.clear()  # type: ignore[attr-defined]  # it would remember each


def _put_file(packed: tarfile.TarFile, path: str, entry: tarfile.TarInfo, *, size: int) -> None:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (Path would be long for each)
        parts = data_parts(file, size)
        data_bytes = sum(length for _, length in parts)
        if parts == [(0, size)] or data_bytes >= MAX_BYTES:
            file.seek(0)
            entry.size = size
            packed.addfile(entry, file)
            return
        out = cast("IO[bytes]", packed.fileobj)
        header = sparse_header(entry, parts, size=size) + map_of_parts(parts)
        out.write(header)
        for offset, length in parts:
            file.seek(offset)
            tarfile.copyfileobj(file, out, length)  # type: ignore[attr-defined]
        padding = -data_bytes % tarfile.BLOCKSIZE
        out.write(bytes(padding))
        packed.offset += len(header) + data_bytes + padding

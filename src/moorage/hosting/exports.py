"""Exports: archives of projects for their owners, made on demand or before a deletion."""

import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
from msgspec import UNSET

from moorage.archive.project import (
    FILES,
    LOGS,
    VARIABLES,
    VOLUME,
    Archive,
    Manifest,
    Part,
    open_archive,
    part_of,
    seal,
    write_archive,
)
from moorage.archive.tree import TreeRefused, write_tree
from moorage.clock import iso_utc
from moorage.core import Core
from moorage.engines.engine import ProjectData
from moorage.engines.locks import Locks
from moorage.errors import DeployFailed, MoorageError, RateLimited, VariablesUnreadable
from moorage.failpoints import failpoint
from moorage.hosting.work.moving import INSTALLED
from moorage.planning.plan import Plan, Settings, Stack
from moorage.records.deployment import LogKind
from moorage.records.project import Kind, Project, ProjectStatus, Variables
from moorage.storage.apps import deployments, domains, projects
from moorage.storage.money import accounts
from moorage.storage.operation import exports
from moorage.storage.operation.exports import Export, ExportState
from moorage.threads import in_thread

EXPORTS = "exports"
"""The directory of archives in the data directory, and their place in a content store."""

KEPT_MS = 24 * 3_600_000
"""For how long an owner can fetch an export: it may be as large as the app's disk and volume."""

_PAUSE_MS = 600_000  # between exports of a project: each reads all that it has, and costs nothing
_RETRY_MS = 60_000  # after one that failed
_OF_WALLET_AT_ONCE = 3
_MAX_ATTEMPTS = 3
_OWNERS_PART = 4  # of the disk, for all archives that owners asked for: one part of so many
_WALLETS_PART = 16  # and for those of one wallet
_ANOTHER_KEY = (
    "An export of this project is being made, or was made just now, for another key, or none. "
    "Ask again later."
)
_TOO_MANY = "Three exports of your projects are being made. Ask again once one is ready."
_OLD_SECONDS = 3600.0  # a file is there before its row
_LINES = 10_000
_MAX_LOG_LETTERS = 1 << 25  # far beyond what a log keeps; an app may write as fast as it is read
_MAX_FILES_BYTES = 1 << 40  # the disk that they are on bounds them


log = structlog.get_logger()


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
        """Returns whether an archive is without a volume: it may be older. Raises as `path`."""
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


@dataclass
class _Draft:
    """An archive that is being made."""

    directory: Path
    files: dict[str, Path] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, *, content_bytes: int = 0, entries: int = 0) -> None:
        """Adds the file of this name in the directory."""
        path = self.directory / name
        self.files[name] = path
        self.parts.append(part_of(path, name=name, content_bytes=content_bytes, entries=entries))


class Exporter:
    """Makes archives of projects."""

    def __init__(
        self, core: Core, runtime: ProjectData, files: ExportFiles, *, volume_locks: Locks
    ) -> None:
        """A move of a volume holds its lock as well."""
        self.files = files
        self._volume_locks = volume_locks
        self._core = core
        self._runtime = runtime

    async def make(self, project: Project, *, public_key: str | None = None) -> Archive:
        """Makes an archive; the caller takes it. Variables are sealed to `public_key`, if any.

        Files that an engine can't give are left out, and named: their owner has uploaded them.
        Raises DeployFailed for a volume that can't be read as it is, VolumeMoves, OSError,
        DatabaseUnavailable, ClusterUnavailable, VariablesUnreadable.
        """
        draft = _Draft(await in_thread(self.files.draft, project.id))
        try:
            await self._add_files(project, draft)
            await self._add_volume(project, draft)
            await self._add_logs(project, draft)
            manifest = await self._manifest(project, draft, public_key)
            target = draft.directory.with_suffix(".tar")
            target.unlink(missing_ok=True)  # of an attempt that was cut off
            return await in_thread(write_archive, manifest, draft.files, target)
        finally:
            await in_thread(shutil.rmtree, draft.directory)

    async def _add_files(self, project: Project, draft: _Draft) -> None:
        serving = project.serving_deployment_id
        if serving is None:
            draft.left_out["files"] = "no version has served"
            return
        copied = draft.directory / "files"
        try:
            await self._runtime.export_files(serving, copied, without=INSTALLED)
            tree = await in_thread(
                write_tree,
                copied,
                draft.directory / FILES,
                max_bytes=_MAX_FILES_BYTES,
                name="files",
            )
        except (DeployFailed, TreeRefused) as error:
            draft.left_out["files"] = str(error)
            return
        finally:
            await in_thread(shutil.rmtree, copied, ignore_errors=True)
        await in_thread(draft.add, FILES, content_bytes=tree.content_bytes, entries=tree.entries)

    async def _add_volume(self, project: Project, draft: _Draft) -> None:
        if not project.volume:
            return
        if self._volume_locks.is_held(project.id):
            raise VolumeMoves("The volume is just being moved to another engine.")
        async with self._volume_locks.alone(project.id):
            tree = await self._runtime.read_volume(project.id, draft.directory / VOLUME)
        if tree is not None:
            await in_thread(
                draft.add, VOLUME, content_bytes=tree.content_bytes, entries=tree.entries
            )

    async def _add_logs(self, project: Project, draft: _Draft) -> None:
        serving = project.serving_deployment_id
        if serving is None:
            return
        for kind, name in zip((LogKind.BUILD, LogKind.RUNTIME), LOGS, strict=True):
            path = draft.directory / name
            await in_thread(_write_lines, path, [])
            async for lines in self._lines(serving, kind):
                await in_thread(_write_lines, path, lines)
            await in_thread(draft.add, name)

    async def _lines(self, deployment_id: str, kind: LogKind) -> AsyncIterator[list[str]]:
        after, left = 0, _MAX_LOG_LETTERS
        while left > 0:
            page = await self._runtime.read_log(deployment_id, kind, after=after, limit=_LINES)
            if page.next <= after:
                return
            lines = [f"{iso_utc(line.at_ms)} {line.stream} {line.text}" for line in page.lines]
            yield lines
            after, left = page.next, left - sum(map(len, lines)) - 1

    async def _manifest(self, project: Project, draft: _Draft, public_key: str | None) -> Manifest:
        try:
            variables = self._core.vault.open(project.variables, project.id)
        except VariablesUnreadable:  # of a backup without its key
            variables, draft.left_out["variables"] = Variables(), "the key of the books is missing"
        has_any = bool(variables.run or variables.build)
        if has_any and public_key is not None:
            sealed = seal(msgspec.json.encode(variables), public_key)
            await in_thread((draft.directory / VARIABLES).write_bytes, sealed)
            await in_thread(draft.add, VARIABLES)
        elif has_any:
            draft.left_out["variables"] = "no public key was given to seal their values to"
        return Manifest(
            project=project.unique_name,
            wallet=project.wallet,
            made_at=iso_utc(self._core.clock.now_ms()),
            display_name=project.display_name,
            description=project.description,
            settings=await self._settings(project),
            domains=list(await domains.verified_of(self._core.db, project.id)),
            variables=sorted(variables.run),
            build_variables=sorted(variables.build),
            sealed_to=public_key if has_any else None,
            left_out=draft.left_out,
            parts=draft.parts,
        )

    async def _settings(self, project: Project) -> dict[str, msgspec.Raw]:
        """Returns the settings of a deploy that leads to the same app, from the plan in use."""
        serving = await deployments.by_id(self._core.db, project.serving_deployment_id or "")
        if serving is None:
            return {}
        plan = msgspec.json.decode(serving.plan, type=Plan)
        given = {
            name: command
            for name, command in (
                ("installCommand", plan.install),
                ("buildCommand", plan.build),
                ("runCommand", plan.start),
            )
            if any(f"settings.{name}" in reason for reason in plan.because)
        }
        settings = Settings(
            port=plan.port,
            has_dockerfile=plan.stack is Stack.DOCKERFILE,
            directory_path=plan.directory or None,
            health_path=project.health_path,
            volume=True if project.volume else None,
            release_command=None if plan.release is UNSET else plan.release,
            kind=None if plan.listens else Kind.WORKER,
        )
        found = {**msgspec.to_builtins(settings), **given}
        defaults = msgspec.to_builtins(Settings())
        return {
            key: msgspec.Raw(msgspec.json.encode(value))
            for key, value in found.items()
            if value != defaults[key]
        }


async def ask_export(core: Core, project: Project, *, public_key: str | None) -> Export:
    """Returns the export that an owner asks for: the newest if it is new enough, or another.

    One of a project is made at a time, and a few of a wallet; the next one no sooner than
    `_PAUSE_MS` after the one before. Raises RateLimited.
    """
    now_ms = core.clock.now_ms()
    async with core.db.transaction(durable=True) as tx:
        await accounts.lock(tx, project.wallet)
        found = await exports.of_project(tx, project.id, by_owner=True)
        if found is not None and found.until_ms > now_ms:
            next_ms = found.began_at_ms + _PAUSE_MS
            is_new = found.state is ExportState.MAKING or now_ms < next_ms
            if is_new and found.state is not ExportState.FAILED:
                if found.public_key == public_key:
                    return found
                raise RateLimited(max(60, (next_ms - now_ms) // 1000), _ANOTHER_KEY)
            if is_new and now_ms < found.began_at_ms + _RETRY_MS:
                return found
        if await exports.making_of(tx, project.wallet) >= _OF_WALLET_AT_ONCE:
            raise RateLimited(60, _TOO_MANY)
        made = Export(
            project_id=project.id,
            by_owner=True,
            token=secrets.token_hex(32),
            state=ExportState.MAKING,
            file_name=f"{project.unique_name}.tar",
            public_key=public_key,
            began_at_ms=now_ms,
            until_ms=now_ms + KEPT_MS,
        )
        await exports.put(tx, made)
    return made


class OwnerExports:
    """Makes the exports that owners ask for, one at a time, oldest first."""

    def __init__(self, core: Core, exporter: Exporter, *, needed_bytes: int) -> None:
        """`needed_bytes` must be free for one to be made."""
        self._core = core
        self._db = core.db
        self._exporter = exporter
        self._needed_bytes = needed_bytes

    async def tick(self) -> None:
        """Makes what was asked for, and removes what has ended. A crash repeats the one begun."""
        for asked in await exports.making(self._db):
            await self._make(asked)
        for ended in await exports.ended(self._db, now_ms=self._core.clock.now_ms()):
            if ended.by_owner:
                await self._remove(ended)

    async def _make(self, asked: Export) -> None:
        project = await projects.by_id(self._db, asked.project_id)
        if project is None or project.status in (ProjectStatus.DELETING, ProjectStatus.DELETED):
            return await self._remove(asked)
        begun = msgspec.structs.replace(asked, attempts=asked.attempts + 1)
        if begun.attempts > _MAX_ATTEMPTS:
            cut_off = _failed(asked, "it was cut off each time: ask again later")
            return await self._store(cut_off, wallet=project.wallet)
        await self._store(begun, wallet=project.wallet)
        failpoint("export begun")
        try:
            if (why := await self._no_room_for(project)) is not None:
                return await self._store(_failed(begun, why), wallet=project.wallet)
            archive = await self._exporter.make(project, public_key=begun.public_key)
        except (MoorageError, OSError) as error:
            log.warning("export not made", project=project.id, error=str(error))
            if begun.attempts < _MAX_ATTEMPTS and not isinstance(error, DeployFailed):
                return None  # it is tried again
            why = (
                error.message if isinstance(error, MoorageError) else "its files can't be read now"
            )
            return await self._store(_failed(begun, why), wallet=project.wallet)
        made = msgspec.structs.replace(
            begun,
            state=ExportState.READY,
            size_bytes=archive.size_bytes,
            sha256=archive.sha256,
        )
        await self._exporter.files.put(made, archive.path)
        failpoint("export stored")
        return await self._store(made, wallet=project.wallet)

    async def _no_room_for(self, project: Project) -> str | None:
        """Returns why an archive can't be made now, if it can't.

        What owners asked for leaves room for the archives of evictions, which are the last copies,
        and a wallet's leaves room for other wallets'.
        """
        free = await in_thread(self._exporter.files.free_bytes)
        of_all, of_wallet = await exports.held_bytes(self._db, project.wallet)
        room = free + of_all
        if of_wallet > room // _WALLETS_PART:
            return (
                "your exports fill what a wallet may have here; "
                "each goes a day after you asked for it"
            )
        if free < self._needed_bytes or of_all > room // _OWNERS_PART:
            return "the gateway's disk has no room for it now"
        return None

    async def _store(self, export: Export, *, wallet: str) -> None:
        """Stores how far an export of a wallet's project is.

        If it ended meanwhile, because another wallet took the project, its archive is removed.
        """
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, wallet)
            now = await exports.by_token(tx, export.token)
            stands = now is not None and now.until_ms == export.until_ms
            if stands:
                await exports.put(tx, export)
        if not stands:
            await self._exporter.files.remove(export)

    async def _remove(self, export: Export) -> None:
        async with self._db.transaction(durable=True) as tx:
            await exports.remove(tx, export)
        await self._exporter.files.remove(export)


def _failed(export: Export, why: str) -> Export:
    return msgspec.structs.replace(export, state=ExportState.FAILED, reason=why)


def _lacks_volume(archive: Path) -> bool:
    with archive.open("rb") as file:
        return open_archive(file).manifest.part(VOLUME) is None


def _write_lines(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="utf-8", errors="replace") as log:
        log.writelines(f"{line}\n" for line in lines)

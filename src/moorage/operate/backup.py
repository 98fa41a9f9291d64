"""Backs up a gateway, which may be running, and restores a backup."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage import __version__
from moorage.archive.project import Archive
from moorage.backup.archive import (
    FORMAT,
    NAME,
    Manifest,
    ManifestEntry,
    digest_of,
    write_archive,
)
from moorage.backup.staging import Staging
from moorage.clock import Clock, SystemClock, iso_utc
from moorage.core import Core
from moorage.engines.kind import Exports
from moorage.engines.locks import Locks
from moorage.engines.table import engine_kind
from moorage.errors import BackupFailed, BackupInvalid, ConfigurationInvalid, SchemaUnknown
from moorage.gateway.data_directory import KEY_FILE, gateway_id, keys_in, missing_keys
from moorage.gateway.engine_choice import run_directory
from moorage.gateway.platform import instance_id
from moorage.hosting.exports import Exporter, ExportFiles
from moorage.operate.books import require_newest
from moorage.settings import Settings
from moorage.storage.apps import projects
from moorage.storage.migrate import NEWEST_REVISION, require_ours
from moorage.storage.opening import DATABASE, open_database
from moorage.storage.operation import audit_log
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone
from moorage.storage.page_access import end_access
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault

STAGING = ".backup-"
"""What the names of directories begin with that hold a backup's copies."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What was saved or restored."""

    manifest: Manifest
    lost: tuple[str, ...] = ()  # deployments that could not be saved, and are left out
    key_problem: str = ""  # why the key does not open the secrets that were saved
    disk_bytes: int = 0  # what it takes on a disk once it is unpacked; 0 for one restored

    @property
    def apps(self) -> int:
        """How many versions of apps are in it."""
        return sum(
            entry.path.startswith("apps/deployments/") and entry.path.endswith("/disk.img")
            for entry in self.manifest.entries
        )

    @property
    def volumes(self) -> int:
        """How many volumes are in it."""
        return sum(entry.path.startswith("apps/volumes/") for entry in self.manifest.entries)


def back_up(settings: Settings, target: Path, *, with_key: bool) -> Saved:
    """Saves the gateway of these settings into one file; it may be running.

    The key that seals variables is saved if it lies in the data directory; from elsewhere only
    `with_key`. Raises ConfigurationInvalid, BackupFailed, DatabaseUnavailable.
    """
    if target.exists():
        raise BackupFailed(f"{target} exists. Name a file that does not.")
    with staged(settings, with_key=with_key) as (directory, saved):
        names = [entry.path for entry in saved.manifest.entries]
        write_archive(directory, [NAME, *names], target.absolute())
        asyncio.run(note(settings, Upkeep.BACKUP, problem=saved.key_problem))
        return saved


@contextlib.contextmanager
def staged(settings: Settings, *, with_key: bool) -> Iterator[tuple[Path, Saved]]:
    """Copies all that belongs in a backup into a directory for as long, the manifest too.

    Raises as `back_up`.
    """
    data_dir = Path(settings.data_dir)
    clock = SystemClock()
    exports = _check_saving(settings, data_dir, clock)
    with scratch_directory(data_dir, STAGING) as directory:
        staging = Staging(
            data_dir=data_dir,
            database=settings.database,
            exports=exports,
            directory=directory,
            clock=clock,
        )
        with _copying():
            asyncio.run(staging.take())
            problem = _save_key(settings, directory, with_key=with_key)
            names = [str(path) for path in staging.files()]
            manifest = Manifest(
                format=FORMAT,
                version=__version__,
                schema=NEWEST_REVISION,
                created_at=iso_utc(clock.now_ms()),
                data_dir=str(data_dir),
                secrets_key=KEY_FILE in names,
                entries=tuple(_entry(directory, name) for name in names),
                gateway=gateway_id(data_dir),
            )
            (directory / NAME).write_bytes(msgspec.json.encode(manifest))
            saved = Saved(
                manifest=manifest,
                lost=tuple(sorted(staging.lost)),
                key_problem=problem,
                disk_bytes=sum((directory / name).stat().st_blocks * 512 for name in names),
            )
        yield directory, saved


@contextlib.contextmanager
def _copying() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # such as a full disk
        raise BackupFailed(f"The gateway cannot be copied: {error}.") from error


Unpack = Callable[[Path], Manifest]
"""Unpacks a backup into an empty directory. Raises BackupInvalid, BackupFailed."""


def restore(unpack: Unpack, data_dir: Path) -> Saved:
    """Restores a backup into `data_dir`, which must be empty or missing: all of it, or nothing.

    The first start refuses requests that were signed before it. Nobody is signed in to pages, and
    no link opens them, as it may have been revoked since. Raises BackupInvalid, BackupFailed.
    """
    data_dir = data_dir.resolve()
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise BackupFailed(f"{data_dir} is not empty. Name a directory that is, or none.")
    if data_dir.is_mount():
        raise BackupFailed(f"{data_dir} is a mount point. Name a directory below it.")
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        with scratch_directory(data_dir.parent, f".{data_dir.name}.restoring-") as directory:
            manifest = unpack(directory)
            prepare(directory)
            os.sync()
            directory.replace(data_dir)
    except OSError as error:
        raise BackupFailed(f"{data_dir} cannot be put in place: {error.strerror}.") from error
    return Saved(manifest=manifest)


def restore_project(unpack: Unpack, name: str, target: Path, *, public_key: str | None) -> str:
    """Writes an archive of one project of a backup to the new file `target`; returns its SHA-256.

    Variables are sealed to `public_key` (X25519, in hex), if there is one, for who has the
    backup's key. Raises BackupInvalid, BackupFailed, DeployFailed, OSError.
    """
    if target.exists():
        raise BackupFailed(f"{target} exists. Name a file that does not.")
    with scratch_directory(target.parent, f".{target.name}.restoring-") as directory:
        restored = directory / "data"
        restored.mkdir()
        unpack(restored)
        prepare(restored)
        made = asyncio.run(_export_saved(restored, name, public_key))
        made.path.replace(target)
        return made.sha256


async def _export_saved(data_dir: Path, name: str, public_key: str | None) -> Archive:
    clock, db = SystemClock(), open_database(data_dir / DATABASE)
    kind = engine_kind("root")  # the only one whose apps are in backups
    if kind.exports is None:
        raise BackupFailed("A backup has no apps of this engine.")
    key = data_dir / KEY_FILE
    core = Core(
        db=db,
        vault=Vault(keys_in(key) if key.exists() else [os.urandom(KEY_BYTES)]),
        leases=Leases(db=db, holder="restore", clock=clock),
        clock=clock,
        data_dir=data_dir,
    )
    try:
        project = await projects.by_name(db, name)
        if project is None:
            raise BackupFailed(f"The backup has no project {name}.")
        saved = kind.exports(data_dir / "apps", data_dir / "mounts", clock)
        exporter = Exporter(core, saved, ExportFiles(core), volume_locks=Locks())
        return await exporter.make(project, public_key=public_key)
    finally:
        db.close()


def _save_key(settings: Settings, directory: Path, *, with_key: bool) -> str:
    """Leaves the key that is in force beside the copied database, if it is to be there.

    A `secrets.key` that another file has replaced is left out. Returns why the key, wherever it
    is, does not open the secrets that were copied; "" if it does.
    """
    saved = directory / KEY_FILE
    in_force = Path(settings.secrets_key_file or Path(settings.data_dir) / KEY_FILE)
    if in_force != Path(settings.data_dir) / KEY_FILE:
        saved.unlink(missing_ok=True)
        if with_key:
            _copy_key(in_force, saved)
    return key_problem(directory / DATABASE, in_force)


def key_problem(database: Path, key: Path) -> str:
    """Returns why the keys in a file do not open all that a database has sealed; "" if they do."""
    try:
        missing = asyncio.run(_missing_keys(database, key))
    except ConfigurationInvalid as error:
        return str(error)
    if missing:
        return f"{key} is not the key of the saved secrets (missing: {', '.join(missing)})"
    return ""


async def _missing_keys(database: Path, key: Path) -> list[str]:
    db = open_database(database)
    try:
        return await missing_keys(db, key)
    finally:
        db.close()


async def note(settings: Settings, kind: Upkeep, *, problem: str = "", size_bytes: int = 0) -> None:
    """Records that it was done now; or, beside when it was last, why it failed since."""
    db = open_database(settings.database)
    try:
        async with db.transaction(durable=False) as tx:
            done = UpkeepDone(kind=kind, at_ms=SystemClock().now_ms(), size_bytes=size_bytes)
            if problem:
                never = UpkeepDone(kind=kind, at_ms=0)
                last = (await audit_log.last_upkeep(tx)).get(kind, never)
                done = msgspec.structs.replace(last, problem=problem)
            await audit_log.note_upkeep(tx, done)
    finally:
        db.close()


def prepare(directory: Path) -> None:
    """Makes what was unpacked a data directory to start with. Raises BackupInvalid."""
    try:
        require_ours(directory / DATABASE)  # the first start upgrades one of an earlier release
    except SchemaUnknown as error:
        raise BackupInvalid(f"It cannot be restored: {error}") from error
    end_access(directory / DATABASE)
    # This looks as if nonces had been lost: the store then refuses, for a minute, requests that may
    # have been signed before (auth.nonces).
    nonces = directory / "nonces"
    nonces.mkdir(mode=0o700)
    (nonces / "lock").write_text("restored\n")


def _check_saving(settings: Settings, data_dir: Path, clock: Clock) -> Exports:
    """Checks that a backup can be made; returns what exports the apps."""
    require_newest(settings)
    kind = engine_kind(settings.isolation)
    if kind.exports is None:
        raise BackupFailed(
            f"With isolation = {kind.name} apps can't be copied while they run: stop the gateway "
            f"and save all of {data_dir} with a tool that keeps links and owners."
        )
    mounts = run_directory(settings, instance_id(data_dir)) / "apps"
    return kind.exports(data_dir / "apps", mounts, clock)


def _copy_key(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise BackupFailed(f"{source} cannot be read: {error.strerror}.") from error
    target.write_bytes(content)
    target.chmod(0o600)


def _entry(directory: Path, name: str) -> ManifestEntry:
    path = directory / name
    return ManifestEntry(path=name, size=path.stat().st_size, digest=digest_of(path))


@contextlib.contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Makes a directory for a while; removes those that killed commands left, with their secrets.

    Raises OSError.
    """
    for left in parent.iterdir():
        if left.name.startswith(prefix) and (lock := _locked(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    made = Path(tempfile.mkdtemp(dir=parent))
    lock = _locked(made)  # before it has the name by which others find it
    directory = made.rename(parent / f"{prefix}{made.name}")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked(directory: Path) -> int | None:
    """Locks a directory of this user's; returns None when another process holds the lock."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(directory, flags)
    except OSError:  # it is another user's, or gone
        return None
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None

"""Copies everything that belongs in a backup, while the gateway may be running.

The database is copied in one read transaction, each disk while it is frozen for a moment. Apps are
copied after the database that lists them. If one was deleted in between, the database and the apps
that it then lists are copied again.
"""

import fcntl
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from moorage.backup.archive import KEYS
from moorage.clock import Clock
from moorage.engines.disks.disk import copy_image
from moorage.engines.kind import Exports
from moorage.errors import BackupFailed
from moorage.storage import copying
from moorage.storage.migrate import migrate
from moorage.storage.opening import DATABASE, open_database, purpose_of, set_purpose
from moorage.threads import in_thread

_ROUNDS = 5
_APPS = Path("apps", "deployments")
_VOLUMES = Path("apps", "volumes")


@dataclass(kw_only=True)
class Staging:
    """Copies a gateway's data into `directory`, and records what it has copied."""

    data_dir: Path
    database: Path | str  # of the gateway: a file, or a server's
    exports: Exports  # of apps and volumes
    directory: Path  # for the copies; below `data_dir`, so that they can share blocks
    clock: Clock
    copied: set[str] = field(default_factory=set)  # ids of deployments
    lost: set[str] = field(default_factory=set)  # those that have a row but no files

    async def take(self) -> None:
        """Copies everything. Raises BackupFailed, DatabaseUnavailable."""
        try:
            with _alone(self.data_dir), _ended_in_order():
                await self._take()
        except OSError as error:
            raise BackupFailed(f"A copy failed: {error.strerror or error}.") from error

    async def _take(self) -> None:
        for name in KEYS:
            if (self.data_dir / name).is_file():
                copy_image(self.data_dir / name, self.directory / name, clock=self.clock)
        for _ in range(_ROUNDS):
            wanted, volumes = await self._copy_database()
            self.lost = {app for app in wanted if not self._copy_app(app)}
            if not self.lost:
                break
        for app in self.copied - set(wanted):
            shutil.rmtree(self.directory / _APPS / app)
            self.copied.discard(app)
        for volume_id in volumes:
            self.exports.volume(volume_id, self.directory / _VOLUMES / volume_id)

    async def _copy_database(self) -> tuple[Sequence[str], Sequence[str]]:
        """Copies the database; returns the ids of its apps and of its volumes."""
        target = self.directory / DATABASE
        target.unlink(missing_ok=True)
        if isinstance(self.database, Path):
            copying.copy_database(self.database, target)
        else:
            await _copy_from_server(self.database, target)
        db = open_database(target)
        try:
            return await copying.apps(db), await copying.volumes(db)
        finally:
            db.close()

    def _copy_app(self, deployment_id: str) -> bool:
        """Copies a deployment's disk and logs, unless done already; returns False if it is gone."""
        if deployment_id in self.copied:
            return True
        copied = self.exports.app(deployment_id, self.directory / _APPS / deployment_id)
        if copied:
            self.copied.add(deployment_id)
        return copied

    def files(self) -> list[Path]:
        """Returns the paths of all copies, relative to `directory`, sorted."""
        return sorted(path.relative_to(self.directory) for path in _files(self.directory))


async def _copy_from_server(url: str, target: Path) -> None:
    """Makes a database file of a server's, which others may be writing to."""
    if purpose := await in_thread(purpose_of, url):
        set_purpose(target, purpose)
    migrate(target)
    with closing(open_database(url)) as source, closing(open_database(target)) as db:
        async with source.snapshot() as rows, db.transaction(durable=True) as tx:
            await copying.copy(rows, tx, to_server=False)


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Waits until no other backup copies: nobody can freeze a disk that is frozen."""
    lock = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Has a SIGTERM end the process by an exception: a disk that stays frozen hangs its app."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _files(directory: Path) -> Iterator[Path]:
    """Returns every regular file below a directory; follows no link and opens no pipe."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path

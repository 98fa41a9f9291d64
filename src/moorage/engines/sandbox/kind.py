"""The sandbox's entry in the table of engines."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.archive.tree import Tree
from moorage.clock import Clock
from moorage.engines.disks.disk import (
    AppDisk,
    Disk,
    capacity_bytes,
    copy_disk,
    copy_image,
    mount_image,
)
from moorage.engines.disks.trees import copy_files
from moorage.engines.disks.volume import Volume
from moorage.engines.engine import Engine
from moorage.engines.failure import not_built
from moorage.engines.host import probe
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.kind import EngineKind, EngineOptions
from moorage.engines.locks import checked
from moorage.engines.logs.logs import LogReading, Logs
from moorage.engines.sandbox.deployment_directory import Record
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.threads import in_thread

_TRIES = 5
_MADE_ANEW = ("record.json", "status.json", "disk.img")  # of a deployment's files


@dataclass(frozen=True)
class SandboxExports(LogReading):
    """`Exports` of the state and run directories that a `Sandbox` has."""

    state_dir: Path
    run_dir: Path
    clock: Clock

    def app(self, deployment_id: str, target: Path) -> bool:
        """As `Exports.app`."""
        source = self.state_dir / "deployments" / deployment_id
        record = Record.read(source)
        if record is None or not record.is_built:
            return False
        target.mkdir(parents=True)
        disk = Disk(image=source / "disk.img", mount_point=self.run_dir / "disks" / deployment_id)
        try:
            self._copy_disk(disk, target / "disk.img")
        except FileNotFoundError:
            shutil.rmtree(target)
            return False
        self._copy_files(source, target)
        msgspec.structs.replace(record, stage=Stage.BUILT, listener=None).write(target)
        return True

    def volume(self, volume_id: str, target: Path) -> bool:
        """As `Exports.volume`."""
        volume = self._volume(volume_id)
        if not volume.disk.image.exists():
            return False
        target.mkdir(parents=True)
        with volume.alone():
            copy_disk(volume.disk, target / "disk.img", self.clock)
        return True

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """As `ProjectData.export_files`, where no app runs."""
        image = self.state_dir / "deployments" / deployment_id / "disk.img"
        if not image.exists():
            raise not_built("export")
        disk = AppDisk(image=image, mount_point=self.run_dir / "disks" / deployment_id)
        await in_thread(_copy_app, disk, target, without)

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        """As `ProjectData.read_volume`; what an app has written elsewhere is with its files."""
        del written_by
        return await in_thread(self._volume(volume_id).read, target, max_bytes=max_bytes)

    def _logs(self, deployment_id: str) -> Logs:
        directory = self.state_dir / "deployments" / checked(deployment_id)
        return Logs(directory=directory, collecting=None, clock=self.clock)

    def _volume(self, volume_id: str) -> Volume:
        return Volume(
            directory=self.state_dir / "volumes" / volume_id,
            mounts=self.run_dir / "volumes" / volume_id,
        )

    def _copy_files(self, source: Path, target: Path) -> None:
        for path in _files(source):
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the log's oldest segment was deleted
                copy_image(path, copied, clock=self.clock)

    def _copy_disk(self, disk: Disk, target: Path) -> None:
        """Copies a disk that the gateway may mount or unmount meanwhile. Raises OSError."""
        for _ in range(_TRIES):
            was_mounted, changed_ns = disk.mounted, disk.image.stat().st_mtime_ns
            try:
                copy_disk(disk, target, self.clock)
            except OSError:
                if disk.mounted == was_mounted:
                    raise
                continue
            unchanged = not disk.mounted and disk.image.stat().st_mtime_ns == changed_ns
            if was_mounted or unchanged:
                return
        raise OSError(f"{disk.image} is mounted and unmounted all the time")


def _copy_app(disk: AppDisk, target: Path, without: Collection[str]) -> None:
    mount_image(disk.image, disk.mount_point)
    try:
        copy_files(disk.app, target, without=without, max_bytes=capacity_bytes(disk.app))
    finally:
        disk.unmount()


def _files(directory: Path) -> Iterator[Path]:
    """Returns the regular files to copy, such as logs, without hidden ones; follows no link."""
    for parent, below, names in os.walk(directory):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if name.startswith(".") or name in _MADE_ANEW or path.is_symlink():
                continue
            if path.is_file():
                yield path


def _make(configuration: HostConfiguration, options: EngineOptions) -> Engine:
    return Sandbox(
        configuration,
        subnet=options.subnet,
        wallet_cache_bytes=options.wallet_cache_bytes,
        total_cache_bytes=options.total_cache_bytes,
        downloads_bytes=options.downloads_bytes,
    )


KIND = EngineKind(
    name="root",
    capabilities=Sandbox.capabilities,
    run_directory=lambda _data_dir: Path("/run/moorage"),
    missing=probe.missing_here,
    forwards_packets=True,
    make=_make,
    exports=SandboxExports,
)

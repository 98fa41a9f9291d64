"""An engine whose builds and apps are empty files; one small server answers for all of them."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

from moorage.address import Address
from moorage.archive.tree import Tree
from moorage.engines.engine import (
    AppState,
    BuildSpec,
    Capabilities,
    Incident,
    IncidentKind,
    Instance,
    InstanceSpec,
    Keep,
    Lines,
    LogLine,
    LogPage,
    NewVolume,
    Resources,
    Usage,
)
from moorage.engines.failure import volume_lost
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind, LogStream
from support.gateway.fakes import page_of, tree_of


class FileEngine:
    """An `Engine` whose builds and apps are empty files; they outlive the gateway, as apps do."""

    capabilities = Capabilities()

    def __init__(self, directory: Path, socket_path: Path) -> None:
        self._known = directory / "known"
        self._volumes = directory / "volumes"
        self._incidents: asyncio.Queue[Incident] = asyncio.Queue()
        self._notes: dict[str, list[str]] = {}
        self._built = directory / "built"
        self._running = directory / "running"
        self._socket = socket_path

    async def open(self) -> str:
        for directory in (self._known, self._built, self._running, self._volumes):
            directory.mkdir(parents=True, exist_ok=True)
        return "none"

    async def check(self) -> None:
        return

    async def close(self, *, stop_apps: bool) -> None:
        return

    async def build(self, spec: BuildSpec) -> None:
        self._make(spec.deployment_id)

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        if not (self._built / deployment_id).exists():
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to move")
        target.mkdir()

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        if not (self._built / origin_id).exists():
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to copy")
        self._make(deployment_id)

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        if not (self._built / spec.deployment_id).exists():
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to start")
        if spec.volume is not None:
            if not spec.makes_volume and spec.volume not in await self.volumes():
                lost = Incident(spec.deployment_id, IncidentKind.VOLUME_LOST)
                self._incidents.put_nowait(lost)
                raise volume_lost()
            (self._volumes / spec.volume).touch()
        (self._running / spec.deployment_id).touch()
        return self._instance(spec.deployment_id)

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        (self._running / deployment_id).unlink(missing_ok=True)
        if keep is not Keep.ALL:
            (self._built / deployment_id).unlink(missing_ok=True)
        if keep is Keep.NOTHING:
            (self._known / deployment_id).unlink(missing_ok=True)
            self._notes.pop(deployment_id, None)

    async def volumes(self) -> set[str]:
        return {path.name for path in self._volumes.iterdir()}

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        return tree_of("", target)

    async def write_volume(self, volume: NewVolume, tree: Tree) -> None:
        (self._volumes / volume.volume_id).touch()

    async def delete_volume(self, volume_id: str, *, unless_used: bool = False) -> None:
        if not unless_used:
            (self._volumes / volume_id).unlink(missing_ok=True)

    async def connections(self, deployment_id: str) -> int:
        return 0

    async def usage(self) -> dict[str, Usage]:
        return {}

    async def next_incident(self) -> Incident:
        return await self._incidents.get()

    async def written(self, deployment_id: str) -> None:
        return None

    async def resources(self) -> Resources:
        return Resources(memory_bytes=1 << 50, free_bytes=1 << 40)

    async def running(self) -> dict[str, Instance]:
        return {path.name: self._instance(path.name) for path in self._running.iterdir()}

    async def inspect(self, deployment_id: str) -> AppState:
        return AppState(instance=(await self.running()).get(deployment_id))

    async def known(self) -> set[str]:
        return {path.name for path in self._known.iterdir()}

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        noted = self._notes.get(deployment_id, []) if kind is LogKind.RUNTIME else []
        return page_of([LogLine(0, LogStream.GATEWAY, text, 0) for text in noted], lines)

    async def note(self, deployment_id: str, text: str, *, log: LogKind = LogKind.RUNTIME) -> None:
        if (self._known / deployment_id).exists():
            self._notes.setdefault(deployment_id, []).append(text)

    def _make(self, deployment_id: str) -> None:
        for directory in (self._known, self._built):
            (directory / deployment_id).touch()

    def _instance(self, deployment_id: str) -> Instance:
        return Instance(deployment_id=deployment_id, address=Address.unix(self._socket), port=3000)

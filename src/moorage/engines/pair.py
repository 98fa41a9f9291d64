"""Two engines at once: the gateway's own, and the one that its projects are leaving.

Whatever concerns a deployment goes to the engine that has it, which each engine knows from its own
files. So a gateway that stops, or crashes, between two projects continues from where it was.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from moorage.archive.tree import Tree
from moorage.engines.engine import (
    AppState,
    BuildSpec,
    Capabilities,
    Engine,
    Incident,
    Instance,
    InstanceSpec,
    Keep,
    Lines,
    LogPage,
    NewVolume,
    Resources,
    Usage,
    WrittenFiles,
)
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.records.deployment import LogKind


class EnginePair:
    """An `Engine` that builds with `own`, and keeps what is there on `leaving`."""

    def __init__(self, *, own: Engine, leaving: Engine, shares_volumes: bool) -> None:
        """`shares_volumes` is whether both have the same volumes."""
        self.own = own
        self.leaving = leaving
        self.shares_volumes = shares_volumes
        self._closed: dict[str, Engine] = {}  # by volume: where no app with it is started
        self._waiting: dict[asyncio.Future[Incident], Engine] = {}

    @property
    def capabilities(self) -> Capabilities:
        """As `Engine.capabilities`: those of the engine on which uploads are built.

        `owners_apart` if either is.
        """
        own, leaving = self.own.capabilities, self.leaving.capabilities
        return replace(own, owners_apart=own.owners_apart or leaving.owners_apart)

    async def open(self) -> str:
        """As `Engine.open`: opens both, or neither."""
        left = await self.leaving.open()
        try:
            own = await self.own.open()
        except BaseException:
            await self.leaving.close(stop_apps=False)
            raise
        return f"{own}; projects leave {left}"

    async def close(self, *, stop_apps: bool) -> None:
        """As `Engine.close`; of the engine that is left, nothing stays if no app runs on it."""
        for future in self._waiting:
            future.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        self._waiting.clear()
        try:
            if stop_apps:  # whichever mounts the volumes of both can unmount them then
                await asyncio.gather(*map(self.leaving.stop, await self.leaving.running()))
            await self.own.close(stop_apps=stop_apps)
        finally:
            await self.leaving.close(stop_apps=stop_apps or not await self.leaving.running())

    async def check(self) -> None:
        """As `Engine.check`."""
        await self.own.check()
        await self.leaving.check()

    async def build(self, spec: BuildSpec) -> None:
        """As `Engine.build`, on the gateway's own engine."""
        await self.own.build(spec)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Engine.copy`, on the engine that has the origin."""
        await (await self.engine_of(origin_id)).copy(origin_id, deployment_id)

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """As `Engine.export_files`."""
        await (await self.engine_of(deployment_id)).export_files(
            deployment_id, target, without=without
        )

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Engine.start`. Raises DeployFailed for a volume that the other engine alone has."""
        engine = await self.engine_of(spec.deployment_id)
        if spec.volume is not None and not self.shares_volumes:
            await self._refuse_left_volume(engine, spec.volume)
            if self._closed.get(spec.volume) is engine:  # nothing is awaited from here on
                raise _on_the_other_engine()
        return await engine.start(spec, timeout_seconds=timeout_seconds)

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        """As `Engine.stop`."""
        await (await self.engine_of(deployment_id)).stop(deployment_id, keep=keep)

    async def volumes(self) -> set[str]:
        """As `Engine.volumes`."""
        return await self.own.volumes() | await self.leaving.volumes()

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        """As `Engine.read_volume`. Raises ClusterUnavailable while it moves."""
        if written_by:
            engine = await self.engine_of(written_by)
        else:
            found = await self._with_volume(volume_id)
            if len(found) > 1:
                raise ClusterUnavailable("What a move has left of it is to be removed first.")
            engine = (*found, self.own)[0]
        return await engine.read_volume(
            volume_id, target, max_bytes=max_bytes, written_by=written_by
        )

    async def write_volume(self, volume: NewVolume, tree: Tree) -> None:
        """As `Engine.write_volume`, on the engine that has the deployment."""
        await (await self.engine_of(volume.deployment_id)).write_volume(volume, tree)

    async def delete_volume(self, volume_id: str, *, unless_used: bool = False) -> None:
        """As `Engine.delete_volume`."""
        for engine in await self._with_volume(volume_id):
            await engine.delete_volume(volume_id, unless_used=unless_used)

    async def running(self) -> dict[str, Instance]:
        """As `Engine.running`."""
        return await self.leaving.running() | await self.own.running()

    async def inspect(self, deployment_id: str) -> AppState:
        """As `Engine.inspect`."""
        return await (await self.engine_of(deployment_id)).inspect(deployment_id)

    async def next_incident(self) -> Incident:
        """As `Engine.next_incident`; what comes meanwhile is returned by the next call."""
        for engine in (self.own, self.leaving):
            if engine not in self._waiting.values():
                self._waiting[asyncio.ensure_future(engine.next_incident())] = engine
        done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
        first = done.pop()
        del self._waiting[first]
        return first.result()

    async def connections(self, deployment_id: str) -> int | None:
        """As `Engine.connections`."""
        return await (await self.engine_of(deployment_id)).connections(deployment_id)

    async def usage(self) -> dict[str, Usage]:
        """As `Engine.usage`."""
        return await self.leaving.usage() | await self.own.usage()

    async def note(self, deployment_id: str, text: str, *, log: LogKind = LogKind.RUNTIME) -> None:
        """As `Engine.note`."""
        await (await self.engine_of(deployment_id)).note(deployment_id, text, log=log)

    async def resources(self) -> Resources:
        """As `Engine.resources`: of one machine; a volume that both see counts once."""
        own, left = await self.own.resources(), await self.leaving.resources()
        return replace(
            own,
            free_bytes=min(own.free_bytes, left.free_bytes),
            growth={**left.growth, **own.growth},
            volume_growth={**left.volume_growth, **own.volume_growth},
            held=own.held | left.held,
        )

    async def known(self) -> set[str]:
        """As `Engine.known`."""
        return await self.own.known() | await self.leaving.known()

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        """As `Engine.written`."""
        return await (await self.engine_of(deployment_id)).written(deployment_id)

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        """As `Engine.read_log`."""
        return await (await self.engine_of(deployment_id)).read_log(deployment_id, kind, **lines)

    @contextmanager
    def closed(self, volume_id: str, on: Engine) -> Iterator[None]:
        """Within the block, no app with this volume is started on an engine."""
        self._closed[volume_id] = on
        try:
            yield
        finally:
            del self._closed[volume_id]

    async def engine_of(self, deployment_id: str) -> Engine:
        """Returns the engine that has a deployment; the gateway's own for an unknown one."""
        return self.leaving if deployment_id in await self.leaving.known() else self.own

    def other(self, engine: Engine) -> Engine:
        """Returns the other one of the two."""
        return self.leaving if engine is self.own else self.own

    async def _refuse_left_volume(self, engine: Engine, volume: str) -> None:
        """An empty one would be made in place of what the other engine has."""
        if volume not in await engine.volumes() and volume in await self.other(engine).volumes():
            raise _on_the_other_engine()

    async def _with_volume(self, volume_id: str) -> list[Engine]:
        """Returns the engines that have a volume; one of them, where both see the same files."""
        found = [it for it in (self.own, self.leaving) if volume_id in await it.volumes()]
        return found[:1] if self.shares_volumes else found


def _on_the_other_engine() -> DeployFailed:
    return DeployFailed(
        FailureCause.INTERRUPTED,
        "The app's volume is on another engine: its project moves there, or has moved.",
    )

"""Two engines at once: the gateway's own, and the one that its projects are leaving.

Whatever concerns a deployment goes to the engine that has it, which each engine knows from its own
files. So a gateway that stops, or crashes, between two projects goes on from where it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from moorage.archive.tree import Tree
from moorage.engines.engine import (
    AppExit,
    BuildSpec,
    Capabilities,
    Cursor,
    Disks,
    Engine,
    Incident,
    Instance,
    InstanceSpec,
    LogPage,
    NewVolume,
    Usage,
    WrittenFiles,
)
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.records.deployment import LogKind

T = TypeVar("T")


class EnginePair:
    """An `Engine` that builds with `own`, and keeps what is there on `leaving`."""

    def __init__(self, *, own: Engine, leaving: Engine, shares_volumes: bool) -> None:
        """`shares_volumes` is whether both have the same volumes."""
        self.own = own
        self.leaving = leaving
        self.shares_volumes = shares_volumes
        self._closed: dict[str, Engine] = {}  # by volume: where no app with it is started
        self._exits = _Either(own.next_exit, leaving.next_exit)
        self._incidents = _Either(own.next_incident, leaving.next_incident)

    @property
    def capabilities(self) -> Capabilities:
        """As `EngineView.capabilities`: those of the engine on which uploads are built."""
        return self.own.capabilities

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
        await self._exits.close()
        await self._incidents.close()
        try:
            if stop_apps:  # whichever mounts the volumes of both can unmount them then
                await asyncio.gather(*map(self.leaving.stop, await self.leaving.running()))
            await self.own.close(stop_apps=stop_apps)
        finally:
            await self.leaving.close(stop_apps=stop_apps or not await self.leaving.running())

    async def check(self) -> None:
        """As `EngineView.check`."""
        await self.own.check()
        await self.leaving.check()

    async def confine(self, service: str, pid: int, *, memory_bytes: int) -> bool:
        """As `Engine.confine`."""
        return await self.own.confine(service, pid, memory_bytes=memory_bytes)

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

    async def stop(self, deployment_id: str) -> None:
        """As `Engine.stop`."""
        await (await self.engine_of(deployment_id)).stop(deployment_id)

    async def discard(self, deployment_id: str) -> None:
        """As `Engine.discard`."""
        await (await self.engine_of(deployment_id)).discard(deployment_id)

    async def remove(self, deployment_id: str) -> None:
        """As `Engine.remove`."""
        await (await self.engine_of(deployment_id)).remove(deployment_id)

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

    async def instance(self, deployment_id: str) -> Instance | None:
        """As `Engine.instance`."""
        return await (await self.engine_of(deployment_id)).instance(deployment_id)

    async def next_exit(self) -> str:
        """As `Engine.next_exit`."""
        return await self._exits.next()

    async def next_incident(self) -> Incident:
        """As `Engine.next_incident`."""
        return await self._incidents.next()

    async def connections(self, deployment_id: str) -> int | None:
        """As `Engine.connections`."""
        return await (await self.engine_of(deployment_id)).connections(deployment_id)

    async def usage(self) -> dict[str, Usage]:
        """As `Engine.usage`."""
        return await self.leaving.usage() | await self.own.usage()

    async def exit_reason(self, deployment_id: str) -> AppExit | None:
        """As `Engine.exit_reason`."""
        return await (await self.engine_of(deployment_id)).exit_reason(deployment_id)

    async def note(self, deployment_id: str, text: str) -> None:
        """As `Engine.note`."""
        await (await self.engine_of(deployment_id)).note(deployment_id, text)

    def memory_bytes(self) -> int:
        """As `EngineView.memory_bytes`: that of the gateway's own, as both share the machine."""
        return self.own.memory_bytes()

    async def disks(self) -> Disks:
        """As `EngineView.disks`: what both have; a volume that both see counts once."""
        own, left = await self.own.disks(), await self.leaving.disks()
        return replace(
            own,
            free_bytes=min(own.free_bytes, left.free_bytes),
            growth={**left.growth, **own.growth},
            volume_growth={**left.volume_growth, **own.volume_growth},
            held=own.held | left.held,
        )

    async def free_networks(self) -> int | None:
        """As `EngineView.free_networks`: for apps that are built from now on."""
        return await self.own.free_networks()

    async def known(self) -> set[str]:
        """As `EngineView.known`."""
        return await self.own.known() | await self.leaving.known()

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        """As `EngineView.written`."""
        return await (await self.engine_of(deployment_id)).written(deployment_id)

    async def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        """As `EngineView.log_tail`."""
        engine = await self.engine_of(deployment_id)
        return await engine.log_tail(deployment_id, kind, max_bytes=max_bytes)

    async def read_log(
        self,
        deployment_id: str,
        kind: LogKind,
        *,
        after: Cursor = 0,
        since_ms: int = 0,
        tail: int | None = None,
        limit: int = 10_000,
    ) -> LogPage:
        """As `EngineView.read_log`."""
        engine = await self.engine_of(deployment_id)
        return await engine.read_log(
            deployment_id, kind, after=after, since_ms=since_ms, tail=tail, limit=limit
        )

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


class _Either(Generic[T]):
    """Waits for what one of two sources tells next, and loses nothing of the other."""

    def __init__(self, *sources: Callable[[], Awaitable[T]]) -> None:
        self._sources = sources
        self._waiting: dict[asyncio.Future[T], Callable[[], Awaitable[T]]] = {}

    async def next(self) -> T:
        """Returns what comes first. What comes meanwhile is returned by the next call."""
        waited = set(self._waiting.values())
        for source in self._sources:
            if source not in waited:
                self._waiting[asyncio.ensure_future(source())] = source
        done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
        first = done.pop()
        del self._waiting[first]
        return first.result()

    async def close(self) -> None:
        """Ends the waiting."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

"""Volumes that are filled while no app uses them.

One goes from an engine to another that does not have the same volumes; one that a project is given
begins with what its app has written.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.carried import NewVolume, VolumeContent
from moorage.engines.engine import Engine
from moorage.engines.failure import not_carried
from moorage.engines.pair import EnginePair
from moorage.failpoints import failpoint
from moorage.threads import in_thread


@dataclass(frozen=True, kw_only=True)
class Way:
    """From where a volume's content goes, and where to."""

    before: Engine
    after: Engine
    content: VolumeContent  # as it was when the way was found
    written_by: str = ""  # the deployment whose app has written it; "": it is the volume's own
    is_measured: bool = True  # else there is more of it, up to the volume's size

    @property
    def is_apart(self) -> bool:
        """Whether it goes to another engine."""
        return self.before is not self.after


class VolumeCopies:
    """Fills volumes. Which of two copies counts, only its caller knows."""

    def __init__(self, engine: Engine, scratch: Path, *, reserve_bytes: int = 0) -> None:
        """`scratch` is a directory for archives that are under way; it need not exist.

        `reserve_bytes` of its disk are not for archives.
        """
        self._engine = engine
        self._pair = engine if isinstance(engine, EnginePair) else None
        self._apart = None if self._pair is None or self._pair.shares_volumes else self._pair
        self._scratch = scratch
        self._reserve_bytes = reserve_bytes
        self._under_way: dict[str, int] = {}  # how large an archive may become, by volume

    async def way(self, volume_id: str, *, serving: str, following: str) -> Way | None:
        """Returns the way that a volume has to go from one deployment of a project to the next.

        None if both are on one engine, or the one that serves has no volume yet.
        """
        if self._apart is None:
            return None
        before = await self._apart.engine_of(serving)
        after = await self._apart.engine_of(following)
        if before is after or volume_id not in await before.volumes():
            return None
        content = await before.volume_content(volume_id)
        return Way(before=before, after=after, content=content) if content.files else None

    async def beginning(self, *, serving: str, following: str) -> Way | None:
        """Returns the way of what the app that serves has written into the volume of the next.

        None if its engine keeps nothing that an app writes.
        """
        before, after = self._engine, self._engine
        if self._pair is not None:
            before = await self._pair.engine_of(serving)
            after = await self._pair.engine_of(following)
        if not before.capabilities.written_files:
            return None
        written = await before.written(serving)
        size, files = (0, 0) if written is None else (written.size_bytes, written.files)
        content = VolumeContent(size_bytes=size, files=files)
        return Way(
            before=before,
            after=after,
            content=content,
            written_by=serving,
            is_measured=written is not None and written.complete,
        )

    async def prepare(self, volume: NewVolume, way: Way) -> None:
        """Makes the new volume, while an app uses the old one. Raises DeployFailed, OSError."""
        await way.after.prepare_volume(volume, way.content)
        await in_thread(self._require_room, _archive_bytes(volume, way))

    @contextmanager
    def closed(self, volume: NewVolume, way: Way) -> Iterator[None]:
        """Within the block, no app is started where the volume comes from.

        Its archive has the room that `prepare` has found.
        """
        volume_id = volume.volume_id
        self._under_way[volume_id] = _archive_bytes(volume, way)
        try:
            if self._apart is None:
                yield
                return
            with self._apart.closed(volume_id, way.before):
                yield
        finally:
            del self._under_way[volume_id]

    async def carry(self, volume: NewVolume, way: Way) -> None:
        """Copies the content, which nothing uses. Raises DeployFailed, OSError."""
        directory = self._scratch / volume.volume_id
        try:
            await in_thread(_make_anew, directory)
            pack = way.before.pack_written if way.written_by else way.before.pack_volume
            archive = await pack(
                way.written_by or volume.volume_id,
                directory / "archive",
                max_bytes=volume.size_bytes,
            )
            failpoint("volume packed")
            await way.after.fill_volume(volume, archive)
        finally:
            await self.discard_archive(volume.volume_id)

    async def archives(self) -> set[str]:
        """Returns the volumes of which an archive is on the disk, also of a move that was cut off.

        Raises OSError.
        """
        return await in_thread(self._archives)

    async def discard_archive(self, volume_id: str) -> None:
        """Removes the archive of a volume."""
        await in_thread(shutil.rmtree, self._scratch / volume_id, ignore_errors=True)

    async def on_both(self) -> set[str]:
        """Returns the volumes that both engines have."""
        if self._apart is None:
            return set()
        return await self._apart.own.volumes() & await self._apart.leaving.volumes()

    async def keep_beside(self, volume_id: str, serving: str) -> None:
        """Removes a volume from the engine that does not have what serves, if that one has it."""
        if self._apart is None:
            return
        engine = await self._apart.engine_of(serving)
        other = self._apart.other(engine)
        if serving not in await engine.known() or volume_id not in await engine.volumes():
            return
        if volume_id in await other.volumes():
            await other.remove_volume(volume_id)

    async def forget(self, volume_id: str, *, beside: str) -> None:
        """Removes a volume from the engine that does not have a deployment."""
        if self._apart is None:
            return
        other = self._apart.other(await self._apart.engine_of(beside))
        if volume_id in await other.volumes():
            await other.remove_volume(volume_id)

    def _archives(self) -> set[str]:
        return {it.name for it in self._scratch.iterdir()} if self._scratch.is_dir() else set()

    def _require_room(self, archive_bytes: int) -> None:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        needed = archive_bytes + sum(self._under_way.values()) + self._reserve_bytes
        if needed > shutil.disk_usage(self._scratch).free:
            raise not_carried("the gateway's disk has no room for an archive of it")


def _archive_bytes(volume: NewVolume, way: Way) -> int:
    """Returns how large the archive may become."""
    return way.content.size_bytes if way.is_measured else volume.size_bytes


def _make_anew(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)  # of an attempt that was cut off
    directory.mkdir(mode=0o700, parents=True)

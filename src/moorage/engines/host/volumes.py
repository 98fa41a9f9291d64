"""The part of an `Engine` that has volumes on this machine's disk."""

from abc import ABC, abstractmethod
from pathlib import Path

from moorage.engines.carried import NewVolume, VolumeArchive, VolumeContent
from moorage.engines.disks.volume import Volume
from moorage.engines.disks.volumes import Volumes
from moorage.engines.locks import checked
from moorage.threads import in_thread


class VolumesHere(ABC):
    """Volumes that are disks in files."""

    @property
    @abstractmethod
    def _volumes(self) -> Volumes:
        """All of them."""

    async def volumes(self) -> set[str]:
        """As `Engine.volumes`."""
        return self._volumes.ids()

    async def export_volume(self, volume_id: str, target: Path) -> None:
        """As `Engine.export_volume`."""
        await in_thread(self._volume(volume_id).export, target)

    async def volume_content(self, volume_id: str) -> VolumeContent:
        """As `Engine.volume_content`."""
        return await in_thread(self._volume(volume_id).content)

    async def pack_volume(self, volume_id: str, target: Path, *, max_bytes: int) -> VolumeArchive:
        """As `Engine.pack_volume`."""
        return await in_thread(self._volume(volume_id).pack, target, max_bytes=max_bytes)

    async def prepare_volume(self, volume: NewVolume, needed: VolumeContent) -> None:
        """As `Engine.prepare_volume`."""
        await in_thread(self._volume(volume.volume_id).prepare, volume.size_bytes, needed)

    async def fill_volume(self, volume: NewVolume, archive: VolumeArchive) -> None:
        """As `Engine.fill_volume`."""
        await in_thread(self._volume(volume.volume_id).fill, archive)

    async def clear_volume(self, volume_id: str) -> None:
        """As `Engine.clear_volume`."""
        await in_thread(self._volume(volume_id).clear)

    async def remove_volume(self, volume_id: str) -> None:
        """As `Engine.remove_volume`."""
        await in_thread(self._volume(volume_id).remove)

    def _volume(self, volume_id: str) -> Volume:
        return self._volumes.volume(checked(volume_id))

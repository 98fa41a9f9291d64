"""The volumes of all apps of a gateway. Methods block."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.disks.disk import growths
from moorage.engines.disks.volume import Volume


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """`directory` has the images, `mounts` the mounted disks and the apps' views of them."""

    directory: Path
    mounts: Path

    def open(self) -> None:
        """Makes the directories; apps' users must be able to pass the one with the mounts."""
        self.mounts.mkdir(exist_ok=True, mode=0o711)
        self.directory.mkdir(exist_ok=True, mode=0o700)

    def volume(self, volume_id: str) -> Volume:
        """Returns a volume, which need not exist."""
        return Volume(directory=self.directory / volume_id, mounts=self.mounts / volume_id)

    def ids(self) -> set[str]:
        """Returns the ids of all volumes of which anything is on this machine."""
        return {path.name for path in self.directory.iterdir()}

    def mounted(self) -> Iterator[Volume]:
        """Returns the volumes that are mounted."""
        return (self.volume(mounts.name) for mounts in self.mounts.iterdir())

    def growth(self) -> dict[str, int]:
        """Returns how many bytes each volume can still grow."""
        return growths(self.directory)

    def hide(self, deployment_id: str) -> None:
        """Unmounts a deployment's views of volumes."""
        for volume in self.mounted():
            if (volume.mounts / deployment_id).is_dir():
                volume.hide(deployment_id)

    def sweep(self, kept: Set[str]) -> None:
        """Unmounts the views of all but the kept deployments, and disks without a view."""
        for volume in self.mounted():
            for deployment_id in volume.users() - kept:
                volume.hide(deployment_id)
            if not volume.users():  # a crash happened between its mount and the view's
                volume.close()

"""The volumes of all apps of a gateway. Methods block."""

import contextlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.disks.disk import growths
from moorage.engines.disks.volume import Volume
from moorage.engines.host.configuration import FOLDERS, HostConfiguration


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """`directory` has the images, `mounts` the mounted disks and the apps' views of them."""

    directory: Path
    mounts: Path

    @classmethod
    def of(cls, configuration: HostConfiguration) -> "Volumes":
        """Returns the volumes of a gateway, which all its engines on this machine share."""
        return cls(
            directory=configuration.state_dir / "volumes",
            mounts=configuration.volume_mounts or configuration.run_dir / "volumes",
        )

    def open(self) -> None:
        """Makes the directories; apps' users must be able to pass the one with the mounts."""
        self.mounts.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
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

    def close(self) -> None:
        """Removes the directory with the mounts, unless another engine has some there."""
        with contextlib.suppress(OSError):
            self.mounts.rmdir()

    def sweep(self, kept: Set[str]) -> None:
        """Unmounts the views of all but the kept deployments, and disks without a view.

        What any engine of the gateway has is kept, as that one removes it itself.
        """
        beside = self.directory.parent
        for folder in FOLDERS:
            with contextlib.suppress(FileNotFoundError):
                kept = kept | {path.name for path in (beside / folder).iterdir()}
        for volume in self.mounted():
            for deployment_id in volume.users() - kept:
                volume.hide(deployment_id)
            if not volume.users():  # a crash happened between its mount and the view's
                volume.close()

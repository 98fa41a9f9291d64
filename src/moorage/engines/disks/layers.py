"""Layers: copies of disks after an install, for later builds with the same install.

A layer is the image of a disk without the source's files, found by the install's key. Blocking;
call from a thread.
"""

import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.disks import copying, trees
from moorage.engines.disks.caches import Caches
from moorage.engines.disks.disk import AppDisk, is_clean, mount_image
from moorage.engines.engine import BuildSpec
from moorage.engines.installs import install_key, may_be_kept

_RELEASE = Path("/etc/os-release")
_PROGRAMS = (Path("/usr/bin"), Path("/usr/local/bin"))  # their mtime changes with each install

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer, which need not exist. `draft` is the disk on which a build makes it."""

    caches: Caches
    image: Path
    draft: AppDisk

    def fill(self, disk: AppDisk, uid: int, source: Path) -> bool:
        """Makes a disk from the layer and `source`; returns False if there is no usable layer.

        Removes a layer that is damaged, or has an entry where the source has a file. Raises
        NotAFile.
        """
        if not self.image.exists():
            return False
        try:
            self.caches.use(self.image)
            if not is_clean(self.image):
                raise OSError(f"{self.image} is damaged")
            copying.copy_image(self.image, disk.image, clock=self.caches.clock)
            disk.mount(uid)
            disk.make_tmp(uid)
            trees.copy_tree(source, disk.app, uid=uid)
        except OSError as error:
            logger.warning("a layer can't be used and is thrown away: %s", error)
            self.image.unlink(missing_ok=True)
            return False
        return True

    def keep(self, disk: AppDisk, uid: int, source: Path) -> None:
        """Makes the layer from a disk on which the install of `source` has just ended.

        A failure loses the layer, but not the build. Raises OSError if the disk is lost.
        """
        try:
            if self._copy(disk, uid):
                self._strip(source)
                self.draft.image.rename(self.image)
                self.caches.use(self.image)
        except OSError as error:
            if not disk.mounted:
                raise
            logger.warning("no layer is kept: %s", error)
        finally:
            self.draft.remove()
        self.caches.collect()

    def _copy(self, disk: AppDisk, uid: int) -> bool:
        """Copies the disk while it is unmounted; returns False if something still uses it."""
        released = disk.release()
        try:
            if released:
                copying.copy_image(disk.image, self.draft.image, clock=self.caches.clock)
        finally:
            disk.mount(uid)
        return released

    def _strip(self, source: Path) -> None:
        mount_image(self.draft.image, self.draft.mount_point)
        trees.subtract_tree(source, self.draft.app)
        self.draft.clear_build_leftovers()
        if not self.draft.release():
            raise OSError("the layer is in use while it is made")
        _flush(self.draft.image)


def layer_for(
    caches: Caches, spec: BuildSpec, *, mount_points: Path, build_env: dict[str, str]
) -> Layer | None:
    """Returns the layer that this build's install would make; None if none may be kept."""
    directory = caches.of(spec.owner)
    if directory is None or not may_be_kept(spec):
        return None
    name = f"{spec.deployment_id}.draft"
    draft = AppDisk(image=directory / name, mount_point=mount_points / name)
    key = layer_key(spec, build_env)
    return Layer(caches=caches, image=directory / f"{key}.img", draft=draft)


def layer_key(spec: BuildSpec, build_env: dict[str, str]) -> str:
    """Returns what a layer of this machine goes by; blocks."""
    return install_key(spec, build_env, _machine())


def _machine() -> tuple[str, ...]:
    """Returns what identifies the machine's programs, and changes when they are updated."""
    changed = (str(path.stat().st_mtime_ns) for path in _PROGRAMS if path.is_dir())
    release = _RELEASE.read_text() if _RELEASE.exists() else ""
    return (platform.machine(), release, *changed)


def _flush(image: Path) -> None:
    """Writes the image to disk, so that a crash of the machine leaves no named, empty layer."""
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

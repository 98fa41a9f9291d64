"""Layers: disks as an install left them, for later builds whose install would make the same.

A layer is the image of a disk without the source's files. Its key covers all that an install may
depend on, as far as the plan names the files it reads; a plan that names none has no layers.
Blocking; call from a thread.
"""

import hashlib
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.engines.disks import copying, trees
from moorage.engines.disks.caches import Caches
from moorage.engines.disks.disk import AppDisk, is_clean, mount_image
from moorage.engines.engine import BuildSpec

_FORMAT = 1  # with another number no layer of before is used
_RELEASE = Path("/etc/os-release")
_PROGRAMS = (Path("/usr/bin"), Path("/usr/local/bin"))  # changed when one is installed or replaced

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer, whether or not it was made. `draft` is what a build makes of it."""

    caches: Caches
    image: Path
    draft: AppDisk

    def fill(self, disk: AppDisk, uid: int, source: Path) -> bool:
        """Make a disk of the layer and `source`; False when there is no layer that can be used.

        A layer that is damaged, or has something where the source has a file, is thrown away.
        Raises NotAFile.
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
        """Make the layer of a disk on which the install of `source` has just ended.

        What goes wrong costs the layer and not the build. Raises OSError when the disk is lost.
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
        """Copy the disk while it is not mounted, and so whole; False when somebody holds it."""
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
    """The layer that this build's install would make; None when none may be kept."""
    directory = caches.of(spec.owner)
    if directory is None or spec.plan.install is None or not spec.plan.install_inputs:
        return None
    name = f"{spec.deployment_id}.draft"
    draft = AppDisk(image=directory / name, mount_point=mount_points / name)
    key = layer_key(spec, build_env)
    return Layer(caches=caches, image=directory / f"{key}.img", draft=draft)


def layer_key(spec: BuildSpec, build_env: dict[str, str]) -> str:
    """SHA-256, hex, over all that may change what the install makes."""
    plan = spec.plan
    digest = hashlib.sha256(
        msgspec.json.encode(
            (
                *(_FORMAT, _machine(), spec.owner, spec.limits.disk_bytes),
                *(plan.install, plan.directory, plan.toolchains),
                *(build_env, plan.build_env, dict(spec.variables)),
            ),
            order="deterministic",
        )
    )
    for name in sorted(plan.install_inputs):
        path = spec.source / name
        content = path.read_bytes() if path.is_file() else None
        digest.update(msgspec.json.encode((name, content)))
    return digest.hexdigest()


def _machine() -> tuple[str, ...]:
    """What tells this machine's programs from others', and from its own of another day."""
    changed = (str(path.stat().st_mtime_ns) for path in _PROGRAMS if path.is_dir())
    release = _RELEASE.read_text() if _RELEASE.exists() else ""
    return (platform.machine(), release, *changed)


def _flush(image: Path) -> None:
    """So that a crash of the machine leaves no layer with a name and without its content."""
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What builds keep for later ones of the same wallet: downloads, and layers of installs."""

import contextlib
import hashlib
import logging
import os
import platform
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.clock import Clock
from moorage.engines.disks import trees
from moorage.engines.disks.disk import (
    DOWNLOADS_IMAGE,
    AppDisk,
    Disk,
    DiskTemplates,
    copy_image,
    is_clean,
    make_owned,
    mount_image,
    taken_bytes,
)
from moorage.engines.engine import BuildSpec
from moorage.threads import in_thread

UNCHANGED = "dependencies unchanged: install skipped"
"""The line in the log of a build whose install is not run."""

_FORMAT = 1  # a change makes all that is kept unused


def may_be_kept(spec: BuildSpec) -> bool:
    """Returns whether a build's install can be distinguished from others by what it reads."""
    plan = spec.plan
    return bool(spec.owner) and plan.install is not None and bool(plan.install_inputs)


def install_key(spec: BuildSpec, build_env: Mapping[str, str], made_on: Sequence[str]) -> str:
    """Returns the SHA-256, in hex, of everything that may change the install's result.

    `made_on` is what identifies the programs that there are for it. Reads the files; blocks.
    """
    plan = spec.plan
    known = msgspec.json.encode(
        (
            *(_FORMAT, tuple(made_on), spec.owner, spec.limits.disk_bytes),
            *(plan.install, plan.directory, plan.toolchains),
            *(dict(build_env), plan.build_env, dict(spec.variables), spec.inputs_sha256()),
        ),
        order="deterministic",
    )
    return hashlib.sha256(known).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Caches:
    """The caches of all wallets. The limits are on the disk space that the files really take."""

    directory: Path
    wallet_bytes: int
    total_bytes: int
    clock: Clock

    def of(self, owner: str) -> Path | None:
        """Returns a wallet's directory, after making it if needed; None if nothing may be kept."""
        if not owner or not self.wallet_bytes:
            return None
        directory = self.directory / hashlib.sha256(owner.encode()).hexdigest()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return directory

    def use(self, file: Path) -> None:
        """Marks a file as used now."""
        now_ns = self.clock.now_ms() * 1_000_000
        os.utime(file, ns=(now_ns, now_ns))

    def sweep(self) -> None:
        """Removes unfinished files of a crash, and empty directories."""
        for draft in self.directory.glob("*/*.draft"):
            draft.unlink()
        for directory in self.directory.glob("*"):
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()

    def collect(self) -> None:
        """Removes the least recently used files until each wallet, and all, keep the limits.

        A build that has a removed file open can use it to the end.
        """
        wallets: dict[Path, list[_Kept]] = defaultdict(list)
        for file in self.directory.glob("*/*.img"):
            with contextlib.suppress(FileNotFoundError):
                wallets[file.parent].append(_Kept.of(file))
        stay = [kept for files in wallets.values() for kept in _trim(files, self.wallet_bytes)]
        _trim(stay, self.total_bytes)


@dataclass(frozen=True, order=True)
class _Kept:
    used_at_ns: int
    path: Path
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> "_Kept":
        status = path.stat()
        return cls(status.st_mtime_ns, path, status.st_blocks * 512)


def _trim(files: list[_Kept], max_bytes: int) -> list[_Kept]:
    """Removes files that do not fit into `max_bytes`; returns the rest, last used first."""
    taken, stay = 0, []
    for file in sorted(files, reverse=True):
        if taken + file.size_bytes <= max_bytes:
            taken += file.size_bytes
            stay.append(file)
        else:
            file.path.unlink(missing_ok=True)
    return stay


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
            copy_image(self.image, disk.image, clock=self.caches.clock)
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
                copy_image(disk.image, self.draft.image, clock=self.caches.clock)
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


@dataclass(frozen=True, kw_only=True)
class Downloads:
    """Makes the disks for downloads, of `size_bytes` each, and keeps those that may be kept."""

    templates: DiskTemplates
    caches: Caches
    mount_points: Path
    size_bytes: int

    def disk(self, deployment: Path) -> Disk:
        """Returns the disk of the build in a deployment's directory."""
        return Disk(
            image=deployment / DOWNLOADS_IMAGE,
            mount_point=self.mount_points / downloads_mount(deployment.name),
        )

    @asynccontextmanager
    async def leased(self, deployment: Path, owner: str, uid: int) -> AsyncIterator[Path | None]:
        """Mounts a wallet's downloads as a directory of `uid`; None for nobody's build.

        Where nothing is kept, or another build has it, it is an empty one.
        """
        if not owner:
            yield None
            return
        disk = self.disk(deployment)
        try:
            yield await in_thread(self._open, disk, owner, uid)
        finally:
            await in_thread(self._close, disk, owner)

    def _open(self, disk: Disk, owner: str, uid: int) -> Path | None:
        """Mounts the disk and returns its directory; None if that fails."""
        files = disk.mount_point / "files"
        try:
            if not self._is_usable(disk, owner, uid):
                self.templates.put(disk.image, self.size_bytes)
                disk.mount(uid)
                disk.mount_point.chmod(0o711)
                make_owned(files, uid)
        except OSError as error:
            logger.warning("a build goes without a disk for downloads: %s", error)
            _remove(disk)
            return None
        return files

    def _is_usable(self, disk: Disk, owner: str, uid: int) -> bool:
        """Mounts what the wallet has kept; removes it and returns False if it can't be used."""
        kept = self._kept(owner)
        if kept is None or not kept.exists():
            return False
        try:
            kept.replace(disk.image)
            if is_clean(disk.image) and disk.image.stat().st_size >= self.size_bytes:
                disk.mount(uid)
                if disk.free_bytes * 2 >= self.size_bytes:
                    return True
        except OSError as error:
            logger.warning("downloads are damaged and are thrown away: %s", error)
        disk.remove()
        return False

    def _close(self, disk: Disk, owner: str) -> None:
        """Unmounts the disk, and keeps it if it may be kept; it costs no build that this fails."""
        try:
            # One that is still in use must not be mounted twice.
            is_free = disk.release() and disk.image.exists()
            kept = self._kept(owner)
            if is_free and kept is not None and self._may_stay(disk):
                self.caches.use(disk.image)
                disk.image.replace(kept)
        except OSError as error:
            logger.warning("downloads can't be kept: %s", error)
        _remove(disk)

    def _may_stay(self, disk: Disk) -> bool:
        return taken_bytes(str(disk.image)) <= self.caches.wallet_bytes

    def _kept(self, owner: str) -> Path | None:
        directory = self.caches.of(owner)
        return None if directory is None else directory / DOWNLOADS_IMAGE


def downloads_mount(deployment_id: str) -> str:
    """Returns the name of the directory in which a build's downloads are mounted."""
    return f"{deployment_id}.downloads"


def _remove(disk: Disk) -> None:
    """Removes the disk, as far as that works; what is left of it is not used again."""
    try:
        disk.remove()
    except OSError as error:
        logger.warning("downloads can't be removed: %s", error)

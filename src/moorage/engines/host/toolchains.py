"""Mounts toolchains of the shared store where every app can reach them."""

import errno
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from moorage.engines.host.kernel import version as kernel
from moorage.errors import DeployFailed, FailureCause
from moorage.threads import in_thread


class Store(Protocol):
    """The store that installs toolchains."""

    async def ensure(self, program: str, version: str) -> Path:
        """Returns the directory of this version, after installing it if needed.

        Raises DeployFailed.
        """
        ...


async def ensured(store: Store | None, wanted: Mapping[str, str]) -> dict[str, Path]:
    """Returns the directories of these versions, by program. Raises DeployFailed."""
    found = {}
    for program, version in wanted.items():
        if store is None:
            raise DeployFailed(
                FailureCause.INSTALL_FAILED, f"{program} {version} is not on this machine"
            )
        found[program] = await store.ensure(program, version)
    return found


@dataclass(frozen=True, kw_only=True)
class Toolchains:
    """Mounts the toolchains that builds and apps need in a directory.

    The users of builds and apps may not reach the store itself, such as below /root.
    """

    store: Store | None
    directory: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def path(self, program: str, version: str) -> Path:
        """Returns where a version is mounted."""
        return self.directory / f"{program}-{version}"

    async def show(self, wanted: Mapping[str, str]) -> None:
        """Mounts these versions, by program, at their paths. Raises DeployFailed, OSError."""
        for program, found in (await ensured(self.store, wanted)).items():
            await in_thread(self._mount, found, self.path(program, wanted[program]))

    def hide(self) -> None:
        """Unmounts all of them; no app may need one."""
        for path in self.directory.iterdir():
            _unmount(path)
            path.rmdir()

    def _mount(self, source: Path, target: Path) -> None:
        with self._lock:
            target.mkdir(exist_ok=True)
            if not target.samefile(source):
                _unmount(target)  # the version was reinstalled after it was mounted
                kernel.mount(source, target, None, kernel.MS_BIND)


def _unmount(path: Path) -> None:
    try:
        kernel.unmount(path, detach=True)
    except OSError as error:
        if error.errno != errno.EINVAL:  # nothing is mounted there
            raise

"""Toolchains of the shared store, shown where every app can reach them."""

import errno
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from moorage.engines.host import kernel
from moorage.errors import DeployFailed, FailureCause
from moorage.threads import in_thread


class Store(Protocol):
    """Where toolchains come from."""

    async def ensure(self, program: str, version: str) -> Path:
        """The directory of this version, installed if need be. Raises DeployFailed."""
        ...


async def ensured(store: Store | None, wanted: Mapping[str, str]) -> dict[str, Path]:
    """The directories of these versions, by program. Raises DeployFailed."""
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
    """A directory in which the store's toolchains are mounted, as far as builds and apps need them.

    The store itself may lie where their users can't get, such as below /root.
    """

    store: Store | None
    directory: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def path(self, program: str, version: str) -> Path:
        """Where a version is once it is shown."""
        return self.directory / f"{program}-{version}"

    async def show(self, wanted: Mapping[str, str]) -> None:
        """Have these versions, by program, at their paths. Raises DeployFailed, OSError."""
        for program, found in (await ensured(self.store, wanted)).items():
            await in_thread(self._mount, found, self.path(program, wanted[program]))

    def hide(self) -> None:
        """Unmount them all; no app may need one."""
        for path in self.directory.iterdir():
            _unmount(path)
            path.rmdir()

    def _mount(self, source: Path, target: Path) -> None:
        with self._lock:
            target.mkdir(exist_ok=True)
            if not target.samefile(source):
                _unmount(target)  # of a version that was installed anew since
                kernel.mount(source, target, None, kernel.MS_BIND)


def _unmount(path: Path) -> None:
    try:
        kernel.unmount(path, detach=True)
    except OSError as error:
        if error.errno != errno.EINVAL:  # nothing is mounted there
            raise

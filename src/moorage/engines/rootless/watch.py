"""Enforces the limits that the kernel does not: an app's total memory, and its disk usage.

Memory is checked four times a second. A disk is measured when the machine's free space has shrunk
by 16 MiB, and every 20 seconds. A build or app above its limit is killed; until then it may exceed
the limit by what it can write or touch in that time.
"""

import asyncio
import os
import signal
from dataclasses import dataclass, field

from moorage.engines.engine import Limits
from moorage.engines.rootless.deployment_directory import DeploymentDirectory, Excess
from moorage.engines.rootless.processes import (
    Process,
    ProcessId,
    descendants,
    everything,
    is_alive,
    memory_bytes,
    memory_share_bytes,
    send,
)
from moorage.threads import in_thread

_LOOK_SECONDS = 0.25
_FREE_STEP_BYTES = 16 * 1024 * 1024
_DISK_SECONDS = 20.0

# What programs print when they get no memory.
OUT_OF_MEMORY_WORDS = (
    "out of memory", "Out of memory", "MemoryError", "Cannot allocate memory", "ENOMEM",
    "allocation failed",
)  # fmt: skip


@dataclass
class Watch:
    """Watches all builds and apps of a gateway."""

    _free: dict[str, int] = field(default_factory=dict)  # bytes at the last measurement
    _measured: dict[str, float] = field(default_factory=dict)  # when that was, monotonic seconds

    async def keep_watching(
        self, directory: DeploymentDirectory, pasta: ProcessId, limits: Limits
    ) -> None:
        """Watches a build until it has ended, or this is cancelled."""
        while is_alive(pasta):
            await asyncio.sleep(_LOOK_SECONDS)
            await in_thread(self.look, directory, pasta, limits)

    def look(
        self,
        directory: DeploymentDirectory,
        pasta: ProcessId,
        limits: Limits,
        among: dict[int, Process] | None = None,
    ) -> None:
        """Kills a build or app above a limit, and records which limit; blocks.

        `among` are all processes; None to read them.
        """
        excess = self._excess(directory, pasta, limits, everything() if among is None else among)
        if excess is not None:
            directory.excess_file.write_text(excess)
            send(pasta, signal.SIGKILL)

    def _excess(
        self,
        directory: DeploymentDirectory,
        pasta: ProcessId,
        limits: Limits,
        among: dict[int, Process],
    ) -> Excess | None:
        pids = [process.id.pid for process in descendants(pasta, among)]
        if directory.host.cgroups is None and _takes_more(limits.memory_bytes, pids):
            return Excess.MEMORY
        if self._may_be_full(directory) and directory.used_bytes() > limits.disk_bytes:
            return Excess.DISK
        return None

    def _may_be_full(self, directory: DeploymentDirectory) -> bool:
        """Returns whether the disk must be measured again."""
        status = os.statvfs(directory.host.deployments)
        free, key = status.f_bavail * status.f_frsize, directory.deployment_id
        now = directory.host.clock.monotonic_seconds()
        recently = self._measured.get(key, -_DISK_SECONDS) + _DISK_SECONDS > now
        if recently and self._free[key] - free < _FREE_STEP_BYTES:
            self._free[key] = max(free, self._free[key])
            return False
        self._free[key], self._measured[key] = free, now
        return True


def _takes_more(max_bytes: int, pids: list[int]) -> bool:
    """Returns whether processes use more memory in sum. Shared memory counts once.

    The exact measure is slow, and is used only if the rough one is above the limit.
    """
    return all(
        sum(map(measure, pids)) > max_bytes for measure in (memory_bytes, memory_share_bytes)
    )

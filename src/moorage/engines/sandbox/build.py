"""Builds a deployment: makes its disk, then runs its steps in the sandbox, within a time limit."""

import asyncio
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from moorage.engines.disks.caches import UNCHANGED, Layer, layer_for
from moorage.engines.disks.disk import disk_failure
from moorage.engines.disks.trees import NotAFile
from moorage.engines.engine import BuildSpec
from moorage.engines.failure import abbreviated, failed_with, shell_code, timed_out
from moorage.engines.host import processes
from moorage.engines.host.environment import build_environment
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.slots import Slot
from moorage.engines.sandbox.app import prepared
from moorage.engines.sandbox.deployment_directory import DeploymentDirectory
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind
from moorage.threads import in_thread, to_its_end


async def provision(
    directory: DeploymentDirectory, slot: Slot, spec: BuildSpec, layer: Layer | None
) -> bool:
    """Makes a disk with the source, on top of a layer if there is one, and a network.

    Returns whether the layer makes the install unnecessary. Raises DeployFailed, OSError.
    """
    async with _meanwhile(directory.network(slot).create):
        return await in_thread(_make_disk, directory, slot, spec, layer)


async def provision_copy(
    directory: DeploymentDirectory, slot: Slot, origin: DeploymentDirectory
) -> None:
    """Makes a copy of another deployment's disk, and a network. Raises OSError."""
    async with _meanwhile(directory.network(slot).create):
        await in_thread(directory.copy_disk, slot, origin)


async def reprovision(directory: DeploymentDirectory, slot: Slot) -> None:
    """Restores what a stop or a reboot has removed from a built deployment. Raises OSError."""
    async with _meanwhile(partial(directory.connect, slot)):
        await in_thread(directory.revive, slot)


def _make_disk(
    directory: DeploymentDirectory, slot: Slot, spec: BuildSpec, layer: Layer | None
) -> bool:
    try:
        if layer is not None and layer.fill(directory.disk, slot.app_uid, spec.source):
            directory.write_etc(slot)
            return True
        directory.create_disk(slot, spec.limits.disk_bytes, spec.source)
    except NotAFile as error:
        raise DeployFailed(FailureCause.UPLOAD_INVALID, str(error)) from error
    except OSError as error:
        raise disk_failure(error, spec.limits.disk_bytes) from error
    return False


@asynccontextmanager
async def _meanwhile(work: Callable[[], None]) -> AsyncIterator[None]:
    """Does `work` in a thread during the block, and waits for it at the end."""
    task = asyncio.create_task(in_thread(work))
    try:
        yield
    finally:
        await to_its_end(_outcome(task))


async def _outcome(task: "asyncio.Task[None]") -> None:
    await task


_NO_SPACE = "the gateway's disk is nearly full, and this build was ended: deploy again later"
_FULL_BELOW_BYTES = 256 * 1024
# Package managers clean up after a failure, so that the free space does not show it.
_FULL_WORDS = ("ENOSPC", "No space left on device", "NoSpaceLeft")


async def make(directory: DeploymentDirectory, slot: Slot, spec: BuildSpec) -> None:
    """Makes disk and network, then runs install and build, if the plan has them.

    Leaves no process. Raises DeployFailed, OSError.
    """
    plan, host = spec.plan, directory.host
    deadline = host.clock.monotonic_seconds() + spec.timeout_seconds
    for sentence in plan.because:
        directory.logs.note(LogKind.BUILD, sentence)
    await host.toolchains.show(plan.toolchains)
    layer = await in_thread(
        layer_for,
        host.caches,
        spec,
        mount_points=host.mount_points,
        build_env=host.configuration.build_env,
    )
    is_installed = await provision(directory, slot, spec, layer)
    if is_installed:
        directory.logs.note(LogKind.BUILD, UNCHANGED)
    install = None if is_installed else plan.install
    if install is not None or plan.build is not None:
        lease = host.downloads.leased(directory.path, spec.owner, slot.app_uid)
        async with lease as downloads:
            steps = _Steps(directory, slot, spec, deadline, downloads)
            if install is not None:
                await steps.run(install, FailureCause.INSTALL_FAILED)
                if layer is not None:
                    await in_thread(layer.keep, directory.disk, slot.app_uid, spec.source)
            if plan.build is not None:
                await steps.run(plan.build, FailureCause.BUILD_FAILED)
    await in_thread(directory.disk.clear_build_leftovers)
    await in_thread(directory.disk.mark_built)


@dataclass
class _Steps:
    """Runs the steps of one build, within one time limit."""

    directory: DeploymentDirectory
    slot: Slot
    spec: BuildSpec
    deadline: float  # monotonic seconds
    downloads: Path | None

    async def run(self, command: str, cause: FailureCause) -> None:
        """Runs a step; `cause` is the failure's cause if nothing else explains it."""
        directory = self.directory
        cgroups, group = directory.host.cgroups, directory.build_group
        max_bytes = directory.host.shares.build_bytes
        limits = self.spec.limits
        limits = replace(limits, memory_bytes=min(limits.memory_bytes, max_bytes))
        await in_thread(cgroups.create, group, limits)
        try:
            process = await self._spawn(command)
            try:
                left = self.deadline - directory.host.clock.monotonic_seconds()
                async with asyncio.timeout(left):
                    code = shell_code(await process.wait())
            finally:
                await to_its_end(_end(directory, process))
            if code != 0:
                raise _failure(directory, cause, command, code)
        except TimeoutError:
            raise timed_out(self.spec, command, tail=directory.logs.tail(LogKind.BUILD)) from None
        except asyncio.CancelledError:
            directory.logs.note(LogKind.BUILD, f"CANCELLED: `{abbreviated(command)}` was ended")
            raise
        finally:
            await in_thread(cgroups.remove, group)

    async def _spawn(self, command: str) -> Process:
        directory, spec = self.directory, self.spec
        directory.logs.note(LogKind.BUILD, f"$ {abbreviated(command)}")
        with (
            await in_thread(directory.logs.open_pipes, LogKind.BUILD) as pipes,
            prepared(
                directory,
                self.slot,
                script=bubblewrap.ATTACHED,
                group=directory.build_group,
                environment=build_environment(
                    spec.plan,
                    directory.host.configuration.build_env,
                    spec.variables,
                    has_downloads=self.downloads is not None,
                ),
                plan=spec.plan,
                command=command,
                status=None,
                downloads=self.downloads,
            ) as launch,
        ):
            # In the event loop's thread: the build is killed when the thread that starts it ends.
            return await asyncio.create_subprocess_exec(
                *launch.argv,
                stdin=DEVNULL,
                stdout=pipes.out,
                stderr=pipes.err,
                pass_fds=launch.pass_fds,
                env=processes.ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )


async def _end(directory: DeploymentDirectory, process: Process) -> None:
    await asyncio.to_thread(directory.host.cgroups.kill, directory.build_group)
    await process.wait()
    await asyncio.to_thread(directory.logs.drain, LogKind.BUILD)


def _failure(
    directory: DeploymentDirectory, cause: FailureCause, command: str, code: int
) -> DeployFailed:
    tail = directory.logs.tail(LogKind.BUILD)
    if directory.deployment_id in directory.host.space.held:
        return DeployFailed(FailureCause.OUT_OF_DISK, _NO_SPACE, log_tail=tail)
    reason = failed_with(command, code, is_install=cause is FailureCause.INSTALL_FAILED)
    if directory.host.cgroups.oom_kills(directory.build_group):
        return DeployFailed(
            FailureCause.OUT_OF_MEMORY, f"{reason}: the build ran out of memory", log_tail=tail
        )
    full = directory.disk.free_bytes < _FULL_BELOW_BYTES
    if full or any(word in tail for word in _FULL_WORDS):
        return DeployFailed(FailureCause.OUT_OF_DISK, f"{reason}: the disk is full", log_tail=tail)
    return DeployFailed(cause, reason, log_tail=tail)

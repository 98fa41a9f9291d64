"""A build: its disk, then its steps in the sandbox, within one limit of time."""

import asyncio
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass, replace
from pathlib import Path

from moorage.engines.disks.layers import layer_for
from moorage.engines.engine import BuildSpec
from moorage.engines.failure import build_tail, shell_code, timed_out
from moorage.engines.host import tool
from moorage.engines.host.environment import build_environment
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.slots import Slot
from moorage.engines.sandbox.deployment_directory import Place
from moorage.engines.sandbox.launch import prepared
from moorage.engines.sandbox.provisioning import provision
from moorage.errors import DeployFailed, FailureCause
from moorage.records.log import LogKind
from moorage.threads import in_thread, to_its_end

_NO_SPACE = "the gateway's disk is nearly full, and this build was ended: deploy again later"
_FULL_BELOW_BYTES = 256 * 1024
# Package managers clear up after a failure, so that free space alone does not tell.
_FULL_WORDS = ("ENOSPC", "No space left on device")


async def make(place: Place, slot: Slot, spec: BuildSpec) -> None:
    """Disk and network, then install and build as far as the plan has them.

    Raises DeployFailed, OSError; leaves no process.
    """
    plan, machine = spec.plan, place.machine
    deadline = machine.clock.monotonic_seconds() + spec.timeout_seconds
    for sentence in plan.because:
        place.logs.note(LogKind.BUILD, sentence)
    await machine.toolchains.show(plan.toolchains)
    layer = await in_thread(
        layer_for,
        machine.caches,
        spec,
        mount_points=machine.mount_points,
        build_env=machine.configuration.build_env,
    )
    is_installed = await provision(place, slot, spec, layer)
    if is_installed:
        place.logs.note(LogKind.BUILD, "dependencies unchanged: install skipped")
    install = None if is_installed else plan.install
    if install is not None or plan.build is not None:
        async with machine.downloads.leased(spec.owner, slot.app_uid) as downloads:
            steps = _Steps(place, slot, spec, deadline, downloads)
            if install is not None:
                await steps.do(install, FailureCause.INSTALL_FAILED)
                if layer is not None:
                    await in_thread(layer.keep, place.disk, slot.app_uid, spec.source)
            if plan.build is not None:
                await steps.do(plan.build, FailureCause.BUILD_FAILED)
    await in_thread(place.disk.clear_build_leftovers)


@dataclass(frozen=True)
class _Steps:
    """The steps of one build, within one limit of time."""

    place: Place
    slot: Slot
    spec: BuildSpec
    deadline: float  # by the monotonic clock
    downloads: Path | None

    async def do(self, command: str, cause: FailureCause) -> None:
        """Run a step to its end; once more, without the downloads, when it may be they are full."""
        try:
            await self._run(command, cause)
        except DeployFailed as failed:
            held = self.place.deployment_id in self.place.machine.space.held
            if failed.cause is not FailureCause.OUT_OF_DISK or self.downloads is None or held:
                raise
            self.place.logs.note(LogKind.BUILD, "a disk is full: again, without kept downloads")
            await replace(self, downloads=None)._run(command, cause)

    async def _run(self, command: str, cause: FailureCause) -> None:
        """`cause` is why the build failed when the step fails of itself."""
        place = self.place
        cgroups, group = place.machine.cgroups, place.build_group
        most = place.machine.shares.build_bytes
        limits = self.spec.limits
        limits = replace(limits, memory_bytes=min(limits.memory_bytes, most))
        await in_thread(cgroups.create, group, limits)
        try:
            process = await self._spawn(command)
            try:
                left = self.deadline - place.machine.clock.monotonic_seconds()
                async with asyncio.timeout(left):
                    code = shell_code(await process.wait())
            finally:
                await to_its_end(_end(place, process))
            if code != 0:
                raise _failure(place, cause, command, code)
        except TimeoutError:
            raise timed_out(place, self.spec, command) from None
        except asyncio.CancelledError:
            place.logs.note(LogKind.BUILD, f"CANCELLED: `{command}` was ended")
            raise
        finally:
            await in_thread(cgroups.remove, group)

    async def _spawn(self, command: str) -> Process:
        place, spec = self.place, self.spec
        place.logs.note(LogKind.BUILD, f"$ {command}")
        with (
            await in_thread(place.logs.open_pipes, LogKind.BUILD) as pipes,
            prepared(
                place,
                self.slot,
                script=bubblewrap.ATTACHED,
                group=place.build_group,
                environment=build_environment(
                    spec.plan,
                    place.machine.configuration.build_env,
                    spec.variables,
                    has_downloads=self.downloads is not None,
                ),
                plan=spec.plan,
                command=command,
                status=None,
                downloads=self.downloads,
            ) as launch,
        ):
            # From the loop's own thread: the build dies with the thread that starts it.
            return await asyncio.create_subprocess_exec(
                *launch.argv,
                stdin=DEVNULL,
                stdout=pipes.out,
                stderr=pipes.err,
                pass_fds=launch.pass_fds,
                env=tool.ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )


async def _end(place: Place, process: Process) -> None:
    await asyncio.to_thread(place.machine.cgroups.kill, place.build_group)
    await process.wait()
    await asyncio.to_thread(place.logs.drain, LogKind.BUILD)


def _failure(place: Place, cause: FailureCause, command: str, code: int) -> DeployFailed:
    tail = build_tail(place)
    if place.deployment_id in place.machine.space.held:
        return DeployFailed(FailureCause.OUT_OF_DISK, _NO_SPACE, log_tail=tail)
    reason = f"`{command}` failed with exit code {code}"
    if place.machine.cgroups.oom_kills(place.build_group):
        return DeployFailed(
            FailureCause.OUT_OF_MEMORY, f"{reason}: the build ran out of memory", log_tail=tail
        )
    full = place.disk.free_bytes < _FULL_BELOW_BYTES
    if full or any(word in tail for word in _FULL_WORDS):
        return DeployFailed(FailureCause.OUT_OF_DISK, f"{reason}: the disk is full", log_tail=tail)
    return DeployFailed(cause, reason, log_tail=tail)

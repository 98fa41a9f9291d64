"""Running a build's steps in the sandbox, within one limit of time."""

import asyncio
from asyncio.subprocess import DEVNULL, Process

from moorage.errors import DeployFailed, FailureCause
from moorage.runtimes.runtime import BuildSpec, LogKind
from moorage.runtimes.sandbox import bubblewrap, tool
from moorage.runtimes.sandbox.environment import build_environment
from moorage.runtimes.sandbox.launch import prepared
from moorage.runtimes.sandbox.place import Place
from moorage.runtimes.sandbox.slots import Slot
from moorage.runtimes.sandbox.threads import in_thread, to_its_end

TAIL_CHARS = 8192
_FULL_BELOW_BYTES = 256 * 1024
# Package managers clear up after a failure, so that free space alone does not tell.
_FULL_WORDS = ("ENOSPC", "No space left on device")


async def run_steps(place: Place, slot: Slot, spec: BuildSpec) -> None:
    """Install and build, as far as the plan has them. Raises DeployFailed; leaves no process."""
    plan, clock = spec.plan, place.machine.clock
    steps = ((FailureCause.INSTALL_FAILED, plan.install), (FailureCause.BUILD_FAILED, plan.build))
    deadline = clock.monotonic_seconds() + spec.timeout_seconds
    for cause, command in steps:
        if command is not None:
            await _run_step(place, slot, spec, cause, command, deadline)
    if plan.install is not None or plan.build is not None:
        await in_thread(place.disk.clear_build_leftovers)


async def _run_step(
    place: Place,
    slot: Slot,
    spec: BuildSpec,
    cause: FailureCause,
    command: str,
    deadline: float,
) -> None:
    cgroups, group = place.machine.cgroups, place.build_group
    await in_thread(cgroups.create, group, spec.limits)
    try:
        process = await _spawn(place, slot, spec, command)
        try:
            async with asyncio.timeout(deadline - place.machine.clock.monotonic_seconds()):
                code = _shell_code(await process.wait())
        finally:
            await to_its_end(_end(place, process))
        if code != 0:
            raise _failure(place, cause, command, code)
    except TimeoutError:
        raise DeployFailed(
            FailureCause.BUILD_TIMEOUT,
            f"the build took longer than {spec.timeout_seconds} s; `{command}` was still running",
            log_tail=place.logs.tail(LogKind.BUILD, TAIL_CHARS),
        ) from None
    finally:
        await in_thread(cgroups.remove, group)


async def _spawn(place: Place, slot: Slot, spec: BuildSpec, command: str) -> Process:
    place.logs.note(LogKind.BUILD, f"$ {command}")
    with (
        await in_thread(place.logs.open_pipes, LogKind.BUILD) as pipes,
        prepared(
            place,
            slot,
            script=bubblewrap.ATTACHED,
            group=place.build_group,
            environment=build_environment(spec.plan, place.machine.build_env, spec.variables),
            directory=spec.plan.directory,
            command=command,
            status=None,
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


def _shell_code(returncode: int) -> int:
    """As a shell says it: 128 and the signal's number for a process that was killed."""
    return 128 - returncode if returncode < 0 else returncode


def _failure(place: Place, cause: FailureCause, command: str, code: int) -> DeployFailed:
    tail = place.logs.tail(LogKind.BUILD, TAIL_CHARS)
    reason = f"`{command}` failed with exit code {code}"
    if place.machine.cgroups.oom_kills(place.build_group):
        return DeployFailed(
            FailureCause.OUT_OF_MEMORY, f"{reason}: the build ran out of memory", log_tail=tail
        )
    full = place.disk.free_bytes < _FULL_BELOW_BYTES
    if full or any(word in tail for word in _FULL_WORDS):
        return DeployFailed(FailureCause.OUT_OF_DISK, f"{reason}: the disk is full", log_tail=tail)
    return DeployFailed(cause, reason, log_tail=tail)

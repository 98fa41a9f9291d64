"""Runs the steps of a build or a copy within one time limit, and watches memory and disk usage."""

import asyncio
from asyncio.subprocess import Process
from pathlib import Path

from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.failure import build_tail, shell_code, shown, timed_out
from moorage.engines.host import tool
from moorage.engines.host.environment import build_environment
from moorage.engines.host.toolchains import ensured
from moorage.engines.rootless import launch, pasta
from moorage.engines.rootless.deployment_directory import DeploymentDirectory, Excess
from moorage.engines.rootless.processes import (
    ProcessId,
    descendants,
    everything,
    find,
    wait_until_dead,
)
from moorage.engines.rootless.watch import OUT_OF_MEMORY_WORDS, Watch
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan, Stack
from moorage.records.log import LogKind
from moorage.threads import in_thread, to_its_end

_FULL_WORDS = ("ENOSPC", "No space left on device", "EFBIG", "File too large")
_FILE_TOO_LARGE = 128 + 25  # a shell's exit code for SIGXFSZ
_COPY_SECONDS = 300
_COPY = "cp -a /tmp/origin/app/. /app/ && cp -a /tmp/origin/home/. ~/"


async def run_steps(
    directory: DeploymentDirectory, spec: BuildSpec, watch: Watch, *, more: tuple[str, ...] = ()
) -> None:
    """Runs install and build, if the plan has them; `more` are options for bwrap.

    Leaves no process. Raises DeployFailed.
    """
    plan, clock = spec.plan, directory.host.clock
    for sentence in plan.because:
        directory.logs.note(LogKind.BUILD, sentence)
    steps = ((FailureCause.INSTALL_FAILED, plan.install), (FailureCause.BUILD_FAILED, plan.build))
    deadline = clock.monotonic_seconds() + spec.timeout_seconds
    for cause, command in steps:
        if command is not None:
            await _run_step(directory, spec, watch, cause, command, deadline, more)
    if plan.install is not None or plan.build is not None:
        await in_thread(directory.clear_build_leftovers)


async def _run_step(
    directory: DeploymentDirectory,
    spec: BuildSpec,
    watch: Watch,
    cause: FailureCause,
    command: str,
    deadline: float,
    more: tuple[str, ...],
) -> None:
    process = await _spawn(directory, spec, command, more)
    watching = asyncio.create_task(_watch(directory, spec, watch, process.pid))
    try:
        async with asyncio.timeout(deadline - directory.host.clock.monotonic_seconds()):
            code = shell_code(await process.wait())
    except TimeoutError:
        raise timed_out(directory, spec, command) from None
    finally:
        watching.cancel()
        await to_its_end(_end(directory, process))
    try:
        if code != 0:
            raise _failure(directory, cause, command, code)
    finally:
        await in_thread(directory.remove_groups)


async def _watch(directory: DeploymentDirectory, spec: BuildSpec, watch: Watch, pid: int) -> None:
    if (running := find(pid)) is not None:
        await watch.keep_watching(directory, running.id, spec.limits)


async def _spawn(
    directory: DeploymentDirectory, spec: BuildSpec, command: str, more: tuple[str, ...]
) -> Process:
    configuration = directory.host.configuration
    toolchains = await ensured(configuration.toolchains, spec.plan.toolchains)
    environment = build_environment(spec.plan, configuration.build_env, spec.variables)
    isolated = await in_thread(launch.command_argv, directory, command, spec.limits, building=True)
    argv = pasta.attached_argv(isolated)
    directory.excess_file.unlink(missing_ok=True)
    directory.logs.note(LogKind.BUILD, f"$ {shown(command)}")
    with (
        await in_thread(directory.logs.open_pipes, LogKind.BUILD) as pipes,
        launch.options(
            directory, spec.plan, environment, toolchains, building=True, more=more
        ) as options,
    ):
        # In the event loop's thread: the build is killed when the thread that starts it ends.
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=options,
            stdout=pipes.out,
            stderr=pipes.err,
            env=tool.ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )


async def _end(directory: DeploymentDirectory, process: Process) -> None:
    """Kills pasta, and waits for the end of all processes inside, which die with it."""
    left = await in_thread(_inside, process.pid)
    if process.returncode is None:
        process.kill()
    await process.wait()
    await in_thread(wait_until_dead, left)
    await in_thread(directory.logs.drain, LogKind.BUILD)


def _inside(pid: int) -> list[ProcessId]:
    running, among = find(pid), everything()
    return [] if running is None else [it.id for it in descendants(running.id, among)]


def _failure(
    directory: DeploymentDirectory, cause: FailureCause, command: str, code: int
) -> DeployFailed:
    tail = build_tail(directory)
    reason = f"`{shown(command)}` failed with exit code {code}"
    if directory.excess is Excess.DISK or code == _FILE_TOO_LARGE or _says(tail, _FULL_WORDS):
        return DeployFailed(FailureCause.OUT_OF_DISK, f"{reason}: the disk is full", log_tail=tail)
    if directory.ran_out_of_memory() or _says(tail, OUT_OF_MEMORY_WORDS):
        return DeployFailed(
            FailureCause.OUT_OF_MEMORY, f"{reason}: the build ran out of memory", log_tail=tail
        )
    return DeployFailed(cause, reason, log_tail=tail)


def _says(tail: str, words: tuple[str, ...]) -> bool:
    return any(word in tail for word in words)


async def copy(origin: DeploymentDirectory, directory: DeploymentDirectory, watch: Watch) -> None:
    """Copies files and build log into an empty directory. Raises DeployFailed, OSError.

    A command in a sandbox that contains only the two deployments does it: the origin may be running
    and replace a directory by a link to anywhere, which has no target inside.
    """
    await run_steps(
        directory, _copy_spec(directory.deployment_id), watch, more=_origin_mounts(origin)
    )
    await in_thread(directory.logs.copy_from, origin.logs, LogKind.BUILD)


def _copy_spec(deployment_id: str) -> BuildSpec:
    """Returns the build that copies. It has no limits, as the origin's files kept to theirs."""
    unlimited = 1 << 50
    return BuildSpec(
        deployment_id=deployment_id,
        source=Path("/"),
        plan=Plan(
            stack=Stack.CUSTOM, directory="", install=None, build=_COPY, start="", port=1,
            build_env={}, run_env={}, because=(),
        ),
        limits=Limits(memory_bytes=unlimited, cpu_millis=1000, pids=16, disk_bytes=unlimited),
        timeout_seconds=_COPY_SECONDS,
    )  # fmt: skip


def _origin_mounts(origin: DeploymentDirectory) -> tuple[str, ...]:
    """Returns bwrap's options that mount another deployment's files."""
    return (
        "--ro-bind", str(origin.app), "/tmp/origin/app",  # noqa: S108 (nobody else is inside)
        "--ro-bind", str(origin.home), "/tmp/origin/home",  # noqa: S108
    )  # fmt: skip

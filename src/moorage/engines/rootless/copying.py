"""Copies a deployment's files, by a command in a sandbox that contains only the two deployments.

The origin may be running and replace a directory by a link to anywhere: inside the sandbox, the
link has no target.
"""

from pathlib import Path

from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.rootless import build
from moorage.engines.rootless.deployment_directory import DeploymentDirectory
from moorage.engines.rootless.watch import Watch
from moorage.planning.plan import Plan, Stack
from moorage.records.log import LogKind
from moorage.threads import in_thread

_SECONDS = 300
_COMMAND = "cp -a /tmp/origin/app/. /app/ && cp -a /tmp/origin/home/. ~/"


async def copy(origin: DeploymentDirectory, directory: DeploymentDirectory, watch: Watch) -> None:
    """Copies files and build log into an empty directory. Raises DeployFailed, OSError."""
    await build.run_steps(directory, _spec(directory.deployment_id), watch, more=_shown(origin))
    await in_thread(directory.logs.copy_from, origin.logs, LogKind.BUILD)


def _spec(deployment_id: str) -> BuildSpec:
    """Returns the build that copies. It has no limits, as the origin's files kept to theirs."""
    unlimited = 1 << 50
    return BuildSpec(
        deployment_id=deployment_id,
        source=Path("/"),
        plan=Plan(
            stack=Stack.CUSTOM, directory="", install=None, build=_COMMAND, start="", port=1,
            build_env={}, run_env={}, because=(),
        ),
        limits=Limits(memory_bytes=unlimited, cpu_millis=1000, pids=16, disk_bytes=unlimited),
        timeout_seconds=_SECONDS,
    )  # fmt: skip


def _shown(origin: DeploymentDirectory) -> tuple[str, ...]:
    """Returns bwrap's options that mount another deployment's files."""
    return (
        "--ro-bind", str(origin.app), "/tmp/origin/app",  # noqa: S108 (nobody else is inside)
        "--ro-bind", str(origin.home), "/tmp/origin/home",  # noqa: S108
    )  # fmt: skip

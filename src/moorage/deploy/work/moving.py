"""Moving: a project's files are taken off its engine's disk, and built on the gateway's own engine.

It is a deployment like others: the version that serves does so until the new one is healthy, and
goes on if that fails. Its owner pays nothing for the build, as the operator asked for it.
"""

import os
import shutil
from pathlib import Path

import msgspec

from moorage.deploy.entrance import succession
from moorage.engines.engine import BuildSpec, Engine
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Stack
from moorage.records.deployment import Deployment, Origin
from moorage.records.project import Project
from moorage.storage.apps import deployments
from moorage.storage.database import Source, Transaction
from moorage.threads import in_thread

INSTALLED = frozenset({"node_modules", ".venv", "__pycache__", ".pnpm-store"})
"""Directories that an install makes anew: they may hold programs for the other engine's machine."""

_TOO_LARGE = (
    "the app's files can't be moved: with the holes of sparse files, or one file under several "
    "names, they are larger than its disk"
)


async def queue_move(
    tx: Transaction, project: Project, serving: Deployment, engine: str, *, now_ms: int
) -> Deployment:
    """Queues a project's move to an engine; it must have no deployment under way."""
    copy = succession.copy_of(serving, Origin.CONFIGURATION, now_ms=now_ms)
    moved = msgspec.structs.replace(copy, engine=engine)
    await succession.queue(tx, project, moved, in_place_of=(), builds=True)
    return moved


async def moves(source: Source, deployment: Deployment) -> bool:
    """Returns whether a copy is to be on another engine than what it is a copy of."""
    if deployment.copy_of is None:
        return False
    origin = await deployments.by_id(source, deployment.copy_of)
    return origin is not None and origin.engine != deployment.engine


async def build_moved(engine: Engine, deployment: Deployment, spec: BuildSpec, own: str) -> None:
    """Exports the files of what a deployment is a copy of, and builds them on the engine `own`.

    Raises DeployFailed as `Engine.build`, and if the deployment is to be on another engine.
    """
    if deployment.engine != own or deployment.copy_of is None:
        raise DeployFailed(
            FailureCause.INTERRUPTED,
            f"This gateway builds with {own}, no longer with {deployment.engine}.",
        )
    if spec.plan.stack is Stack.DOCKERFILE and not engine.capabilities.dockerfiles:
        raise DeployFailed(
            FailureCause.BUILD_FAILED,
            f"A Dockerfile can't be built by {own}: leave it out, and deploy again.",
        )
    await in_thread(_clear, spec.source)
    without = INSTALLED if spec.plan.install else ()
    await engine.export_files(deployment.copy_of, spec.source, without=without)
    await in_thread(_require_to_fit, spec.source, spec.limits.disk_bytes)
    await engine.build(spec)


def _require_to_fit(directory: Path, max_bytes: int) -> None:
    """Raises DeployFailed for files that a build would write out larger than an app's disk."""
    for parent, _, names in os.walk(directory):
        for name in names:
            max_bytes -= os.lstat(f"{parent}/{name}").st_size
            if max_bytes < 0:
                raise DeployFailed(FailureCause.OUT_OF_DISK, _TOO_LARGE)


def _clear(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)

"""Makes the disk and the network of a build or an app, at the same time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from moorage.engines.disks.disk import disk_failure
from moorage.engines.disks.layers import Layer
from moorage.engines.disks.trees import NotAFile
from moorage.engines.engine import BuildSpec
from moorage.engines.isolation.slots import Slot
from moorage.engines.sandbox.deployment_directory import DeploymentDirectory
from moorage.errors import DeployFailed, FailureCause
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

"""What a build begins with: a disk with the source, over a layer if there is one, and a network."""

import asyncio

from moorage.errors import DeployFailed, FailureCause
from moorage.runtimes.runtime import BuildSpec
from moorage.runtimes.sandbox.disk import disk_failure
from moorage.runtimes.sandbox.layers import Layer
from moorage.runtimes.sandbox.place import Place
from moorage.runtimes.sandbox.slots import Slot
from moorage.runtimes.sandbox.threads import in_thread, to_its_end
from moorage.runtimes.sandbox.trees import NotAFile


async def furnish(place: Place, slot: Slot, spec: BuildSpec, layer: Layer | None) -> bool:
    """Disk and network, at the same time; whether what the install would make is there already.

    Raises DeployFailed, OSError.
    """
    networking = asyncio.create_task(in_thread(place.network(slot).create))
    try:
        return await in_thread(_make_disk, place, slot, spec, layer)
    finally:
        await to_its_end(_outcome(networking))


def _make_disk(place: Place, slot: Slot, spec: BuildSpec, layer: Layer | None) -> bool:
    try:
        if layer is not None and layer.fill(place.disk, slot.app_uid, spec.source):
            place.write_etc(slot)
            return True
        place.create_disk(slot, spec.limits.disk_bytes, spec.source)
    except NotAFile as error:
        raise DeployFailed(FailureCause.UPLOAD_INVALID, str(error)) from error
    except OSError as error:
        raise disk_failure(error, spec.limits.disk_bytes) from error
    return False


async def _outcome(task: "asyncio.Task[None]") -> None:
    await task

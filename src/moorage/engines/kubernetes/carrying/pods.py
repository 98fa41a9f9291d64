"""Runs the pod of a volume to its end."""

import asyncio
from dataclasses import dataclass, field

from moorage.clock import Clock
from moorage.engines.kubernetes.building import outcome
from moorage.engines.kubernetes.building.attempt import Patience
from moorage.engines.kubernetes.building.pod.program import ANOTHERS, REFUSED, TOO_LARGE
from moorage.engines.kubernetes.cluster.client import Cluster, NotFound, Refused
from moorage.engines.kubernetes.cluster.resources import PODS, SECRETS
from moorage.engines.kubernetes.objects import Carrier, Manifest, PodOptions, carrier_objects
from moorage.engines.kubernetes.objects.carrier import CONTAINER
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    PART_LABEL,
    VOLUME_LABEL,
    Part,
    carrier_name,
)
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.threads import to_its_end

_ENDING_SECONDS = 60.0
_POLL_SECONDS = 0.2


class AnothersFiles(Exception):
    """Some files of a volume only `user` may read."""

    def __init__(self, user: int) -> None:
        super().__init__(f"user {user} alone may read some of its files")
        self.user = user


@dataclass(frozen=True, kw_only=True)
class CarrierPods:
    """Those of one gateway."""

    cluster: Cluster
    options: PodOptions
    clock: Clock
    patience: Patience = field(default_factory=Patience)

    async def run(self, carrier: Carrier) -> str:
        """Returns what the program says at its end.

        Raises AnothersFiles, DeployFailed, ClusterUnavailable.

        Nothing of it is left, nor of what ran for the volume before.
        """
        await self.end(carrier.volume_id)
        try:
            for manifest in carrier_objects(carrier, self.options):
                await self.cluster.apply(manifest)
            pod = await self._ended(carrier)
        except Refused as error:
            raise DeployFailed(
                FailureCause.NO_CAPACITY, f"The cluster does not take the volume: {error}."
            ) from error
        finally:
            await to_its_end(self._clear(carrier))
        return _said(pod)

    async def end(self, volume_id: str) -> None:
        """Ends what runs for a volume. Raises ClusterUnavailable if that is not over soon."""
        deadline = self.clock.monotonic_seconds() + _ENDING_SECONDS
        while found := await self._pods(volume_id):
            if self.clock.monotonic_seconds() > deadline:
                raise ClusterUnavailable("The cluster does not end the pod of a volume.")
            for pod in found:
                metadata = pod["metadata"]
                place = {"namespace": metadata["namespace"]}
                seen = {"uid": metadata["uid"]}
                await self.cluster.delete(SECRETS, metadata["name"], **place)
                await self.cluster.delete(PODS, metadata["name"], **place, seen=seen)
            await asyncio.sleep(_POLL_SECONDS)

    async def _clear(self, carrier: Carrier) -> None:
        await self.end(carrier.volume_id)
        name, namespace = carrier_name(carrier.volume_id), carrier.namespace
        await self.cluster.delete(SECRETS, name, namespace=namespace)  # where no pod was made

    async def _pods(self, volume_id: str) -> list[Manifest]:
        labels = {
            INSTANCE_LABEL: self.options.instance,
            PART_LABEL: Part.VOLUME,
            VOLUME_LABEL: volume_id,
        }
        return (await self.cluster.list(PODS, labels=labels)).items

    async def _ended(self, carrier: Carrier) -> Manifest:
        """Waits for the pod's end; returns it. Raises DeployFailed if it does not come."""
        *_, wanted = carrier_objects(carrier, self.options)
        name, since = wanted["metadata"]["name"], dict[str, float]()
        deadline = self.clock.monotonic_seconds() + carrier.timeout_seconds

        def lasts(what: str) -> float:
            now = self.clock.monotonic_seconds()
            return now - since.setdefault(what, now) if what else 0.0

        while True:
            try:
                pod = await self.cluster.get(PODS, name, namespace=carrier.namespace)
            except NotFound:
                raise _failed("the cluster has lost its pod") from None
            found = outcome.progress(pod, CONTAINER)
            if found.ended is not None:
                return pod
            if failure := outcome.pod_failure(pod):
                raise _failed(failure.reason)
            unscheduled = outcome.unscheduled(pod)
            if lasts(found.obstacle) > self.patience.obstacle_seconds:
                raise _failed(found.obstacle)
            if lasts(unscheduled) > self.patience.schedule_seconds:
                raise _failed(f"no node takes its pod: {unscheduled}")
            if self.clock.monotonic_seconds() > deadline:
                raise _failed(f"it took longer than {carrier.timeout_seconds} s")
            await asyncio.sleep(self.patience.look_seconds)


def _said(pod: Manifest) -> str:
    """Returns what the program said. Raises AnothersFiles, DeployFailed."""
    ended = outcome.progress(pod, CONTAINER).ended
    if ended is not None and ended.code == 0:
        return ended.message
    if ended is not None and ended.code == ANOTHERS and ended.message.isdecimal():
        raise AnothersFiles(int(ended.message))
    said = "its pod was ended" if ended is None else ended.message or f"exit code {ended.code}"
    is_its_own = ended is not None and ended.code in (REFUSED, TOO_LARGE)
    raise _failed(said, FailureCause.OUT_OF_DISK if is_its_own else FailureCause.INTERRUPTED)


def _failed(why: str, cause: FailureCause = FailureCause.INTERRUPTED) -> DeployFailed:
    return DeployFailed(cause, f"The app's volume can't be moved: {why}.")

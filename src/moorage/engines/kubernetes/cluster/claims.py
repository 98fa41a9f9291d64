"""The claims of a gateway's volumes, each in its wallet's namespace."""

import asyncio
from typing import Any

from moorage.clock import Clock
from moorage.engines.kubernetes.cluster.client import CLAIMS, PODS, Cluster, NotFound
from moorage.engines.kubernetes.objects.app import volume_claim
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    PART_LABEL,
    VOLUME_LABEL,
    Part,
    volume_name,
)
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.errors import ClusterUnavailable

_ENDING_SECONDS = 60.0
_POLL_SECONDS = 0.2
_OVER = ("Succeeded", "Failed")


class Claims:
    """The claims of one gateway."""

    def __init__(
        self, cluster: Cluster, *, instance: str, storage_class: str, clock: Clock
    ) -> None:
        self._cluster = cluster
        self._instance = instance
        self._storage_class = storage_class
        self._clock = clock

    async def ids(self) -> set[str]:
        """Returns the volumes that are there. Raises ClusterUnavailable, Refused."""
        return {
            claim["metadata"]["labels"][VOLUME_LABEL]
            for claim in await self._claims({VOLUME_LABEL: ""})
            if not _is_ending(claim)
        }

    async def find(self, volume_id: str) -> Manifest | None:
        """Returns the claim of a volume; None if there is none, or it is being removed."""
        found = await self._claims({VOLUME_LABEL: volume_id})
        return next((claim for claim in found if not _is_ending(claim)), None)

    async def ensure(self, volume_id: str, *, owner: str, namespace: str, size_bytes: int) -> None:
        """Makes a volume, unless it is there, of whatever size."""
        try:
            await self._cluster.get(CLAIMS, volume_name(volume_id), namespace=namespace)
        except NotFound:
            await self._cluster.apply(
                volume_claim(
                    volume_id,
                    owner=owner,
                    namespace=namespace,
                    instance=self._instance,
                    size_bytes=size_bytes,
                    storage_class=self._storage_class,
                )
            )

    async def remove(self, volume_id: str) -> set[str]:
        """Removes a volume and its content; returns the namespaces that it was in.

        Raises ClusterUnavailable if that is not over soon.
        """
        claims = await self._claims({VOLUME_LABEL: volume_id})
        for claim in claims:
            await self._delete(claim)
        return {claim["metadata"]["namespace"] for claim in claims}

    async def is_used(self, claim: Manifest) -> bool:
        """Returns whether an app has a volume, also one that is ending."""
        metadata = claim["metadata"]
        listed = await self._cluster.list(
            PODS,
            namespace=metadata["namespace"],
            labels={INSTANCE_LABEL: self._instance, PART_LABEL: Part.APP},
        )
        return any(_uses(pod, metadata["name"]) for pod in listed.items)

    async def _claims(self, labels: dict[str, str]) -> list[Manifest]:
        asked = {INSTANCE_LABEL: self._instance, **labels}
        return (await self._cluster.list(CLAIMS, labels=asked)).items

    async def _delete(self, claim: Manifest) -> None:
        metadata = claim["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        seen = {"uid": metadata["uid"]}  # pods change the version, and the volume is the same
        await self._cluster.delete(CLAIMS, name, namespace=namespace, seen=seen)
        deadline = self._clock.monotonic_seconds() + _ENDING_SECONDS
        while await self._is_there(name, namespace, uid=metadata.get("uid")):
            if self._clock.monotonic_seconds() > deadline:
                raise ClusterUnavailable(f"The cluster does not remove the volume {name}.")
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_there(self, name: str, namespace: str, *, uid: Any) -> bool:
        try:
            found = await self._cluster.get(CLAIMS, name, namespace=namespace)
        except NotFound:
            return False
        return bool(found["metadata"].get("uid") == uid)


def _is_ending(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def _uses(pod: Manifest, claim: str) -> bool:
    """Returns whether a pod has a volume mounted, or will have."""
    if pod.get("status", {}).get("phase") in _OVER:
        return False
    volumes = pod.get("spec", {}).get("volumes") or ()
    return any(it.get("persistentVolumeClaim", {}).get("claimName") == claim for it in volumes)

"""The wallets' namespaces, which go when nothing of them is kept, and the claims of volumes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from moorage.clock import Clock
from moorage.engines.kubernetes.cluster.client import (
    CLAIMS,
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    Cluster,
    NotFound,
)
from moorage.engines.kubernetes.objects.app import volume_claim
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    OWNER_ANNOTATION,
    PART_LABEL,
    VOLUME_LABEL,
    WALLET_LABEL,
    Part,
    volume_name,
    wallet_namespace,
)
from moorage.engines.kubernetes.objects.namespace import (
    Networks,
    Quota,
    namespace_objects,
    pull_secret,
)
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.engines.kubernetes.running.record import Record, parse
from moorage.engines.kubernetes.running.usage import quantity
from moorage.engines.locks import Locks
from moorage.errors import ClusterUnavailable

PULL_SECRET = "registry"  # noqa: S105 (a name)
_AGAIN_SECONDS = 600.0  # after which a namespace that is there is made as it should be again
_ENDING_SECONDS = 60.0
_POLL_SECONDS = 0.2
_OVER = ("Succeeded", "Failed")


def requested_bytes(claim: Manifest) -> int:
    """Returns the size that a claim asks for."""
    return int(quantity(claim["spec"]["resources"]["requests"]["storage"]))


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

    async def ensure(
        self,
        volume_id: str,
        *,
        owner: str,
        namespace: str,
        size_bytes: int,
        grows: bool = False,
    ) -> None:
        """Makes a volume, unless it is there; of whatever size, or else with `grows` larger.

        Its storage class must let it grow. Raises Refused.
        """
        try:
            found = await self._cluster.get(CLAIMS, volume_name(volume_id), namespace=namespace)
            is_made = not grows or requested_bytes(found) >= size_bytes
        except NotFound:
            is_made = False
        if not is_made:
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


class Namespaces:
    """The namespaces of a gateway's wallets."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        prefix: str,
        quota: Quota,
        networks: Networks,
        docker_config: str,
        clock: Clock,
    ) -> None:
        """`docker_config` is the text by which nodes fetch images; "" if they need none."""
        self._cluster = cluster
        self._prefix = prefix
        self._quota = quota
        self._networks = networks
        self._docker_config = docker_config
        self._clock = clock
        self._made: dict[str, float] = {}
        self._locks = Locks()

    def name(self, owner: str) -> str:
        """Returns the name of a wallet's namespace."""
        return wallet_namespace(self._prefix, owner)

    @asynccontextmanager
    async def made(self, owner: str) -> AsyncIterator[str]:
        """Gives a wallet's namespace, which stays at least as long as this lasts.

        Raises ClusterUnavailable, Refused.
        """
        name = self.name(owner)
        async with self._locks.alone(name):
            if self._is_due(name):
                await self._make(name, owner)
            try:
                yield name
            except NotFound:  # somebody has removed it
                self._made.pop(name, None)
                raise

    async def renew(self, name: str) -> None:
        """Has a namespace that is there be as this version makes it; an older one lacks policies.

        Raises ClusterUnavailable, Refused.
        """
        async with self._locks.alone(name):
            if self._is_due(name):
                found = await self._cluster.get(NAMESPACES, name)
                await self._make(name, found["metadata"]["annotations"][OWNER_ANNOTATION])

    async def wallets(self) -> dict[str, str]:
        """Returns the wallets' hashes by their namespaces. Raises ClusterUnavailable, Refused."""
        labels = {INSTANCE_LABEL: self._prefix}
        listed = await self._cluster.list(NAMESPACES, labels=labels)
        found = (it["metadata"] for it in listed.items)
        return {
            it["name"]: it["labels"][WALLET_LABEL] for it in found if WALLET_LABEL in it["labels"]
        }

    async def records(self, name: str) -> list[Record]:
        """Asks the cluster for a namespace's records. Raises ClusterUnavailable, Refused."""
        labels = {INSTANCE_LABEL: self._prefix, PART_LABEL: Part.RECORD}
        listed = await self._cluster.list(CONFIG_MAPS, namespace=name, labels=labels)
        return [parse(it) for it in listed.items]

    async def tidy(self, name: str) -> None:
        """Removes a namespace if nothing in it is kept, as the cluster answers.

        Raises ClusterUnavailable, Refused.
        """
        async with self._locks.alone(name):
            try:
                seen = (await self._cluster.get(NAMESPACES, name))["metadata"]
            except NotFound:
                return
            if await self.records(name):
                return
            labels = {INSTANCE_LABEL: self._prefix}
            if (await self._cluster.list(CLAIMS, namespace=name, labels=labels)).items:
                return
            self._made.pop(name, None)
            await self._cluster.delete(NAMESPACES, name, seen=seen)

    def _is_due(self, name: str) -> bool:
        made_at = self._made.get(name, float("-inf"))
        return self._clock.monotonic_seconds() - made_at > _AGAIN_SECONDS

    async def _make(self, name: str, owner: str) -> None:
        await self._wait_ended(name)
        objects = namespace_objects(
            self._quota,
            self._networks,
            prefix=self._prefix,
            owner=owner,
            instance=self._prefix,
        )
        if self._docker_config:
            objects.append(
                pull_secret(
                    PULL_SECRET, name, instance=self._prefix, docker_config=self._docker_config
                )
            )
        first, *rest = objects
        await self._cluster.apply(first)
        await asyncio.gather(*map(self._cluster.apply, rest))
        self._made[name] = self._clock.monotonic_seconds()

    async def _wait_ended(self, name: str) -> None:
        """Waits while a namespace is being removed; nothing can be made in it meanwhile."""
        deadline = self._clock.monotonic_seconds() + _ENDING_SECONDS
        while True:
            try:
                found = await self._cluster.get(NAMESPACES, name)
            except NotFound:
                return
            if "deletionTimestamp" not in found["metadata"]:
                return
            if self._clock.monotonic_seconds() > deadline:
                raise ClusterUnavailable(f"The cluster does not end the namespace {name}.")
            await asyncio.sleep(_POLL_SECONDS)

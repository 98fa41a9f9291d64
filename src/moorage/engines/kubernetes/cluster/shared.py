"""What all deployments of a gateway share in a cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from moorage.clock import Clock
from moorage.engines.engine import BuildSpec, Incident
from moorage.engines.kubernetes.cluster.client import CONFIG_MAPS, Cluster
from moorage.engines.kubernetes.cluster.namespaces import Claims, Namespaces
from moorage.engines.kubernetes.cluster.observed import Observed
from moorage.engines.kubernetes.objects.labels import record_name
from moorage.engines.kubernetes.objects.pod import PodOptions
from moorage.engines.kubernetes.running.output import Followers
from moorage.engines.kubernetes.running.record import Record
from moorage.engines.logs.shared import SharedLogs

Log: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]
"""Writes lines into the log of a build."""


class ImageBuilder(Protocol):
    """Makes the images of deployments, and keeps them in the operator's registry."""

    async def build(self, spec: BuildSpec, log: Log) -> str:
        """Builds the image of a deployment; returns its name in the registry, with its digest.

        Raises DeployFailed, OSError.
        """
        ...

    async def copy(self, image: str, deployment_id: str) -> str:
        """Gives an image another name, for another deployment of its wallet; returns it."""
        ...

    async def user(self, image: str) -> int:
        """Returns whom the app of an image runs as. Raises OSError."""
        ...

    async def remove(self, wallet: str, deployment_id: str) -> None:
        """Removes a deployment's image, if there is one; `wallet` is its hash."""
        ...

    async def stored(self, wallet: str) -> set[str]:
        """Returns the names of all images of a wallet, which are deployments' ids."""
        ...

    async def fetch_files(
        self, image: str, target: Path, *, without: Collection[str], max_bytes: int
    ) -> None:
        """Copies what a build left in `/app` into the new directory `target`.

        As `Engine.export_files`. Raises DeployFailed, OSError.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The connection, what is known of the cluster, and what else deployments have in common."""

    cluster: Cluster
    observed: Observed
    namespaces: Namespaces
    claims: Claims
    followers: Followers
    logs: SharedLogs
    pods: PodOptions
    clock: Clock
    incidents: "asyncio.Queue[Incident]" = field(default_factory=asyncio.Queue)

    @property
    def instance(self) -> str:
        """The label by which the objects of all gateways on one database are found."""
        return self.pods.instance

    async def store(self, record: Record) -> Record:
        """Stores a record; returns it. Raises ClusterUnavailable, Refused."""
        self.observed.put_record(await self.cluster.apply(record.manifest(self.instance)))
        return record

    async def forget(self, record: Record) -> None:
        """Removes a record. Raises ClusterUnavailable, Refused."""
        name = record_name(record.deployment_id)
        await self.cluster.delete(CONFIG_MAPS, name, namespace=record.namespace)
        self.observed.drop_record(record)

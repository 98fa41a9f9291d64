"""Builds in the cluster: their pods, and the builder that the settings ask for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import BaseImages
from moorage.engines.kind import EngineOptions
from moorage.engines.kubernetes.building.builder import Builder, BuilderOptions
from moorage.engines.kubernetes.building.opening import (
    BuildPlaces,
    OpensDockerfiles,
    opened_builder,
)
from moorage.engines.kubernetes.building.registry.images import BaseKeeping
from moorage.engines.kubernetes.cluster.client import (
    LOG_LINE_BYTES,
    Cluster,
    NotFound,
    Refused,
    batches,
)
from moorage.engines.kubernetes.cluster.resources import PODS, resource_of
from moorage.engines.kubernetes.objects.build import Build, build_objects
from moorage.engines.kubernetes.objects.labels import build_name
from moorage.engines.kubernetes.objects.pod import Manifest, PodOptions
from moorage.engines.kubernetes.options import pod_options
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause

_ENDING_SECONDS = 60.0
_POLL_SECONDS = 0.2
_DAY_SECONDS = 24 * 3600
_SILENCE_SECONDS = 300.0


@asynccontextmanager
async def builder_of(
    configuration: HostConfiguration, options: EngineOptions, cluster: Cluster
) -> AsyncIterator[Builder]:
    """Gives the builder of a gateway. Raises ConfigurationInvalid, ClusterUnavailable, OSError."""
    chosen = options.cluster
    credentials = chosen.registry_credentials
    async with opened_builder(
        configuration,
        BuildPlaces(
            registry=chosen.registry,
            credentials=Path(credentials) if credentials else None,
            host=chosen.build_host,
            port=chosen.build_port,
            made_by=f"{chosen.prefix} of {await cluster.uid()}",
            url=chosen.build_url,
            architecture=chosen.architecture,
            keeping=BaseKeeping(
                max_seconds=chosen.base_days * _DAY_SECONDS, max_bytes=chosen.base_bytes
            ),
            max_unused_bytes=options.wallet_cache_bytes,
            dockerfiles=_dockerfiles(options),
        ),
        BuilderOptions(
            own_image=chosen.own_image,
            bases=BaseImages(registry=options.image_registry, images=options.base_images),
            namespaces=chosen.prefix,
        ),
        ClusterPods(cluster, pod_options(chosen, configuration), configuration.clock),
    ) as builder:
        yield builder


def _dockerfiles(options: EngineOptions) -> OpensDockerfiles | None:
    """Returns what opens the builder of Dockerfiles; None where the operator gives none."""
    if not options.cluster.docker_host:
        return None
    # aiodocker is imported only where Docker is used.
    from moorage.engines.kubernetes.building.dockerfiles import opened_dockerfiles  # noqa: PLC0415

    return partial(opened_dockerfiles, options)


class ClusterPods:
    """The `BuildPods` of a cluster."""

    def __init__(self, cluster: Cluster, options: PodOptions, clock: Clock) -> None:
        self._cluster = cluster
        self._options = options
        self._clock = clock
        self._started: dict[str, str] = {}  # uids of pods, by deployment

    async def start(self, build: Build) -> None:
        """As `BuildPods.start`."""
        await self._remove_pod(build, await self.look(build))
        try:
            for manifest in build_objects(build, self._options):
                made = await self._cluster.apply(manifest)
                if resource_of(manifest) is PODS:
                    self._started[build.deployment_id] = _uid(made)
        except Refused as error:
            raise DeployFailed(
                FailureCause.NO_CAPACITY,
                f"the cluster does not take the build: {error}. Deploy again in a while.",
            ) from error

    async def look(self, build: Build) -> Manifest | None:
        """As `BuildPods.look`."""
        name = build_name(build.deployment_id)
        try:
            return await self._cluster.get(PODS, name, namespace=build.namespace)
        except NotFound:
            return None

    async def output(self, build: Build, container: str) -> AsyncIterator[Sequence[str]]:
        """As `BuildPods.output`."""
        async with self._cluster.log(
            namespace=build.namespace,
            pod=build_name(build.deployment_id),
            params={"container": container, "follow": "true"},
            silence_seconds=_SILENCE_SECONDS,
        ) as chunks:
            async for batch in batches(chunks, max_bytes=LOG_LINE_BYTES):
                yield [line.decode(errors="replace") for line in batch]

    async def remove(self, build: Build) -> None:
        """As `BuildPods.remove`; nothing, if another gateway has begun the build anew."""
        started, found = self._started.pop(build.deployment_id, None), await self.look(build)
        if found is not None and _uid(found) != started:
            return
        await self._remove_pod(build, found)
        for manifest in build_objects(build, self._options):
            metadata = manifest["metadata"]
            await self._cluster.delete(
                resource_of(manifest), metadata["name"], namespace=metadata["namespace"]
            )

    async def _remove_pod(self, build: Build, seen: Manifest | None) -> None:
        """Ends this pod, and waits until it has ended."""
        if seen is None:
            return
        name = build_name(build.deployment_id)
        identity = {"uid": _uid(seen)}
        await self._cluster.delete(PODS, name, namespace=build.namespace, seen=identity)
        deadline = self._clock.monotonic_seconds() + _ENDING_SECONDS
        while (found := await self.look(build)) is not None and _uid(found) == _uid(seen):
            if self._clock.monotonic_seconds() > deadline:
                raise ClusterUnavailable(f"The cluster does not end the pod {name}.")
            await asyncio.sleep(_POLL_SECONDS)


def _uid(manifest: Manifest) -> str:
    return str(manifest["metadata"]["uid"])

"""Builds the Dockerfiles of deployers, by a Docker daemon that the operator gives for it.

What it has built is pushed to the operator's registry, and run as every other image is: never as
root, whatever it says of itself.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moorage.engines.dockerd.images import ImageOptions, Images
from moorage.engines.dockerd.workshop import Workshop, opened_images
from moorage.engines.engine import BuildSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import BaseImages
from moorage.engines.images.credentials import Credentials
from moorage.engines.images.recipe import USER
from moorage.engines.kind import EngineOptions
from moorage.engines.kubernetes.building.attempt import Log
from moorage.engines.kubernetes.building.images import BuiltImage, DeploymentImages
from moorage.engines.kubernetes.objects.labels import INSTANCE_LABEL
from moorage.errors import DeployFailed, FailureCause


@asynccontextmanager
async def opened_dockerfiles(
    options: EngineOptions,
    configuration: HostConfiguration,
    images: DeploymentImages,
    credentials: Credentials,
) -> AsyncIterator["DockerfileBuilder"]:
    """Gives the builder of the operator's daemon. Raises IsolationMissing, ConfigurationInvalid."""
    chosen = options.cluster
    workshop = Workshop(
        docker_host=chosen.docker_host,
        certificates=chosen.docker_certificates,
        subnet=options.subnet,
        deny=chosen.networks,
    )
    docker_options = ImageOptions(
        bases=BaseImages(registry=options.image_registry, images=options.base_images),
        reads_local=options.local_images,
        registries=options.dockerfile_registries,
        hidden=(chosen.registry,),  # other wallets' apps
        max_cache_bytes=options.total_cache_bytes,
        labels={INSTANCE_LABEL: images.made_by},
    )
    async with opened_images(configuration, workshop, docker_options) as docker:
        yield DockerfileBuilder(docker, images, credentials)


class DockerfileBuilder:
    """Builds with a daemon, and stores what it has built."""

    def __init__(self, docker: Images, images: DeploymentImages, credentials: Credentials) -> None:
        """`credentials` are those for the operator's registry."""
        self._docker = docker
        self._images = images
        self._credentials = credentials

    async def build(self, spec: BuildSpec, log: Log) -> BuiltImage:
        """Builds the image of a deployment. Raises DeployFailed, OSError."""
        target = self._images.name(spec.owner, spec.deployment_id)
        try:
            await self._docker.build(spec, log)
            user = _user(await self._docker.user(spec.deployment_id))
            await log([f"the app runs as user {user}"])
            credentials = self._credentials.of(target.repository.registry)
            await self._docker.push(spec.deployment_id, target, credentials)
        finally:
            await self._docker.remove(spec.deployment_id)
        return await self._images.adopt(spec.owner, spec.deployment_id, user=user)


def _user(named: str | None) -> str:
    """Returns whom an app runs as whose image names this user; raises DeployFailed."""
    if named is None:
        raise DeployFailed(
            FailureCause.BUILD_FAILED,
            "the image's USER is not in its /etc/passwd: name it by its number",
        )
    return USER if not int(named.partition(":")[0] or 0) else named

"""Builds the Dockerfiles of deployers, by a Docker daemon that the operator gives for it.

What it has built is pushed to the operator's registry, and run as every other image is: never as
root, whatever it says of itself. Apps do without the daemon: while it is away, only Dockerfiles are
not built.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from moorage.engines.dockerd.images import ImageOptions, Images
from moorage.engines.dockerd.workshop import Workshop, opened_images
from moorage.engines.engine import BuildSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import BaseImages
from moorage.engines.images.credentials import Credentials
from moorage.engines.images.recipe import USER
from moorage.engines.kind import EngineOptions
from moorage.engines.kubernetes.building.attempt import Log
from moorage.engines.kubernetes.building.registry.images import BuiltImage, DeploymentImages
from moorage.engines.kubernetes.objects.labels import INSTANCE_LABEL
from moorage.errors import DeployFailed, FailureCause, IsolationMissing

logger = logging.getLogger(__name__)


@asynccontextmanager
async def opened_dockerfiles(
    options: EngineOptions,
    configuration: HostConfiguration,
    images: DeploymentImages,
    credentials: Credentials,
) -> AsyncIterator["DockerfileBuilder"]:
    """Gives the builder of the operator's daemon, which need not be there yet.

    Raises ConfigurationInvalid.
    """
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
    async with AsyncExitStack() as stack:

        async def opened() -> Images:
            opening = opened_images(configuration, workshop, docker_options)
            return await stack.enter_async_context(opening)

        builder = DockerfileBuilder(opened, images, credentials)
        await builder.open()
        yield builder


class DockerfileBuilder:
    """Builds with a daemon, and stores what it has built."""

    def __init__(
        self,
        opened: Callable[[], Awaitable[Images]],
        images: DeploymentImages,
        credentials: Credentials,
    ) -> None:
        """`opened` reaches the daemon; `credentials` are those for the operator's registry."""
        self._opened = opened
        self._images = images
        self._credentials = credentials
        self._docker: Images | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Images | None:
        """Reaches the daemon, unless that was done. Returns None, and logs why, if it can't be.

        Raises ConfigurationInvalid.
        """
        async with self._opening:
            if self._docker is None:
                try:
                    self._docker = await self._opened()
                except (IsolationMissing, OSError) as error:
                    logger.error("no Dockerfile is built: %s", error)
            return self._docker

    async def build(self, spec: BuildSpec, log: Log) -> BuiltImage:
        """Builds the image of a deployment. Raises DeployFailed, OSError."""
        docker = await self.open()
        if docker is None:
            raise DeployFailed(
                FailureCause.NO_CAPACITY,
                "The gateway's builder of Dockerfiles is not there just now: deploy again later.",
            )
        target = self._images.name(spec.owner, spec.deployment_id)
        try:
            await docker.build(spec, log)
            user = _user(await docker.user(spec.deployment_id))
            await log([f"the app runs as user {user}"])
            credentials = self._credentials.of(target.repository.registry)
            await docker.push(spec.deployment_id, target, credentials)
        finally:
            await docker.remove(spec.deployment_id)
        return await self._images.adopt(spec.owner, spec.deployment_id, user=user)


def _user(named: str | None) -> str:
    """Returns whom an app runs as whose image names this user; raises DeployFailed."""
    if named is None:
        raise DeployFailed(
            FailureCause.BUILD_FAILED,
            "the image's USER is not in its /etc/passwd: name it by its number",
        )
    return USER if not int(named.partition(":")[0] or 0) else named

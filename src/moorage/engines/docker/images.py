"""The images of deployments in a Docker daemon: builds, copies, removes and collects them."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from moorage.engines.dockerd.attempt import Log
from moorage.engines.dockerd.builder import Builder, BuilderOptions
from moorage.engines.dockerd.daemon import Daemon, NotFound, calling
from moorage.engines.dockerd.leaving import export_app
from moorage.engines.dockerd.opening import docker_buildkit
from moorage.engines.engine import BuildSpec
from moorage.engines.failure import not_built
from moorage.engines.host.cgroup import Cgroups
from moorage.engines.host.configuration import HostConfiguration
from moorage.errors import DeployFailed, FailureCause

INSTANCE_LABEL = "moorage.instance"
_BASE_BYTES = 4 * 1024**3  # that an image may have beside what the app's disk may


class Images:
    """The images of a gateway's deployments in one Docker daemon."""

    def __init__(
        self,
        configuration: HostConfiguration,
        daemon: Daemon,
        cgroups: Cgroups,
        options: BuilderOptions,
    ) -> None:
        self._daemon = daemon
        self._builder = Builder(configuration, docker_buildkit(daemon, cgroups), options)
        self._repository = f"moorage-{configuration.instance_id}"
        self._labels = {INSTANCE_LABEL: configuration.instance_id}
        self._building: set[str] = set()

    def image_of(self, deployment_id: str) -> str:
        """Returns the name of a deployment's image.

        It can't be guessed, so that no Dockerfile can begin with another wallet's image.
        """
        return f"{self._repository}:{deployment_id}.{self._builder.digest(deployment_id)}"

    async def build(self, spec: BuildSpec, log: Log) -> None:
        """Builds the image of a deployment, as `Builder.build`."""
        name, most = self.image_of(spec.deployment_id), spec.limits.disk_bytes + _BASE_BYTES
        self._building.add(spec.deployment_id)
        try:
            attempt = await self._builder.build(spec, log, name, labels=self._labels)
        finally:
            self._building.discard(spec.deployment_id)
        async with calling():
            image = await self._daemon.docker.images.inspect(name)
        if image["Size"] > most:
            await self.remove(spec.deployment_id)
            raise attempt.failure(
                FailureCause.OUT_OF_DISK, f"the image is larger than {most // 1024**2} MiB"
            )

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """Gives a deployment the image of another. Raises DeployFailed if there is none."""
        name, _, tag = self.image_of(deployment_id).partition(":")
        try:
            async with calling():
                await self._daemon.docker.images.tag(self.image_of(origin_id), name, tag=tag)
        except NotFound:
            raise DeployFailed(
                FailureCause.INTERRUPTED, "there is no finished build to copy"
            ) from None

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str]
    ) -> None:
        """As `Engine.export_files`: what is in the image's `/app`. Raises DaemonFailed."""
        name = self.image_of(deployment_id)
        try:
            async with calling():
                size = (await self._daemon.docker.images.inspect(name))["Size"]
        except NotFound:
            raise not_built("move") from None
        await export_app(self._builder, name, target, without=without, max_bytes=size)

    async def remove(self, deployment_id: str) -> None:
        """Removes a deployment's image, if there is one; no container may use it."""
        await self._delete(self.image_of(deployment_id))

    async def collect(self, kept: set[str]) -> None:
        """Removes all images but those of these deployments, and what the cache has too much.

        What other names share stays, and what is being built.
        """
        kept = kept | self._building
        async with calling():
            label = f"{INSTANCE_LABEL}={self._labels[INSTANCE_LABEL]}"
            found = await self._daemon.docker.images.list(filters={"label": [label]})
        for image in found:
            names = [n for n in image["RepoTags"] or () if n.startswith(f"{self._repository}:")]
            for name in names:
                if name.partition(":")[2].rpartition(".")[0] not in kept:
                    await self._delete(name)
            if not image["RepoTags"]:
                await self._delete(image["Id"])
        await self._builder.prune()

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            async with calling():
                await self._daemon.docker.images.delete(name)

"""The Docker engine: builds images, and runs apps in containers of this machine's Docker."""

import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from moorage.engines.docker import app, network
from moorage.engines.docker.container import INSTANCE_LABEL, settled, usage_of
from moorage.engines.docker.deployment_directory import DeploymentDirectory, Host, Record
from moorage.engines.docker.host import (
    close_host,
    free_disk_bytes,
    keep_firewall,
    open_host,
)
from moorage.engines.docker.kind import CAPABILITIES
from moorage.engines.dockerd import firewall
from moorage.engines.dockerd.attempt import Log
from moorage.engines.dockerd.builder import Builder, BuilderOptions
from moorage.engines.dockerd.daemon import Daemon, DaemonFailed, NotFound, calling
from moorage.engines.dockerd.leaving import export_app
from moorage.engines.dockerd.opening import docker_buildkit
from moorage.engines.engine import (
    AppExit,
    BuildSpec,
    Instance,
    InstanceSpec,
    Keep,
    Resources,
    Usage,
    WrittenFiles,
)
from moorage.engines.failure import not_built
from moorage.engines.host.cgroup import Cgroups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.local import LocalEngine, repeat, require_built
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.records.deployment import LogKind
from moorage.threads import in_thread, to_its_end

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


_MAINTAIN_SECONDS = 5.0


class DockerEngine(LocalEngine[Host, DeploymentDirectory]):
    """An `Engine` of one container for each app, on a network that the gateway's firewall guards.

    The gateway runs on Docker's machine, as root: it enters the containers' networks, and loads the
    packet filter where Docker's bridges are.
    """

    capabilities = CAPABILITIES

    def __init__(
        self,
        configuration: HostConfiguration,
        *,
        docker_host: str,
        subnet: str,
        images: BuilderOptions,
    ) -> None:
        super().__init__(configuration)
        self._docker_host = docker_host
        self._subnet = subnet
        self._image_options = images

    @property
    def instance_id(self) -> str:
        """This gateway's own id on the machine."""
        return self._configuration.instance_id

    async def open(self) -> str:
        """As `Engine.open`; removes what belongs to no deployment."""
        host = await open_host(
            self._configuration,
            docker_host=self._docker_host,
            subnet=self._subnet,
            ended=self._ended,
        )
        self._opened = host
        self._images = Images(self._configuration, host.daemon, host.cgroups, self._image_options)
        self._watch_exits(())
        built = {it.deployment_id for it in host.directories() if it.record and it.record.is_built}
        await self._images.collect(built)
        for directory in host.directories():
            self._follow(directory, directory.record)
        self._keep(repeat(partial(keep_firewall, host), every_seconds=_MAINTAIN_SECONDS))
        version = host.cgroups.hierarchy.version
        docker = host.daemon.info.get("ServerVersion", "")
        return f"docker: Docker {docker}, containers, seccomp, nftables, cgroup v{version}"

    async def check(self) -> None:
        """As `Engine.check`: Docker answers, and the apps' packet filter is loaded."""
        if self._opened is None:
            raise IsolationMissing(("the engine is closed",))
        host = self._opened
        try:
            async with calling():
                await host.daemon.docker.version()
        except DaemonFailed as error:
            raise IsolationMissing((f"{error}: systemctl start docker",)) from error
        if not await in_thread(firewall.is_loaded, host.around.instance_id, host.daemon):
            raise IsolationMissing(("the packet filter of the apps is gone",))

    async def close(self, *, stop_apps: bool) -> None:
        """As `Engine.close`."""
        host = self._opened
        await super().close(stop_apps=stop_apps)
        if host is None:
            return
        await host.followers.close()
        if stop_apps:
            await network.remove(host.daemon, host.around.instance_id)
        await host.daemon.close()

    def _close_host(self, host: Host) -> None:
        close_host(host)

    async def build(self, spec: BuildSpec) -> None:
        """As `Engine.build`: leaves an image."""
        async with self._making(spec.deployment_id) as directory:
            await self._images.build(spec, directory.write_build_log)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Engine.copy`: another name for the same image."""
        origin = self._directory(origin_id)
        require_built(origin, "copy")
        async with self._making(deployment_id) as directory:
            await self._images.copy(origin_id, deployment_id)
            await in_thread(directory.logs.copy_from, origin.logs, LogKind.BUILD)

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """As `Engine.export_files`: what is in the image's `/app`, where the files were copied."""
        async with self._alone(deployment_id) as directory:
            require_built(directory, "move")
            await self._images.export_files(deployment_id, target, without=without)

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        """As `Engine.stop`."""
        await super().stop(deployment_id, keep=keep)
        if keep is not Keep.ALL:
            await self._images.remove(deployment_id)

    async def connections(self, deployment_id: str) -> int:
        """As `Engine.connections`: those to the app's own port, not to the proxy's socket."""
        return await in_thread(app.connections, self._directory(deployment_id).record)

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        """As `Engine.written`: nothing, as an app can only write in memory and to its volume."""
        if self._directory(deployment_id).record is None:
            return None
        return WrittenFiles(files=0, size_bytes=0, complete=True)

    async def resources(self) -> Resources:
        """As `Engine.resources`: images and apps have no disks of fixed size, volumes have.

        Of the apps' bridge, those ports are free that no app has.
        """
        host = self._host
        return Resources(
            memory_bytes=host.shares.apps_bytes,
            free_bytes=await in_thread(free_disk_bytes, host),
            networks=max(0, network.max_apps(self._subnet) - len(self._started())),
            volume_growth=await in_thread(host.volumes.growth),
        )

    async def _exit(self, directory: DeploymentDirectory) -> AppExit | None:
        record = directory.record
        ended = None if record is None else await app.exit_of(self._host.daemon, record)
        if ended is not None:
            await self._host.followers.drained(directory.deployment_id)
        return ended

    @asynccontextmanager
    async def _making(self, deployment_id: str) -> AsyncIterator[DeploymentDirectory]:
        """Makes an empty directory; at the end it is built, or abandoned on errors."""
        async with self._alone(deployment_id) as directory:
            await to_its_end(self._halt(directory))
            await in_thread(directory.begin)
            try:
                yield directory
                await in_thread(directory.finish)
            except BaseException:
                await to_its_end(self._images.remove(deployment_id))
                await in_thread(directory.abandon)
                raise

    async def _start(
        self, directory: DeploymentDirectory, spec: InstanceSpec, timeout_seconds: float
    ) -> Instance:
        record = directory.record
        if record is None or await self._is_gone(directory):
            await to_its_end(self._halt(directory))
            image = self._images.image_of(directory.deployment_id)
            record = await app.launch(directory, image, spec)
            self._follow(directory, record)
        if not spec.listens:
            await in_thread(directory.socket.touch)  # see `_started`
            return _without_address(directory)
        listener = await app.wait_listening(
            directory, record, spec, timeout_seconds=timeout_seconds
        )
        await in_thread(app.open_proxy, directory, record, listener)
        await in_thread(directory.write, msgspec.structs.replace(record, listener=listener))
        if record.container_id is not None:
            await self._host.daemon.update(record.container_id, settled(spec.limits.cpu_millis))
        return directory.instance(listener)

    def _follow(self, directory: DeploymentDirectory, record: Record | None) -> None:
        if record is None or record.container_id is None:
            return
        self._host.followers.begin(
            directory.deployment_id,
            record.container_id,
            record.process,
            directory.logs,
            record.log,
        )

    async def _halt(self, directory: DeploymentDirectory) -> None:
        """Stops the app, and records how it ended before its container is removed."""
        record = directory.record
        if record is None or record.container_id is None:
            return
        host = directory.host
        await app.stop(host, record, grace_seconds=self._configuration.stop_grace_seconds)
        ended = await app.exit_of(host.daemon, record)
        await host.followers.drained(directory.deployment_id)
        await host.followers.forget(directory.deployment_id)
        await in_thread(app.close_proxy, directory)
        await app.remove_container(directory)
        await in_thread(host.volumes.hide, directory.deployment_id)
        if ended is not None:
            await in_thread(directory.write, record.without_container(ended))

    def _started(self) -> list[DeploymentDirectory]:
        """Returns the deployments whose app has a socket proxy, or a file there without a port."""
        return [directory for directory in self._host.directories() if directory.socket.exists()]

    def _running(self) -> dict[str, Instance]:
        found = {}
        for directory in self._started():
            if (instance := self._live(directory)) is not None:
                found[directory.deployment_id] = instance
        return found

    def _usage(self) -> dict[str, Usage]:
        found = {}
        for directory in self._started():
            record = directory.record
            if record is None or record.process is None or not app.runs(record):
                continue
            if (usage := usage_of(self._host.cgroups, record.process.pid)) is not None:
                found[directory.deployment_id] = usage
        return found

    def _live(self, directory: DeploymentDirectory) -> Instance | None:
        record = directory.record
        if record is None or not app.is_open(directory, record):
            return None
        if record.listener is None:
            return _without_address(directory)
        return directory.instance(record.listener)

    def _is_running(self, directory: DeploymentDirectory) -> bool:
        return app.runs(directory.record)

    def _has_ended(self, directory: DeploymentDirectory) -> bool:
        return not app.runs(directory.record)


def _without_address(directory: DeploymentDirectory) -> Instance:
    return Instance(deployment_id=directory.deployment_id, address=None, port=None)

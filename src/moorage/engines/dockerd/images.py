"""The images of deployments: builds, copies, removes and collects them."""

import contextlib
import hashlib
import itertools
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from moorage.engines.dockerd.attempt import Attempt, Log, is_own
from moorage.engines.dockerd.buildx import Build
from moorage.engines.dockerd.daemon import Daemon, DaemonFailed, NotFound, calling, environment
from moorage.engines.dockerd.group import BuildGroup, ElsewhereGroup
from moorage.engines.dockerd.leaving import unpack_files
from moorage.engines.dockerd.materials import ANY, Laid, lay
from moorage.engines.dockerd.writing import Writing
from moorage.engines.engine import BuildSpec
from moorage.engines.failure import not_built
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.kernel.cgroup import Cgroups
from moorage.engines.host.toolchains import ensured
from moorage.engines.images.base_images import BaseImages, main_program
from moorage.engines.images.recipe import APP, Materials
from moorage.engines.images.reference import Reference
from moorage.engines.images.sources import require_files
from moorage.engines.images.user import is_name, numeric_pair
from moorage.engines.isolation.bubblewrap import CERTIFICATES
from moorage.errors import DeployFailed, FailureCause
from moorage.threads import in_thread
from moorage.whole_file import replace_file

INSTANCE_LABEL = "moorage.instance"
BUILD_SUFFIX = ".build"  # of the directory with a build's files
_PRUNE = "build/prune"
_PASSWD = "/etc/passwd"  # noqa: S105 (a path)
_PASSWD_BYTES = 256 * 1024
_HAS_TRUST = Path(CERTIFICATES).is_file()
_KEY_BYTES = 32
_OWNER_DIGITS = 16
_ARCHIVE_BYTES = 256 * 1024**2  # that an archive may have beside its files
_BASE_BYTES = 4 * 1024**3  # that an image may have beside what the app's disk may

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The operator's choices for images."""

    bases: BaseImages
    reads_local: bool = False  # whether a deployer's Dockerfile may use this machine's images
    registries: tuple[str, ...] = (ANY,)  # whose images a deployer's Dockerfile may name
    hidden: tuple[str, ...] = ()  # what names of images begin with that it may not name
    max_cache_bytes: int = 10 * 1024**3  # of the builder, for all wallets
    labels: Mapping[str, str] = field(default_factory=dict)  # of all images, beside their own


class Images:
    """The images of a gateway's deployments in one Docker daemon."""

    def __init__(
        self,
        configuration: HostConfiguration,
        daemon: Daemon,
        cgroups: Cgroups | None,
        options: ImageOptions,
    ) -> None:
        """`cgroups` is None for a daemon on another machine, which holds builds by itself."""
        self._configuration = configuration
        self._daemon = daemon
        self._cgroups = cgroups
        self._options = options
        self._key = _key(configuration.state_dir / "images.key")
        self._repository = f"moorage-{configuration.instance_id}"
        self._building: set[str] = set()
        self._writing = Writing()
        self._places: set[str] = set()

    def image_of(self, deployment_id: str) -> str:
        """Returns the name of a deployment's image.

        It can't be guessed, so that no Dockerfile can begin with another wallet's image.
        """
        return f"{self._repository}:{deployment_id}.{self._digest(deployment_id)}"

    async def build(self, spec: BuildSpec, log: Log) -> None:
        """Builds the image of a deployment; what an earlier attempt left is replaced.

        Raises DeployFailed, DaemonFailed, OSError. Nothing of a build that ends early runs on, and
        the builder keeps no more of it than of another.
        """
        self._building.add(spec.deployment_id)
        with self._writing.of(spec.deployment_id):
            try:
                await self._attempt(spec, log)
            finally:
                self._building.discard(spec.deployment_id)
                try:
                    await self._prune()
                except DaemonFailed as error:
                    logger.warning("the builder keeps more than it may: %s", error)

    async def _attempt(self, spec: BuildSpec, log: Log) -> None:
        await in_thread(require_files, spec.source)
        await log(spec.plan.because)
        async with self._laid(spec) as laid, self._group(spec) as group:
            attempt = Attempt(spec, log, group)

            def has_room() -> bool:
                self._writing.note(spec.deployment_id, group.written())
                return self._has_room() or not self._writing.is_most(spec.deployment_id)

            build = self._build(spec, laid, group)
            await attempt.run(build, self._environment(spec, laid), has_room)
        await self._check_size(spec, attempt)

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
        """As `Engine.export_files`: what is in the image's `/app`, by a container that never runs.

        Raises DaemonFailed.
        """
        name, instance = self.image_of(deployment_id), self._configuration.instance_id
        config: dict[str, Any] = {
            "Image": name,
            "Cmd": ["true"],
            "Labels": {INSTANCE_LABEL: instance},
        }
        try:
            async with calling():
                size = (await self._daemon.docker.images.inspect(name))["Size"]
                container = await self._daemon.docker.containers.create(config)
        except NotFound:
            raise not_built("move") from None
        archive = target.with_suffix(".tar")
        try:
            most = size + _ARCHIVE_BYTES
            await self._daemon.archive(container.id, APP, archive, max_bytes=most)
            await in_thread(unpack_files, archive, target, without=without, max_bytes=most)
        finally:
            archive.unlink(missing_ok=True)
            async with calling():
                await container.delete(force=True)

    async def push(self, deployment_id: str, target: Reference, credentials: str) -> None:
        """Puts a deployment's image into a registry; `credentials` are as HTTP's Basic has them.

        No build sees them: they are the daemon's for this request. Raises DaemonFailed.
        """
        name = str(target.repository)
        async with calling():
            await self._daemon.docker.images.tag(self.image_of(deployment_id), name, tag=target.tag)
            try:
                auth = credentials or None
                await self._daemon.docker.images.push(name, tag=target.tag, auth=auth)
            finally:
                await self._daemon.docker.images.delete(f"{name}:{target.tag}")

    async def user(self, deployment_id: str) -> str | None:
        """Returns the user that a deployment's image names, as numbers where it has a name.

        "" for no user, None for one that the image does not know. Raises DaemonFailed.
        """
        name = self.image_of(deployment_id)
        async with calling():
            found = await self._daemon.docker.images.inspect(name)
            user = str((found.get("Config") or {}).get("User") or "")
            if not is_name(user):
                return user
            config: dict[str, Any] = {
                "Image": name,
                "Cmd": ["true"],
                "Labels": {INSTANCE_LABEL: self._configuration.instance_id},
            }
            container = await self._daemon.docker.containers.create(config)
        try:
            passwd = await self._daemon.beginning(container.id, _PASSWD, max_bytes=_PASSWD_BYTES)
            return numeric_pair(user, passwd.decode(errors="replace")) or None
        finally:
            async with calling():
                await container.delete(force=True)

    async def remove(self, deployment_id: str) -> None:
        """Removes a deployment's image, if there is one; no container may use it."""
        await self._delete(self.image_of(deployment_id))

    async def collect(self, kept: set[str]) -> None:
        """Removes all images but those of these deployments, and what the cache has too much.

        What other names share stays, and what is being built.
        """
        kept = kept | self._building
        async with calling():
            label = f"{INSTANCE_LABEL}={self._configuration.instance_id}"
            found = await self._daemon.docker.images.list(filters={"label": [label]})
        for image in found:
            names = [n for n in image["RepoTags"] or () if n.startswith(f"{self._repository}:")]
            for name in names:
                if name.partition(":")[2].rpartition(".")[0] not in kept:
                    await self._delete(name)
            if not image["RepoTags"]:
                await self._delete(image["Id"])
        await self._prune()

    async def _prune(self) -> None:
        """Lets the builder forget what was not used for longest, beyond the cache's size."""
        query = {"all": "1", "keep-storage": str(self._options.max_cache_bytes)}
        url = f"{self._daemon.url}/{_PRUNE}"
        async with calling(), self._daemon.session.post(url, params=query) as answer:
            if answer.status != HTTPStatus.OK:
                raise DaemonFailed(f"Docker failed: {await answer.text()}")

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            async with calling():
                await self._daemon.docker.images.delete(name)

    @asynccontextmanager
    async def _laid(self, spec: BuildSpec) -> AsyncIterator[Laid]:
        """Writes the build's files, and removes them at the end."""
        configuration, plan = self._configuration, spec.plan
        main = main_program(plan)
        wanted = {name: v for name, v in plan.toolchains.items() if name != main}
        materials = Materials(
            bases=self._options.bases,
            tools={name: path.resolve() for name, path in configuration.tools.items()},
            toolchains=await ensured(configuration.toolchains, wanted),
            has_trust=_HAS_TRUST,
        )
        directory = configuration.run_dir / f"{spec.deployment_id}{BUILD_SUFFIX}"
        await in_thread(_empty, directory)
        try:
            yield await in_thread(
                lay,
                spec,
                materials,
                configuration.build_env,
                directory,
                registries=self._options.registries,
                hidden=self._options.hidden,
            )
        finally:
            await in_thread(shutil.rmtree, directory, ignore_errors=True)

    @asynccontextmanager
    async def _group(self, spec: BuildSpec) -> AsyncIterator[BuildGroup | ElsewhereGroup]:
        """Gives a build a control group: its wallet's, as the builder's cache goes by the name."""
        if self._cgroups is None:
            yield ElsewhereGroup()
            return
        owner = self._digest(spec.owner or spec.deployment_id)[:_OWNER_DIGITS]
        places = (f"{owner}-{number}" for number in itertools.count())
        place = next(place for place in places if place not in self._places)
        self._places.add(place)
        group = BuildGroup(self._cgroups, place)
        try:
            await in_thread(group.open, spec.limits)
            yield group
        finally:
            try:
                await in_thread(group.remove)
            finally:
                self._places.discard(place)

    def _build(self, spec: BuildSpec, laid: Laid, group: BuildGroup | ElsewhereGroup) -> Build:
        variables = msgspec.json.encode(
            (spec.owner or spec.deployment_id, self._configuration.build_env, dict(spec.variables)),
            order="deterministic",
        )
        return Build(
            dockerfile=laid.file,
            context=laid.context,
            tag=self.image_of(spec.deployment_id),
            labels={INSTANCE_LABEL: self._configuration.instance_id, **self._options.labels},
            cgroup_parent=group.parent,
            cache_scope=self._digest(variables.decode()),
            contexts=laid.written.contexts,
            arguments=laid.arguments,
            secrets=laid.secrets,
            pulls=is_own(spec) and not self._options.reads_local,
        )

    def _environment(self, spec: BuildSpec, laid: Laid) -> dict[str, str]:
        """Returns the builder's environment: for a stranger's Dockerfile without credentials."""
        found = {
            **environment(self._daemon),
            "HOME": str(Path.home()),
            "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(laid.policy),
        }
        return {**found, "DOCKER_CONFIG": str(laid.file.parent)} if is_own(spec) else found

    def _has_room(self) -> bool:
        if not self._daemon.is_here:
            return True
        root = self._daemon.info.get("DockerRootDir", "/")
        try:
            free = shutil.disk_usage(root).free
        except OSError:  # it is the daemon's, and not to be seen from here
            return True
        return free > self._configuration.disk_reserve_bytes

    async def _check_size(self, spec: BuildSpec, attempt: Attempt) -> None:
        async with calling():
            image = await self._daemon.docker.images.inspect(self.image_of(spec.deployment_id))
        most = spec.limits.disk_bytes + _BASE_BYTES
        if image["Size"] > most:
            await self.remove(spec.deployment_id)
            raise attempt.failure(
                FailureCause.OUT_OF_DISK, f"the image is larger than {most // 1024**2} MiB"
            )

    def _digest(self, text: str) -> str:
        """Returns a digest that only this gateway can make."""
        return hashlib.blake2b(text.encode(), digest_size=16, key=self._key).hexdigest()


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)


def _key(file: Path) -> bytes:
    """Returns the gateway's secret for names and caches; makes it at the first start."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_bytes()
    key = secrets.token_bytes(_KEY_BYTES)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, key)
    return key

"""Builds images with BuildKit, for every engine whose apps run in images.

A plan becomes a Dockerfile, of which `docker buildx build` has BuildKit make an image: that of a
Docker daemon, or a buildkitd.
"""

import contextlib
import hashlib
import itertools
import logging
import secrets
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from moorage.engines.dockerd import buildx
from moorage.engines.dockerd.attempt import Attempt, Log, is_own
from moorage.engines.dockerd.buildx import Build, Output
from moorage.engines.dockerd.dockerfile import ANY, BuildFiles, require_files, write_build_files
from moorage.engines.dockerd.firewall import BuildGroup, ElsewhereGroup
from moorage.engines.engine import BuildSpec
from moorage.engines.host.cgroup import Cgroups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import BaseImages
from moorage.engines.images.image import parse_reference
from moorage.engines.images.recipe import Materials
from moorage.engines.images.registry import Credentials
from moorage.engines.isolation.bubblewrap import CERTIFICATES
from moorage.threads import in_thread
from moorage.whole_file import replace_file


class Writing:
    """The bytes that each build's processes have written, as far as they were seen.

    A process that lives for less than a second may not be seen: what fills a disk lives longer.
    """

    def __init__(self) -> None:
        self._written: dict[str, dict[int, int]] = {}  # by build, then by process

    @contextmanager
    def of(self, build: str) -> Iterator[None]:
        """Counts for a build, until what it leaves is removed."""
        self._written[build] = {}
        try:
            yield
        finally:
            del self._written[build]

    def note(self, build: str, written: Mapping[int, int]) -> None:
        """Notes what its processes have written since they began; those that ended keep theirs."""
        self._written[build].update(written)

    def is_most(self, build: str) -> bool:
        """Returns whether no other build has written more."""
        own = self._total(build)
        return all(self._total(other) <= own for other in self._written)

    def _total(self, build: str) -> int:
        return sum(self._written[build].values())


BUILD_SUFFIX = ".build"  # of the directory with a build's files
_CONFIG = "config.json"
_HAS_TRUST = Path(CERTIFICATES).is_file()
_KEY_BYTES = 32
_OWNER_DIGITS = 16
_SCOPE = "moorage"  # of builds that run nothing of a stranger's
_COPYING = "FROM scratch\nCOPY --from=app {} /found/\n"
_ABSENT = ": not found"  # as BuildKit ends its sentence about a path
_EMPTY_TAR = bytes(2 * tarfile.BLOCKSIZE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildKit:
    """Where images are made."""

    environment: Mapping[str, str]  # by which the `docker` program finds it
    name: str = "default"  # of buildx's builder
    cgroups: Cgroups | None = None  # that hold builds; None where it holds them by itself
    disk: Path | None = None  # that it writes to, where that is this machine's
    keeps_images: bool = False  # also those that were pushed, until they are removed


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """The operator's choices for builds."""

    bases: BaseImages
    reads_local: bool = False  # whether a deployer's Dockerfile may use the builder's own images
    registries: tuple[str, ...] = (ANY,)  # whose images a deployer's Dockerfile may name
    hidden: tuple[str, ...] = ()  # what names of images begin with that it may not name
    max_cache_bytes: int = 10 * 1024**3  # of the builder, for all wallets
    docker_config: Path | None = None  # a config.json with credentials; None: the user's own


class Builder:
    """Builds the images of a gateway's deployments."""

    def __init__(
        self, configuration: HostConfiguration, buildkit: BuildKit, options: BuilderOptions
    ) -> None:
        self._configuration = configuration
        self._buildkit = buildkit
        self._options = options
        self._key = _key(configuration.state_dir / "images.key")
        self._writing = Writing()
        self._places: set[str] = set()

    async def build(
        self,
        spec: BuildSpec,
        log: Log,
        image: str,
        *,
        labels: Mapping[str, str],
        pushes: Credentials | None = None,
    ) -> Attempt:
        """Builds a deployment's image under a name, in place of an earlier one.

        Without `pushes` the image is the Docker daemon's. Otherwise `pushes` are the credentials of
        the registry that `image` names; no stranger's Dockerfile is read with them.

        Raises DeployFailed, BuilderFailed, OSError. A build that ends early leaves nothing running.
        """
        with self._writing.of(spec.deployment_id):
            try:
                return await self._attempt(spec, log, image, labels, pushes)
            finally:
                try:
                    await self.prune()
                except buildx.BuilderFailed as error:
                    logger.warning("the builder keeps more than it may: %s", error)

    async def copy_files(
        self,
        image: str,
        path: str,
        archive: Path,
        *,
        max_bytes: int,
        credentials: Credentials | None = None,
    ) -> None:
        """Writes a file, or what is in a directory, of an image to a tar file, below `found`.

        The archive is empty if there is no such path. Nothing of the image runs. Raises
        BuilderFailed, also for more than `max_bytes`; OSError.
        """
        async with self._directory(archive.with_suffix(BUILD_SUFFIX)) as directory:
            file = directory / "Dockerfile"
            await in_thread(file.write_text, _COPYING.format(path))
            build = Build(
                builder=self._buildkit.name,
                dockerfile=file,
                context=directory,
                output=Output.ARCHIVE,
                cache_scope=_SCOPE,
                contexts={"app": f"docker-image://{image}"},
            )
            environment = dict(self._buildkit.environment)
            if credentials is not None:
                environment["DOCKER_CONFIG"] = str(directory)
                await in_thread(_write_config, directory, credentials, image)
            try:
                await buildx.write_output(build.argv, environment, archive, max_bytes=max_bytes)
            except buildx.BuilderFailed as error:
                if _ABSENT not in str(error):
                    raise
                await in_thread(archive.write_bytes, _EMPTY_TAR)

    async def forget(self, image: str) -> None:
        """Removes what was pushed from the builder, if it keeps such. Raises BuilderFailed."""
        if self._buildkit.keeps_images:
            await buildx.run(buildx.remove(image), self._buildkit.environment)

    async def prune(self) -> None:
        """Lets the builder forget what was not used for longest, beyond the cache's size.

        Raises BuilderFailed.
        """
        most = self._options.max_cache_bytes
        environment = self._buildkit.environment
        await buildx.run(buildx.prune(self._buildkit.name, max_bytes=most), environment)

    def digest(self, text: str) -> str:
        """Returns a digest that only this gateway can make."""
        return hashlib.blake2b(text.encode(), digest_size=16, key=self._key).hexdigest()

    async def _attempt(
        self,
        spec: BuildSpec,
        log: Log,
        image: str,
        labels: Mapping[str, str],
        pushes: Credentials | None,
    ) -> Attempt:
        await in_thread(require_files, spec.source)
        await log(spec.plan.because)
        async with self._files(spec) as files, self._group(spec) as group:
            attempt = Attempt(spec, log, group)

            def has_room() -> bool:
                self._writing.note(spec.deployment_id, group.written())
                return self._has_room() or not self._writing.is_most(spec.deployment_id)

            pulls = is_own(spec) or pushes is not None
            build = self._build(spec, files, group, image, labels, pulls=pulls)
            if pushes is None:
                await attempt.run(build, self._environment(spec, files), has_room)
                return attempt
            only_built = replace(build, output=Output.NONE)
            await attempt.run(only_built, self._environment(spec, files), has_room)
            directory = files.file.parent / "push"
            await in_thread(_write_config, directory, pushes, image)
            pushing = replace(build, output=Output.REGISTRY)
            environment = {**self._environment(spec, files), "DOCKER_CONFIG": str(directory)}
            await buildx.run(pushing.argv, environment)
            return attempt

    @asynccontextmanager
    async def _directory(self, directory: Path) -> AsyncIterator[Path]:
        """Makes an empty directory, and removes it at the end."""
        await in_thread(make_empty, directory)
        try:
            yield directory
        finally:
            await in_thread(shutil.rmtree, directory, ignore_errors=True)

    @asynccontextmanager
    async def _files(self, spec: BuildSpec) -> AsyncIterator[BuildFiles]:
        """Writes the build's files, and removes them at the end."""
        configuration = self._configuration
        materials = Materials(
            bases=self._options.bases,
            tools={name: path.resolve() for name, path in configuration.tools.items()},
            has_trust=_HAS_TRUST,
        )
        place = configuration.run_dir / f"{spec.deployment_id}{BUILD_SUFFIX}"
        async with self._directory(place) as directory:
            yield await in_thread(
                write_build_files,
                spec,
                materials,
                configuration.build_env,
                directory,
                registries=self._options.registries,
                hidden=self._options.hidden,
            )

    @asynccontextmanager
    async def _group(self, spec: BuildSpec) -> AsyncIterator[BuildGroup | ElsewhereGroup]:
        """Gives a build a control group: its wallet's, as the builder's cache goes by the name."""
        cgroups = self._buildkit.cgroups
        if cgroups is None:
            yield ElsewhereGroup()
            return
        owner = self.digest(spec.owner or spec.deployment_id)[:_OWNER_DIGITS]
        places = (f"{owner}-{number}" for number in itertools.count())
        place = next(place for place in places if place not in self._places)
        self._places.add(place)
        group = BuildGroup(cgroups, place)
        try:
            await in_thread(group.open, spec.limits)
            yield group
        finally:
            try:
                await in_thread(group.remove)
            finally:
                self._places.discard(place)

    def _build(
        self,
        spec: BuildSpec,
        files: BuildFiles,
        group: BuildGroup | ElsewhereGroup,
        image: str,
        labels: Mapping[str, str],
        *,
        pulls: bool,
    ) -> Build:
        variables = msgspec.json.encode(
            (spec.owner or spec.deployment_id, self._configuration.build_env, dict(spec.variables)),
            order="deterministic",
        )
        return Build(
            builder=self._buildkit.name,
            dockerfile=files.file,
            context=files.context,
            image=image,
            labels=labels,
            cgroup_parent=group.parent,
            cache_scope=self.digest(variables.decode()),
            contexts={name: str(path) for name, path in files.written.contexts.items()},
            arguments=files.arguments,
            secrets=files.secrets,
            pulls=pulls and not self._options.reads_local,
        )

    def _environment(self, spec: BuildSpec, files: BuildFiles) -> dict[str, str]:
        """Returns the builder's environment: for a stranger's Dockerfile without credentials."""
        found = {
            **self._buildkit.environment,
            "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(files.policy),
        }
        if is_own(spec):
            return {**found, "DOCKER_CONFIG": str(files.file.parent)}
        given = self._options.docker_config
        if given is None:
            return found
        directory = files.file.parent / "pull"
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / _CONFIG).write_bytes(given.read_bytes())
        return {**found, "DOCKER_CONFIG": str(directory)}

    def _has_room(self) -> bool:
        disk = self._buildkit.disk
        if disk is None:
            return True
        try:
            free = shutil.disk_usage(disk).free
        except OSError:  # it is the daemon's, and not to be seen from here
            return True
        return free > self._configuration.disk_reserve_bytes


def sweep(run_dir: Path) -> None:
    """Removes the files, secrets among them, of builds of a gateway that was killed; blocks."""
    for build in run_dir.glob(f"*{BUILD_SUFFIX}"):
        shutil.rmtree(build)


def _write_config(directory: Path, credentials: Credentials, image: str) -> None:
    """Writes the config.json with the credentials for an image's registry alone; blocks."""
    directory.mkdir(mode=0o700, exist_ok=True)
    config = credentials.docker_config(parse_reference(image).repository.registry)
    (directory / _CONFIG).write_bytes(msgspec.json.encode(config))


def make_empty(directory: Path) -> None:
    """Makes an empty directory, in place of one that is there; blocks."""
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

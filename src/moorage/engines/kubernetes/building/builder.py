"""Builds deployments into images: in a pod of the cluster, and by the gateway what needs no step.

The pod gets the files and hands over what was built by a ticket for each; the gateway alone reaches
the registry.
"""

import logging
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from moorage.engines.engine import BuildSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.toolchains import ensured
from moorage.engines.images.base_images import BaseImages, main_program
from moorage.engines.images.layer import Layer, LayerBounds, LayerTooLarge, Place, write_layer
from moorage.engines.images.recipe import Materials, recipe
from moorage.engines.images.registry import RegistryFailed
from moorage.engines.images.sources import require_files
from moorage.engines.installs import UNCHANGED, install_key, may_be_kept
from moorage.engines.kubernetes.building.attempt import Attempt, BuildPods, Log, NotLaid, Patience
from moorage.engines.kubernetes.building.exchange import Exchange, Tickets
from moorage.engines.kubernetes.building.registry.image_store import PackedLayer
from moorage.engines.kubernetes.building.registry.images import BuiltImage, DeploymentImages
from moorage.engines.kubernetes.building.specification import Ingredients
from moorage.engines.kubernetes.objects.labels import wallet_hash, wallet_namespace
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Stack
from moorage.threads import in_thread

_LONG_AGO = 1  # the time of programs' files, so that equal ones are equal layers
_PROGRAMS_BYTES = 4 * 1024**3  # that programs may have beside the deployer's files

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """The operator's choices for builds."""

    own_image: str  # Moorage's
    bases: BaseImages
    namespaces: str  # the prefix of wallets' namespaces
    patience: Patience = field(default_factory=Patience)


class DockerfileBuilds(Protocol):
    """Builds the Dockerfiles of deployers."""

    async def build(self, spec: BuildSpec, log: Log) -> BuiltImage:
        """Builds and stores the image of a deployment. Raises DeployFailed, OSError."""
        ...


class Builder:
    """Builds images. Its parts are opened before, and closed afterwards."""

    def __init__(
        self,
        configuration: HostConfiguration,
        options: BuilderOptions,
        *,
        pods: BuildPods,
        images: DeploymentImages,
        exchange: Exchange,
        scratch: Path,
        dockerfiles: DockerfileBuilds | None = None,
    ) -> None:
        """`scratch` is a directory for large files that are under way.

        Without `dockerfiles` those of deployers are not built.
        """
        self._dockerfiles = dockerfiles
        self._configuration = configuration
        self._options = options
        self._pods = pods
        self._images = images
        self._exchange = exchange
        self._scratch = scratch
        self._known: dict[tuple[str, int, int], Layer] = {}  # by name, time and size of a program

    async def build(self, spec: BuildSpec, log: Log) -> BuiltImage:
        """Builds the image of a deployment; what an earlier attempt left is replaced.

        The wallet's namespace must be there. Raises DeployFailed, OSError. Nothing of a build that
        ends early runs on.
        """
        if spec.plan.stack is Stack.DOCKERFILE and self._dockerfiles is not None:
            return await self._dockerfiles.build(spec, log)
        if spec.plan.stack is Stack.DOCKERFILE:
            raise DeployFailed(
                FailureCause.BUILD_FAILED, "this gateway builds no Dockerfiles: leave yours out"
            )
        await in_thread(require_files, spec.source)
        await log(spec.plan.because)
        parts = await self._ingredients(spec)
        await log([f"built on {parts.base.name}@{parts.base.stored.digest}"])
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            work = Path(directory)
            programs = await self._programs(parts, work)
            async with self._found(parts, programs) as parts:
                if parts.installed is not None:
                    await log([UNCHANGED])
                return await self._made(parts, programs, work, log)

    async def copy(self, image: str, deployment_id: str) -> BuiltImage:
        """As `DeploymentImages.copy`."""
        return await self._images.copy(image, deployment_id)

    async def user(self, image: str) -> int:
        """As `DeploymentImages.user`."""
        return await self._images.user(image)

    async def remove(self, wallet: str, deployment_id: str) -> None:
        """As `DeploymentImages.remove`."""
        await self._images.remove(wallet, deployment_id)

    async def stored(self, wallet: str) -> set[str]:
        """As `DeploymentImages.stored`."""
        return await self._images.stored(wallet)

    async def fetch_files(
        self, image: str, target: Path, *, without: Collection[str], max_bytes: int
    ) -> None:
        """As `DeploymentImages.fetch_files`."""
        await self._images.fetch_files(image, target, without=without, max_bytes=max_bytes)

    def offered(
        self, *, source: Path, result: Path, max_bytes: int
    ) -> AbstractAsyncContextManager[Tickets]:
        """As `Exchange.offered`."""
        return self._exchange.offered(source=source, result=result, max_bytes=max_bytes)

    async def collect(self) -> None:
        """As `DeploymentImages.collect_bases`."""
        await self._images.collect_bases()

    async def collect_installs(self, wallet: str, *, is_over: bool) -> None:
        """As `DeploymentImages.collect_installs`."""
        await self._images.collect_installs(wallet, is_over=is_over)

    async def _ingredients(self, spec: BuildSpec) -> Ingredients:
        configuration, plan = self._configuration, spec.plan
        main = main_program(plan)
        wanted = {name: v for name, v in plan.toolchains.items() if name != main}
        toolchains = await ensured(configuration.toolchains, wanted)
        materials = Materials(
            bases=self._options.bases,
            tools={name: path.resolve() for name, path in configuration.tools.items()},
            toolchains={name: path.resolve() for name, path in toolchains.items()},
        )
        parts = recipe(plan, materials)
        return Ingredients(
            spec=spec,
            recipe=parts,
            base=await self._images.base(parts.base),
            others={n: await self._images.base(it.image) for n, it in parts.others.items()},
            build_env=configuration.build_env,
        )

    @asynccontextmanager
    async def _found(
        self, parts: Ingredients, programs: Sequence[PackedLayer]
    ) -> AsyncIterator[Ingredients]:
        """Adds what an earlier build has installed, which stays as long as this lasts."""
        spec, installs = parts.spec, self._images.installs
        if not installs.are_kept or not may_be_kept(spec):
            yield parts
            return
        made_on = [
            *(self._images.made_by, parts.base.stored.digest),
            *(packed.layer.digest for packed in programs),
            *(f"{name} {it.stored.digest}" for name, it in sorted(parts.others.items())),
        ]
        key = await in_thread(install_key, spec, parts.build_env, made_on)
        with installs.held(key):
            found = None
            try:
                found = await installs.find(wallet_hash(spec.owner), key, spec.source)
            except RegistryFailed as error:
                logger.warning("what was installed before is not known: %s", error)
            yield replace(parts, key=key, installed=found)

    async def _made(
        self, parts: Ingredients, programs: Sequence[PackedLayer], work: Path, log: Log
    ) -> BuiltImage:
        """Makes the layer of the files, and stores the image."""
        if not parts.steps:
            file, max_bytes = work / "app.tar.gz", parts.spec.limits.disk_bytes
            layer = await in_thread(_written, [parts.files], file, max_bytes)
            return await self._published(parts, programs, PackedLayer(layer, file))
        try:
            return await self._in_pod(parts, programs, work, log)
        except NotLaid as error:
            await log([f"what was installed before can't be used: {error}"])
            return await self._in_pod(replace(parts, installed=None), programs, work, log)

    async def _published(
        self, parts: Ingredients, below: Sequence[PackedLayer], files: PackedLayer
    ) -> BuiltImage:
        """Stores the image: `below` the files is what was installed, if it is kept."""
        return await self._images.publish(
            owner=parts.spec.owner,
            deployment_id=parts.spec.deployment_id,
            base=parts.base,
            layers=[files] if parts.installed else [*below, files],
            run=parts.run,
            installed=parts.installed,
        )

    async def _programs(self, parts: Ingredients, work: Path) -> list[PackedLayer]:
        """Returns the layers of the gateway's programs."""
        owner = parts.spec.owner
        return [
            await self._program(owner, place, work / f"{number}.tar.gz")
            for number, place in enumerate(parts.programs)
        ]

    async def _program(self, owner: str, place: Place, file: Path) -> PackedLayer:
        """Returns the layer of a program, which is written only where the registry lacks it."""
        state = await in_thread(place.source.stat)
        key = (f"{place.source}:{place.name}", state.st_mtime_ns, state.st_size)
        known = self._known.get(key)
        if known is None or not await self._images.has_layer(owner, known):
            known = await in_thread(_written, [place], file, _PROGRAMS_BYTES, modified=_LONG_AGO)
            self._known[key] = known
        return PackedLayer(known, file)

    async def _in_pod(
        self, parts: Ingredients, programs: Sequence[PackedLayer], work: Path, log: Log
    ) -> BuiltImage:
        """Runs the plan's steps in a pod, and stores what it has handed over."""
        max_bytes, options = parts.spec.limits.disk_bytes, self._options
        source, result, install = (work / name for name in ("source", "result", "install"))
        places = [parts.files, *parts.programs, *parts.certificates]
        await in_thread(_written, places, source, max_bytes + _PROGRAMS_BYTES)
        async with self._exchange.offered(
            source=source, result=result, install=install, max_bytes=max_bytes
        ) as tickets:
            namespace = wallet_namespace(options.namespaces, parts.spec.owner)
            build = parts.pod(tickets, namespace=namespace, own_image=options.own_image)
            clock = self._configuration.clock
            attempt = Attempt(self._pods, build, log, clock, options.patience)
            try:
                await attempt.run()
            except DeployFailed:
                await self._kept(parts, _below(programs, tickets, install), attempt.roots)
                raise
            below = _below(programs, tickets, install)
            parts = await self._kept(parts, below, attempt.roots)
            if not tickets.result.done():
                raise DeployFailed(
                    FailureCause.INTERRUPTED, "deploy again: nothing was handed over"
                )
            return await self._published(parts, below, PackedLayer(tickets.result.result(), result))

    async def _kept(
        self, parts: Ingredients, layers: Sequence[PackedLayer], roots: str
    ) -> Ingredients:
        """Keeps what was installed, the last of the layers, if its topmost names are known.

        A failure loses what was to be kept, but no build.
        """
        if not roots:
            return parts
        try:
            kept = await self._images.installs.keep(
                wallet_hash(parts.spec.owner),
                parts.key,
                base=parts.base,
                layers=layers,
                run=parts.run,
                roots=roots,
            )
        except OSError as error:
            logger.warning("what was installed is not kept: %s", error)
            return parts
        return replace(parts, installed=kept)


def _below(
    programs: Sequence[PackedLayer], tickets: Tickets, install: Path
) -> Sequence[PackedLayer]:
    """Returns the layers below the files: of programs, and what a pod has installed."""
    if not tickets.install.done():
        return programs
    return [*programs, PackedLayer(tickets.install.result(), install)]


def _written(
    places: list[Place], file: Path, max_bytes: int, *, modified: int | None = None
) -> Layer:
    """Writes a layer to a file; blocks. Raises DeployFailed, OSError."""
    try:
        with file.open("wb") as out:
            bounds = LayerBounds(max_bytes=max_bytes)
            return write_layer(places, out, bounds, modified=modified)
    except LayerTooLarge as error:
        raise DeployFailed(FailureCause.OUT_OF_DISK, str(error)) from error

"""Builds deployments into images: in a pod of the cluster, and by the gateway what needs no step.

The pod gets the files and hands over what was built by a ticket for each; the gateway alone reaches
the registry.
"""

import tempfile
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from moorage.engines.engine import BuildSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.toolchains import ensured
from moorage.engines.images.base_images import BaseImages, main_program
from moorage.engines.images.layer import Layer, LayerBounds, LayerTooLarge, Place, write_layer
from moorage.engines.images.recipe import Materials, recipe
from moorage.engines.images.sources import require_files
from moorage.engines.kubernetes.building.attempt import Attempt, BuildPods, Log, Patience
from moorage.engines.kubernetes.building.exchange import Exchange, Tickets
from moorage.engines.kubernetes.building.images import BuiltImage, DeploymentImages, PackedLayer
from moorage.engines.kubernetes.building.specification import Ingredients
from moorage.engines.kubernetes.objects.labels import wallet_namespace
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Stack
from moorage.threads import in_thread

_LONG_AGO = 1  # the time of programs' files, so that equal ones are equal layers
_PROGRAMS_BYTES = 4 * 1024**3  # that programs may have beside the deployer's files


@dataclass(frozen=True, kw_only=True)
class BuilderOptions:
    """The operator's choices for builds."""

    own_image: str  # Moorage's
    bases: BaseImages
    namespaces: str  # the prefix of wallets' namespaces
    patience: Patience = field(default_factory=Patience)


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
    ) -> None:
        """`scratch` is a directory for large files that are under way."""
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
        if spec.plan.stack is Stack.DOCKERFILE:
            raise DeployFailed(
                FailureCause.BUILD_FAILED, "this gateway builds no Dockerfiles: leave yours out"
            )
        await in_thread(require_files, spec.source)
        await log(spec.plan.because)
        parts = await self._ingredients(spec)
        await log([f"built on {parts.base.name}@{parts.base.stored.digest}"])
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            return await self._images.publish(
                owner=spec.owner,
                deployment_id=spec.deployment_id,
                base=parts.base,
                layers=await self._layers(parts, Path(directory), log),
                run=parts.run,
            )

    async def copy(self, image: str, deployment_id: str) -> BuiltImage:
        """As `DeploymentImages.copy`."""
        return await self._images.copy(image, deployment_id)

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

    async def _layers(self, parts: Ingredients, directory: Path, log: Log) -> list[PackedLayer]:
        """Makes the layers on top of the base: one for each program, then the files."""
        found = []
        for number, place in enumerate(parts.programs):
            file = directory / f"{number}.tar.gz"
            found.append(await self._program(parts.spec.owner, place, file))
        result = directory / "app.tar.gz"
        if parts.steps:
            layer = await self._in_pod(parts, directory / "source.tar.gz", result, log)
        else:
            layer = await in_thread(_written, [parts.files], result, parts.spec.limits.disk_bytes)
        return [*found, PackedLayer(layer, result)]

    async def _program(self, owner: str, place: Place, file: Path) -> PackedLayer:
        """Returns the layer of a program, which is written only where the registry lacks it."""
        state = await in_thread(place.source.stat)
        key = (f"{place.source}:{place.name}", state.st_mtime_ns, state.st_size)
        known = self._known.get(key)
        if known is None or not await self._images.has_layer(owner, known):
            known = await in_thread(_written, [place], file, _PROGRAMS_BYTES, modified=_LONG_AGO)
            self._known[key] = known
        return PackedLayer(known, file)

    async def _in_pod(self, parts: Ingredients, source: Path, result: Path, log: Log) -> Layer:
        """Runs the plan's steps in a pod; returns the layer that it has handed over."""
        max_bytes = parts.spec.limits.disk_bytes
        places = [parts.files, *parts.programs, *parts.certificates]
        await in_thread(_written, places, source, max_bytes + _PROGRAMS_BYTES)
        async with self._exchange.offered(
            source=source, result=result, max_bytes=max_bytes
        ) as tickets:
            options = self._options
            namespace = wallet_namespace(options.namespaces, parts.spec.owner)
            build = parts.pod(tickets, namespace=namespace, own_image=options.own_image)
            clock = self._configuration.clock
            await Attempt(self._pods, build, log, clock, options.patience).run()
            if not tickets.result.done():
                raise DeployFailed(
                    FailureCause.INTERRUPTED, "deploy again: nothing was handed over"
                )
            return tickets.result.result()


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

"""Reads and writes whole images of the operator's registry, and brings blobs there."""

import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.images.layer import Layer
from moorage.engines.images.manifest import (
    Content,
    Descriptor,
    Image,
    ImageInvalid,
    encoded,
    read_configuration,
    read_manifest,
)
from moorage.engines.images.reference import Reference, Repository
from moorage.engines.images.registry import Registry, RegistryFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackedLayer:
    """A layer, and the file that has it."""

    layer: Layer
    file: Path


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image in the registry."""

    stored: Reference  # by digest
    image: Image


@dataclass(frozen=True, kw_only=True)
class ImageStore:
    """The registry, and a directory for large files that are under way."""

    registry: Registry
    scratch: Path

    async def get(self, name: Reference) -> StoredImage:
        """Returns an image. Raises NotInRegistry, RegistryFailed."""
        content = await self.registry.manifest(name)
        image = await self.read(name.repository, content)
        return StoredImage(stored=name.pinned(content.digest), image=image)

    async def read(self, repository: Repository, content: Content) -> Image:
        """Returns the image with this manifest. Raises RegistryFailed."""
        try:
            manifest = read_manifest(content)
            configuration = await self.registry.blob(repository, manifest.config)
            return Image(
                manifest=manifest, configuration=read_configuration(configuration, manifest)
            )
        except ImageInvalid as error:
            raise RegistryFailed(f"{repository}: {error}") from error

    async def put(self, name: Reference, image: Image) -> StoredImage:
        """Stores an image whose layers are there. Raises RegistryFailed."""
        manifest, configuration = encoded(image)
        await self.registry.push_blob(
            name.repository, configuration.body, digest=configuration.digest
        )
        stored = await self.registry.put_manifest(name, manifest)
        return StoredImage(stored=stored, image=image)

    async def put_layers(
        self, below: StoredImage, layers: Sequence[PackedLayer], target: Repository
    ) -> None:
        """Gives a repository the layers of an image of another, and more. Raises RegistryFailed."""
        for named in below.image.manifest.layers:
            await self.move(below.stored.repository, target, named)
        for packed in layers:
            await self.registry.push_blob(target, packed.file, digest=packed.layer.digest)

    async def move(self, origin: Repository, target: Repository, named: Descriptor) -> None:
        """Gives a repository a blob of another. Raises RegistryFailed."""
        if await self.registry.has_blob(target, named.digest):
            return
        if origin.registry == target.registry and await self.registry.mount_blob(
            origin, target, named.digest
        ):
            return
        async with self.scratch_file() as file:
            await self.registry.fetch_blob(origin, named, file)
            await self.registry.push_blob(target, file, digest=named.digest)

    async def remove(self, image: Reference) -> None:
        """Removes the manifest with this digest. Raises RegistryFailed."""
        if not await self.registry.delete_manifest(image):
            logger.warning("%s stays, as its registry allows no deletion", image)

    @asynccontextmanager
    async def scratch_file(self) -> AsyncIterator[Path]:
        """Gives a file for a blob, which goes at the end."""
        with tempfile.NamedTemporaryFile(dir=self.scratch) as file:
            yield Path(file.name)

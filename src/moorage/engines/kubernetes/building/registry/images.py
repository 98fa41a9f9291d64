"""The images of deployments in the operator's registry, and the images that they are made from.

Each wallet has a repository, in which each deployment's image has the deployment's id as its tag
and a digest of its own. So it is removed without regard to any other. The images of languages are
copied into the repository `bases`: builds and apps start without another registry. What installs
have made is in repositories below the wallets'.
"""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.failure import not_apart
from moorage.engines.images.layer import Layer
from moorage.engines.images.layer_files import LayerFiles
from moorage.engines.images.manifest import (
    Content,
    Image,
    ImageInvalid,
    Platform,
    RunConfiguration,
    as_user,
    choose,
    labels,
    own_layers,
    read_manifest,
    with_label,
    with_layers,
)
from moorage.engines.images.reference import Reference, Repository, parse_reference
from moorage.engines.images.registry import NotInRegistry, Registry, RegistryFailed
from moorage.engines.images.user import numeric_user
from moorage.engines.kubernetes.building.registry.base_uses import (
    NOTES,
    BaseUse,
    BaseUses,
    superfluous,
)
from moorage.engines.kubernetes.building.registry.image_store import (
    ImageStore,
    PackedLayer,
    StoredImage,
)
from moorage.engines.kubernetes.building.registry.installs import Installs, key_of
from moorage.engines.kubernetes.objects.labels import (
    DEPLOYMENT_LABEL,
    INSTALL_LABEL,
    INSTANCE_LABEL,
    wallet_hash,
)
from moorage.threads import in_thread

_BASES = "bases"
_BASE_NAME = "org.opencontainers.image.base.name"  # OCI image spec, annotations.md
_BASE_DIGEST = "org.opencontainers.image.base.digest"
_TAG_DIGITS = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StoredBase(StoredImage):
    """A base image in the operator's registry."""

    name: str  # as it is called where it comes from


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """A deployment's image."""

    reference: str  # by digest
    size_bytes: int  # of its layers as they are stored


@dataclass(frozen=True, kw_only=True)
class BaseKeeping:
    """How long, and how many, base images are kept that no build needs."""

    max_seconds: int = 30 * 24 * 3600  # since the last use
    max_bytes: int = 50 * 1024**3  # of all together, each counted whole


class DeploymentImages:
    """The images below one name in the operator's registry, such as `registry.example/moorage`."""

    def __init__(
        self,
        registry: Registry,
        root: Repository,
        *,
        made_by: str,
        platform: Platform,
        scratch: Path,
        clock: Clock,
        keeping: BaseKeeping = BaseKeeping(),
        max_unused_bytes: int = 0,
    ) -> None:
        """`made_by` tells these images from those that others keep below the same name.

        `scratch` is a directory for large files that are under way. `max_unused_bytes` are for
        installs of a wallet that no release was built on; 0: none is kept at all.
        """
        self.made_by = made_by
        self._registry = registry
        self._root = root
        self._platform = platform
        self._store = ImageStore(registry=registry, scratch=scratch)
        self._clock = clock
        self.installs = Installs(
            self._store, root, made_by=made_by, clock=clock, max_unused_bytes=max_unused_bytes
        )
        self._keys: dict[tuple[str, str], str] = {}  # of installs, by wallet and deployment
        self._keeping = keeping
        self._bases = root.below(_BASES)
        self._uses = BaseUses(registry, self._bases, made_by=made_by)
        self._copying: dict[str, asyncio.Lock] = {}

    async def base(self, name: str) -> StoredBase:
        """Returns an image to build on, as its name stands for it now.

        Where its registry does not answer, it is the one that was used last. Raises RegistryFailed.
        """
        named = parse_reference(name)
        tag = hashlib.sha256(str(named).encode()).hexdigest()[:_TAG_DIGITS]
        stored = Reference(repository=self._bases, tag=tag)
        async with self._copying.setdefault(name, asyncio.Lock()):
            try:
                content = await self._for_platform(named)
                if await self._registry.digest(stored) != content.digest:
                    await self._copy_base(named.repository, stored, content)
            except (RegistryFailed, ImageInvalid) as error:
                try:
                    content = await self._registry.manifest(stored)
                except NotInRegistry:
                    raise RegistryFailed(f"{name}: {error}") from error
                logger.warning("the image %s is the one that was used last: %s", name, error)
            image = await self._store.read(stored.repository, content)
            await self._note_use(named, stored.pinned(content.digest), image)
        return StoredBase(name=str(named), stored=stored.pinned(content.digest), image=image)

    async def collect_bases(self) -> None:
        """Removes base images that no build needs; they are copied again when one does.

        Raises RegistryFailed.
        """
        tags = await self._registry.tags(self._bases)
        uses = await self._uses.all(tags)
        for tag in tags:
            if tag not in uses and not tag.startswith(NOTES):  # counts from now on
                stored = Reference(repository=self._bases, tag=tag)
                found = await self._store.get(stored)
                await self._note_use(None, found.stored, found.image)
        removed = superfluous(
            (use for use in uses.values() if use.tag in tags),
            now=self._clock.now_ms() // 1000,
            max_seconds=self._keeping.max_seconds,
            max_bytes=self._keeping.max_bytes,
        )
        for digest in sorted(removed):
            await self._store.remove(Reference(repository=self._bases, digest=digest))
        await self._uses.forget(removed)

    async def _note_use(self, named: Reference | None, stored: Reference, image: Image) -> None:
        use = BaseUse(
            tag=stored.tag,
            name=str(named or ""),
            digest=stored.digest,
            size_bytes=sum(layer.size for layer in image.manifest.layers),
            used_at=self._clock.now_ms() // 1000,
        )
        try:
            await self._uses.note(use)
        except RegistryFailed as error:
            logger.warning("that %s was used is not noted: %s", use.name, error)

    async def publish(
        self,
        *,
        owner: str,
        deployment_id: str,
        base: StoredBase,
        layers: Sequence[PackedLayer],
        run: RunConfiguration,
        installed: StoredImage | None = None,
    ) -> BuiltImage:
        """Stores a deployment's image: layers upon its base, or upon what was `installed` on that.

        Raises RegistryFailed, OSError.
        """
        repository, below = self.repository(owner), installed or base
        await self._store.put_layers(below, layers, repository)
        image = with_layers(below.image, [packed.layer for packed in layers], run)
        told = {_BASE_NAME: base.name, _BASE_DIGEST: base.stored.digest}
        if installed is not None:
            told[INSTALL_LABEL] = installed.stored.tag
        for label, value in told.items():
            image = with_label(image, label, value)
        return await self._put(repository, deployment_id, image)

    async def collect_installs(self, wallet: str, *, is_over: bool) -> None:
        """Removes what installs have made and nobody needs; with `is_over`, all. By the hash.

        Raises RegistryFailed.
        """
        used = partial(self._used_installs, wallet)
        await self.installs.collect(wallet, used, is_over=is_over)

    async def _used_installs(self, wallet: str) -> set[str]:
        """Returns the keys of those that a wallet's images were built on."""
        stored = await self.stored(wallet)
        known = {of: key for of, key in self._keys.items() if of[0] != wallet or of[1] in stored}
        for deployment_id in stored:
            if (wallet, deployment_id) not in known:
                name = Reference(repository=self._root.below(wallet), tag=deployment_id)
                known[wallet, deployment_id] = key_of(await self._store.get(name))
        self._keys = known
        return {known[wallet, deployment_id] for deployment_id in stored}

    def name(self, owner: str, deployment_id: str) -> Reference:
        """Returns the name of a deployment's image."""
        return Reference(repository=self.repository(owner), tag=deployment_id)

    async def adopt(self, owner: str, deployment_id: str, *, user: str) -> BuiltImage:
        """Makes what a builder has put there under its name a deployment's image, run as `user`.

        Raises NotInRegistry, RegistryFailed.
        """
        name = self.name(owner, deployment_id)
        pushed = await self._registry.digest(name)
        image = await self._store.read(name.repository, await self._for_platform(name))
        built = await self._put(name.repository, deployment_id, as_user(image, user))
        if pushed is not None:
            await self._store.remove(name.pinned(pushed))
        return built

    async def copy(self, image: str, deployment_id: str) -> BuiltImage:
        """Makes a deployment's image from another's of the same wallet.

        Raises NotInRegistry if that is gone, RegistryFailed.
        """
        found = await self._store.get(parse_reference(image))
        return await self._put(found.stored.repository, deployment_id, found.image)

    async def user(self, image: str) -> int:
        """Returns whom the app of an image runs as. Raises NotInRegistry, RegistryFailed."""
        found = await self._store.get(parse_reference(image))
        return numeric_user(str(found.image.configuration["config"]["User"]), "")

    async def fetch_files(
        self, image: str, target: Path, *, without: Collection[str], max_bytes: int
    ) -> None:
        """Copies what a build left in `/app` into the new directory `target`, without links.

        Raises DeployFailed where the image has no layers of Moorage's, RegistryFailed.
        """
        found = await self._store.get(parse_reference(image))
        own = own_layers(found.image)
        if not own:
            raise not_apart()
        files = LayerFiles(target, below="app", without=without, max_bytes=max_bytes)
        await in_thread(target.mkdir, mode=0o700)
        for named in own:
            async with self._store.scratch_file() as file:
                await self._registry.fetch_blob(found.stored.repository, named, file)
                await in_thread(files.add, file)

    async def remove(self, wallet: str, deployment_id: str) -> None:
        """Removes a deployment's image, if it is there; no pod may need it any more.

        Another's image stays. The registry's own collection then frees its blobs. `wallet` is its
        hash. Raises RegistryFailed.
        """
        image = Reference(repository=self._root.below(wallet), tag=deployment_id)
        try:
            found = await self._store.get(image)
        except NotInRegistry:
            return
        if labels(found.image).get(INSTANCE_LABEL) == self.made_by:
            await self._store.remove(found.stored)

    async def stored(self, wallet: str) -> set[str]:
        """Returns the names of all images of a wallet, by its hash. Raises RegistryFailed."""
        return set(await self._registry.tags(self._root.below(wallet)))

    async def has_layer(self, owner: str, layer: Layer) -> bool:
        """Returns whether a wallet's repository has a layer already."""
        return await self._registry.has_blob(self.repository(owner), layer.digest)

    def repository(self, owner: str) -> Repository:
        """Returns a wallet's repository."""
        return self._root.below(wallet_hash(owner))

    async def _put(self, repository: Repository, deployment_id: str, image: Image) -> BuiltImage:
        image = with_label(image, DEPLOYMENT_LABEL, deployment_id)
        image = with_label(image, INSTANCE_LABEL, self.made_by)
        name = Reference(repository=repository, tag=deployment_id)
        stored = (await self._store.put(name, image)).stored
        size = sum(layer.size for layer in image.manifest.layers)
        return BuiltImage(reference=str(stored), size_bytes=size)

    async def _for_platform(self, named: Reference) -> Content:
        """Returns the manifest that a name stands for on this platform."""
        content = await self._registry.manifest(named)
        chosen = choose(content, self._platform)
        if chosen is None:
            return content
        return await self._registry.manifest(named.pinned(chosen.digest))

    async def _copy_base(self, origin: Repository, stored: Reference, content: Content) -> None:
        manifest = read_manifest(content)
        for named in (manifest.config, *manifest.layers):
            await self._store.move(origin, stored.repository, named)
        await self._registry.put_manifest(stored, content)

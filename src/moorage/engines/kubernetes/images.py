"""The images of deployments in the operator's registry.

BuildKit puts them there. Each wallet has a repository, in which each deployment's image has the
deployment's id as its tag and a digest of its own: so it is removed without regard to any other.
"""

import asyncio
import logging
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from moorage.engines.dockerd.attempt import Log, is_own
from moorage.engines.dockerd.builder import Builder, BuilderOptions
from moorage.engines.dockerd.buildx import BuilderFailed
from moorage.engines.dockerd.leaving import export_app
from moorage.engines.dockerd.opening import BuilderPlace, opened_builder
from moorage.engines.engine import BuildSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import BaseImages
from moorage.engines.images.image import (
    Image,
    ImageInvalid,
    Reference,
    Repository,
    as_user,
    config_of,
    encoded,
    is_name,
    labels,
    numeric_pair,
    numeric_user,
    parse_reference,
    parse_repository,
    read_configuration,
    read_manifest,
    with_label,
)
from moorage.engines.images.recipe import USER
from moorage.engines.images.registry import (
    Credentials,
    NotInRegistry,
    Registry,
    RegistryFailed,
    read_credentials,
)
from moorage.engines.kind import EngineOptions
from moorage.engines.kubernetes.cluster.client import Cluster
from moorage.engines.kubernetes.objects.labels import (
    DEPLOYMENT_LABEL,
    INSTANCE_LABEL,
    wallet_hash,
)
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.threads import in_thread

_BASE_BYTES = 4 * 1024**3  # that an image may have beside what the app's disk may, compressed
_PASSWD = "/etc/passwd"  # noqa: S105 (a path)
_PASSWD_BYTES = 256 * 1024

logger = logging.getLogger(__name__)


@asynccontextmanager
async def opened_images(
    configuration: HostConfiguration, options: EngineOptions, cluster: Cluster
) -> AsyncIterator["RegistryImages"]:
    """Gives the images of a gateway, whose builder need not be there yet.

    Raises ConfigurationInvalid, ClusterUnavailable.
    """
    chosen = options.cluster
    root = parse_repository(chosen.registry)
    config = Path(chosen.registry_credentials) if chosen.registry_credentials else None
    credentials = read_credentials(config)
    place = BuilderPlace(
        address=chosen.builder,
        certificates=chosen.builder_certificates,
        subnet=options.subnet,
        deny=configuration.deny,
    )
    builder_options = BuilderOptions(
        bases=BaseImages(images=options.base_images),
        reads_local=options.local_images,
        registries=options.dockerfile_registries,
        hidden=(chosen.registry,),  # other wallets' apps
        max_cache_bytes=options.total_cache_bytes,
        docker_config=config,
    )
    async with AsyncExitStack() as stack:

        async def opened() -> Builder:
            opening = opened_builder(configuration, place, builder_options)
            return await stack.enter_async_context(opening)

        registry = Registry(credentials)
        stack.push_async_callback(registry.close)
        made_by = f"{chosen.prefix} of {await cluster.uid()}"
        images = RegistryImages(
            registry,
            root,
            made_by=made_by,
            credentials=credentials,
            opened=opened,
            scratch=configuration.run_dir,
        )
        await images.open()
        yield images


class RegistryImages:
    """The images below one name in the operator's registry, such as `registry.example/moorage`."""

    def __init__(
        self,
        registry: Registry,
        root: Repository,
        *,
        made_by: str,
        credentials: Credentials,
        opened: Callable[[], Awaitable[Builder]],
        scratch: Path,
    ) -> None:
        """`made_by` separates these images from those of others below the same name.

        `credentials` are those for the registry, `opened` reaches the builder, and `scratch` is a
        directory for small files.
        """
        self._registry = registry
        self._root = root
        self._made_by = made_by
        self._credentials = credentials
        self._opened = opened
        self._scratch = scratch
        self._built_by: Builder | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Builder | None:
        """Reaches the builder, unless that was done. Returns None, and logs why, if it can't be.

        Raises ConfigurationInvalid.
        """
        async with self._opening:
            if self._built_by is None:
                try:
                    self._built_by = await self._opened()
                except (IsolationMissing, OSError) as error:
                    logger.error("no app is built: %s", error)
            return self._built_by

    async def build(self, spec: BuildSpec, log: Log) -> str:
        """Builds the image of a deployment; what an earlier attempt left is replaced.

        Raises DeployFailed, OSError. Nothing of a build that ends early runs on.
        """
        builder = await self._builder()
        name = Reference(
            repository=self._root.below(wallet_hash(spec.owner)), tag=spec.deployment_id
        )
        made_by = {INSTANCE_LABEL: self._made_by}
        try:
            attempt = await builder.build(
                spec, log, str(name), labels=made_by, pushes=self._credentials
            )
            pushed, image = await self._read(name)
            most = spec.limits.disk_bytes + _BASE_BYTES
            if sum(layer.size for layer in image.manifest.layers) > most:
                await self._delete(pushed)
                raise attempt.failure(
                    FailureCause.OUT_OF_DISK, f"the image is larger than {most // 1024**2} MiB"
                )
            user = await self._user_of(builder, image, name)
            if is_own(spec):
                await log([f"the app runs as user {user}"])
            built = await self._put(name, as_user(image, user))
            await self._delete(pushed)
        finally:
            try:
                await builder.forget(str(name))
            except BuilderFailed as error:
                logger.warning("the builder keeps %s: %s", name, error)
        return built

    async def copy(self, image: str, deployment_id: str) -> str:
        """Makes a deployment's image from another's of the same wallet.

        Raises NotInRegistry if that is gone, RegistryFailed.
        """
        origin, found = await self._read(parse_reference(image))
        return await self._put(Reference(repository=origin.repository, tag=deployment_id), found)

    async def user(self, image: str) -> int:
        """Returns whom the app of an image runs as. Raises NotInRegistry, RegistryFailed."""
        _, found = await self._read(parse_reference(image))
        return numeric_user(_named_user(found), "")

    async def fetch_files(
        self, image: str, target: Path, *, without: Collection[str], max_bytes: int
    ) -> None:
        """As `Engine.export_files`: what is in the image's `/app`. Raises OSError."""
        await export_app(
            await self._builder(),
            image,
            target,
            without=without,
            max_bytes=max_bytes,
            credentials=self._credentials,
        )

    async def remove(self, wallet: str, deployment_id: str) -> None:
        """Removes a deployment's image, if it is there; no pod may need it any more.

        Another's image stays. The registry's own collection then frees its blobs. `wallet` is its
        hash. Raises RegistryFailed.
        """
        name = Reference(repository=self._root.below(wallet), tag=deployment_id)
        try:
            stored, found = await self._read(name)
        except NotInRegistry:
            return
        if labels(found).get(INSTANCE_LABEL) == self._made_by:
            await self._delete(stored)

    async def stored(self, wallet: str) -> set[str]:
        """Returns the names of all images of a wallet, by its hash. Raises RegistryFailed."""
        return set(await self._registry.tags(self._root.below(wallet)))

    async def _builder(self) -> Builder:
        builder = await self.open()
        if builder is None:
            raise DeployFailed(
                FailureCause.NO_CAPACITY,
                "The gateway's builder is not there just now: deploy again later.",
            )
        return builder

    async def _user_of(self, builder: Builder, image: Image, name: Reference) -> str:
        """Returns whom an app runs as, never root, as numbers; raises DeployFailed."""
        user = _named_user(image)
        if is_name(user):
            with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
                archive = Path(directory) / "passwd.tar"
                await builder.copy_files(
                    str(name),
                    _PASSWD,
                    archive,
                    max_bytes=_PASSWD_BYTES,
                    credentials=self._credentials,
                )
                user = numeric_pair(user, await in_thread(_text_in, archive))
            if not user:
                raise DeployFailed(
                    FailureCause.BUILD_FAILED,
                    "the image's USER is not in its /etc/passwd: name it by its number",
                )
        return USER if not int(user.partition(":")[0] or 0) else user

    async def _read(self, name: Reference) -> tuple[Reference, Image]:
        """Returns an image, and its name with its digest. Raises NotInRegistry, RegistryFailed."""
        content = await self._registry.manifest(name)
        try:
            manifest = read_manifest(content)
            configuration = await self._registry.blob(name.repository, manifest.config)
            found = Image(
                manifest=manifest, configuration=read_configuration(configuration, manifest)
            )
        except ImageInvalid as error:
            raise RegistryFailed(f"{name}: {error}") from error
        return name.pinned(content.digest), found

    async def _put(self, name: Reference, image: Image) -> str:
        """Stores an image whose layers are there. Raises RegistryFailed."""
        image = with_label(image, DEPLOYMENT_LABEL, name.tag)
        manifest, configuration = encoded(with_label(image, INSTANCE_LABEL, self._made_by))
        await self._registry.push_blob(name.repository, configuration)
        stored = await self._registry.put_manifest(name, manifest)
        return str(stored)

    async def _delete(self, image: Reference) -> None:
        if not await self._registry.delete_manifest(image):
            logger.warning("%s stays, as its registry allows no deletion", image)


def _named_user(image: Image) -> str:
    return str(config_of(image).get("User") or "")


def _text_in(archive: Path) -> str:
    """Returns the text of the archive's only file; "" if there is none. Blocks."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is not None:
                return content.read(_PASSWD_BYTES).decode(errors="replace")
    return ""

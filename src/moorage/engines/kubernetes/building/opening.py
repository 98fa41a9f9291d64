"""Opens what builds need: the registry's client, and the port of build pods."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.credentials import Credentials, read_credentials
from moorage.engines.images.manifest import Platform, platform_here
from moorage.engines.images.reference import parse_repository
from moorage.engines.images.registry import Registry
from moorage.engines.kubernetes.building.attempt import BuildPods
from moorage.engines.kubernetes.building.builder import (
    Builder,
    BuilderOptions,
    DockerfileBuilds,
)
from moorage.engines.kubernetes.building.exchange import Exchange
from moorage.engines.kubernetes.building.registry.images import BaseKeeping, DeploymentImages

_SCRATCH = "layers"  # in the engine's state_dir

OpensDockerfiles: TypeAlias = Callable[
    [HostConfiguration, DeploymentImages, Credentials],
    AbstractAsyncContextManager[DockerfileBuilds],
]
"""Opens what builds Dockerfiles, with the credentials for the operator's registry."""


@dataclass(frozen=True, kw_only=True)
class BuildPlaces:
    """Where images go, and where build pods reach the gateway."""

    registry: str  # and what names begin with there, such as `registry.example/moorage`
    credentials: Path | None  # a file such as `docker login` writes; None: none are needed
    host: str  # the address at which the gateway listens for build pods
    port: int  # 0: any
    made_by: str  # whose images these are: no others are removed
    url: str  # how pods reach it; "": by its own host and port
    architecture: str = ""  # of the nodes, such as arm64; "": this machine's
    keeping: BaseKeeping = BaseKeeping()  # noqa: RUF009 (frozen)
    max_unused_bytes: int = 0  # for installs of a wallet that no release was built on
    dockerfiles: OpensDockerfiles | None = None  # None: none are built


@asynccontextmanager
async def opened_builder(
    configuration: HostConfiguration, places: BuildPlaces, options: BuilderOptions, pods: BuildPods
) -> AsyncIterator[Builder]:
    """Gives a builder. Raises ConfigurationInvalid, OSError."""
    root = parse_repository(places.registry)
    credentials = read_credentials(places.credentials)
    scratch = configuration.state_dir / _SCRATCH
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    exchange = Exchange(host=places.host, port=places.port, url=places.url)
    async with AsyncExitStack() as stack:
        registry = Registry(credentials)
        stack.push_async_callback(registry.close)
        await exchange.open()
        stack.push_async_callback(exchange.close)
        name = places.architecture
        platform = Platform(architecture=name) if name else platform_here()
        images = DeploymentImages(
            registry,
            root,
            made_by=places.made_by,
            platform=platform,
            scratch=scratch,
            clock=configuration.clock,
            keeping=places.keeping,
            max_unused_bytes=places.max_unused_bytes,
        )
        dockerfiles = None
        if places.dockerfiles is not None:
            opening = places.dockerfiles(configuration, images, credentials)
            dockerfiles = await stack.enter_async_context(opening)
        yield Builder(
            configuration,
            options,
            pods=pods,
            images=images,
            exchange=exchange,
            scratch=scratch,
            dockerfiles=dockerfiles,
        )

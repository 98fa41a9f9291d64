"""The Docker engine's entry in the table of engines."""

from pathlib import Path

from moorage.engines.engine import Capabilities, Engine
from moorage.engines.host import probe, processes
from moorage.engines.host.configuration import CONTAINERS, HostConfiguration
from moorage.engines.images.base_images import BaseImages, toolbox_of_images
from moorage.engines.kind import EngineKind, EngineOptions
from moorage.planning.toolbox import Dockerfiles

CAPABILITIES = Capabilities(dockerfiles=True)


def _missing(run_dir: Path) -> list[str]:
    found = probe.missing_here(run_dir)
    if not processes.found("docker"):
        found.append("Docker is not installed: apt-get install docker.io docker-cli docker-buildx")
    return found


def _make(configuration: HostConfiguration, options: EngineOptions) -> Engine:
    # aiodocker and what needs it are imported only where Docker is used.
    from moorage.engines.docker.docker import DockerEngine  # noqa: PLC0415
    from moorage.engines.dockerd.builder import BuilderOptions  # noqa: PLC0415
    from moorage.engines.dockerd.daemon import socket_path  # noqa: PLC0415

    socket_path(options.docker_host)
    return DockerEngine(
        configuration,
        docker_host=options.docker_host,
        subnet=options.subnet,
        images=BuilderOptions(
            bases=BaseImages(images=options.base_images),
            reads_local=options.local_images,
            registries=options.dockerfile_registries,
            max_cache_bytes=options.total_cache_bytes,
        ),
    )


KIND = EngineKind(
    name="docker",
    capabilities=CAPABILITIES,
    run_directory=lambda _data_dir: Path("/run/moorage"),
    missing=_missing,
    folder=CONTAINERS,
    has_images=True,
    forwards_packets=True,
    make=_make,
    offered=lambda own, _options: toolbox_of_images(own, Dockerfiles.BUILT),
    exports=None,
)

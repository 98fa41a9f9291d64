"""Each real engine in turn, opened for one test; the cluster's builds as well as runs its apps."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from moorage.engines.docker.docker import DockerEngine
from moorage.engines.engine import Engine
from moorage.engines.kind import EngineOptions
from moorage.engines.kubernetes.engine import KubernetesEngine
from support.engines.docker_fixture import BASE, Dockerd, make_docker, opened_docker
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import (
    OWN_IMAGE,
    cluster_options,
    engine_options,
    host_configuration,
    make_building_engine,
    opened_engine,
)
from support.engines.kubernetes_fixture import own_image
from support.engines.registry_fixture import RegistryServer, started_registry


@pytest.fixture(params=["sandbox", "docker", "kubernetes"])
def runtime(request: pytest.FixtureRequest) -> Engine:
    """A real engine, opened for one test."""
    names = {"docker": "impatient_docker", "kubernetes": "building_kubernetes"}
    name = names.get(request.param, request.param)
    return cast("Engine", request.getfixturevalue(name))


@pytest.fixture
async def impatient_docker(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[DockerEngine]:
    """The Docker engine, opened for one test, which soon kills what does not end."""
    made = make_docker(dockerd, tmp_path / "state", stop_grace_seconds=3.0)
    async with opened_docker(made) as engine:
        yield engine


@pytest.fixture(scope="module")
def cluster_registry(
    dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    """One registry at one address, in the network of the cluster's node and in Docker's."""
    with registry_for_both(tmp_path_factory.mktemp("registry"), dockerd) as server:
        yield server


@contextmanager
def registry_for_both(
    directory: Path, dockerd: Dockerd, *, htpasswd: str = ""
) -> Iterator[RegistryServer]:
    """A registry at one address on the loopback of this machine and of Docker's."""
    with started_registry(directory / "ours", htpasswd=htpasswd) as server:
        theirs = started_registry(
            directory / "theirs",
            port=int(server.host.rpartition(":")[2]),
            storage=server.storage,
            htpasswd=htpasswd,
            inside=("nsenter", f"--net={dockerd.network}"),
        )
        with theirs:
            yield server


@pytest.fixture(scope="module")
def building_cluster(fake_cluster: Cluster) -> Cluster:
    """A fake cluster whose node has Moorage's own image."""
    fake_cluster.add_image(OWN_IMAGE, own_image(fake_cluster.directory / "own"))
    return fake_cluster


@pytest.fixture
def building_options(
    building_cluster: Cluster, cluster_registry: RegistryServer, dockerd: Dockerd
) -> EngineOptions:
    """Those of a gateway on the cluster, whose images Docker builds."""
    cluster = cluster_options(
        building_cluster,
        registry=f"{cluster_registry.host}/apps",
        builder=dockerd.host,
    )
    return engine_options(cluster, base=BASE, local_images=True)


@pytest.fixture
def short_run_dir() -> Iterator[Path]:
    """A directory for sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="mk", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def building_kubernetes(
    building_options: EngineOptions, tmp_path: Path, short_run_dir: Path
) -> AsyncIterator[KubernetesEngine]:
    """The Kubernetes engine with its own builder, opened for one test."""
    configuration = host_configuration(tmp_path / "state", short_run_dir)
    made = make_building_engine(configuration, building_options)
    async with opened_engine(made) as engine:
        yield engine

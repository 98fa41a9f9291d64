"""Each real engine in turn, opened for one test; the cluster's builds as well as runs its apps."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from moorage.engines.docker.docker import DockerEngine
from moorage.engines.engine import Engine
from moorage.engines.images.base_images import DEFAULTS
from moorage.engines.kind import ClusterOptions, EngineOptions
from moorage.engines.kubernetes.building.builds import builder_of
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.loop import always
from support.engines.base_image import SHOWN, push_base
from support.engines.docker_fixture import Dockerd, make_docker, opened_docker
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import (
    OWN_IMAGE,
    cluster_options,
    host_configuration,
    opened_engine,
)
from support.engines.kubernetes_fixture import own_image
from support.engines.registry_fixture import RegistryServer, started_registry
from support.gateway.ports import quiet_port


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
def cluster_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with a base image."""
    with started_registry(tmp_path_factory.mktemp("registry")) as server:
        asyncio.run(push_base(server.host))
        yield server


@pytest.fixture(scope="module")
def building_cluster(fake_cluster: Cluster) -> Cluster:
    """A fake cluster whose node has Moorage's own image, and programs for what is built."""
    fake_cluster.images.shown = SHOWN
    fake_cluster.add_image(OWN_IMAGE, own_image(fake_cluster.directory / "own"))
    return fake_cluster


def make_building_engine(
    cluster: Cluster,
    registry: RegistryServer,
    *,
    state_dir: Path,
    run_dir: Path,
    base: str = "base:1",
    wallet_cache_bytes: int = 0,
    **chosen: Any,
) -> KubernetesEngine:
    """An engine that builds in pods on an image of the registry, and is not opened yet."""
    options = cluster_options(
        cluster,
        registry=f"{registry.host}/apps",
        build_port=quiet_port(cluster.host),
        memory_bytes=1 << 34,
    )
    configuration = host_configuration(state_dir, run_dir, **chosen)
    builds = engine_options(options, base=f"{registry.host}/{base}")
    builds = replace(builds, wallet_cache_bytes=wallet_cache_bytes)
    return KubernetesEngine(
        configuration,
        options,
        keeps=always,
        make_builder=partial(builder_of, configuration, builds),
    )


def engine_options(cluster: ClusterOptions, *, base: str) -> EngineOptions:
    """Options of which only those for a cluster count."""
    return EngineOptions(
        subnet="10.0.0.0/8",
        wallet_cache_bytes=0,
        total_cache_bytes=0,
        downloads_bytes=0,
        docker_host="",
        base_images=dict.fromkeys(DEFAULTS, base),
        image_registry="",
        local_images=False,
        dockerfile_registries=(),
        cluster=cluster,
    )


@pytest.fixture
def short_run_dir() -> Iterator[Path]:
    """A directory for sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="mk", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def building_kubernetes(
    building_cluster: Cluster,
    cluster_registry: RegistryServer,
    tmp_path: Path,
    short_run_dir: Path,
) -> AsyncIterator[KubernetesEngine]:
    """The Kubernetes engine with its own builder, opened for one test."""
    made = make_building_engine(
        building_cluster, cluster_registry, state_dir=tmp_path / "state", run_dir=short_run_dir
    )
    async with opened_engine(made) as engine:
        yield engine

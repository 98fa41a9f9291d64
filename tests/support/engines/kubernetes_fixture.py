"""A Kubernetes cluster for tests, and an image that runs on it."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import moorage
from support.engines.base_image import SHOWN
from support.engines.fake_kubernetes.cluster import Cluster, started_cluster
from support.engines.fake_kubernetes.images import Image
from support.engines.kubernetes_client import KubernetesClient, namespace_at, opened_client
from support.gateway.waiting import until

SOURCES = Path(moorage.__file__).parent.parent
MODULES = "/moorage"
"""Where Moorage's own image has them."""


@pytest.fixture(scope="module")
def fake_cluster() -> Iterator[Cluster]:
    """A fake cluster, which the tests of a module share."""
    with started_cluster() as cluster:
        yield cluster


def machine_image(
    root: Path, *, config: Mapping[str, Any], shown: Mapping[str, Path] = MappingProxyType({})
) -> Image:
    """An image with this machine's programs, Node and Python among them, and what is shown beside.

    It is made in a directory that does not exist yet.
    """
    for name in ("dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    return Image(root=root, config=config, binds={**SHOWN, **shown})


def own_image(root: Path) -> Image:
    """Moorage's own, made in a directory that does not exist yet.

    It has the modules at a place of its own: pods mount volumes over paths of this machine.
    """
    config = {"Env": [f"PYTHONPATH={MODULES}", "PATH=/usr/bin:/bin"]}
    return machine_image(root, config=config, shown={MODULES: SOURCES})


@dataclass(frozen=True)
class TestedCluster:
    """A cluster, fake or real, and what tests need of it."""

    kubeconfig: Path
    image: str  # with sh and python3

    __test__ = False


@pytest.fixture(scope="module")
def tested_cluster(request: pytest.FixtureRequest) -> TestedCluster:
    """The cluster of MOORAGE_TEST_KUBECONFIG, whose pods this machine must reach; else a fake one.

    On a real cluster, MOORAGE_TEST_IMAGE names an image with `sh` and `python3` on its PATH.
    """
    if (kubeconfig := os.environ.get("MOORAGE_TEST_KUBECONFIG")) is not None:
        image = os.environ.get("MOORAGE_TEST_IMAGE", "docker.io/library/python:3.13-slim")
        return TestedCluster(Path(kubeconfig), image)
    cluster: Cluster = request.getfixturevalue("fake_cluster")
    cluster.add_image("tools", machine_image(cluster.directory / "tools", config={}))
    return TestedCluster(cluster.kubeconfig(), "tools")


@pytest.fixture
async def api(tested_cluster: TestedCluster) -> AsyncIterator[KubernetesClient]:
    """A client of the tested cluster."""
    async with opened_client(tested_cluster.kubeconfig) as client:
        yield client


@pytest.fixture
async def namespace(api: KubernetesClient) -> AsyncIterator[str]:
    """The address of a namespace of the test's own, which is ready for pods."""
    path = f"/api/v1/namespaces/moorage-test-{secrets.token_hex(4)}"
    await api.apply(path, namespace_at(path))
    await until(lambda: api.has(f"{path}/serviceaccounts/default"))
    yield path
    await api.delete(path)

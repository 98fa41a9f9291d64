"""A Kubernetes cluster for tests, and an image that runs on it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fake_kubernetes.cluster import Cluster, started_cluster
from fake_kubernetes.images import Image


@pytest.fixture(scope="module")
def fake_cluster() -> Iterator[Cluster]:
    """A fake cluster, which the tests of a module share."""
    with started_cluster() as cluster:
        yield cluster


def machine_image(root: Path, *, config: Mapping[str, Any], shown: tuple[Path, ...] = ()) -> Image:
    """An image with this machine's programs, Node and Python among them, and what is shown beside.

    It is made in a directory that does not exist yet.
    """
    for name in ("dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    return Image(root=root, config=config, binds=(Path("/usr"), Path("/etc/ssl"), *shown))


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

"""The Kubernetes engine on a fake cluster, with a builder that copies files instead of building.

On a real one instead if MOORAGE_TEST_KUBECONFIG names it; `real_cluster` says what that needs.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.disks.trees import copy_files
from moorage.engines.engine import BuildSpec
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import DEFAULTS
from moorage.engines.images.image import numeric_user
from moorage.engines.kind import ClusterOptions, EngineOptions
from moorage.engines.kubernetes.cluster.shared import Log
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.engines.kubernetes.images import opened_images
from moorage.engines.kubernetes.objects.labels import wallet_hash
from moorage.engines.kubernetes.running.starting import Patience
from moorage.loop import Keeps, always
from support.engines import real_cluster
from support.engines.docker_fixture import SUBNET
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.images import Image
from support.engines.kubernetes_fixture import machine_image, own_image
from support.engines.real_cluster import own_address
from support.engines.small_apps import LIMITS, MIB

OWN_IMAGE = "moorage/own"


@dataclass
class CopyingBuilder:
    """Puts the files of a deployment beside this machine's programs."""

    cluster: Cluster
    directory: Path
    images: set[tuple[str, str]] = field(default_factory=set)  # wallet and deployment
    users: dict[str, str] = field(default_factory=dict)  # whom a deployment's app is to run as

    async def build(self, spec: BuildSpec, log: Log) -> str:
        root = self.directory / secrets.token_hex(8)
        config = {
            "Cmd": ["/bin/sh", "-c", f"exec {spec.plan.start}"],
            "WorkingDir": "/app",
            "User": self.users.get(spec.deployment_id, "1000"),
        }
        image = machine_image(root, config=config)
        await asyncio.to_thread(shutil.copytree, spec.source, root / "app")
        await log([f"copied {spec.deployment_id}"])
        return self._add(wallet_hash(spec.owner), spec.deployment_id, image)

    async def copy(self, image: str, deployment_id: str) -> str:
        wallet = image.split("/")[1]
        return self._add(wallet, deployment_id, self.cluster.images.given[image])

    async def user(self, image: str) -> int:
        return numeric_user(self.cluster.images.given[image].config["User"], "")

    async def remove(self, wallet: str, deployment_id: str) -> None:
        self.images.discard((wallet, deployment_id))

    async def fetch_files(
        self, image: str, target: Path, *, without: Collection[str], max_bytes: int
    ) -> None:
        built = self.cluster.images.given[image].root / "app"
        await asyncio.to_thread(copy_files, built, target, without=without, max_bytes=max_bytes)

    async def stored(self, wallet: str) -> set[str]:
        return {deployment_id for owner, deployment_id in self.images if owner == wallet}

    def _add(self, wallet: str, deployment_id: str, image: Image) -> str:
        digest = secrets.token_hex(32)
        reference = f"registry.example/{wallet}/{deployment_id}@sha256:{digest}"
        self.cluster.add_image(reference, image)
        self.images.add((wallet, deployment_id))
        return reference


def copying_builder(cluster: Cluster) -> CopyingBuilder:
    """One that keeps its files beside the cluster's."""
    return CopyingBuilder(cluster, cluster.directory / "built")


def cluster_options(cluster: Cluster, **chosen: Any) -> ClusterOptions:
    """Those for a fake cluster."""
    return options_for(cluster.kubeconfig(), host=cluster.host, own_image=OWN_IMAGE, **chosen)


def options_for(kubeconfig: Path, *, host: str, own_image: str, **chosen: Any) -> ClusterOptions:
    """Those for a cluster whose pods see this machine as `host`, with a prefix of its own."""
    options = ClusterOptions(
        app=replace(LIMITS, volume_bytes=32 * MIB),
        build=replace(LIMITS, disk_bytes=512 * MIB),
        apps_per_wallet=10,
        config=str(kubeconfig),
        prefix=f"m{secrets.token_hex(3)}",
        registry="registry.example",
        registry_credentials="",
        pull_credentials="",
        builder="unix:///nowhere",
        builder_certificates="",
        own_image=own_image,
        runtime_class="",
        user_namespaces=False,
        storage_class="",
        resolvers=(),
        gateway_namespace="",
        gateway_networks=(f"{host}/32",),
    )
    return replace(options, **chosen)


def make_engine(
    cluster: Cluster,
    state_dir: Path,
    *,
    options: ClusterOptions | None = None,
    keeps: Keeps | None = always,
    patience: Patience = Patience(schedule_seconds=2, pull_seconds=2, make_seconds=1),  # noqa: B008
    builder: CopyingBuilder | None = None,
    upkeep_seconds: float = 60.0,
    **configuration: Any,
) -> KubernetesEngine:
    """An engine that is not opened yet, with a prefix of its own unless options are given."""
    if OWN_IMAGE not in cluster.images.given:
        cluster.add_image(OWN_IMAGE, own_image(cluster.directory / "own"))
    run_dir = cluster.directory / f"run-{secrets.token_hex(2)}"
    return KubernetesEngine(
        host_configuration(state_dir, run_dir, **configuration),
        options or cluster_options(cluster),
        keeps=keeps,
        make_builder=lambda _: nullcontext(builder or copying_builder(cluster)),
        patience=patience,
        upkeep_seconds=upkeep_seconds,
    )


def host_configuration(state_dir: Path, run_dir: Path, **configuration: Any) -> HostConfiguration:
    """What the engine knows of its machine."""
    return HostConfiguration(
        state_dir=state_dir,
        run_dir=run_dir,
        instance_id=secrets.token_hex(3),
        tools={},
        stop_grace_seconds=3.0,
        folder="pods",
        **configuration,
    )


def engine_options(cluster: ClusterOptions, *, base: str, **chosen: Any) -> EngineOptions:
    """Options of which only those for a cluster count; `base` is the image of all languages."""
    options = EngineOptions(
        subnet=SUBNET,
        wallet_cache_bytes=0,
        total_cache_bytes=1 << 30,
        downloads_bytes=0,
        docker_host="",
        base_images=dict.fromkeys(DEFAULTS, base),
        local_images=False,
        dockerfile_registries=("*",),
        cluster=cluster,
    )
    return replace(options, **chosen)


def make_building_engine(
    configuration: HostConfiguration, options: EngineOptions
) -> KubernetesEngine:
    """An engine whose images are built, and which is not opened yet."""
    return KubernetesEngine(
        configuration,
        options.cluster,
        keeps=always,
        make_builder=partial(opened_images, configuration, options),
    )


def make_real_engine(kubeconfig: str, *, state_dir: Path, run_dir: Path) -> KubernetesEngine:
    """An engine on a real cluster, with a prefix of its own."""
    cluster = options_for(
        Path(kubeconfig),
        host=own_address(kubeconfig),
        own_image=os.environ[real_cluster.OWN_IMAGE],
        **real_cluster.settings_of_tests(),
    )
    options = engine_options(cluster, base=os.environ[real_cluster.IMAGE])
    return make_building_engine(host_configuration(state_dir, run_dir), options)


@asynccontextmanager
async def opened_engine(engine: KubernetesEngine) -> AsyncIterator[KubernetesEngine]:
    """The engine, opened, and taken down with all its apps."""
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close(stop_apps=True)


@pytest.fixture
async def kubernetes(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[KubernetesEngine]:
    """The Kubernetes engine, opened for one test."""
    state_dir, short = tmp_path / "state", tempfile.TemporaryDirectory(prefix="mk", dir="/tmp")
    with short as run_dir:
        if (kubeconfig := os.environ.get("MOORAGE_TEST_KUBECONFIG")) is not None:
            paths = {"state_dir": state_dir, "run_dir": Path(run_dir)}
            made = make_real_engine(kubeconfig, **paths)
        else:
            made = make_engine(request.getfixturevalue("fake_cluster"), state_dir)
        async with opened_engine(made) as engine:
            yield engine

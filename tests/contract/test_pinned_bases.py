"""A release in a cluster keeps the base image that it was built on, whatever the tag is by now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.engines.images.base_images import DEFAULTS
from moorage.engines.kind import EngineOptions
from moorage.engines.kubernetes.engine import KubernetesEngine
from support.engines.base_image import SHOWN, push_base
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import (
    host_configuration,
    make_building_engine,
    opened_engine,
)
from support.engines.registry_fixture import RegistryServer
from support.engines.small_apps import build, fetch, plan, start

pytestmark = pytest.mark.root

MARKED = (
    "require('http').createServer((_, answer) => answer.end(process.env.MARK))"
    ".listen(process.env.PORT);\n"
)


async def mark_of(engine: KubernetesEngine, deployment_id: str) -> str:
    """The mark of the base image that an app runs on."""
    instance = await start(engine, plan(), deployment_id=deployment_id)
    return await fetch(instance.address)


@asynccontextmanager
async def built_on(
    base: str, options: EngineOptions, cluster: Cluster, tmp_path: Path, run_dir: Path
) -> AsyncIterator[KubernetesEngine]:
    """An engine that builds on an image of the registry, whose programs the node shows."""
    cluster.images.shown = SHOWN
    registry = options.cluster.registry.partition("/")[0]
    given = replace(
        options, base_images=dict.fromkeys(DEFAULTS, f"{registry}/{base}"), local_images=False
    )
    configuration = host_configuration(tmp_path / "state", run_dir)
    async with opened_engine(make_building_engine(configuration, given)) as engine:
        yield engine


async def test_release_that_is_rolled_back_to_keeps_its_base_and_a_new_build_gets_the_newest(
    building_options: EngineOptions,
    building_cluster: Cluster,
    cluster_registry: RegistryServer,
    source: Path,
    tmp_path: Path,
    short_run_dir: Path,
) -> None:
    (source / "index.js").write_text(MARKED)
    await push_base(cluster_registry.host, mark="old")
    places = (tmp_path, short_run_dir)
    async with built_on("base:1", building_options, building_cluster, *places) as engine:
        await build(engine, source, plan(), deployment_id="first")
        await push_base(cluster_registry.host, mark="new")
        await build(engine, source, plan(), deployment_id="second")
        await engine.copy("first", "back")
        assert await mark_of(engine, "first") == "old"
        assert await mark_of(engine, "second") == "new"
        assert await mark_of(engine, "back") == "old"


async def test_base_that_the_operator_names_by_its_digest_is_the_same_for_every_build(
    building_options: EngineOptions,
    building_cluster: Cluster,
    cluster_registry: RegistryServer,
    source: Path,
    tmp_path: Path,
    short_run_dir: Path,
) -> None:
    (source / "index.js").write_text(MARKED)
    digest = await push_base(cluster_registry.host, mark="pinned")
    await push_base(cluster_registry.host, mark="later")
    base, places = f"base:1@{digest}", (tmp_path, short_run_dir)
    async with built_on(base, building_options, building_cluster, *places) as engine:
        await build(engine, source, plan(), deployment_id="first")
        assert await mark_of(engine, "first") == "pinned"

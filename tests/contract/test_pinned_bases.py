"""A release in a cluster keeps the base image that it was built on, whatever the tag is by now."""

from pathlib import Path

import pytest

from moorage.engines.kubernetes.engine import KubernetesEngine
from support.engines.base_image import push_base
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import opened_engine
from support.engines.registry_fixture import RegistryServer
from support.engines.runtime_fixture import make_building_engine
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


async def test_release_that_is_rolled_back_to_keeps_its_base_and_a_new_build_gets_the_newest(
    building_kubernetes: KubernetesEngine, cluster_registry: RegistryServer, source: Path
) -> None:
    engine = building_kubernetes
    (source / "index.js").write_text(MARKED)
    await push_base(cluster_registry.host, mark="old")
    await build(engine, source, plan(), deployment_id="first")
    await push_base(cluster_registry.host, mark="new")
    await build(engine, source, plan(), deployment_id="second")
    await engine.copy("first", "back")
    assert await mark_of(engine, "first") == "old"
    assert await mark_of(engine, "second") == "new"
    assert await mark_of(engine, "back") == "old"


async def test_base_that_the_operator_names_by_its_digest_is_the_same_for_every_build(
    building_cluster: Cluster,
    cluster_registry: RegistryServer,
    source: Path,
    tmp_path: Path,
    short_run_dir: Path,
) -> None:
    (source / "index.js").write_text(MARKED)
    digest = await push_base(cluster_registry.host, mark="pinned")
    made = make_building_engine(
        building_cluster,
        cluster_registry,
        base=f"base:1@{digest}",
        state_dir=tmp_path / "state",
        run_dir=short_run_dir,
    )
    await push_base(cluster_registry.host, mark="later")
    async with opened_engine(made) as engine:
        await build(engine, source, plan(), deployment_id="first")
        assert await mark_of(engine, "first") == "pinned"

"""The gateway's role in a cluster: the engine needs no permission beyond it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.engines.engine import Engine, InstanceSpec, Keep, log_tail
from moorage.engines.kubernetes.opening import questions
from moorage.errors import IsolationMissing
from moorage.records.deployment import LogKind
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.resources import STORED
from support.engines.kubernetes_engine_fixture import make_engine, opened_engine
from support.engines.small_apps import LIMITS, MIB, build, logged, plan

pytestmark = pytest.mark.root

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
OWNER = "0x" + "5a" * 20
SAYING = "console.log('begun');\n"


@pytest.fixture
def strict_cluster(fake_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster that lets the gateway do what its role says, and nothing else."""
    granted = {(q.verb, q.rule.resource) for q in questions()}
    for resource in STORED:
        for verb in VERBS:
            if (verb, resource.plural) not in granted:
                fake_cluster.deny(verb, resource.plural)
    yield fake_cluster
    fake_cluster.mend()


async def run(engine: Engine, deployment_id: str, *, volume: str | None = None) -> None:
    limits = replace(LIMITS, volume_bytes=32 * MIB)
    spec = InstanceSpec(
        deployment_id=deployment_id, plan=plan(), limits=limits, owner=OWNER, volume=volume
    )
    await engine.start(spec, timeout_seconds=30)


async def test_whole_life_of_a_project_needs_no_permission_beyond_the_role(
    strict_cluster: Cluster, source: Path, tmp_path: Path
) -> None:
    served = source / "index.js"
    served.write_text(SAYING + served.read_text())
    async with opened_engine(make_engine(strict_cluster, tmp_path / "state")) as engine:
        await build(engine, source, plan(), owner=OWNER)
        await run(engine, "first")
        await logged(engine, "begun")
        await engine.copy("first", "second")
        await run(engine, "second", volume="shop")
        assert set(await engine.running()) == {"first", "second"}
        assert await engine.volumes() == {"shop"}
        assert set(await engine.usage()) <= {"first", "second"}
        await engine.stop("second")
        await engine.delete_volume("shop", unless_used=True)
        await engine.delete_volume("shop")
        await engine.stop("second", keep=Keep.LOGS)
        await engine.stop("first", keep=Keep.NOTHING)
        assert await log_tail(engine, "first", LogKind.RUNTIME) == ""


async def test_engine_does_not_open_without_a_permission_of_the_role(
    strict_cluster: Cluster, tmp_path: Path
) -> None:
    strict_cluster.deny("delete", "secrets")
    engine = make_engine(strict_cluster, tmp_path / "state")
    with pytest.raises(IsolationMissing, match="may not delete secrets"):
        await engine.open()

"""The Kubernetes engine on a cluster: starts that fail, ends, adoption, and what is not known."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.engines.engine import Incident, IncidentKind, InstanceSpec
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.errors import DeployFailed, FailureCause
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.resources import (
    NODES,
    PODS,
    Manifest,
)
from support.engines.kubernetes_engine_fixture import cluster_options, make_engine, opened_engine
from support.engines.small_apps import LIMITS, MIB, build, fetch, plan, start

pytestmark = pytest.mark.root

OWNER = "0x" + "ab" * 20
ENDING = "process.on('SIGTERM', () => process.exit(0));\n"


@pytest.fixture(scope="module")
def shared_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source")
    (directory / "index.js").write_text(
        ENDING + "require('http').createServer((_, answer) => answer.end('hello'))"
        ".listen(process.env.PORT);\n"
    )
    return directory


async def failure(
    engine: KubernetesEngine, command: str, *, timeout_seconds: float = 30
) -> DeployFailed:
    """How an app fails to start."""
    with pytest.raises(DeployFailed) as failed:
        await start(engine, plan(start=command), timeout_seconds=timeout_seconds)
    assert await engine.running() == {}
    return failed.value


async def built(engine: KubernetesEngine, source: Path, command: str) -> None:
    await build(engine, source, plan(start=command), owner=OWNER)


def of(cluster: Cluster, engine_prefix: str) -> list[Manifest]:
    return [it for it in cluster.objects(PODS) if it["metadata"]["namespace"] == engine_prefix]


async def test_app_that_ends_at_its_start_has_crashed_with_its_code_and_words(
    kubernetes: KubernetesEngine, source: Path, fake_cluster: Cluster
) -> None:
    command = "sh -c 'echo last words; exit 7'"
    await built(kubernetes, source, command)
    failed = await failure(kubernetes, command)
    assert failed.cause is FailureCause.CRASHED
    assert "exit code 7" in failed.reason
    assert "last words" in failed.log_tail
    ended = (await kubernetes.inspect("first")).exit
    assert ended is not None
    assert ended.exit_code == 7


async def test_app_that_needs_too_much_memory_is_told_so(
    kubernetes: KubernetesEngine, source: Path
) -> None:
    (source / "hungry.py").write_text("held = bytearray(512 << 20)\n" * 4 + "input()\n")
    await built(kubernetes, source, "python3 hungry.py")
    failed = await failure(kubernetes, "python3 hungry.py")
    assert failed.cause is FailureCause.OUT_OF_MEMORY
    assert "256 MiB" in failed.reason


async def test_app_that_does_not_listen_is_told_the_port(
    kubernetes: KubernetesEngine, source: Path
) -> None:
    await built(kubernetes, source, "sleep 1000")
    failed = await failure(kubernetes, "sleep 1000", timeout_seconds=1)
    assert failed.cause is FailureCause.PORT_NOT_BOUND
    assert "$PORT (3000)" in failed.reason


async def test_program_that_is_not_in_the_image_is_told(
    kubernetes: KubernetesEngine, source: Path
) -> None:
    await built(kubernetes, source, "no-such-program")
    failed = await failure(kubernetes, "no-such-program")
    assert failed.cause is FailureCause.CRASHED


async def test_image_that_is_gone_is_told(
    kubernetes: KubernetesEngine, source: Path, fake_cluster: Cluster
) -> None:
    await built(kubernetes, source, "node index.js")
    for name in [it for it in fake_cluster.images.given if "/first@" in it]:
        del fake_cluster.images.given[name]
    failed = await failure(kubernetes, "node index.js")
    assert failed.cause is FailureCause.INTERRUPTED
    assert "deploy it again" in failed.reason


async def test_app_that_no_node_has_room_for_is_no_capacity(
    kubernetes: KubernetesEngine, source: Path, fake_cluster: Cluster
) -> None:
    await built(kubernetes, source, "node index.js")
    with fake_cluster.changing(NODES, "", "node-1") as node:
        before = dict(node["status"]["allocatable"])
        node["status"]["allocatable"]["memory"] = "1Mi"
    try:
        failed = await failure(kubernetes, "node index.js")
    finally:
        with fake_cluster.changing(NODES, "", "node-1") as node:
            node["status"]["allocatable"].update(before)
    assert failed.cause is FailureCause.NO_CAPACITY


async def test_app_beyond_its_wallets_quota_is_no_capacity(
    fake_cluster: Cluster, source: Path, tmp_path: Path
) -> None:
    options = cluster_options(fake_cluster, app=replace(LIMITS, memory_bytes=64 * MIB))
    engine = make_engine(fake_cluster, tmp_path / "state", options=options)
    async with opened_engine(engine):
        await built(engine, source, "node index.js")
        large = InstanceSpec(
            deployment_id="first",
            plan=plan(),
            limits=replace(LIMITS, memory_bytes=8192 * MIB),
            owner=OWNER,
        )
        with pytest.raises(DeployFailed) as failed:
            await engine.start(large, timeout_seconds=30)
        assert failed.value.cause is FailureCause.NO_CAPACITY


async def test_variables_that_no_secret_takes_are_the_deployers_to_shorten(
    kubernetes: KubernetesEngine, source: Path
) -> None:
    await built(kubernetes, source, "node index.js")
    many = {f"NAME{number}": "x" * 32_768 for number in range(40)}
    spec = InstanceSpec(
        deployment_id="first", plan=plan(), limits=LIMITS, owner=OWNER, variables=many
    )
    with pytest.raises(DeployFailed, match=r"settings\.runEnvs are too long"):
        await kubernetes.start(spec, timeout_seconds=30)
    assert await kubernetes.running() == {}


async def test_end_of_an_app_is_told_at_once_and_it_starts_in_a_new_pod(
    kubernetes: KubernetesEngine, source: Path
) -> None:
    (source / "index.js").write_text(
        "require('http').createServer((request, answer) => {"
        "  if (request.url === '/end') process.exit(3);"
        "  answer.end('hello');"
        "}).listen(process.env.PORT);\n"
    )
    await built(kubernetes, source, "node index.js")
    before = await start(kubernetes, plan())
    host, _, port = str(before.address).rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /end HTTP/1.1\r\nHost: app\r\n\r\n")
    told = await asyncio.wait_for(kubernetes.next_incident(), 30)
    assert told == Incident("first", IncidentKind.ENDED)
    writer.close()
    after = await start(kubernetes, plan())
    assert await fetch(after.address) == "hello"
    assert (await kubernetes.running()) == {"first": after}


async def test_volume_keeps_its_files_for_the_next_version_until_it_is_cleared(
    kubernetes: KubernetesEngine, source: Path
) -> None:
    (source / "index.js").write_text(
        "const fs = require('fs'), file = process.env.DATA_DIR + '/seen';\n"
        "const before = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : 'nothing';\n"
        "fs.writeFileSync(file, 'something');\n"
        "process.on('SIGTERM', () => process.exit(0));\n"
        "require('http').createServer((_, answer) => answer.end(before))"
        ".listen(process.env.PORT);\n"
    )
    await built(kubernetes, source, "node index.js")
    await kubernetes.copy("first", "second")

    async def seen_by(deployment_id: str) -> str:
        spec = InstanceSpec(
            deployment_id=deployment_id,
            plan=plan(),
            limits=replace(LIMITS, volume_bytes=32 * MIB),
            owner=OWNER,
            volume="data",
        )
        instance = await kubernetes.start(spec, timeout_seconds=30)
        return await fetch(instance.address)

    assert await seen_by("first") == "nothing"
    assert await seen_by("second") == "something"  # beside the first, which runs on
    await kubernetes.delete_volume("data", unless_used=True)  # does nothing, as it is used
    await kubernetes.stop("first")
    await kubernetes.stop("second")
    assert await seen_by("second") == "something"
    await kubernetes.stop("second")
    await kubernetes.delete_volume("data", unless_used=True)
    assert await seen_by("second") == "nothing"

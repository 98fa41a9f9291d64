"""What the Kubernetes engine knows of other gateways' apps, and of a cluster that tells little."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorage.content.store import DirectoryStore
from moorage.engines.engine import Incident, IncidentKind, InstanceSpec, Keep, log_tail
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.errors import ClusterUnavailable, DeployFailed, IsolationMissing
from moorage.records.deployment import LogKind
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.faults import BUSY, INTERNAL, STARTING
from support.engines.fake_kubernetes.resources import NAMESPACES, PODS
from support.engines.kubernetes_engine_fixture import cluster_options, make_engine, opened_engine
from support.engines.small_apps import LIMITS, MIB, build, fetch, logged, plan, start
from support.gateway.waiting import until, until_read

pytestmark = pytest.mark.root

COUNTING = """\
let number = 0;
setInterval(() => console.log(`line ${++number}`), 5);
require('http').createServer((_, answer) => answer.end(`${number}`)).listen(process.env.PORT);
process.on('SIGTERM', () => process.exit(0));
"""


@pytest.fixture(autouse=True)
def mended(fake_cluster: Cluster) -> None:
    fake_cluster.mend()


@pytest.fixture
def options(fake_cluster: Cluster) -> ClusterOptions:
    return cluster_options(fake_cluster)


async def run_first(engine: KubernetesEngine, source: Path) -> None:
    await build(engine, source, plan())
    await start(engine, plan())


def namespaces(cluster: Cluster, prefix: str) -> list[str]:
    """The namespaces of a gateway's wallets."""
    return [it for it in all_namespaces(cluster, prefix) if "-self-test-" not in it]


def all_namespaces(cluster: Cluster, prefix: str) -> list[str]:
    """A gateway's namespaces."""
    names = [it["metadata"]["name"] for it in cluster.objects(NAMESPACES)]
    return [it for it in names if it.startswith(prefix)]


async def test_another_gateway_without_the_disk_takes_over_all_apps(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    (source / "index.js").write_text(COUNTING)
    first = make_engine(fake_cluster, tmp_path / "one", options=options)
    await first.open()
    await run_first(first, source)
    running = await first.running()
    await first.close(stop_apps=False)
    pods = {it["metadata"]["uid"] for it in fake_cluster.objects(PODS)}
    async with opened_engine(
        make_engine(fake_cluster, tmp_path / "two", options=options)
    ) as second:
        assert await second.running() == running
        assert await second.known() == {"first"}
        assert {it["metadata"]["uid"] for it in fake_cluster.objects(PODS)} >= pods
        assert await start(second, plan()) == running["first"]
        await logged(second, "line 1\n")  # the kubelet has kept it
        await second.copy("first", "second")
        await start(second, plan(), deployment_id="second")
        assert set(await second.running()) == {"first", "second"}


async def test_restart_of_the_gateway_neither_loses_nor_doubles_lines(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    (source / "index.js").write_text(COUNTING)
    for last in (50, 300, 600, 900):
        engine = make_engine(fake_cluster, tmp_path / "state", options=options)
        await engine.open()
        if last == 50:
            await run_first(engine, source)
        log = await logged(engine, f"line {last}\n")
        await engine.close(stop_apps=last == 900)
    lines = [it for it in log.splitlines() if it.startswith("line ")]
    assert lines == [f"line {number + 1}" for number in range(len(lines))]


async def test_cut_stream_neither_loses_nor_doubles_lines(
    fake_cluster: Cluster, kubernetes: KubernetesEngine, source: Path
) -> None:
    (source / "index.js").write_text(COUNTING)
    await run_first(kubernetes, source)
    for last in (50, 300):
        await logged(kubernetes, f"line {last}\n")
        fake_cluster.cut_streams()
    log = await logged(kubernetes, "line 600\n")
    lines = [it for it in log.splitlines() if it.startswith("line ")]
    assert lines == [f"line {number + 1}" for number in range(len(lines))]


async def test_gateway_that_only_asks_reads_all_logs_and_writes_on_when_its_turn_comes(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    (source / "index.js").write_text(COUNTING)
    (tmp_path / "content").mkdir()
    shared: dict[str, Any] = {"options": options, "content": DirectoryStore(tmp_path / "content")}
    leader = make_engine(fake_cluster, tmp_path / "one", **shared)
    await leader.open()
    await run_first(leader, source)
    view = make_engine(fake_cluster, tmp_path / "two", keeps=None, **shared)
    await view.open()
    assert await log_tail(view, "first", LogKind.BUILD) == "copied first\n"
    await logged(view, "line 50\n")
    await leader.note("first", "said by the leader")
    await logged(view, "said by the leader\n")
    seen = await view.read_log("first", LogKind.RUNTIME)
    assert seen.lines == (await leader.read_log("first", LogKind.RUNTIME)).lines[: len(seen.lines)]
    await view.close(stop_apps=False)
    await leader.close(stop_apps=False)

    taken_over = make_engine(fake_cluster, tmp_path / "two", **shared)
    async with opened_engine(taken_over):
        assert await log_tail(taken_over, "first", LogKind.BUILD) == "copied first\n"
        log = await logged(taken_over, "line 900\n")
        lines = [it for it in log.splitlines() if it.startswith("line ")]
        assert lines == [f"line {number + 1}" for number in range(len(lines))]
        assert "said by the leader" in log
        after = await taken_over.read_log("first", LogKind.RUNTIME, after=seen.next, limit=1)
        assert f"line {len(seen.lines)}" == after.lines[0].text  # one of them was the leader's
        await taken_over.stop("first")
        last = await log_tail(taken_over, "first", LogKind.RUNTIME)
        other = make_engine(fake_cluster, tmp_path / "one", keeps=None, **shared)
        await other.open()
        assert await log_tail(other, "first", LogKind.RUNTIME) == last  # as soon as it has ended
        await other.close(stop_apps=False)
        await taken_over.stop("first", keep=Keep.NOTHING)
    assert [path for path in (tmp_path / "content").rglob("*") if path.is_file()] == []


async def test_gateway_that_only_asks_sees_the_same_and_makes_nothing(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    leader = make_engine(fake_cluster, tmp_path / "one", options=options)
    view = make_engine(fake_cluster, tmp_path / "two", options=options, keeps=None)
    async with opened_engine(leader):
        await view.open()
        await run_first(leader, source)
        await until(lambda: same(leader, view))
        assert (await view.inspect("first")).instance == (await leader.inspect("first")).instance
        await leader.stop("first", keep=Keep.NOTHING)
        await until(lambda: same(leader, view))
        await view.close(stop_apps=False)


async def same(leader: KubernetesEngine, view: KubernetesEngine) -> bool:
    return (await leader.running(), await leader.known()) == (
        await view.running(),
        await view.known(),
    )


async def test_frozen_watch_delays_no_start_and_hides_no_end(
    fake_cluster: Cluster, kubernetes: KubernetesEngine, source: Path
) -> None:
    await build(kubernetes, source, plan())
    fake_cluster.freeze_watches()
    instance = await start(kubernetes, plan())
    assert await fetch(instance.address) == "hello"
    await kubernetes.stop("first")
    assert (await kubernetes.inspect("first")).instance is None


@pytest.mark.parametrize("fault", ["cut", "expire", "busy", "starting"])
async def test_server_that_fails_for_a_moment_is_asked_again(
    fault: str, fake_cluster: Cluster, kubernetes: KubernetesEngine, source: Path
) -> None:
    await build(kubernetes, source, plan())
    match fault:
        case "cut":
            fake_cluster.cut_streams()
        case "expire":
            fake_cluster.expire_watches()
            fake_cluster.cut_streams()
        case "busy":
            fake_cluster.fail("list", "*", BUSY, times=2)
            fake_cluster.fail("patch", "*", INTERNAL, times=2)
        case "starting":  # the server itself, which says so of everybody for a moment
            fake_cluster.fail("patch", "*", STARTING, times=6)
    await start(kubernetes, plan())
    assert set(await kubernetes.running()) == {"first"}


async def test_cluster_that_does_not_answer_stops_no_app(
    fake_cluster: Cluster, kubernetes: KubernetesEngine, source: Path
) -> None:
    await run_first(kubernetes, source)
    fake_cluster.fail("*", "*", INTERNAL)
    for ask in (kubernetes.inspect, kubernetes.stop):
        with pytest.raises(ClusterUnavailable):
            await ask("first")
    with pytest.raises(ClusterUnavailable):
        await start(kubernetes, plan())
    with pytest.raises(IsolationMissing):
        await kubernetes.check()
    fake_cluster.mend()
    await kubernetes.check()
    instance = (await kubernetes.inspect("first")).instance
    assert instance is not None
    assert await fetch(instance.address) == "hello"


async def test_what_an_interrupted_self_test_left_goes_at_the_next_start(
    fake_cluster: Cluster, options: ClusterOptions, tmp_path: Path
) -> None:
    first = asyncio.create_task(
        opened_once(make_engine(fake_cluster, tmp_path / "first", options=options))
    )
    await until(lambda: bool(all_namespaces(fake_cluster, options.prefix)))
    fake_cluster.fail("delete", "namespaces", INTERNAL)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    fake_cluster.mend()
    assert all_namespaces(fake_cluster, options.prefix)

    await opened_once(make_engine(fake_cluster, tmp_path / "second", options=options))

    await until(lambda: not all_namespaces(fake_cluster, options.prefix))


async def opened_once(engine: KubernetesEngine) -> None:
    async with opened_engine(engine):
        pass


async def test_namespace_goes_with_the_last_of_a_wallets_deployments_and_volumes(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    prefix = options.prefix
    engine = make_engine(fake_cluster, tmp_path / "state", options=options)
    async with opened_engine(engine):
        await run_first(engine, source)
        await engine.copy("first", "second")
        (name,) = namespaces(fake_cluster, prefix)
        await engine.stop("first", keep=Keep.NOTHING)
        assert namespaces(fake_cluster, prefix) == [name]
        limits = replace(LIMITS, volume_bytes=32 * MIB)
        spec = InstanceSpec(deployment_id="second", plan=plan(), limits=limits, volume="data")
        await engine.start(spec, timeout_seconds=30)
        await engine.stop("second", keep=Keep.NOTHING)
        assert namespaces(fake_cluster, prefix) == [name]  # the volume is there
        await engine.delete_volume("data")
        await until(lambda: not namespaces(fake_cluster, prefix))
        await run_first(engine, source)  # while the namespace may still be ending
        assert set(await engine.running()) == {"first"}


async def test_volume_of_a_namespace_that_is_deleted_by_hand_is_lost_and_not_made_again(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    limits = replace(LIMITS, volume_bytes=32 * MIB)
    spec = InstanceSpec(deployment_id="first", plan=plan(), limits=limits, volume="data")
    before = make_engine(fake_cluster, tmp_path / "state", options=options)
    await before.open()
    await build(before, source, plan())
    await before.start(spec, timeout_seconds=30)
    await before.stop("first")
    await before.close(stop_apps=False)
    # One that makes the namespace as it should be at the next start, as happens every ten minutes.
    engine = make_engine(fake_cluster, tmp_path / "state", options=options)
    async with opened_engine(engine):
        (name,) = namespaces(fake_cluster, options.prefix)
        fake_cluster.delete(NAMESPACES, "", name)
        with pytest.raises(DeployFailed, match="volume is gone"):
            await engine.start(replace(spec, makes_volume=False), timeout_seconds=30)
        assert await engine.next_incident() == Incident("first", IncidentKind.VOLUME_LOST)
        assert await engine.volumes() == set()


async def test_gateway_without_a_permission_says_which_and_what_for(
    fake_cluster: Cluster, options: ClusterOptions, tmp_path: Path
) -> None:
    fake_cluster.deny("delete", "pods")
    with pytest.raises(IsolationMissing, match="may not delete pods"):
        await make_engine(fake_cluster, tmp_path / "state", options=options).open()
    fake_cluster.mend()


async def test_usage_is_told_where_the_cluster_measures_it(
    fake_cluster: Cluster, kubernetes: KubernetesEngine, source: Path
) -> None:
    await run_first(kubernetes, source)
    used = await until_read(kubernetes.usage, lambda it: "first" in it)
    assert used["first"].memory_bytes > 0
    fake_cluster.metrics_installed = False
    try:
        assert await kubernetes.usage() == {}
    finally:
        fake_cluster.metrics_installed = True

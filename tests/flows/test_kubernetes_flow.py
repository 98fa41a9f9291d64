"""A gateway whose apps run in a cluster: paid, built, visited, replaced, rolled back, moved."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base_image import SHOWN, push_base
from fake_kubernetes.cluster import Cluster
from fake_kubernetes.resources import NAMESPACES, PODS
from gateway_fixture import DevGateway, running
from kubernetes_fixture import machine_image
from moorage.engines.images.base_images import DEFAULTS
from ports import quiet_port
from real_cluster import SOURCES
from registry_fixture import RegistryServer, started_registry
from visitor import fetch
from waiting import until, until_read
from wallet import HELLO, Wallet, fresh_name

pytestmark = pytest.mark.root

PREFIX, MOVED = "flow", "moved"
MOVING = {"isolation": "kubernetes", "moving_from": "root"}
OWN = "moorage/own"
BUILD = {"buildCommand": "cat number > built"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with started_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    fake_cluster: Cluster, registry: RegistryServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DevGateway]:
    fake_cluster.images.shown = SHOWN
    own = {"Env": [f"PYTHONPATH={SOURCES}", "PATH=/usr/bin:/bin"]}
    root = fake_cluster.directory / "own"
    fake_cluster.add_image(OWN, machine_image(root, config=own, shown=(SOURCES,)))
    settings = settings_for(fake_cluster, registry, prefix=PREFIX)
    directory = tmp_path_factory.mktemp("kubernetes")
    with running(directory, isolation="kubernetes", **settings) as started:
        yield started


def settings_for(fake_cluster: Cluster, registry: RegistryServer, *, prefix: str) -> dict[str, str]:
    """Those of a gateway that may use the cluster, but for its isolation."""
    return {
        "run_dir": str(fake_cluster.directory / prefix),  # short, as paths of sockets must be
        "kubernetes_config": str(fake_cluster.kubeconfig()),
        "kubernetes_namespace": prefix,
        "kubernetes_registry": f"{registry.host}/apps",
        "kubernetes_own_image": OWN,
        "kubernetes_build_host": fake_cluster.host,
        "kubernetes_build_port": str(quiet_port(fake_cluster.host)),
        "kubernetes_gateway_namespace": "",
        "kubernetes_gateway_networks": f"{fake_cluster.host}/32",
        "base_images": json.dumps(dict.fromkeys(DEFAULTS, f"{registry.host}/base:1")),
        "requests_per_minute": "100000",
        "sleep_after_seconds": "3",
        "drain_seconds": "1",
        "stop_seconds": "1",
    }


def version(number: int) -> dict[str, str]:
    """An app with a build step, whose page has what that made."""
    text = HELLO["index.js"].replace(
        "'hello '", "'hello ' + require('fs').readFileSync('built') + ' '"
    )
    return {
        "number": f"{number}",
        "index.js": f"console.log('version {number} begins');\n"
        "process.on('SIGTERM', () => process.exit(0));\n" + text,
    }


def pods(cluster: Cluster, prefix: str = PREFIX) -> list[str]:
    """The names of all pods of wallets."""
    return [
        it["metadata"]["name"]
        for it in cluster.objects(PODS)
        if it["metadata"]["namespace"].startswith(f"{prefix}-")
    ]


async def test_life_of_an_app_in_a_cluster(
    gateway: DevGateway, fake_cluster: Cluster, registry: RegistryServer
) -> None:
    await push_base(registry.host)
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    first = await wallet.deploy_paid(name, version(1), settings=BUILD)
    settled = await wallet.settled(first)
    assert settled["status"] == "ready", settled
    assert "hello 1" in (await fetch(gateway, name)).text
    project = first.body["projectId"]

    second = await wallet.deploy(name, version(2), settings=BUILD)
    assert (await wallet.settled(second))["status"] == "ready"
    assert "hello 2" in (await fetch(gateway, name)).text
    back = await wallet.call("POST", f"/agent/projects/{project}/rollback", json={})
    assert (await wallet.settled(back))["status"] == "ready"
    assert "hello 1" in (await fetch(gateway, name)).text
    path = f"/agent/deploy/{project}/{second.body['deploymentId']}/logs?kind=runtime"
    await until_read(
        lambda: wallet.call("GET", path), lambda log: "version 2 begins" in str(log.body)
    )

    await until(lambda: not pods(fake_cluster))  # asleep, and the replaced versions are stopped
    assert "hello 1" in (await fetch(gateway, name)).text  # awake
    running = set(pods(fake_cluster))
    assert len(running) == 1
    gateway.kill()
    gateway.start()
    assert "hello 1" in (await fetch(gateway, name)).text

    gone = await wallet.call("DELETE", f"/agent/projects/{project}")
    assert gone.status == 200, gone.body
    assert (await fetch(gateway, name)).status == 404
    await until(lambda: not pods(fake_cluster))
    await until(lambda: not of_wallets(fake_cluster))


async def test_projects_move_from_the_sandbox_into_a_cluster_and_answer_all_the_while(
    gateway: DevGateway, fake_cluster: Cluster, registry: RegistryServer, tmp_path: Path
) -> None:
    """`gateway` has given the cluster its images; the one that moves is another."""
    await push_base(registry.host)
    settings = settings_for(fake_cluster, registry, prefix=MOVED)
    with running(tmp_path / "data", **settings) as leaving:
        wallet, moved, kept = await Wallet(leaving).fund(), fresh_name(), fresh_name()
        deployed = await wallet.deploy_paid(moved, version(1), settings=BUILD)
        assert (await wallet.settled(deployed))["status"] == "ready"
        stays = await wallet.deploy_paid(kept, HELLO, settings={"volume": True})
        assert (await wallet.settled(stays))["status"] == "ready"
        leaving.kill()
        leaving.start(**MOVING)
        await wallet.until_answers(moved)

        seen: list[tuple[int, str]] = []
        over = asyncio.Event()

        async def visit() -> None:
            while not over.is_set():
                page = await fetch(leaving, moved)
                seen.append((page.status, page.text))

        visiting = asyncio.create_task(visit())
        begun = await engine(leaving, "move", "--all", "--to", "kubernetes")
        refused = {each["name"]: each["refused"] for each in begun["moves"]}
        assert refused[moved] is None
        assert "volume" in refused[kept]

        async def is_there_alone() -> bool:
            found = {it["name"]: it for it in (await engine(leaving, "list"))["projects"]}
            assert found[moved]["move"] != "failed", found
            return (found[moved]["engine"], found[kept]["engine"]) == ("kubernetes", "root")

        await until(is_there_alone)
        assert len(pods(fake_cluster, MOVED)) == 1
        await until(lambda: len(seen) > 0)
        before = len(seen)
        await until(lambda: len(seen) > before + 50)  # by the pod alone
        over.set()
        await visiting
        assert {status for status, _ in seen} == {200}
        assert all("hello 1" in text for _, text in seen)
        assert (await wallet.visit(kept))[0] == 200

        again = await wallet.deploy(moved, version(2), settings=BUILD)
        assert (await wallet.settled(again))["status"] == "ready"
        assert "hello 2" in (await fetch(leaving, moved)).text
        for each in (deployed, stays):
            gone = await wallet.call("DELETE", f"/agent/projects/{each.body['projectId']}")
            assert gone.status == 200, gone.body
        await until(lambda: not of_wallets(fake_cluster, MOVED))


async def engine(gateway: DevGateway, *words: str) -> Any:
    """The document of `moorage engine WORDS`."""
    program = str(Path(sys.executable).parent / "moorage")
    done = await asyncio.to_thread(
        subprocess.run,
        [program, "engine", *words, "--data-dir", str(gateway.data_dir), "--json"],
        env=gateway.environment(**MOVING),
        capture_output=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def of_wallets(cluster: Cluster, prefix: str = PREFIX) -> list[str]:
    """The namespaces of wallets."""
    names = [it["metadata"]["name"] for it in cluster.objects(NAMESPACES)]
    return [it for it in names if it.startswith(f"{prefix}-") and "-self-test-" not in it]

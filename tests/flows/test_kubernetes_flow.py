"""A gateway whose apps run in a cluster: paid, built, visited, replaced, rolled back, moved."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.images.base_images import DEFAULTS
from support.clients.visitor import fetch
from support.clients.wallet import HELLO, Wallet, fresh_name
from support.engines.base_image import SHOWN
from support.engines.docker_fixture import SMALL, Dockerd
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.resources import NAMESPACES, PODS
from support.engines.kubernetes_fixture import own_image
from support.engines.registry_fixture import RegistryServer
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until, until_read

pytestmark = [pytest.mark.root, pytest.mark.long]

PREFIX, MOVED = "flow", "moved"
MOVING = {"isolation": "kubernetes", "moving_from": "root"}
OWN = "moorage/own"
BUILD = {"buildCommand": "cat number > built", "sleepAfterSeconds": 3}
# /put writes a note; anything else tells it, and where the app runs.
STORING = {
    "index.js": """\
const fs = require('fs'), note = '/data/note';
process.on('SIGTERM', () => process.exit(0));
require('http').createServer((request, response) => {
  if (request.url.startsWith('/put?')) fs.writeFileSync(note, request.url.slice(5));
  const text = fs.existsSync(note) ? fs.readFileSync(note, 'utf8') : 'none';
  response.end(`${text} ${WHERE}`);
}).listen(process.env.PORT);
let WHERE = 'root';
try { fs.accessSync('.', fs.constants.W_OK); } catch { WHERE = 'cluster'; }
"""
}


@pytest.fixture(scope="module")
def gateway(
    fake_cluster: Cluster,
    cluster_registry: RegistryServer,
    dockerd: Dockerd,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DevGateway]:
    fake_cluster.images.shown = SHOWN
    fake_cluster.add_image(OWN, own_image(fake_cluster.directory / "own"))
    settings = settings_for(fake_cluster, cluster_registry, dockerd, prefix=PREFIX)
    directory = tmp_path_factory.mktemp("kubernetes")
    with running(directory, isolation="kubernetes", **settings) as started:
        yield started


def settings_for(
    fake_cluster: Cluster, registry: RegistryServer, dockerd: Dockerd, *, prefix: str
) -> dict[str, str]:
    """Those of a gateway that may use the cluster, but for its isolation."""
    return {
        "run_dir": str(fake_cluster.directory / prefix),  # short, as paths of sockets must be
        "kubernetes_config": str(fake_cluster.kubeconfig()),
        "kubernetes_namespace": prefix,
        "kubernetes_registry": f"{registry.host}/apps",
        "kubernetes_own_image": OWN,
        "kubernetes_builder": dockerd.host,
        "kubernetes_gateway_networks": f"{fake_cluster.host}/32",
        "base_images": json.dumps(dict.fromkeys(DEFAULTS, SMALL)),
        "dockerfile_registries": "*,local",
        "requests_per_minute": "100000",
        "min_sleep_after_seconds": "3",
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


async def test_life_of_an_app_in_a_cluster(gateway: DevGateway, fake_cluster: Cluster) -> None:
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


async def test_projects_move_from_the_sandbox_into_a_cluster_with_what_they_have_stored(
    gateway: DevGateway,
    fake_cluster: Cluster,
    cluster_registry: RegistryServer,
    dockerd: Dockerd,
    tmp_path: Path,
) -> None:
    """`gateway` has given the cluster its images; the one that moves is another.

    An app without a volume answers all the while, one with a volume says that it is moving.
    """
    settings = settings_for(fake_cluster, cluster_registry, dockerd, prefix=MOVED)
    with running(tmp_path / "data", **settings) as leaving:
        wallet, plain, stored = await Wallet(leaving).fund(), fresh_name(), fresh_name()
        deployed = await wallet.deploy_paid(plain, version(1), settings=BUILD)
        assert (await wallet.settled(deployed))["status"] == "ready"
        storing = await wallet.deploy_paid(stored, STORING, settings={"volume": True})
        assert (await wallet.settled(storing))["status"] == "ready"
        assert (await fetch(leaving, stored, path="/put?kept")).text == "kept root"
        volumes = leaving.data_dir / "apps/volumes"
        assert [path.name for path in volumes.iterdir()] == [storing.body["projectId"]]

        leaving.kill()
        leaving.start(**MOVING, crash_at="volume exported")
        await wallet.until_answers(stored)
        begun = await engine(leaving, "move", stored, "--to", "kubernetes")
        assert begun["moves"] == [{"name": stored, "refused": None}]
        leaving.wait_for_crash()
        assert [path.name for path in volumes.iterdir()] == [storing.body["projectId"]]

        leaving.start(**MOVING)
        seen: dict[str, list[tuple[int, str]]] = {plain: [], stored: []}
        over = asyncio.Event()

        async def visit(name: str) -> None:
            while not over.is_set():
                page = await fetch(leaving, name)
                seen[name].append((page.status, page.text))

        visiting = [asyncio.create_task(visit(name)) for name in seen]
        await engine(leaving, "move", plain, "--to", "kubernetes")

        async def are_there() -> bool:
            found = {it["name"]: it for it in (await engine(leaving, "list"))["projects"]}
            assert "failed" not in {it["move"] for it in found.values()}, found
            return {it["engine"] for it in found.values()} == {"kubernetes"}

        await until(are_there)
        await until(lambda: (200, "kept cluster") in seen[stored])
        assert len(pods(fake_cluster, MOVED)) == 2
        before = len(seen[plain])
        await until(lambda: len(seen[plain]) > before + 50)  # by the pod alone
        over.set()
        await asyncio.gather(*visiting)
        assert {status for status, _ in seen[plain]} == {200}
        assert all("hello 1" in text for _, text in seen[plain])
        assert {text for status, text in seen[stored] if status == 200} == {"kept cluster"}
        assert {status for status, _ in seen[stored]} <= {200, 502, 503}
        await until(lambda: not any(volumes.iterdir()))

        again = await wallet.deploy(plain, version(2), settings=BUILD)
        assert (await wallet.settled(again))["status"] == "ready"
        assert "hello 2" in (await fetch(leaving, plain)).text

        await fetch(leaving, stored, path="/put?since")
        back = await wallet.call(
            "POST",
            f"/agent/projects/{storing.body['projectId']}/rollback",
            json={"deploymentId": storing.body["deploymentId"]},
        )
        assert (await wallet.settled(back))["status"] == "ready"
        assert (await fetch(leaving, stored)).text == "since root"

        for each in (deployed, storing):
            gone = await wallet.call("DELETE", f"/agent/projects/{each.body['projectId']}")
            assert gone.status == 200, gone.body
        await until(lambda: not of_wallets(fake_cluster, MOVED))
        await until(lambda: not any(volumes.iterdir()))


async def engine(gateway: DevGateway, *words: str) -> Any:
    """The document of `moorage operator engine WORDS`."""
    _, document = await gateway.command("operator", "engine", *words, **MOVING)
    return document


def of_wallets(cluster: Cluster, prefix: str = PREFIX) -> list[str]:
    """The namespaces of wallets."""
    names = [it["metadata"]["name"] for it in cluster.objects(NAMESPACES)]
    return [it for it in names if it.startswith(f"{prefix}-") and "-self-test-" not in it]

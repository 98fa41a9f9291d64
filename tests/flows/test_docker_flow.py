"""A gateway whose apps run in Docker: deployed, visited, replaced, rolled back, kept, deleted."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from moorage.engines.docker.kind import KIND
from moorage.engines.images.base_images import DEFAULTS
from moorage.gateway.engine_choice import own_instance_id
from support.clients.visitor import fetch
from support.clients.wallet import HELLO, Wallet, fresh_name
from support.engines.docker_fixture import BASE, SUBNET, Dockerd
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def gateway(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    settings = {
        "isolation": "docker",
        "docker_host": dockerd.host,
        "run_dir": str(dockerd.shared / "flow"),
        "app_subnet": SUBNET,
        "base_images": json.dumps(dict.fromkeys(DEFAULTS, BASE)),
        "requests_per_minute": "100000",
    }
    with running(tmp_path_factory.mktemp("docker"), **settings) as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


def version(number: int) -> dict[str, str]:
    text = HELLO["index.js"].replace("hello ", f"hello {number} ")
    return {**HELLO, "index.js": f"console.log('version {number} begins');\n{text}"}


def own(dockerd: Dockerd, gateway: DevGateway, *words: str) -> list[str]:
    """What Docker lists of the gateway's."""
    label = f"label=moorage.instance={own_instance_id(gateway.instance_id, KIND)}"
    return dockerd.run(*words, "--filter", label, "--quiet", "--no-trunc").split()


class Visits:
    """One visit after the other, until it is over: what was seen."""

    def __init__(self, gateway: DevGateway, name: str) -> None:
        self._gateway, self._name = gateway, name
        self._over = asyncio.Event()
        self.seen: list[tuple[int, str]] = []

    async def __aenter__(self) -> "Visits":
        self._task = asyncio.create_task(self._visit())
        await until(lambda: bool(self.seen))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._task

    async def _visit(self) -> None:
        while not self._over.is_set():
            page = await fetch(self._gateway, self._name)
            self.seen.append((page.status, page.text))


async def test_life_of_an_app_in_docker(
    wallet: Wallet, gateway: DevGateway, dockerd: Dockerd
) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name, version(1))
    settled = await wallet.settled(first)
    assert settled["status"] == "ready", settled
    assert "hello 1" in (await fetch(gateway, name)).text
    project = first.body["projectId"]

    async with Visits(gateway, name) as visits:
        second = await wallet.deploy(name, version(2))
        assert (await wallet.settled(second))["status"] == "ready"
        await until(lambda: any("hello 2" in text for _, text in visits.seen))
        back = await wallet.call("POST", f"/agent/projects/{project}/rollback", json={})
        assert back.status == 200, back.body
        assert (await wallet.settled(back))["status"] == "ready"
    assert {status for status, _ in visits.seen} == {200}
    assert {text.split()[1] for _, text in visits.seen} == {"1", "2"}
    assert "hello 1" in (await fetch(gateway, name)).text

    path = f"/agent/deploy/{project}/{second.body['deploymentId']}/logs?kind=runtime"
    logs = await wallet.call("GET", path)
    assert "version 2 begins" in str(logs.body)

    before = set(own(dockerd, gateway, "ps"))
    gateway.kill()
    gateway.start()
    assert "hello 1" in (await fetch(gateway, name)).text
    assert set(own(dockerd, gateway, "ps")) & before  # it was not started anew

    gone = await wallet.call("DELETE", f"/agent/projects/{project}")
    assert gone.status == 200, gone.body
    assert (await fetch(gateway, name)).status == 404
    await until(lambda: not own(dockerd, gateway, "ps", "--all"))
    await until(lambda: not own(dockerd, gateway, "images"))

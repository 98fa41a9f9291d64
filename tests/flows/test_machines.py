"""Two gateways on two machines: whoever is asked, the apps are deployed, served and told of."""

import asyncio
import hashlib
import json
from collections.abc import Iterator

import pytest

from support.books.postgres_fixture import PostgresServer
from support.chains.chain_fixture import LocalChains
from support.clients.visitor import fetch
from support.clients.wallet import Wallet, deploy_body, fresh_name
from support.gateway.content_fixture import S3Server
from support.gateway.machines import Machines, running_machines
from support.gateway.waiting import until

pytestmark = pytest.mark.root


def page(text: str, **files: str) -> dict[str, str]:
    return {"page.txt": text, "package.json": '{"scripts": {"start": "node x.js"}}', **files}


@pytest.fixture(scope="module")
def machines(
    local_chains: LocalChains,
    postgres_server: PostgresServer,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machines]:
    name = postgres_server.create()
    directory = tmp_path_factory.mktemp("machines")
    with running_machines(
        directory, url=postgres_server.url(name), chains=local_chains, s3=s3_server
    ) as running:
        yield running
    postgres_server.drop(name)


async def seen(machines: Machines, name: str) -> list[str]:
    """What visitors of each machine's proxy see."""
    pages = await asyncio.gather(
        *(fetch(member, name) for member in (machines.first, machines.second))
    )
    return [page.text if page.status == 200 else str(page.status) for page in pages]


async def are_seen(machines: Machines, pages: dict[str, str]) -> bool:
    """Whether visitors of both machines see these pages."""
    return all([await seen(machines, name) == [text] * 2 for name, text in pages.items()])


async def test_app_that_one_machine_admits_is_served_by_both_as_soon_as_it_is_ready(
    machines: Machines,
) -> None:
    wallet, name = await Wallet(machines.second).fund(), fresh_name()
    deployed = await wallet.deploy_paid(name, page("one"))
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await seen(machines, name) == ["one", "one"]
    project, deployment = deployed.body["projectId"], deployed.body["deploymentId"]
    for member in (machines.first, machines.second):
        wallet.gateway = member
        logs = await wallet.call("GET", f"/agent/deploy/{project}/{deployment}/logs?kind=build")
        assert "built" in str(logs.body)
    assert await machines.audit() == []


async def test_upload_stored_at_one_machine_is_deployed_by_the_other(machines: Machines) -> None:
    wallet, name = await Wallet(machines.first).fund(), fresh_name()
    upload = json.dumps(deploy_body(name, page("carried"))["upload"]).encode()
    path = f"/agent/uploads/{hashlib.sha256(upload).hexdigest()}"
    stored = await wallet.call("PUT", path, json=json.loads(upload))
    assert stored.status == 200, stored.body
    wallet.gateway = machines.second
    deployed = await wallet.deploy_paid(name, upload=stored.body["upload"])
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await seen(machines, name) == ["carried", "carried"]


async def test_switch_of_versions_turns_no_visitor_of_any_machine_away(machines: Machines) -> None:
    wallet, name = await Wallet(machines.second).fund(), fresh_name()
    first = await wallet.deploy_paid(name, page("0"))
    await wallet.settled(first)
    visits: dict[str, list[str]] = {"one": [], "two": []}

    async def visit_without_end(member: str) -> None:
        while True:
            gateway = machines.first if member == "one" else machines.second
            answer = await fetch(gateway, name)
            assert answer.status == 200, answer
            visits[member].append(answer.text)

    visitors = [asyncio.create_task(visit_without_end(member)) for member in visits]
    for version in "12":
        assert (await wallet.settled(await wallet.deploy(name, page(version))))["status"] == "ready"
        for texts in visits.values():
            await until(lambda texts=texts, version=version: texts[-1:] == [version])
    for visitor in visitors:
        assert not visitor.done(), visitor.result()
        visitor.cancel()

    wallet.gateway = machines.first
    rolled = await wallet.call("POST", f"/agent/projects/{first.body['projectId']}/rollback")
    assert rolled.status == 200, rolled.body
    assert (await wallet.settled(rolled))["status"] == "ready"
    assert (await fetch(machines.first, name)).text == "1"
    await until(lambda: are_seen(machines, {name: "1"}), pause_seconds=0.2)


async def test_killed_leaders_build_is_finished_on_the_other_machine(machines: Machines) -> None:
    wallet = await Wallet(machines.second).fund()
    kept, built = fresh_name(), fresh_name()
    await wallet.settled(await wallet.deploy_paid(kept, page("kept")))
    deployed = await wallet.deploy_paid(built, page("built", slow="3"))
    machines.first.kill()

    assert (await fetch(machines.second, kept)).text == "kept"
    await machines.second.until_keeps()
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert (await fetch(machines.second, built)).text == "built"

    machines.first.start()
    assert not machines.first.keeps
    await until(lambda: are_seen(machines, {kept: "kept", built: "built"}), pause_seconds=0.2)
    assert await machines.audit() == []

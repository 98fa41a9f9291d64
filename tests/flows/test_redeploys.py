"""Deployments of one project that come close together, on the real sandbox and proxy."""

import asyncio

import pytest

from support.clients.wallet import HELLO, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

LINGERING = HELLO | {
    "package.json": '{"scripts": {"build": "sleep 300", "start": "node index.js"}}'
}


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


def greeting(word: str) -> dict[str, dict[str, str]]:
    return {"runEnvs": {"GREETING": word}}


async def test_later_deployment_takes_the_place_of_one_that_builds(wallet: Wallet) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name, LINGERING)
    async with asyncio.timeout(60):
        while (await wallet.status(first)).body["deployment_status"] != "building":
            await asyncio.sleep(0.02)

    later = await wallet.deploy(name, HELLO, settings=greeting("later"))

    assert later.status == 200
    assert later.body["projectId"] == first.body["projectId"]
    given_up = await wallet.settled(first)
    assert (given_up["status"], given_up["reason_code"]) == ("failed", "superseded")
    assert later.body["deploymentId"] in given_up["reason"]
    assert (await wallet.settled(later))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello later")
    await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")


async def test_visitors_see_no_gap_while_versions_are_given_up(wallet: Wallet) -> None:
    name = fresh_name()
    await wallet.settled(await wallet.deploy_paid(name))
    seen: set[int] = set()
    done = asyncio.Event()

    async def visit() -> None:
        while not done.is_set():
            seen.add((await wallet.visit(name))[0])

    visiting = asyncio.create_task(visit())
    for number in range(4):
        answer = await wallet.deploy(name, HELLO, settings=greeting(f"version {number}"))
        assert answer.status == 200
        await asyncio.sleep(0.1 * number)  # given up at different stages
    assert (await wallet.settled(answer))["status"] == "ready"
    done.set()
    await visiting
    assert seen == {200}

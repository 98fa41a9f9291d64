"""A project changes hands beside a running gateway: its app runs on, for its new wallet."""

import asyncio

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture
async def giver(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


@pytest.fixture
async def taker(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def test_app_answers_through_the_transfer_and_the_taker_alone_rules_it(
    giver: Wallet, taker: Wallet
) -> None:
    name = fresh_name()
    first = await giver.deploy_paid(name, settings={"runEnvs": {"GREETING": "there"}})
    await giver.settled(first)
    await taker.call("POST", "/agent/credits", headers={"X-Payment-Tx": await taker.pay(2_000_000)})
    project = f"/agent/projects/{first.body['projectId']}"
    body = {"to": taker.address, "with_variables": True}
    offered = await giver.call_bound("POST", f"{project}/transfer", json=body)
    assert (offered.status, offered.body["state"]) == (200, "open")
    accept = f"/agent/transfers/{offered.body['offer']}/accept"
    stranger = await giver.call_bound("POST", accept)
    assert (stranger.status, stranger.body["code"]) == (404, "transfer_not_found")

    seen: list[tuple[int, str]] = []

    async def visit() -> None:
        while True:
            seen.append(await giver.visit(name))

    visitor = asyncio.create_task(visit())
    accepted = await taker.call_bound("POST", accept)
    visitor.cancel()

    assert (accepted.status, accepted.body["status"]) == (200, "active")
    assert set(seen) <= {(200, "hello there")}
    assert (await giver.call("GET", project)).body["code"] == "wrong_wallet"
    assert not (await giver.call("GET", "/agent/credits")).body["burning"]
    [burning] = (await taker.call("GET", "/agent/credits")).body["burning"]
    assert burning["projectId"] == first.body["projectId"]
    assert (await giver.deploy(name)).body["code"] == "name_unavailable"
    again = await taker.deploy(name, settings={"runEnvs": {"GREETING": "mine"}})
    await taker.settled(again)
    assert await taker.visit(name) == (200, "hello mine")


async def test_variables_that_stay_with_the_giver_are_gone_from_the_app(
    giver: Wallet, taker: Wallet
) -> None:
    name = fresh_name()
    first = await giver.deploy_paid(name, settings={"runEnvs": {"GREETING": "secret"}})
    await giver.settled(first)
    await taker.call("POST", "/agent/credits", headers={"X-Payment-Tx": await taker.pay(2_000_000)})
    project = f"/agent/projects/{first.body['projectId']}"
    offered = await giver.call_bound("POST", f"{project}/transfer", json={"to": taker.address})
    await taker.call_bound("POST", f"/agent/transfers/{offered.body['offer']}/accept")

    async def is_answered() -> bool:
        return await taker.visit(name) == (200, "hello world")

    await until(is_answered)
    assert (await taker.call("GET", project)).body["runEnvNames"] == []

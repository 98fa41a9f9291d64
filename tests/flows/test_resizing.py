"""An app gets larger and smaller while it is visited: no request is lost, and each size is paid."""

import asyncio

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

VISITORS = 4
VISITS = 50  # at least, of each, for each change


async def test_no_request_is_lost_while_an_app_changes_its_size(dev_gateway: DevGateway) -> None:
    wallet = await Wallet(dev_gateway).fund()
    name = fresh_name()
    first = await wallet.deploy_paid(name, months=4, settings={"size": "small"})
    await wallet.settled(first)
    project = f"/agent/projects/{first.body['projectId']}"
    answers: list[tuple[int, str]] = []

    async def visit(changing: asyncio.Task[None]) -> None:
        visits = 0
        while visits < VISITS or not changing.done():
            answers.append(await wallet.visit(name))
            visits += 1

    async def resize(size: str) -> None:
        changed = await wallet.call("PATCH", project, json={"size": size})
        assert changed.status == 200, changed.body
        await wallet.settled(changed)

    for size in ("large", "standard"):
        changing = asyncio.create_task(resize(size))
        await asyncio.gather(changing, *(visit(changing) for _ in range(VISITORS)))
        shown = (await wallet.call("GET", project)).body
        listed = (await wallet.call("GET", "/agent/sizes")).body["sizes"]
        month = next(each["usd_month"] for each in listed if each["name"] == size)
        assert shown["size"] == size
        assert shown["burnPerHourUsd"] == pytest.approx(month / 730, abs=0.000001)
    assert len(answers) >= 2 * VISITORS * VISITS
    assert set(answers) == {(200, "hello world")}


async def test_unknown_size_is_refused_before_anybody_pays(dev_gateway: DevGateway) -> None:
    wallet = await Wallet(dev_gateway).fund()
    refused = await wallet.deploy(fresh_name(), settings={"size": "huge"})
    assert (refused.status, refused.body["field"]) == (400, "settings.size")
    assert "small, standard, large" in refused.body["error"]


async def test_demand_tells_what_each_size_costs(dev_gateway: DevGateway) -> None:
    wallet = Wallet(dev_gateway)
    demanded = await wallet.deploy(fresh_name(), months=2, settings={"size": "large"})
    assert (demanded.status, demanded.body["amount_usd"]) == (402, 4.0)
    assert demanded.body["buys"]["size"] == "large"
    assert demanded.body["buys"]["sizes"] == {"small": 0.5, "standard": 1.0, "large": 4.0}

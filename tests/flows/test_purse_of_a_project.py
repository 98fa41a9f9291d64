"""A budget that one can sleep on: an app with a purse and a limit, beside a running gateway."""

import json

import pytest

from support.clients.wallet import HELLO, Wallet, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def is_answered(wallet: Wallet, name: str, status: int) -> bool:
    return (await wallet.visit(name))[0] == status


async def test_app_stops_at_its_limit_says_so_everywhere_and_runs_again_when_that_is_raised(
    wallet: Wallet,
) -> None:
    name = fresh_name()
    purse = {"usd": 2, "shared": False, "limit_usd_month": 1}
    body = deploy_body(name, HELLO, purse=purse)
    passed_on = await wallet.call("POST", "/agent/deploy", json=body)
    assert (passed_on.status, passed_on.body["code"]) == (401, "signature_unbound")
    asked = await wallet.call_bound("POST", "/agent/deploy", json=body)
    assert (asked.status, asked.body["amount_usd"]) == (402, 2)
    paid = {"X-Payment-Tx": await wallet.pay(int(asked.body["amount_token"]))}
    first = await wallet.call_bound("POST", "/agent/deploy", json=body, headers=paid)
    await wallet.settled(first)
    path = f"/agent/projects/{first.body['projectId']}"
    shown = (await wallet.call("GET", path)).body["purse"]
    assert (shown["shared"], shown["limit_usd_month"]) == (False, 1)
    assert 1.9 < shown["balance_usd"] <= 2

    for weak in ({}, {"Authorization": "Bearer of-nothing"}):
        refused = await wallet.call("PUT", f"{path}/purse", json={"shared": True}, headers=weak)
        assert (refused.status, refused.body["code"]) == (401, "signature_unbound")
    too_much = await wallet.call_bound("PUT", f"{path}/purse", json={"take_usd": 2.000001})
    assert (too_much.status, too_much.body["code"]) == (409, "credits_short")

    stopped = await wallet.call_bound("PUT", f"{path}/purse", json={"limit_usd_month": 0})
    assert stopped.status == 200, stopped.body
    await until(lambda: is_answered(wallet, name, 503))
    assert json.loads((await wallet.visit(name))[1])["code"] == "app_at_limit"
    assert (await wallet.status(first)).body["reason_code"] == "limit_reached"
    project = (await wallet.call("GET", path)).body
    assert (project["status"], project["suspendedBecause"]) == ("suspended", "limit_reached")
    events = (await wallet.call("GET", "/agent/events")).body["events"]
    (told,) = [each for each in events if each["type"] == "project.suspended"]
    assert told["data"]["reason_code"] == "limit_reached"

    raised = await wallet.call_bound("PUT", f"{path}/purse", json={"limit_usd_month": None})
    assert raised.body["limit_usd_month"] is None
    await until(lambda: is_answered(wallet, name, 200))

    back = await wallet.call_bound("PUT", f"{path}/purse", json={"take_usd": 1, "shared": True})
    assert back.body["credits_usd"] == 1
    assert 0.9 < back.body["balance_usd"] < 1.000001

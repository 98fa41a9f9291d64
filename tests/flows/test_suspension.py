"""The switch against abuse: what it stops, what it keeps, who is told, beside a running gateway."""

import json

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root

REASON = "phishing, see ticket 7"


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def is_answered(wallet: Wallet, name: str, status: int) -> bool:
    return (await wallet.visit(name))[0] == status


async def burns(wallet: Wallet) -> bool:
    return bool((await wallet.call("GET", "/agent/credits")).body["burning"])


async def test_suspended_app_stops_and_neither_deploys_nor_credits_wake_it(
    dev_gateway: DevGateway, wallet: Wallet
) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name)
    await wallet.settled(first)
    path = f"/agent/projects/{first.body['projectId']}"

    code, document = await dev_gateway.command(
        "operator", "suspend", name.upper(), "--reason", REASON
    )

    assert (code, [each["name"] for each in document["suspended"]]) == (0, [name])
    redeployed = await wallet.deploy(name)
    paid = await wallet.deploy(name, tx=await wallet.pay(5_000_000))
    changed = await wallet.call("PATCH", path, json={"displayName": "x"})
    rolled_back = await wallet.call("POST", f"{path}/rollback")
    for answer in (redeployed, paid, changed, rolled_back):
        assert (answer.status, answer.body["code"]) == (403, "project_blocked")
        assert REASON in answer.body["error"]
    await until(lambda: is_answered(wallet, name, 403))
    page = json.loads((await wallet.visit(name))[1])
    assert page["code"] == "app_blocked"
    assert "credits" not in json.dumps(page)
    status = (await wallet.status(first)).body
    assert (status["status"], status["reason_code"]) == ("failed", "project_blocked")
    assert REASON in status["reason"]
    project = (await wallet.call("GET", path)).body
    assert (project["status"], project["suspendedBecause"]) == ("suspended", "project_blocked")
    assert project["blockedReason"] == REASON
    assert not await burns(wallet)
    events = (await wallet.call("GET", "/agent/events")).body["events"]
    assert [(e["type"], e["data"].get("reason")) for e in events if "suspended" in e["type"]] == [
        ("project.suspended", REASON)
    ]


async def test_suspended_name_is_held_until_it_is_resumed_and_runs_as_before(
    dev_gateway: DevGateway, wallet: Wallet
) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name, settings={"runEnvs": {"GREETING": "again"}})
    await wallet.settled(first)
    await wallet.pay(2_000_000)  # the watcher credits it
    await dev_gateway.command("operator", "suspend", name, "--reason", REASON)
    await until(lambda: is_answered(wallet, name, 403))
    stranger = await Wallet(dev_gateway).fund()
    assert (await stranger.deploy(name)).body["code"] == "name_unavailable"
    _, listed = await dev_gateway.command("operator", "suspended")
    assert [name, REASON] in [[e["unique_name"], e["reason"]] for e in listed["suspended"]]

    code, document = await dev_gateway.command("operator", "resume", name)

    assert (code, [each["name"] for each in document["resumed"]]) == (0, [name])
    await until(lambda: is_answered(wallet, name, 200))
    assert await wallet.visit(name) == (200, "hello again")
    await until(lambda: burns(wallet))  # from a moment after its address answers


async def test_owner_may_delete_what_is_suspended(dev_gateway: DevGateway, wallet: Wallet) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name)
    await wallet.settled(first)
    await dev_gateway.command("operator", "suspend", name, "--reason", REASON)

    deleted = await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")

    assert deleted.status == 200
    _, listed = await dev_gateway.command("operator", "suspended")
    assert name not in [each["unique_name"] for each in listed["suspended"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("operator", "suspend", "nothing-here", "--reason", "x"),
        ("operator", "suspend", "--reason", "x"),
        ("operator", "suspend", "nothing-here"),
        ("operator", "suspend", "a", "--wallet", "0x" + "1" * 40, "--reason", "x"),
        ("operator", "suspend", "--wallet", "0x1", "--reason", "x"),
        ("operator", "resume", "nothing-here"),
        (
            "operator",
            "resume",
        ),
    ],
)
async def test_wrong_use_changes_nothing(
    dev_gateway: DevGateway, arguments: tuple[str, ...]
) -> None:
    code, document = await dev_gateway.command(*arguments)
    assert (code, document["exit_code"]) == (2, 2)

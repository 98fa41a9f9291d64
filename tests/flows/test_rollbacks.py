"""Releases over real HTTP: listed, rolled back to, refused; deployments cancelled; crash loops."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from support.clients.wallet import HELLO, Answer, Wallet, fresh_name
from support.engines.remains import of_gateway
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

LINGERING = {
    "package.json": '{"scripts": {"build": "sleep 300", "start": "node index.js"}}',
    **HELLO,
}
FRAIL = {
    "index.js": "require('http').createServer((q, s) => s.end('here', () => {"
    "if (q.url === '/end') process.exit(7); })).listen(process.env.PORT);"
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    settings = {"requests_per_minute": "100000"}
    with running(tmp_path_factory.mktemp("releases"), **settings) as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


def version(number: int) -> dict[str, str]:
    return {"index.js": HELLO["index.js"].replace("hello ", f"hello {number} ")}


async def deployed(wallet: Wallet, name: str, numbers: int) -> list[Answer]:
    """So many versions, one after the other."""
    answers = [await wallet.deploy_paid(name, version(0))]
    assert (await wallet.settled(answers[0]))["status"] == "ready"
    for number in range(1, numbers):
        answers.append(await wallet.deploy(name, version(number)))
        assert (await wallet.settled(answers[-1]))["status"] == "ready"
    return answers


async def roll_back(wallet: Wallet, project: str, body: object = None, **headers: str) -> Answer:
    path = f"/agent/projects/{project}/rollback"
    return await wallet.call("POST", path, json=body, headers=headers)


async def listed(wallet: Wallet, project: str, query: str = "") -> dict[str, Any]:
    answer = await wallet.call("GET", f"/agent/projects/{project}/deployments{query}")
    assert answer.status == 200, answer.body
    return answer.body


async def test_each_kept_release_can_be_served_again_and_no_other(wallet: Wallet) -> None:
    name = fresh_name()
    answers = await deployed(wallet, name, 5)
    project = answers[0].body["projectId"]
    ids = [answer.body["deploymentId"] for answer in answers]

    async with asyncio.timeout(120):  # the rest is collected once it is drained
        while True:
            items = (await listed(wallet, project))["deployments"]
            if [each["canRollBack"] for each in items] == [False, True, True, True, False]:
                break
            await asyncio.sleep(0.2)
    assert [each["id"] for each in items] == ids[::-1]
    assert [each["isServing"] for each in items] == [True, False, False, False, False]

    gone = await roll_back(wallet, project, {"deploymentId": ids[0]})
    assert (gone.status, gone.body["code"]) == (409, "release_gone")
    serving = await roll_back(wallet, project, {"deploymentId": ids[4]})
    assert (serving.status, serving.body["code"]) == (409, "release_serving")

    back = await roll_back(wallet, project, {"deploymentId": ids[1]})
    assert back.status == 200
    assert (await wallet.settled(back))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello 1 world")
    newest = (await listed(wallet, project, "?limit=1"))["deployments"][0]
    assert (newest["origin"], newest["copyOf"]) == ("rollback", ids[1])

    again = await roll_back(wallet, project)  # without a body: what served before
    assert (await wallet.settled(again))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello 4 world")
    await wallet.call("DELETE", f"/agent/projects/{project}")


async def test_list_comes_in_pages(wallet: Wallet) -> None:
    answers = await deployed(wallet, fresh_name(), 3)
    project = answers[0].body["projectId"]
    first = await listed(wallet, project, "?limit=2")
    second = await listed(wallet, project, f"?limit=2&before={first['next']}")
    paged = [each["id"] for page in (first, second) for each in page["deployments"]]
    assert paged == [answer.body["deploymentId"] for answer in reversed(answers)]
    assert second["next"] is None
    wrong = await wallet.call("GET", f"/agent/projects/{project}/deployments?before=nobodys")
    assert (wrong.status, wrong.body["field"]) == (400, "before")
    await wallet.call("DELETE", f"/agent/projects/{project}")


async def test_cancelled_build_leaves_no_process_and_the_old_version_serving(
    wallet: Wallet, gateway: DevGateway
) -> None:
    name = fresh_name()
    (first,) = await deployed(wallet, name, 1)
    project = first.body["projectId"]
    idle = of_gateway(gateway.data_dir, gateway.instance_id)["processes"]
    building = await wallet.deploy(name, LINGERING)
    async with asyncio.timeout(60):
        while (await wallet.status(building)).body["deployment_status"] != "building":
            await asyncio.sleep(0.02)

    path = f"/agent/deploy/{project}/{building.body['deploymentId']}/cancel"
    cancelled = await wallet.call("POST", path)

    assert (cancelled.status, cancelled.body["reasonCode"]) == (200, "cancelled")
    assert of_gateway(gateway.data_dir, gateway.instance_id)["processes"] <= idle
    ended = await wallet.status(building)
    assert (ended.body["status"], ended.body["reason_code"]) == ("failed", "cancelled")
    assert await wallet.visit(name) == (200, "hello 0 world")
    over = await wallet.call("POST", path)
    assert (over.status, over.body["code"]) == (409, "deployment_over")
    await wallet.call("DELETE", f"/agent/projects/{project}")


async def test_app_that_does_not_last_is_seen_to_be_in_a_crash_loop(wallet: Wallet) -> None:
    name = fresh_name()
    answer = await wallet.deploy_paid(name, FRAIL)
    assert (await wallet.settled(answer))["status"] == "ready"
    async with asyncio.timeout(180):
        while (told := (await wallet.status(answer)).body).get(
            "deployment_status"
        ) != "crash_looping":
            await wallet.visit(name, "/end")
            await asyncio.sleep(0.2)
    assert (told["status"], told["reason_code"], told["exit_code"]) == ("failed", "crashed", 7)
    assert told["restarts"] >= 5

    async def tellings() -> int:
        events = (await wallet.call("GET", "/agent/events")).body["events"]
        return [each["type"] for each in events].count("project.crash_looping")

    async def is_told() -> bool:  # which the status may be a moment ahead of
        return await tellings() > 0

    await until(is_told)
    assert await tellings() == 1
    await wallet.call("DELETE", f"/agent/projects/{answer.body['projectId']}")

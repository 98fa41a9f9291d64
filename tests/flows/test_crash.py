"""`kill -9` of the gateway anywhere, then a restart: honest ends and no leftovers on the machine.

That the money is right after a death at any step is shown by `tests/faults`.
"""

import asyncio
from collections.abc import Container, Iterator

import pytest

from support.clients.wallet import Wallet, call, fresh_name
from support.engines.remains import of_gateway
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

STEPS = ("build", "built", "start", "health", "route", "ready")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("crash"), requests_per_minute="100000") as started:
        yield started


@pytest.mark.parametrize("step", STEPS)
async def test_deploy_killed_at_any_step_ends_ready_after_the_restart(
    gateway: DevGateway, step: str
) -> None:
    gateway.stop()
    gateway.start(crash_at=step)
    idle = remains(gateway)
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    deployed = await wallet.deploy_paid(name)
    gateway.wait_for_crash()

    gateway.start()

    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello world")
    listed = await wallet.call("GET", "/agent/projects")
    assert [project["status"] for project in listed.body["projects"]] == ["active"]
    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")
    await until_remains(gateway, idle)


async def until_remains(
    gateway: DevGateway, expected: dict[str, set[str]], *, but: Container[str] = ()
) -> None:
    """Wait until the gateway has no more than this on the machine."""
    wanted = {what: found for what, found in expected.items() if what not in but}
    async with asyncio.timeout(60):
        while wanted != {what: f for what, f in remains(gateway).items() if what not in but}:
            await asyncio.sleep(0.05)


async def test_deploy_that_kills_the_gateway_each_time_fails_with_a_reason(
    gateway: DevGateway,
) -> None:
    gateway.stop()
    gateway.start(crash_at="health")
    idle = remains(gateway)
    wallet = await Wallet(gateway).fund()
    deployed = await wallet.deploy_paid(fresh_name())
    gateway.wait_for_crash()
    for _ in range(2):
        gateway.start_until_crash(crash_at="health")

    gateway.start()

    status = await wallet.settled(deployed)
    assert (status["status"], status["reason_code"]) == ("failed", "interrupted")
    asked = await wallet.deploy(fresh_name(), headers={"X-Dry-Run": "true"})
    assert asked.body["current_credit_balance_usd"] == 0.5  # nothing was burned
    await until_remains(gateway, idle, but={"files"})  # its logs are kept
    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")
    await until_remains(gateway, idle)


async def test_running_apps_survive_a_killed_gateway(gateway: DevGateway) -> None:
    gateway.stop()
    gateway.start()
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    counting = {
        "index.js": "let n = 0; require('http').createServer((q, s) => s.end(String(++n)))"
        ".listen(process.env.PORT)"
    }
    deployed = await wallet.deploy_paid(name, counting)
    await wallet.settled(deployed)
    before = int((await wallet.visit(name))[1])

    gateway.kill()
    meanwhile = int((await wallet.visit(name))[1])  # the proxy goes on as well
    gateway.start()
    after = int((await wallet.visit(name))[1])

    assert before < meanwhile < after  # the same process: it kept counting
    assert (await wallet.settled(deployed))["status"] == "ready"


async def test_stop_and_start_finds_the_state_again(gateway: DevGateway) -> None:
    gateway.stop()
    gateway.start()
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    deployed = await wallet.deploy_paid(name)
    await wallet.settled(deployed)

    gateway.stop()
    kept = remains(gateway)
    assert {kind for kind, found in kept.items() if found} == {"files"}
    assert all(path.startswith(str(gateway.data_dir)) for path in kept["files"])
    gateway.start()

    await wallet.until_answers(name)
    assert (await wallet.settled(deployed))["status"] == "ready"
    held = await call(gateway, "GET", f"/agent/balance/{wallet.address}")
    assert held.body["balances"][0]["balance_raw"] == "99500000"


Remains = dict[str, set[str]]


def remains(gateway: DevGateway) -> Remains:
    """What the gateway has on the machine besides its own records, found by looking."""
    return of_gateway(gateway.data_dir, gateway.instance_id)

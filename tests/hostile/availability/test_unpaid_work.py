"""Builds and copies that nobody pays for: bounded by what was paid, then burning credits."""

from collections.abc import Iterator

import pytest
from neighbour import settle

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = [pytest.mark.root, pytest.mark.long]

A_SECOND = 2_000_000 / (730 * 3600)  # micro-USD: of a build's 2 GiB and two cores
FAILING = {
    "index.js": "",
    "package.json": '{"scripts": {"build": "sleep 2; exit 1", "start": "node index.js"}}',
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """A gateway where no build is free, and few copies are made."""
    directory = tmp_path_factory.mktemp("strict")
    with running(directory, build_minutes_per_usd="0", requests_per_minute="150") as gateway:
        yield gateway


async def test_builds_that_fail_burn_credits(strict: DevGateway) -> None:
    wallet, name = await Wallet(strict).fund(), fresh_name()
    failed = await wallet.deploy_paid(name, FAILING)
    assert (await wallet.settled(failed, pause_seconds=0.5))["reason_code"] == "build_failed"

    shown = (await wallet.call("GET", "/agent/credits")).body
    burned = [-each["amount_micro_usd"] for each in shown["ledger"] if each["kind"] == "build"]
    assert sum(burned) >= 2 * A_SECOND
    assert shown["balance_micro_usd"] == 500_000 - sum(burned)
    assert shown["build_allowance"]["left_seconds"] == 0
    assert {each["projectId"] for each in shown["ledger"] if each["kind"] == "build"} == {
        failed.body["projectId"]
    }


async def test_copies_of_disks_end_with_429_and_harm_no_neighbour(strict: DevGateway) -> None:
    neighbour = await settle(strict)
    wallet = await Wallet(strict).fund()
    deployed = await wallet.deploy_paid(fresh_name())
    await wallet.settled(deployed)
    path = f"/agent/projects/{deployed.body['projectId']}"
    async with neighbour.unharmed():
        for _ in range(51):
            answer = await wallet.call("PATCH", path, json={"restart": True})
            if answer.status != 200:
                break
            await wallet.settled(answer, pause_seconds=0.2)
    assert (answer.status, answer.body["code"]) == (429, "rate_limited")
    assert 0 < int(answer.headers["Retry-After"]) <= 300

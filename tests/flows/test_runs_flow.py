"""Runs and schedules in the real sandbox: a command once, and a nightly script by the clock."""

from typing import Any

import pytest

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until_read

pytestmark = pytest.mark.root

APP = {
    "index.js": """\
require('http').createServer((request, response) => {
  console.log(`${request.url} for ${request.headers['moorage-schedule']}`);
  response.end('fine');
}).listen(process.env.PORT);
""",
    "nightly.js": """\
const fs = require('fs');
fs.appendFileSync('/data/nights', 'x');
fs.appendFileSync('beside', 'x');
const [nights, beside] = ['/data/nights', 'beside'].map((path) => fs.readFileSync(path));
console.log(`${process.env.GREETING}: ${nights} ${beside}`);
""",
}
SETTINGS = {
    "volume": True,
    "runEnvs": {"GREETING": "good night"},
    "schedules": [
        {"name": "nightly", "cron": "* * * * *", "command": "node nightly.js"},
        {"name": "ping", "cron": "* * * * *", "path": "/ping"},
    ],
}


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def ended(wallet: Wallet, runs: str, run_id: str) -> dict[str, Any]:
    """A run, once it is over and nothing comes to its log any more."""

    async def log() -> Answer:
        return await wallet.call("GET", f"{runs}/{run_id}/logs?tail=100")

    answer = await until_read(log, lambda found: found.body["ended"], pause_seconds=0.2)
    return answer.body


def written(log: dict[str, Any]) -> int:
    """How many nights the volume has seen; what is written beside it is gone with each run."""
    (said,) = [line["text"] for line in log["lines"] if line["text"].startswith("good night")]
    _, _, nights, beside = said.split(" ")
    assert beside == "x"
    return len(nights)


async def test_commands_run_beside_the_app_once_and_by_the_clock(wallet: Wallet) -> None:
    deployed = await wallet.deploy_paid(fresh_name(), APP, settings=SETTINGS)
    assert (await wallet.settled(deployed))["status"] == "ready"
    project = f"/agent/projects/{deployed.body['projectId']}"
    runs = f"{project}/runs"

    begun = await wallet.call(
        "POST", runs, json={"command": "python --version && node nightly.js; exit 7"}
    )
    assert (begun.status, begun.body["status"]) == (202, "queued")
    log = await ended(wallet, runs, begun.body["runId"])
    nights = written(log)
    assert (log["run"]["status"], log["run"]["exitCode"]) == ("failed", 7)
    assert log["run"]["ranSeconds"] >= 1
    assert log["run"]["chargedUsd"] > 0

    long = await wallet.call("POST", runs, json={"command": "sleep 60"})
    state = f"{runs}/{long.body['runId']}"
    await until_read(
        lambda: wallet.call("GET", state), lambda found: found.body["status"] == "running"
    )
    assert (await wallet.call("DELETE", state)).body["status"] == "cancelled"

    async def by_clock() -> dict[str, dict[str, Any]]:
        shown = (await wallet.call("GET", project)).body["schedules"]
        return {each["name"]: each.get("lastRun", {}) for each in shown}

    last = await until_read(
        by_clock,
        lambda found: {it.get("status") for it in found.values()} == {"succeeded"},
        seconds=180,
        pause_seconds=1,
    )
    log = await ended(wallet, runs, last["nightly"]["runId"])
    assert written(log) > nights
    assert last["ping"]["exitCode"] == 200
    app_log = (await wallet.call("GET", f"{project}/logs")).body["lines"]
    assert "/ping for ping" in [line["text"] for line in app_log]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": ""}, "command"),
        ({"command": "x" * 65_536}, "command"),
        ({"command": "ls", "timeout_seconds": 3_601}, "timeout_seconds"),
        ({"command": "ls", "timeout_seconds": 0}, "timeout_seconds"),
    ],
)
async def test_bad_run_is_a_400_that_names_the_field(
    wallet: Wallet, body: dict[str, Any], field: str
) -> None:
    deployed = await wallet.deploy_paid(fresh_name(), APP)
    answer = await wallet.call(
        "POST", f"/agent/projects/{deployed.body['projectId']}/runs", json=body
    )
    assert (answer.status, answer.body["field"]) == (400, field)

"""Configuration of running apps: variables, health paths, restarts, over real HTTP."""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

SECRET = "hunter2-Zm9v"

# Tells digests of its environment, of the build's, and which process answers. `/up` is there only
# where the app was told so.
ECHO = {
    "package.json": json.dumps({"scripts": {"build": "node build.js", "start": "node index.js"}}),
    "build.js": "require('fs').writeFileSync('build.json', JSON.stringify(process.env))",
    "index.js": """
const {createHash} = require('crypto');
const digest = (env) => Object.fromEntries(Object.entries(env).map(
  ([name, value]) => [name, createHash('sha256').update(value).digest('hex')]));
const built = JSON.parse(require('fs').readFileSync('build.json'));
const started = String(Date.now()) + process.pid;
if (process.env.BROKEN) process.exit(3);
require('http').createServer((request, response) => {
  const up = process.env.HEALTH || '/';
  response.statusCode = request.url === '/' || request.url === up ? 200 : 503;
  response.end(JSON.stringify({run: digest(process.env), build: digest(built), started}));
}).listen(process.env.PORT);
""",
}


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def path_of(deployed: Answer) -> str:
    return f"/agent/projects/{deployed.body['projectId']}"


async def patch(wallet: Wallet, deployed: Answer, **change: Any) -> Answer:
    return await wallet.call("PATCH", path_of(deployed), json=change)


async def shown(wallet: Wallet, deployed: Answer) -> dict[str, Any]:
    answer = await wallet.call("GET", path_of(deployed))
    assert answer.status == 200, answer.body
    return answer.body


async def served(wallet: Wallet, name: str) -> dict[str, Any]:
    status, text = await wallet.visit(name)
    assert status == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


async def deployed_app(wallet: Wallet, name: str, **settings: Any) -> Answer:
    first = await wallet.deploy_paid(name, ECHO, settings=settings)
    assert (await wallet.settled(first))["status"] == "ready"
    return first


async def test_values_arrive_byte_for_byte_and_build_and_run_apart(wallet: Wallet) -> None:
    awkward = {
        "DOLLAR": "$HOME ${HOME} $(id) `id` $$",
        "QUOTES": "'single' \"double\" \\back\\",
        "LINES": "-----BEGIN KEY-----\nline\r\n\ttab\n\n",
        "EMPTY": "",
        "UNICODE": "é ✓ \U0001f600 \x01\x7f",
        "LONG": "x$'\"\n" * 6553 + "end",  # 32,768 bytes
    }
    many = {f"MANY_{number}": f"value {number}" for number in range(200 - len(awkward))}
    name = fresh_name()
    run = awkward | many
    build = {f"B_{variable}": value for variable, value in awkward.items()}
    assert len(run) == 200
    assert len(awkward["LONG"].encode()) == 32_768

    first = await deployed_app(wallet, name, runEnvs=run, buildVars=build)

    saw = await served(wallet, name)
    assert {name: saw["run"].get(name) for name in run} == {k: digest(v) for k, v in run.items()}
    assert {name: saw["build"].get(name) for name in build} == {
        k: digest(v) for k, v in build.items()
    }
    assert not build.keys() & saw["run"].keys()
    assert not run.keys() & saw["build"].keys()
    project = await shown(wallet, first)
    assert project["runEnvNames"] == sorted(run)
    assert project["buildVarNames"] == sorted(build)


async def test_as_many_bytes_as_are_taken_start_an_app_and_more_are_a_400(wallet: Wallet) -> None:
    most = {f"V{number:02}": "x" * 32_765 for number in range(16)}  # 512 KiB with the names
    assert sum(len(k) + len(v) for k, v in most.items()) == 524_288
    name = fresh_name()

    refused = await wallet.deploy(name, ECHO, settings={"runEnvs": most | {"ONE": ""}})
    first = await deployed_app(wallet, name, runEnvs=most)
    more = await patch(wallet, first, runEnvs={"ONE": ""})

    for answer, field in ((refused, "settings.runEnvs"), (more, "runEnvs")):
        assert (answer.status, answer.body["field"]) == (400, field)
        assert "524,288" in answer.body["error"]
    assert (await served(wallet, name))["run"]["V15"] == digest("x" * 32_765)


async def test_change_is_served_after_a_deployment_of_its_own(wallet: Wallet) -> None:
    name = fresh_name()
    first = await deployed_app(wallet, name, runEnvs={"KEPT": "1", "GONE": "2", "NEW": "old"})
    before = await served(wallet, name)

    changed = await patch(wallet, first, runEnvs={"GONE": None, "NEW": SECRET})

    assert (changed.status, changed.body["status"]) == (200, "deploying")
    assert changed.body["deploymentId"] != first.body["deploymentId"]
    assert (await wallet.settled(changed))["status"] == "ready"
    after = await served(wallet, name)
    assert (after["run"]["KEPT"], after["run"]["NEW"]) == (digest("1"), digest(SECRET))
    assert "GONE" not in after["run"]
    assert after["started"] != before["started"]
    project = await shown(wallet, first)
    assert project["servingDeploymentId"] == changed.body["deploymentId"]
    assert (project["runEnvNames"], project["deploymentInProgress"]) == (["KEPT", "NEW"], None)
    again = await patch(wallet, first, runEnvs={"NEW": SECRET})
    assert (again.status, again.body["status"]) == (200, "changed")


async def test_redeploy_keeps_what_was_set_and_gets_build_variables(wallet: Wallet) -> None:
    name = fresh_name()
    first = await deployed_app(wallet, name, runEnvs={"A": "1"})
    told = await patch(wallet, first, buildVars={"TOKEN": "t"})
    assert (told.body["status"], "deploymentId" in told.body) == ("changed", False)
    assert "next upload" in told.body["message"]

    again = await wallet.deploy(name, ECHO, settings={"runEnvs": {"B": "2"}})

    assert (await wallet.settled(again))["status"] == "ready"
    saw = await served(wallet, name)
    assert {"A": digest("1"), "B": digest("2")}.items() <= saw["run"].items()
    assert saw["build"]["TOKEN"] == digest("t")
    assert "TOKEN" not in saw["run"]


async def test_names_change_without_a_restart_and_restart_without_a_change(wallet: Wallet) -> None:
    name = fresh_name()
    first = await deployed_app(wallet, name)
    before = await served(wallet, name)

    named = await patch(wallet, first, displayName="Shop", description="sells things")
    assert (named.status, named.body["status"]) == (200, "changed")
    project = await shown(wallet, first)
    assert (project["displayName"], project["description"]) == ("Shop", "sells things")
    assert (await served(wallet, name))["started"] == before["started"]

    restarted = await patch(wallet, first, restart=True)
    assert (await wallet.settled(restarted))["status"] == "ready"
    assert (await served(wallet, name))["started"] != before["started"]


async def test_no_answer_log_or_row_holds_a_value(dev_gateway: DevGateway, wallet: Wallet) -> None:
    name = fresh_name()
    settings = {"runEnvs": {"A": SECRET}, "buildVars": {"B": SECRET}}
    asked = await wallet.deploy(name, ECHO, settings=settings)
    quoted = await wallet.call(
        "POST",
        "/agent/deploy",
        json={"uniqueName": name, "displayName": name, "settings": settings, "upload": {
            "type": "files", "files": [{"path": "index.html", "content": ""}]}},
        headers={"X-Dry-Run": "true"},
    )  # fmt: skip
    first = await deployed_app(wallet, name, **settings)
    changed = await patch(wallet, first, runEnvs={"C": SECRET})
    status = await wallet.settled(changed)
    listed = await wallet.call("GET", "/agent/projects")
    events = await wallet.call("GET", "/agent/events")
    project = await shown(wallet, first)

    for answer in (
        asked.body,
        quoted.body,
        changed.body,
        status,
        listed.body,
        events.body,
        project,
    ):
        assert SECRET not in json.dumps(answer)
    assert SECRET not in dev_gateway.log
    stored = dev_gateway.data_dir / "moorage.db"
    with contextlib.closing(sqlite3.connect(stored)) as connection:
        assert SECRET not in "\n".join(connection.iterdump())
    files = existing(
        Path(place, name) for place, _, names in os.walk(dev_gateway.data_dir) for name in names
    )
    assert [path for path, content in files if SECRET.encode() in content] == []


def existing(paths: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """Files and their contents, but for disks and what is gone by now: gateways go on meanwhile."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if path.is_file() and path.stat().st_size < 10**7:
                yield path, path.read_bytes()


async def test_a_crash_of_the_gateway_dumps_no_memory(dev_gateway: DevGateway) -> None:
    limits = Path(f"/proc/{dev_gateway.pid}/limits").read_text()
    (line,) = [each for each in limits.splitlines() if each.startswith("Max core file size")]
    assert line.split()[4] == "1"

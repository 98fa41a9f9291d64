"""An owner takes a copy of a project along: to a new name, and to a gateway that never saw it."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moorage.archive.project import new_key, unseal
from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.gateway_fixture import moorage as run_moorage

pytestmark = pytest.mark.root

BOOK = """\
const fs = require('fs'), file = '/data/entries.txt';
require('http').createServer((request, response) => {
  if (request.url.startsWith('/sign?')) fs.appendFileSync(file, request.url.slice(6) + ' ');
  const entries = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  response.end(entries + (process.env.SECRET || ''));
}).listen(process.env.PORT);
"""
SETTINGS = {"volume": True, "runCommand": "node book.js", "runEnvs": {"SECRET": "hush"}}
STEPS = ("export begun", "export stored", "volume begun")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("copies"), requests_per_minute="100000") as started:
        yield started


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("another"), requests_per_minute="100000") as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


async def opened(wallet: Wallet) -> str:
    """A guestbook with two entries in its volume."""
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, {"book.js": BOOK}, settings=SETTINGS)
    status = await wallet.settled(deployed)
    assert status["status"] == "ready", status
    for entry in ("anna", "ben"):
        assert (await wallet.visit(name, f"/sign?{entry}"))[0] == 200
    assert await wallet.visit(name) == (200, "anna ben hush")
    return name


async def exported(wallet: Wallet, name: str, **body: str) -> dict[str, Any]:
    """What is said of an export, once it is ready."""
    asked = await wallet.call("POST", f"/agent/projects/{name}/exports", json=body)
    assert asked.status in (200, 202), asked.body
    while asked.body["state"] == "making":
        asked = await wallet.call("POST", f"/agent/projects/{name}/exports", json=body)
        assert asked.status in (200, 202), asked.body
    assert asked.body["state"] == "ready", asked.body
    return asked.body


async def fetched(wallet: Wallet, name: str, export: dict[str, Any]) -> bytes:
    path = f"/agent/projects/{name}/exports/{export['id']}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{wallet.gateway.url}{path}", headers=wallet.signed()) as answer,
    ):
        content = await answer.read()
        assert (answer.status, answer.content_type) == (200, "application/x-tar")
    assert hashlib.sha256(content).hexdigest() == export["sha256"]
    assert len(content) == export["bytes"]
    return content


async def put(wallet: Wallet, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            f"{wallet.gateway.url}/agent/uploads/{sha256}", data=content, headers=wallet.signed()
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
    return sha256


def from_export(name: str, sha256: str, **settings: Any) -> dict[str, Any]:
    return {
        "uniqueName": name,
        "displayName": name,
        "upload": {"type": "export", "sha256": sha256},
        "settings": settings,
    }


async def deploy(wallet: Wallet, body: dict[str, Any]) -> Answer:
    """Deploys, and pays if that is asked for."""
    asked = await wallet.call("POST", "/agent/deploy", json=body)
    if asked.status != 402:
        return asked
    tx = await wallet.pay(int(asked.body["amount_token"]))
    return await wallet.call("POST", "/agent/deploy", json=body, headers={"X-Payment-Tx": tx})


async def test_copy_is_deployed_here_under_another_name_with_its_files_and_entries(
    wallet: Wallet,
) -> None:
    name = await opened(wallet)
    export = await exported(wallet, name)
    copy = fresh_name()
    deployed = await deploy(wallet, from_export(copy, export["sha256"]))
    assert deployed.status == 200, deployed.body
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(copy) == (200, "anna ben ")  # values were sealed to nobody
    await wallet.visit(copy, "/sign?carl")
    assert await wallet.visit(name) == (200, "anna ben hush")

    again = await deploy(wallet, from_export(copy, export["sha256"]))
    assert again.status == 200, again.body
    assert [it["code"] for it in again.body["warnings"]] == ["volume_left_out"]
    assert (await wallet.settled(again))["status"] == "ready"
    assert await wallet.visit(copy) == (200, "anna ben carl ")


async def test_copy_is_deployed_by_another_gateway_for_the_normal_price(
    wallet: Wallet, another: DevGateway
) -> None:
    name = await opened(wallet)
    private, public = new_key()
    export = await exported(wallet, name, publicKey=public)
    content = await fetched(wallet, name, export)
    assert b"hush" not in content

    there = await Wallet(another).fund()
    sha256 = await put(there, content)
    copy = fresh_name()
    quote = await there.call("POST", "/agent/quote", json=from_export(copy, sha256))
    usual = {"uniqueName": fresh_name(), "displayName": "x", "upload": plain()}
    price = await there.call("POST", "/agent/quote", json=usual)
    assert quote.body["amount_usd"] == price.body["amount_usd"] > 0

    variables = json.loads(unseal(sealed_in(content), private))
    assert variables == {"build": {}, "run": {"SECRET": "hush"}}
    body = from_export(copy, sha256, runEnvs=variables["run"])
    deployed = await deploy(there, body)
    assert deployed.status == 200, deployed.body
    assert (await there.settled(deployed))["status"] == "ready"
    assert await there.visit(copy) == (200, "anna ben hush")


def plain() -> dict[str, Any]:
    return {"type": "files", "files": [{"path": "index.html", "content": "aGk="}]}


def sealed_in(content: bytes) -> bytes:
    """The sealed part, by its entry's header."""
    at = content.index(b"variables.sealed\0")
    size = int(content[at + 124 : at + 135], 8)
    return content[at + 512 : at + 512 + size]


async def test_nobody_else_exports_or_fetches_a_project(
    gateway: DevGateway, wallet: Wallet
) -> None:
    name = await opened(wallet)
    shown = await wallet.call("GET", f"/agent/projects/{name}")
    project_id = shown.body["id"]
    token = await wallet.call_bound("POST", f"/agent/projects/{name}/tokens")
    other = Wallet(gateway)
    refused = await other.call("POST", f"/agent/projects/{project_id}/exports", json={})
    assert refused.status == 403
    export = await exported(wallet, name)
    path = f"/agent/projects/{project_id}/exports/{export['id']}"
    assert (await other.call("GET", path)).status == 403
    async with aiohttp.ClientSession() as session:
        bearer = {"Authorization": f"Bearer {token.body['manage_token']}"}
        async with session.post(
            f"{gateway.url}/agent/projects/{project_id}/exports", headers=bearer
        ) as answer:
            assert answer.status == 403  # a token may not read what was never to be read again
    await other.fund()
    unknown = await deploy(other, from_export(fresh_name(), export["sha256"]))
    assert (unknown.status, unknown.body["code"]) == (400, "upload_not_found")


@pytest.mark.parametrize("step", STEPS)
async def test_gateway_that_is_killed_at_any_step_leaves_one_whole_copy(
    gateway: DevGateway, wallet: Wallet, step: str
) -> None:
    name = await opened(wallet)
    gateway.stop()
    gateway.start(crash_at=step)
    await wallet.until_answers(name)
    copy = fresh_name()
    if step == "volume begun":
        export = await exported(wallet, name)
        deployed = await deploy(wallet, from_export(copy, export["sha256"]))
        gateway.wait_for_crash()
        gateway.start()
    else:
        asked = await wallet.call("POST", f"/agent/projects/{name}/exports", json={})
        assert asked.status == 202
        gateway.wait_for_crash()
        gateway.start()
        export = await exported(wallet, name)
        assert export["id"] == asked.body["id"]
        deployed = await deploy(wallet, from_export(copy, export["sha256"]))
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(copy) == (200, "anna ben ")


async def test_two_commands_take_a_project_along_with_its_variables(
    wallet: Wallet, tmp_path: Path
) -> None:
    name, copy, file = await opened(wallet), fresh_name(), tmp_path / "book.tar"
    environment = os.environ | {
        "MOORAGE_PRIVATE_KEY": wallet.key,
        "MOORAGE_STATE_DIR": str(tmp_path / "state"),
    }

    async def moorage(*arguments: str) -> str:
        where = ("--data-dir", str(wallet.gateway.data_dir))
        ran = await asyncio.to_thread(run_moorage, *arguments, *where, env=environment)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    said = await moorage("export", name, str(file))
    assert f"{file.stat().st_size:,} bytes" in said
    for private in (file, tmp_path / "book.tar.key"):
        assert private.stat().st_mode & 0o777 == 0o600
    await moorage("deploy", str(file), "--name", copy, "--yes")
    assert await wallet.visit(copy) == (200, "anna ben hush")

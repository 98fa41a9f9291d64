"""Projects move from the sandbox into Docker: visited all the while, volumes and releases kept."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.images.base_images import DEFAULTS
from support.clients.visitor import fetch
from support.clients.wallet import Wallet, fresh_name
from support.engines.docker_fixture import BASE, Dockerd
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.long]

# /put writes a note, /end ends the app, anything else tells version, note and where it runs.
APP = """\
const fs = require('fs'), note = '/data/note';
require('http').createServer((request, response) => {
  if (request.url.startsWith('/put?')) fs.writeFileSync(note, request.url.slice(5));
  if (request.url === '/end') process.exit(3);
  const text = fs.existsSync(note) ? fs.readFileSync(note, 'utf8') : 'none';
  const where = fs.existsSync('/.dockerenv') ? 'docker' : 'root';
  response.end(`${VERSION} ${text} ${where}`);
}).listen(process.env.PORT);
"""
LOST = "if (require('fs').existsSync('/.dockerenv')) process.exit(1);\n"


def version(number: int, *, begin: str = "") -> dict[str, str]:
    return {"index.js": f"{begin}const VERSION = '{number}';\n{APP}"}


@pytest.fixture
def gateway(dockerd: Dockerd, tmp_path: Path) -> Iterator[DevGateway]:
    """A gateway of the sandbox, on a machine with Docker."""
    settings = {
        "run_dir": str(dockerd.shared / "move"),
        "requests_per_minute": "100000",
        "docker_host": dockerd.host,
        "base_images": json.dumps(dict.fromkeys(DEFAULTS, BASE)),
    }
    with running(tmp_path / "data", **settings) as started:
        yield started


MOVING = {"isolation": "docker", "moving_from": "root"}
LEAVING = {"isolation": "root", "moving_from": "docker"}


async def engine(gateway: DevGateway, *words: str) -> tuple[int, Any]:
    """What `moorage operator engine WORDS` ends with, and its document."""
    return await gateway.command("operator", "engine", *words, **MOVING)


async def placed(gateway: DevGateway) -> dict[str, dict[str, Any]]:
    """What `moorage operator engine list` says of each project."""
    _, found = await engine(gateway, "list")
    return {each["name"]: each for each in found["projects"]}


async def test_projects_move_one_by_one_and_answer_all_the_while(
    gateway: DevGateway, dockerd: Dockerd
) -> None:
    wallet, moved, kept = await Wallet(gateway).fund(), fresh_name(), fresh_name()
    first = await wallet.deploy_paid(moved, version(1), settings={"volume": True})
    assert (await wallet.settled(first))["status"] == "ready"
    project = first.body["projectId"]
    second = await wallet.deploy(moved, version(2))
    assert (await wallet.settled(second))["status"] == "ready"
    assert await wallet.visit(moved, "/put?kept") == (200, "2 kept root")
    other = await wallet.deploy_paid(kept, version(1, begin=LOST), settings={"volume": True})
    assert (await wallet.settled(other))["status"] == "ready"

    gateway.kill()
    gateway.start(**MOVING)
    assert await wallet.visit(moved) == (200, "2 kept root")
    assert {each["engine"] for each in (await placed(gateway)).values()} == {"root"}

    seen: list[tuple[int, str]] = []
    over = asyncio.Event()

    async def visit() -> None:
        while not over.is_set():
            page = await fetch(gateway, moved)
            seen.append((page.status, page.text))

    visiting = asyncio.create_task(visit())
    code, begun = await engine(gateway, "move", "--all", "--to", "docker")
    assert (code, {each["refused"] for each in begun["moves"]}) == (0, {None})
    await until(lambda: "2 kept docker" in {text for _, text in seen})
    over.set()
    await visiting
    assert {status for status, _ in seen} == {200}
    assert {text for _, text in seen} == {"2 kept root", "2 kept docker"}

    async def has_failed() -> bool:
        return bool((await placed(gateway))[kept]["move"] == "failed")

    await until(has_failed)
    now = await placed(gateway)
    assert (now[moved]["engine"], now[kept]["engine"]) == ("docker", "root")
    assert now[kept]["reason"]
    assert (await wallet.visit(kept))[1].endswith("root")

    # Exits are told by both engines, and an earlier release is on the old one.
    for name, where in ((moved, "docker"), (kept, "root")):
        await fetch(gateway, name, path="/end")
        await wallet.until_answers(name)
        assert (await wallet.visit(name))[1].endswith(where)
    back = await wallet.call(
        "POST",
        f"/agent/projects/{project}/rollback",
        json={"deploymentId": second.body["deploymentId"]},
    )
    assert back.status == 200, back.body
    assert (await wallet.settled(back))["status"] == "ready"
    assert await wallet.visit(moved) == (200, "2 kept root")

    again = await wallet.deploy(moved, version(3))
    assert (await wallet.settled(again))["status"] == "ready"
    assert await wallet.visit(moved) == (200, "3 kept docker")

    gateway.kill()
    gateway.start(**MOVING)
    await wallet.until_answers(kept)
    assert await wallet.visit(moved) == (200, "3 kept docker")

    gateway.kill()
    gateway.start(**LEAVING)
    await wallet.until_answers(moved)
    assert await wallet.visit(moved) == (200, "3 kept docker")
    for each in (project, other.body["projectId"]):
        assert (await wallet.call("DELETE", f"/agent/projects/{each}")).status == 200
    apps = gateway.data_dir / "apps"
    await until(lambda: not any((apps / "volumes").iterdir()))
    gateway.stop()
    assert not list((dockerd.shared / "move").glob("*"))

"""What an app writes to /data is there after redeploys, rollbacks, crashes, until it is deleted."""

from pathlib import Path
from typing import Any

import pytest

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

# /put writes a note, anything else tells it and the version.
NOTE = """\
const fs = require('fs'), file = (process.env.DATA_DIR || '/nowhere') + '/note';
require('http').createServer((request, response) => {
  if (request.url.startsWith('/put?')) fs.writeFileSync(file, request.url.slice(5));
  let note = 'none';
  try { note = fs.readFileSync(file, 'utf8'); } catch {}
  response.end('%s ' + note);
}).listen(process.env.PORT);
"""


def version(name: str) -> dict[str, str]:
    return {"index.js": NOTE % name}


async def deployed(wallet: Wallet, name: str, which: str, **settings: Any) -> Answer:
    """A version of an app that has become ready; only the first one is paid for."""
    answer = await wallet.deploy(name, version(which), settings=settings)
    if answer.status == 402:
        answer = await wallet.deploy_paid(name, version(which), settings=settings)
    assert (await wallet.settled(answer))["status"] == "ready"
    return answer


def volumes(gateway: DevGateway) -> set[str]:
    return {path.name for path in Path(gateway.data_dir, "apps", "volumes").iterdir()}


async def test_volume_is_kept_until_its_project_is_deleted(tmp_path: Path) -> None:
    with running(tmp_path / "data", requests_per_minute="100000") as gateway:
        wallet, name = await Wallet(gateway).fund(), fresh_name()
        first = await deployed(wallet, name, "one", volume=True)
        assert await wallet.visit(name, "/put?kept") == (200, "one kept")
        project = first.body["projectId"]
        assert volumes(gateway) == {project}

        await deployed(wallet, name, "two")  # does not ask for it, and loses nothing
        assert await wallet.visit(name) == (200, "two kept")

        rolled = await wallet.call(
            "POST",
            f"/agent/projects/{project}/rollback",
            json={"deploymentId": first.body["deploymentId"]},
        )
        assert rolled.status == 200, rolled.body
        assert (await wallet.settled(rolled))["status"] == "ready"
        assert await wallet.visit(name) == (200, "one kept")

        gateway.kill()
        gateway.start()
        await wallet.until_answers(name)
        assert await wallet.visit(name) == (200, "one kept")
        gateway.stop()
        gateway.start()
        await wallet.until_answers(name)
        assert await wallet.visit(name) == (200, "one kept")

        await wallet.call("DELETE", f"/agent/projects/{project}")
        assert volumes(gateway) == set()


async def test_project_gets_its_volume_later(dev_gateway: DevGateway) -> None:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    first = await deployed(wallet, name, "one")
    assert await wallet.visit(name) == (200, "one none")
    path = f"/agent/projects/{first.body['projectId']}"
    assert (await wallet.call("GET", path)).body["volume"] is False

    changed = await wallet.call("PATCH", path, json={"volume": True})
    assert changed.body["status"] == "deploying"
    assert (await wallet.settled(changed))["status"] == "ready"
    assert await wallet.visit(name, "/put?later") == (200, "one later")
    assert (await wallet.call("GET", path)).body["volume"] is True

    again = await wallet.call("PATCH", path, json={"volume": True})
    assert again.body["status"] == "changed"  # it has one
    assert (await wallet.call("PATCH", path, json={"volume": False})).status == 400
    await wallet.call("DELETE", path)

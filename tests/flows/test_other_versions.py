"""An app that asks for another Node than the machine's: quoted, installed, built, started, kept."""

from pathlib import Path

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

SCRIPT = """\
require("http").createServer((_, answer) => answer.end(process.version)).listen(process.env.PORT);
"""


async def test_app_runs_on_the_version_that_it_asks_for(tmp_path: Path) -> None:
    files = {".nvmrc": "lts/jod\n", "index.js": SCRIPT}
    directory = tmp_path / "gateway"
    with running(directory, toolchains="true", requests_per_minute="100000") as gateway:
        wallet, name = await Wallet(gateway).fund(), fresh_name()
        version = await _planned_node(wallet, files)
        assert version.startswith("22.")

        status = await wallet.settled(await wallet.deploy_paid(name, files), within_seconds=400)

        assert status["status"] == "ready", status
        assert await wallet.visit(name) == (200, f"v{version}")
        assert (gateway.data_dir / "toolchains" / "node" / version / "bin" / "node").is_file()
        gateway.kill()
        gateway.start()
        await wallet.until_answers(name)
        assert await wallet.visit(name) == (200, f"v{version}")


async def _planned_node(wallet: Wallet, files: dict[str, str]) -> str:
    """The version in the plan, as soon as the gateway has heard which there are."""

    async def planned() -> str:
        quoted = await wallet.deploy(fresh_name(), files, headers={"X-Dry-Run": "true"})
        return str(quoted.body["plan"]["toolchains"].get("node", ""))

    async def is_known() -> bool:
        return await planned() != ""

    await until(is_known, seconds=400, pause_seconds=1)
    return await planned()

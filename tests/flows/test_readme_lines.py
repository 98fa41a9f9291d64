"""The README's lines and the document's Python, run as they stand there."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from moorage import deploy_async
from moorage.sdk.errors import AppFailed, PaymentRefused
from support.clients.wallet import Answer, Wallet, deploy_body, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway

DOCUMENT = (REPOSITORY / "docs" / "use" / "python.md").read_text()
APP = (
    "console.log('word is', process.env.WORD);"
    "require('http').createServer((_, res) => res.end(process.env.MODE)).listen(process.env.PORT)"
)


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund(amount=1_000_000)


@pytest.fixture
def surroundings(
    dev_gateway: DevGateway, wallet: Wallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment that the document names, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOORAGE_GATEWAY", dev_gateway.url)
    monkeypatch.setenv("MOORAGE_PRIVATE_KEY", wallet.key)
    monkeypatch.setenv("MOORAGE_STATE_DIR", str(tmp_path / "state"))
    node = dev_gateway.info["chains"]["arbitrum"]["rpc_url"]
    monkeypatch.setenv("MOORAGE_RPC_URL_ARBITRUM", node)


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def app_in(directory: Path, script: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "index.js").write_text(script)
    return directory


@pytest.mark.usefixtures("surroundings")
async def test_documented_code_deploys_changes_and_reads_an_app(
    dev_gateway: DevGateway, wallet: Wallet, tmp_path: Path
) -> None:
    name = fresh_name()
    app_in(tmp_path / "examples" / "hello-node", APP)
    deploying, *managing = snippets()

    deployed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", deploying.replace("hello-python", name), stdout=subprocess.PIPE
    )
    printed, _ = await deployed.communicate()

    address = f"http://{name}.localhost:{dev_gateway.proxy_port}"
    assert printed.decode().splitlines() == [address]
    shown: dict[str, Any] = {}
    for snippet in managing:
        exec(compile(snippet, "python.md", "exec"), shown)
    assert await shown["set_variable"](name, "MODE", "fast") == "ready"
    assert await wallet.visit(name) == (200, "fast")
    assert await shown["set_variable"](name, "WORD", "new") == "ready"
    assert "word is new" in await shown["last_lines"](name)


@pytest.mark.usefixtures("surroundings")
async def test_one_call_tells_each_step_once_and_why_an_app_failed(tmp_path: Path) -> None:
    app = app_in(tmp_path / "app", "console.error('no config'); process.exit(3)")
    steps: list[str] = []
    with pytest.raises(AppFailed) as failed:
        await deploy_async(app, name=fresh_name(), max_usd=1, on_progress=steps.append)
    assert "no config" in (failed.value.status.log_tail or "")
    assert steps[0] == "paying 0.50 USDC on arbitrum"
    assert (steps[-1], len(set(steps))) == ("failed", len(steps))


@pytest.mark.usefixtures("surroundings")
async def test_one_call_pays_no_more_than_it_may(wallet: Wallet, tmp_path: Path) -> None:
    app = app_in(tmp_path / "app", APP)
    with pytest.raises(PaymentRefused, match="Nothing was paid"):
        await deploy_async(app, name=fresh_name(), max_usd=0.49)
    held = await wallet.call("GET", f"/agent/balance/{wallet.address}")
    assert {each["token"]: each["balance_raw"] for each in held.body["balances"]}[
        "usdc"
    ] == "1000000"


pytestmark = pytest.mark.root

EXAMPLE = "https://gateway.example.com"
PROGRAMS = REPOSITORY / "tests/clients/node_modules/.bin"
PATIENCE_SECONDS = 300  # only to end a hung test


def line_with(word: str) -> str:
    section = (REPOSITORY / "README.md").read_text().split("## From one line")[1].split("\n## ")[0]
    (line,) = [line for line in section.splitlines() if re.search(rf"(^|\s){word}(\s|$)", line)]
    return line.partition(" #")[0]


def filled(line: str, wallet: Wallet, name: str = "") -> str:
    """The line with this gateway and this wallet in the places of the examples."""
    return (
        line.replace(EXAMPLE, wallet.gateway.url).replace("0x…", wallet.key).replace("my-app", name)
    )


def environment(home: Path) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home)}


async def test_line_for_curl_gives_the_guide(dev_gateway: DevGateway) -> None:
    program, silent, url = shlex.split(line_with("curl"))
    assert (program, silent) == ("curl", "-s")
    async with (
        aiohttp.ClientSession() as session,
        session.get(url.replace(EXAMPLE, dev_gateway.url)) as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "text/plain")
        assert (await answer.text()).startswith("# Moorage")


async def test_line_for_the_command_deploys(dev_gateway: DevGateway, tmp_path: Path) -> None:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    (tmp_path / "app").mkdir()
    (tmp_path / "app/index.html").write_text("<h1>from one line</h1>")

    done = subprocess.run(
        ["sh", "-c", filled(line_with("deploy"), wallet, name)],
        cwd=tmp_path / "app",
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )

    assert done.returncode == 0, done.stderr
    assert await wallet.visit(name) == (200, "<h1>from one line</h1>")


async def test_line_for_anybodys_client_deploys(dev_gateway: DevGateway, tmp_path: Path) -> None:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    body = deploy_body(name, {"index.html": "<h1>by mppx</h1>"})
    (tmp_path / "app.json").write_text(json.dumps(body))
    line = filled(line_with("mppx"), wallet).replace(
        "npx mppx", shlex.quote(str(PROGRAMS / "mppx"))
    )

    done = subprocess.run(
        ["sh", "-c", line],
        cwd=tmp_path,
        env=environment(tmp_path) | {"NO_UPDATE_NOTIFIER": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["wallet"].lower() == wallet.address.lower()
    status = await wallet.settled(Answer(200, told, {}))
    assert status["status"] == "ready", status
    assert await wallet.visit(name) == (200, "<h1>by mppx</h1>")


async def test_line_for_tools_deploys(dev_gateway: DevGateway, tmp_path: Path) -> None:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    (tmp_path / "app").mkdir()
    (tmp_path / "app/index.html").write_text("<h1>by tools</h1>")
    line = f"exec env {filled(line_with('mcp'), wallet)}"
    server = StdioServerParameters(command="sh", args=["-c", line], env=environment(tmp_path))

    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        arguments = {"directory": str(tmp_path / "app"), "name": name}
        deployed = await session.call_tool("deploy", arguments)
        assert not deployed.is_error, deployed
        told = json.loads(deployed.content[0].text)  # type: ignore[union-attr]
        ids = {"project": told["project_id"], "deployment": told["deployment_id"]}
        while (await waited(session, ids)) == "deploying":
            pass

    assert await wallet.visit(name) == (200, "<h1>by tools</h1>")


async def waited(session: ClientSession, ids: dict[str, str]) -> str:
    answer = await session.call_tool("wait_for_deployment", ids)
    return str(json.loads(answer.content[0].text)["status"])  # type: ignore[union-attr]

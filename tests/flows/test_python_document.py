"""What docs/python.md shows deploys, pays and looks after an app, as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway

pytestmark = pytest.mark.root

DOCUMENT = (REPOSITORY / "docs" / "python.md").read_text()
APP = (
    "console.log('word is', process.env.WORD);"
    "require('http').createServer((_, res) => res.end(process.env.MODE)).listen(process.env.PORT)"
)


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund(amount=1_000_000)


@pytest.fixture
def shown(
    dev_gateway: DevGateway, wallet: Wallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The names that the document's code defines, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOORAGE_GATEWAY", dev_gateway.url)
    monkeypatch.setenv("MOORAGE_PRIVATE_KEY", wallet.key)
    node = dev_gateway.info["chains"]["arbitrum"]["rpc_url"]
    monkeypatch.setenv("MOORAGE_RPC_URL_ARBITRUM", node)
    names: dict[str, Any] = {"__name__": "python_document"}
    for snippet in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(compile(snippet, "python.md", "exec"), names)
    return names


async def test_documented_code_deploys_changes_and_reads_an_app(
    shown: dict[str, Any], dev_gateway: DevGateway, wallet: Wallet, tmp_path: Path
) -> None:
    name = fresh_name()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "index.js").write_text(APP)

    address = await shown["deploy"](tmp_path / "app", name)

    assert address == f"http://{name}.localhost:{dev_gateway.proxy_port}"
    assert await wallet.visit(name) == (200, "fast")
    assert await shown["set_variable"](name, "WORD", "new") == "ready"
    assert "word is new" in await shown["last_lines"](name)


async def test_documented_code_says_what_was_not_paid_and_why_an_app_failed(
    shown: dict[str, Any], dev_gateway: DevGateway, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "index.js").write_text("console.error('no config'); process.exit(3)")
    with pytest.raises(SystemExit, match="no config"):
        await shown["deploy"](tmp_path / "app", fresh_name())
    shown["WALLET"] = type(shown["WALLET"])(Wallet(dev_gateway).key)
    with pytest.raises(SystemExit, match="Nothing was paid"):
        await shown["deploy"](tmp_path / "app", fresh_name())

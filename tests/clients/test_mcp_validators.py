"""What the protocol's own tools say of both servers: nothing that applies to them is amiss.

The conformance suite means servers that have its own diagnostic tools, prompts and resources.
Scenarios that are about those alone are not run; of those that are run, checks that need one are
named below with what they need.
"""

import asyncio
import json
import os
from pathlib import Path

import pytest

from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import MOORAGE, DevGateway

pytestmark = pytest.mark.root

DIRECTORY = Path(__file__).parent
MODULES = DIRECTORY / "node_modules/@modelcontextprotocol"
CONFORMANCE = (
    *("node", "--import", str(DIRECTORY / "older_node.mjs")),
    *(str(MODULES / "conformance/dist/index.js"), "server"),
)
INSPECTOR = ("node", str(MODULES / "inspector/clients/launcher/build/index.js"), "--cli")
PATIENCE_SECONDS = 240

SCENARIOS = (
    ("2025-06-18", ("server-initialize",)),
    ("2025-11-25", ("ping", "tools-list")),
    ("2026-07-28", ("server-stateless", "tools-list", "caching", "http-header-validation")),
    ("2026-07-28", ("dns-rebinding-protection",)),
)
NEEDS = {
    "sep-2575-server-rejects-undeclared-capability": "a tool test_missing_capability",
    "sep-2575-missing-capability-http-400": "the same tool",
    "sep-2575-http-server-no-independent-requests-on-stream": "a tool test_streaming_elicitation",
    "sep-2575-server-no-log-without-loglevel": "a tool test_logging_tool",
    "sep-2549-prompts-list-caching-hints": "prompts",
    "sep-2549-resources-list-caching-hints": "resources",
    "sep-2549-resources-templates-list-caching-hints": "templates of resources",
}


@pytest.mark.parametrize(
    ("version", "scenario"),
    [(version, scenario) for version, scenarios in SCENARIOS for scenario in scenarios],
)
async def test_the_gateways_server_conforms(
    dev_gateway: DevGateway, tmp_path: Path, version: str, scenario: str
) -> None:
    url = f"{dev_gateway.url}/mcp"
    asked = ("--url", url, "--scenario", scenario, "--spec-version", version)
    said = await run(*CONFORMANCE, *asked, "-o", str(tmp_path), expected=None)
    (found,) = tmp_path.rglob("checks.json")
    checks = json.loads(found.read_text())
    failed = [check for check in checks if check["status"] in {"FAILURE", "WARNING"}]
    assert [check for check in failed if check["id"] not in NEEDS] == [], said
    assert [check for check in checks if check["status"] == "SUCCESS"] != []


async def test_inspector_finds_nothing_in_the_tools_of_the_gateway(dev_gateway: DevGateway) -> None:
    target = (f"{dev_gateway.url}/mcp", "--transport", "http")
    assert await inspected(*target) == 23


async def test_inspector_finds_nothing_in_the_tools_beside_the_agent(
    dev_gateway: DevGateway, tmp_path: Path
) -> None:
    environment = {
        "MOORAGE_GATEWAY": dev_gateway.url,
        "MOORAGE_PRIVATE_KEY": Wallet(dev_gateway).key,
        "MOORAGE_STATE_DIR": str(tmp_path),
    }
    named = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
    assert await inspected(*named, MOORAGE, "mcp") == 23


async def inspected(*target: str) -> int:
    """How many tools the inspector lists; it must have nothing to say of their schemas."""
    out, complaints = await run(*INSPECTOR, *target, "--method", "tools/list", "--strict")
    assert "Warning" not in complaints, complaints
    return len(json.loads(out)["tools"])


async def run(*argv: str, expected: int | None = 0) -> tuple[str, str]:
    """What a program writes on both streams; it must end with `expected`, unless None."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ()
    )
    try:
        out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert expected in (None, process.returncode), complaints.decode()
    return out.decode(), complaints.decode()


def environ() -> dict[str, str]:
    """This process's, without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MOORAGE_")}

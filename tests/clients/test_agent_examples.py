"""What examples/agents has for agents of others: it deploys, as it stands there.

A model can't run here. A server in its place speaks its two protocols and calls the tools that it
was offered, one after the other, as a model that was asked to deploy would.
"""

import asyncio
import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway
from support.gateway.receiver import receiving

pytestmark = pytest.mark.root

EXAMPLES = REPOSITORY / "examples/agents"
PYTHON = REPOSITORY / ".venv-clients/bin/python"
PATIENCE_SECONDS = 240  # only to end a hung test
PAGE = "<h1>put online by an agent</h1>"


class Model:
    """Answers with the next call of a tool, then with what the last call came to."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = list(calls)
        self.offered = set[str]()
        self.results = list[str]()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        of_chat = request.path.endswith("/chat/completions")
        tools = [tool["function"] if of_chat else tool for tool in asked["tools"]]
        self.offered |= {tool["name"] for tool in tools}
        self.results = _results(asked["messages" if of_chat else "input"])
        call = self.calls[len(self.results)] if len(self.results) < len(self.calls) else None
        if call is not None:
            call = (call[0], self._filled(call[1]))
        return web.json_response(_chat(call, self) if of_chat else _response(call, self))

    def _filled(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with a field of the first result where "<field>" stands."""
        told = json.loads(self.results[0]) if self.results else {}
        return {
            name: told[value[1:-1]] if re.fullmatch("<.*>", str(value)) else value
            for name, value in arguments.items()
        }


def _results(messages: Any) -> list[str]:
    found = [
        each.get("output") or each.get("content")
        for each in messages
        if each.get("role") == "tool" or each.get("type") == "function_call_output"
    ]
    return [text if isinstance(text, str) else text[0]["text"] for text in found]


def _chat(call: tuple[str, dict[str, Any]] | None, model: Model) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if call is None:
        message["content"] = model.results[-1]
    else:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    reason = "stop" if call is None else "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {
        "id": "chat_1",
        "object": "chat.completion",
        "created": 0,
        "model": "none",
        "choices": [choice],
    }


def _response(call: tuple[str, dict[str, Any]] | None, model: Model) -> dict[str, Any]:
    number = len(model.results)
    done = {"id": f"item_{number}", "status": "completed"}
    if call is None:
        text = {"type": "output_text", "text": model.results[-1], "annotations": []}
        item = {"type": "message", "role": "assistant", "content": [text], **done}
    else:
        item = {
            "type": "function_call",
            "call_id": f"call_{number}",
            "name": call[0],
            "arguments": json.dumps(call[1]),
            **done,
        }
    return {
        "id": f"response_{number}",
        "object": "response",
        "created_at": 0,
        "model": "none",
        "status": "completed",
        "output": [item],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
    }


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


@pytest.fixture
def app(tmp_path: Path) -> str:
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "index.html").write_text(PAGE)
    return str(directory)


def surroundings(wallet: Wallet, home: Path) -> dict[str, str]:
    """What the examples name, and the `moorage` that is on trial on the path."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "MOORAGE_GATEWAY": wallet.gateway.url,
        "MOORAGE_PRIVATE_KEY": wallet.key,
    }


async def run(example: str, model: Model, environ: dict[str, str]) -> str:
    """Runs an example beside the model; what it printed."""
    async with receiving() as server:
        server.answer = model.answer
        process = await asyncio.create_subprocess_exec(
            str(PYTHON),
            str(EXAMPLES / example),
            "Put it online.",
            env={
                **environ,
                "OPENAI_API_KEY": "none",
                "OPENAI_BASE_URL": f"http://127.0.0.1:{server.port}/v1",
                "OPENAI_AGENTS_DISABLE_TRACING": "1",
                "LANGSMITH_TRACING": "false",
                "PYTHONPATH": str(REPOSITORY / "src"),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, said = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 0, said.decode()
    return printed.decode()


async def test_agent_of_langchain_deploys_with_the_library(
    wallet: Wallet, app: str, tmp_path: Path
) -> None:
    name = fresh_name()
    model = Model(("put_online", {"directory": app, "name": name}))

    printed = await run("with_langchain.py", model, surroundings(wallet, tmp_path))

    assert model.offered == {"put_online"}
    assert printed.strip() == f"http://{name}.localhost:{wallet.gateway.proxy_port}"
    assert await wallet.visit(name) == (200, PAGE)


async def test_agent_of_openai_deploys_with_the_tools(
    wallet: Wallet, app: str, tmp_path: Path
) -> None:
    name = fresh_name()
    model = Model(
        ("deploy", {"directory": app, "name": name}),
        ("wait_for_deployment", {"project": "<project_id>", "deployment": "<deployment_id>"}),
    )

    printed = await run("with_openai_agents.py", model, surroundings(wallet, tmp_path))

    assert {"deploy", "wait_for_deployment", "get_logs"} <= model.offered
    assert '"ready"' in printed
    assert await wallet.visit(name) == (200, PAGE)


CONFIGURATIONS = sorted(path.name for path in EXAMPLES.glob("*.*.*"))


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
async def test_configuration_starts_tools_that_reach_the_wallet(
    wallet: Wallet, configuration: str, tmp_path: Path
) -> None:
    server = _server(EXAMPLES / configuration, surroundings(wallet, tmp_path))

    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        credit = await session.call_tool("credits", {})

    assert not credit.is_error, credit
    assert wallet.address.lower() in credit.content[0].text.lower()  # type: ignore[union-attr]


def _server(path: Path, surroundings: dict[str, str]) -> StdioServerParameters:
    """The server that an agent would start: variables filled in as its own documents say."""
    text = re.sub(r"\$\{(?:env:)?(\w+)\}", lambda match: surroundings[match[1]], path.read_text())
    text = text.replace("https://gateway.example.com", surroundings["MOORAGE_GATEWAY"])
    is_toml = path.suffix == ".toml"
    read = tomllib.loads(text)["mcp_servers"] if is_toml else json.loads(text)["mcpServers"]
    (server,) = read.values()
    passed = {name: surroundings[name] for name in ("PATH", "HOME", *server.get("env_vars", ()))}
    return StdioServerParameters(
        command=server["command"], args=server["args"], env=passed | server["env"]
    )

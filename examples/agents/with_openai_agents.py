"""An agent of OpenAI's Agents SDK that puts a directory online, with Moorage's MCP server.

    pip install 'moorage-client[mcp]' openai-agents
    MOORAGE_GATEWAY=https://… MOORAGE_PRIVATE_KEY=0x… OPENAI_API_KEY=… \
        python with_openai_agents.py "Put ./shop online as my-shop."
"""

import asyncio
import os
import sys

from agents import Agent, Runner
from agents.mcp import MCPServerStdio

MOORAGE = {name: value for name, value in os.environ.items() if name.startswith("MOORAGE_")}
SECONDS = 60  # `wait_for_deployment` takes up to 45


async def main(task: str) -> None:
    server = MCPServerStdio(
        {"command": "moorage", "args": ["mcp"], "env": {"MOORAGE_BUDGET_USD": "5"} | MOORAGE},
        client_session_timeout_seconds=SECONDS,
    )
    async with server:
        agent = Agent("Deployer", model=os.environ.get("MODEL", "gpt-5"), mcp_servers=[server])
        print((await Runner.run(agent, task)).final_output)


asyncio.run(main(sys.argv[1]))

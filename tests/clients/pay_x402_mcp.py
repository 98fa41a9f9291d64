"""x402 for Python around a client of the Model Context Protocol: a call is paid by `_meta`."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import httpx
from agent import ACCOUNT, GIVEN, PATIENCE_SECONDS, SigningTransport, visit
from x402 import x402Client
from x402.mcp import x402MCPClient
from x402.mechanisms.evm.exact import register_exact_evm_client

DEPLOY = {
    "name": GIVEN["name"],
    "chain": GIVEN["chain"],
    "files": [{"path": "index.html", "text": f"<h1>{GIVEN['name']}</h1>"}],
}


class Session:
    """The part of a session that x402 uses: a tool's call, as one POST."""

    async def call_tool(self, params: dict[str, Any], **_: Any) -> SimpleNamespace:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {"Accept": "application/json, text/event-stream"}
        transport = SigningTransport() if GIVEN["signs"] else None
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, transport=transport) as client:
            answer = await client.post(GIVEN["gateway"] + "/mcp", json=message, headers=headers)
        return SimpleNamespace(**answer.json()["result"])


async def main() -> None:
    networks = f"eip155:{GIVEN['chainId']}"
    payer = register_exact_evm_client(x402Client(), ACCOUNT, networks=networks)
    session = Session()
    deployed = await x402MCPClient(session, payer).call_tool("deploy", DEPLOY)
    told: dict[str, Any] = {"body": json.loads(deployed.content[0]["text"])}
    if not deployed.is_error:
        told["paid"] = deployed.payment_response.success
        told["page"] = await _page(session, told["body"])
    print(json.dumps(told))


async def _page(session: Session, body: dict[str, Any]) -> str:
    asked = {"project": body["project_id"], "deployment": body["deployment_id"]}
    if "manage_token" in body:
        asked["manage_token"] = body["manage_token"]
    while True:
        waited = await session.call_tool({"name": "wait_for_deployment", "arguments": asked})
        status = waited.structuredContent
        if status["status"] != "deploying":
            return await visit(httpx.URL(status["endpoint"]))


asyncio.run(main())

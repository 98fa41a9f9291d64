"""What an agent's script brings itself: a wallet, signed requests, an app, patience.

The test passes what it knows as JSON in the environment variable AGENT.
"""

import asyncio
import base64
import json
import os
import time
import uuid
from typing import Any

import httpx
from eth_account import Account
from eth_account.messages import encode_defunct

GIVEN: dict[str, Any] = json.loads(os.environ["AGENT"])
ACCOUNT = Account.from_key(GIVEN["key"])
DEPLOY_URL = GIVEN["gateway"] + ("/deploy" if GIVEN.get("alone") else "/agent/deploy")
PATIENCE_SECONDS = 60


def deploy_body(name: str) -> dict[str, Any]:
    """An app of one page, which shows its name."""
    page = base64.b64encode(f"<h1>{name}</h1>".encode()).decode()
    upload = {"type": "files", "files": [{"path": "index.html", "content": page}]}
    return {"uniqueName": name, "displayName": name, "upload": upload}


def signed_headers() -> dict[str, str]:
    """The four headers of a signed request; none where the payment alone says who asks."""
    if GIVEN.get("alone"):
        return {}
    stamp, nonce = str(time.time_ns() // 1_000_000), str(uuid.uuid4())
    message = encode_defunct(text=f"{ACCOUNT.address}:{stamp}:{nonce}")
    return {
        "X-Wallet-Address": ACCOUNT.address,
        "X-Signature": "0x" + ACCOUNT.sign_message(message).signature.hex(),
        "X-Timestamp": stamp,
        "X-Nonce": nonce,
    }


class SigningTransport(httpx.AsyncHTTPTransport):
    """The innermost transport: every attempt is signed afresh."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers.update(signed_headers())
        return await super().handle_async_request(request)


async def deploy(paying: httpx.AsyncBaseTransport) -> None:
    """Deploy through a transport that pays, follow it until its app answers, and tell the test."""
    async with httpx.AsyncClient(transport=paying, timeout=PATIENCE_SECONDS) as client:
        body = deploy_body(GIVEN["name"])
        response = await client.post(DEPLOY_URL, json=body)
    print(json.dumps(await followed(response)))


async def followed(response: httpx.Response) -> dict[str, Any]:
    """What came of a deploy: the answer, and the page of its app once that is ready."""
    told = {
        "status": response.status_code,
        "body": response.json(),
        "headers": dict(response.headers),
    }
    if response.status_code == 200:
        told["page"] = await visit(await _until_ready(response.json()))
    return told


async def _until_ready(answer: dict[str, Any]) -> httpx.URL:
    ids = f"{answer['projectId']}/{answer['deploymentId']}"
    url = answer.get("status_url", f"{GIVEN['gateway']}/agent/deploy/{ids}/status")
    token = answer.get("manage_token")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(transport=SigningTransport(), timeout=PATIENCE_SECONDS) as client:
        while True:
            status = (await client.get(url, headers=headers)).json()
            if status["status"] != "deploying":
                return httpx.URL(status["endpoint"])
            await asyncio.sleep(0.05)


async def visit(endpoint: httpx.URL) -> str:
    """The app's page, through the proxy; no resolver here knows the name of a local app."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answer = await client.get(
            endpoint.copy_with(host="127.0.0.1"), headers={"Host": endpoint.netloc.decode()}
        )
    return answer.text

"""An agent that knows an address, and nothing else, walks the whole way by what the answers say."""

import asyncio
import base64
import io
import json
import re
import time
import uuid
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from support.chains.paying import send_transfer
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

MAX_REQUESTS_TO_DEPLOY = 6
PATIENCE_SECONDS = 240  # only to end a hung test
APP = """require('http').createServer((request, response) => {
  console.log('asked for ' + request.url);
  response.end('%s ' + (process.env.GREETING || 'plain'));
}).listen(process.env.PORT);"""


class Stranger:
    """A scripted agent: paths, members and headers come from the gateway's own documents."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self.account = Account.from_key(key)
        self.requests = 0
        self.guide = ""
        self.openapi: dict[str, Any] = {}

    async def read_all(self) -> None:
        """`/`, then what its `Link` header names."""
        front, headers = await self.fetch(self.address)
        links = dict(
            reversed(link) for link in re.findall(r'<([^>]+)>; rel="([^"]+)"', headers["Link"])
        )
        self.guide, _ = await self.fetch(urljoin(self.address, links["service-doc"]))
        assert self.guide.startswith(front.splitlines()[0])
        described, _ = await self.fetch(urljoin(self.address, links["service-desc"]))
        self.openapi = json.loads(described)
        self.check_signing()

    def check_signing(self) -> None:
        """The guide's test vector: it signs as it should."""
        key, text, signature = re.findall(r"`(0x[0-9a-fA-F:-]{64,})`", self.guide)
        made = Account.sign_message(encode_defunct(text=text), key).signature.to_0x_hex()
        assert made == signature

    def signed(self, schemes: dict[str, Any]) -> dict[str, str]:
        """The headers of an operation's security schemes."""
        values = {
            "X-Wallet-Address": self.account.address,
            "X-Timestamp": str(time.time_ns() // 1_000_000),
            "X-Nonce": str(uuid.uuid4()),
        }
        text = ":".join(values.values())
        made = self.account.sign_message(encode_defunct(text=text)).signature.to_0x_hex()
        values["X-Signature"] = made
        known = self.openapi["components"]["securitySchemes"]
        return {known[scheme]["name"]: values[known[scheme]["name"]] for scheme in schemes}

    async def do(
        self,
        identity: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        project: str = "",
        deployment: str = "",
    ) -> tuple[int, dict[str, Any]]:
        """The operation of this id."""
        path, method, operation = next(
            (path, method, operation)
            for path, methods in self.openapi["paths"].items()
            for method, operation in methods.items()
            if operation["operationId"] == identity
        )
        url = self.openapi["servers"][0]["url"] + path.format(
            projectId=project, deploymentId=deployment
        )
        sent = self.signed(operation.get("security", self.openapi["security"])[0]) | (headers or {})
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        self.requests += 1
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=data, headers=sent) as answer,
        ):
            described = operation["responses"]
            assert {str(answer.status), f"{answer.status // 100}XX", "default"} & set(described)
            return answer.status, await answer.json()

    async def fetch(self, url: str) -> tuple[str, Any]:
        self.requests += 1
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.status == 200, url
            return await answer.text(), answer.headers

    def body(self, name: str, word: str) -> dict[str, Any]:
        """The deploy's own example, with an app of its own in it."""
        deploy = self.openapi["paths"]["/agent/deploy"]["post"]
        ref = deploy["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = self.openapi["components"]["schemas"][ref.rpartition("/")[2]]
        example: dict[str, Any] = schema["example"]
        content = base64.b64encode((APP % word).encode()).decode()
        files = [{"path": "index.js", "content": content}]
        return example | {
            "uniqueName": name,
            "upload": example["upload"] | {"files": files},
        }

    async def settled(self, project: str, deployment: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status, told = await self.do("status", project=project, deployment=deployment)
                assert status == 200, told
                if told["status"] != "deploying":
                    return told
                await asyncio.sleep(0.1)


async def visit(endpoint: str) -> str:
    """What a visitor reads; `*.localhost` is found without a resolver."""
    parts = urlsplit(endpoint)
    url = f"http://127.0.0.1:{parts.port}{parts.path or '/'}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Host": parts.netloc}) as answer,
    ):
        return await answer.text()


async def paid(gateway: DevGateway, agent: Stranger, asked: dict[str, Any]) -> dict[str, str]:
    """Pays what a 402 asks for; the headers that say so. The nodes' addresses are the wallet's."""
    rpc_url = gateway.info["chains"][asked["payment_chain"]]["rpc_url"]
    tx = await send_transfer(
        rpc_url,
        agent.account.key.to_0x_hex(),
        asked["token_address"],
        asked["pay_to"],
        int(asked["amount_token"]),
    )
    return {
        "X-Payment-Tx": tx,
        "X-Payment-Chain": asked["payment_chain"],
        "X-Payment-Token": asked["token"],
    }


async def test_stranger_deploys_changes_extends_rolls_back_and_deletes(
    dev_gateway: DevGateway,
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    agent, name = Stranger(dev_gateway.url, wallet.key), fresh_name()
    await agent.read_all()

    first = agent.body(name, "first")
    status, quote = await agent.do("quote", first)
    assert (status, quote["payment_required"]) == (200, True)
    status, asked = await agent.do("deploy", first)
    assert (status, asked["amount_usd"]) == (402, quote["amount_usd"])
    receipt = await paid(dev_gateway, agent, asked)
    status, deployed = await agent.do("deploy", first, receipt)
    assert status == 200, deployed
    assert agent.requests <= MAX_REQUESTS_TO_DEPLOY
    ready = await agent.settled(name, "latest")
    assert ready["deployment_id"] == deployed["deploymentId"]
    assert await visit(ready["endpoint"]) == "first plain"

    status, changed = await agent.do(
        "change_project", {"runEnvs": {"GREETING": "changed"}}, project=name
    )
    assert (status, changed["status"]) == (200, "deploying")
    configured = await agent.settled(name, changed["deploymentId"])
    assert await visit(configured["endpoint"]) == "first changed"

    status, again = await agent.do("deploy", agent.body(name, "second"))
    assert (status, again["projectId"]) == (200, deployed["projectId"])
    second = await agent.settled(name, "latest")
    assert await visit(second["endpoint"]) == "second changed"

    status, credits_before = await agent.do("show_credits")
    status, asked = await agent.do("top_up", {"amount_usd": 1})
    assert (status, asked["amount_usd"]) == (402, 1)
    receipt = await paid(dev_gateway, agent, asked)
    status, topped_up = await agent.do("top_up", {"amount_usd": 1}, receipt)
    assert (status, topped_up["credited_usd"]) == (200, 1)
    status, credits_after = await agent.do("show_credits")
    assert credits_after["runs_out_at"] > credits_before["runs_out_at"]

    status, back = await agent.do("roll_back", project=name)
    assert status == 200, back
    served = await agent.settled(name, "latest")
    assert served["deployment_id"] == back["deploymentId"]
    assert await visit(served["endpoint"]) == "first changed"
    status, log = await agent.do("show_logs", project=name, deployment="latest")
    assert status == 200
    assert log["deploymentId"] == back["deploymentId"]

    status, gone = await agent.do("delete_project", project=name)
    assert (status, gone["status"]) == (200, "deleted")
    status, _ = await agent.do("show_project", project=name)
    assert status == 404

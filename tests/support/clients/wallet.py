"""A client of the contract written for the tests alone: eth_account signs, aiohttp speaks."""

import asyncio
import base64
import io
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.messages import encode_defunct

from support.chains.paying import rpc, send_transfer
from support.clients.typed_request import content_digest_of, signed_typed_data
from support.gateway.gateway_fixture import DevGateway

HELLO = {
    "index.js": "const port = process.env.PORT;"
    "require('http').createServer((q, s) => s.end('hello ' + (process.env.GREETING || 'world')))"
    ".listen(port);"
}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]  # in any letter case


def new_key() -> str:
    """A private key nobody has used."""
    return "0x" + secrets.token_hex(32)


@dataclass(eq=False)
class Wallet:
    """A wallet with gas and tokens on a gateway's local chains."""

    gateway: DevGateway
    key: str = field(default_factory=new_key)

    @property
    def address(self) -> str:
        """Checksummed, as wallets show it."""
        return str(Account.from_key(self.key).address)

    async def fund(self, *, chain: str = "arbitrum", amount: int = 100_000_000) -> "Wallet":
        """Give it gas, and `amount` of each token."""
        described = self.gateway.info["chains"][chain]
        await rpc(described["rpc_url"], "anvil_setBalance", self.address, hex(10**18))
        for token in described["tokens"].values():
            await rpc(described["rpc_url"], "anvil_dealERC20", self.address, token, hex(amount))
        return self

    async def pay(
        self,
        amount: int,
        *,
        chain: str = "arbitrum",
        token: str = "usdc",
        to: str | None = None,
        mined: bool = True,
    ) -> str:
        """Transfer atomic units to the gateway; the transaction's hash."""
        described = self.gateway.info["chains"][chain]
        return await send_transfer(
            described["rpc_url"],
            self.key,
            described["tokens"][token],
            to or self.gateway.info["pay_to"],
            amount,
            mined=mined,
        )

    def signed(self, **changes: str) -> dict[str, str]:
        """Fresh headers of contract 1.1."""
        return self.signed_ahead(0) | changes

    def signed_ahead(self, ahead_ms: int) -> dict[str, str]:
        """Such headers, with the time that it will be then."""
        stamp, nonce = str(time.time_ns() // 1_000_000 + ahead_ms), str(uuid.uuid4())
        message = encode_defunct(text=f"{self.address}:{stamp}:{nonce}")
        signature = Account.sign_message(message, self.key).signature.to_0x_hex()
        return {
            "X-Wallet-Address": self.address,
            "X-Signature": signature,
            "X-Timestamp": stamp,
            "X-Nonce": nonce,
        }

    async def call(
        self, method: str, path: str, *, json: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One signed request."""
        return await call(
            self.gateway, method, path, json=json, headers=self.signed() | (headers or {})
        )

    def bound(
        self, method: str, path: str, body: bytes = b"", *, on_behalf_of: str = ""
    ) -> dict[str, str]:
        """Fresh headers of version 2 for this one request, and a key."""
        signed = {
            "X-Wallet-Address": self.address,
            "X-Timestamp": str(time.time_ns() // 1_000_000),
            "X-Nonce": str(uuid.uuid4()),
        }
        signature = signed_typed_data(
            self.key,
            wallet=self.address,
            host=self.gateway.url.partition("://")[2],
            method=method,
            path=path,
            body_digest=sha256(body).digest(),
            timestamp=int(signed["X-Timestamp"]),
            nonce=signed["X-Nonce"],
            on_behalf_of=on_behalf_of,
        )
        return signed | {
            "X-Signature": signature,
            "X-Signature-Version": "2",
            "Content-Digest": content_digest_of(body),
            "Idempotency-Key": str(uuid.uuid4()),
        }

    async def call_bound(
        self, method: str, path: str, *, json: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request that moves money or power."""
        body = b"" if json is None else dumps(json).encode()
        owner = (headers or {}).get("X-On-Behalf-Of", "")
        signed = self.bound(method, path, body, on_behalf_of=owner) | (headers or {})
        return await call(self.gateway, method, path, json=json, headers=signed)

    async def deploy(
        self,
        name: str,
        files: dict[str, str] | None = None,
        *,
        tx: str | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """`POST /agent/deploy`."""
        extra = dict(headers or {})
        if tx is not None:
            extra["X-Payment-Tx"] = tx
        body = deploy_body(name, files or HELLO, **fields)
        return await self.call("POST", "/agent/deploy", json=body, headers=extra)

    async def deploy_paid(
        self, name: str, files: dict[str, str] | None = None, **fields: Any
    ) -> Answer:
        """Ask for the price, pay it, deploy."""
        asked = await self.deploy(name, files, **fields)
        assert asked.status == 402, asked.body
        tx = await self.pay(int(asked.body["amount_token"]))
        answer = await self.deploy(name, files, tx=tx, **fields)
        assert answer.status == 200, answer.body
        return answer

    async def status(self, deployed: Answer) -> Answer:
        """Where a deployment stands."""
        project, deployment = deployed.body["projectId"], deployed.body["deploymentId"]
        return await self.call("GET", f"/agent/deploy/{project}/{deployment}/status")

    async def settled(
        self, deployed: Answer, *, within_seconds: float = 120, pause_seconds: float = 0.05
    ) -> dict[str, Any]:
        """The status once it is no longer under way, asked for after each pause."""
        async with asyncio.timeout(within_seconds):
            while True:
                answer = await self.status(deployed)
                assert answer.status == 200, answer.body
                if answer.body["status"] != "deploying":
                    return answer.body
                await asyncio.sleep(pause_seconds)

    async def until_answers(self, name: str, *, within_seconds: float = 60) -> None:
        """Wait until the app's address answers 200."""
        async with asyncio.timeout(within_seconds):
            while (await self.visit(name))[0] != 200:
                await asyncio.sleep(0.05)

    async def visit(self, name: str, path: str = "/") -> tuple[int, str]:
        """What a visitor of the app is answered, through the proxy."""
        host = f"{name}.{self.gateway.info['base_domain']}"
        url = f"{self.gateway.info['proxy']}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers={"Host": host}) as response,
        ):
            return response.status, await response.text()


def deploy_body(name: str, files: dict[str, str], **fields: Any) -> dict[str, Any]:
    """The body of a deploy."""
    return {
        "uniqueName": name,
        "displayName": name,
        "upload": {
            "type": "files",
            "files": [
                {"path": path, "content": base64.b64encode(text.encode()).decode()}
                for path, text in files.items()
            ],
        },
    } | fields


async def call(
    gateway: DevGateway,
    method: str,
    path: str,
    *,
    json: Any = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request as it is; every answer must be JSON."""
    data = None
    if json is not None:
        data = io.BytesIO(dumps(json).encode())  # aiohttp warns of large bodies otherwise
        headers = {"Content-Type": "application/json", **(headers or {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, data=data, headers=headers) as response,
    ):
        return Answer(response.status, await response.json(), response.headers)


def fresh_name() -> str:
    """A name nobody has used."""
    return f"app-{secrets.token_hex(6)}"

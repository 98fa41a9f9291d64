"""Contract wallets and bound signatures, through the real gateway and its chains."""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import pytest
from eth_account import Account
from eth_account.messages import SignableMessage, encode_defunct

from moorage.sdk.client import Client
from moorage.sdk.signer import Signer
from support.chains.contract_wallet import Counterfactual, deployed_wallet
from support.chains.paying import calldata, rpc, send_transaction
from support.clients.typed_request import content_digest_of, typed_data
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name, new_key
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

PER_MINUTE = 8
"""Requests that the strict gateway lets a wallet make."""


@dataclass(eq=False)
class Signing:
    """Signs for the wallet at `address` by the key of its owner, in either version."""

    gateway: DevGateway
    key: str
    address: str
    wallet: Counterfactual | None = None  # as long as it is not deployed

    def headers(
        self,
        method: str = "GET",
        path: str = "/agent/projects",
        body: bytes | None = None,
        *,
        bound: bool = False,
        host: str | None = None,
    ) -> dict[str, str]:
        """Fresh headers; `host` as it is signed, for another gateway than this one."""
        stamp, nonce = time.time_ns() // 1_000_000, str(uuid.uuid4())
        message: SignableMessage = encode_defunct(text=f"{self.address}:{stamp}:{nonce}")
        headers = {"X-Wallet-Address": self.address, "X-Timestamp": str(stamp), "X-Nonce": nonce}
        if bound:
            message = typed_data(
                wallet=self.address,
                host=host or self.gateway.url.removeprefix("http://"),
                method=method,
                path=path,
                body_digest=hashlib.sha256(body or b"").digest(),
                timestamp=stamp,
                nonce=nonce,
            )
            headers["X-Signature-Version"] = "2"
            if body is not None:
                headers["Content-Digest"] = content_digest_of(body)
        signature = bytes(Account.sign_message(message, self.key).signature)
        signature = self.wallet.wrap(signature) if self.wallet else signature
        return headers | {"X-Signature": "0x" + signature.hex()}

    async def ask(
        self,
        method: str = "GET",
        path: str = "/agent/projects",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        bound: bool = False,
    ) -> Answer:
        """One request, signed as it is."""
        signed = self.headers(method, path, body, bound=bound)
        return await send(self.gateway, method, path, body, signed | (headers or {}))


async def send(
    gateway: DevGateway, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> Answer:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.url + path, data=body, headers=headers) as response,
    ):
        return Answer(response.status, await response.json(), response.headers)


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


def rpc_url(gateway: DevGateway, chain: str = "arbitrum") -> str:
    return str(gateway.info["chains"][chain]["rpc_url"])


async def deployed(gateway: DevGateway, chain: str = "arbitrum") -> Signing:
    key = new_key()
    owner = Account.from_key(key).address
    return Signing(gateway, key, await deployed_wallet(rpc_url(gateway, chain), owner))


async def undeployed(gateway: DevGateway) -> Signing:
    key = new_key()
    wallet = await Counterfactual.of(rpc_url(gateway), Account.from_key(key).address)
    return Signing(gateway, key, wallet.address, wallet)


def by_key(gateway: DevGateway) -> Signing:
    wallet = Wallet(gateway)
    return Signing(gateway, wallet.key, wallet.address)


def body_of(name: str) -> bytes:
    return json.dumps(deploy_body(name, HELLO)).encode()


# Contract wallets


async def test_contract_wallet_pays_by_a_transaction_and_deploys(dev_gateway: DevGateway) -> None:
    signing = await deployed(dev_gateway)
    url, token = rpc_url(dev_gateway), dev_gateway.info["chains"]["arbitrum"]["tokens"]["usdc"]
    owner = Account.from_key(signing.key).address
    await rpc(url, "anvil_setBalance", owner, hex(10**18))
    await rpc(url, "anvil_dealERC20", signing.address, token, hex(500_000))
    body = body_of(fresh_name())
    asked = await signing.ask("POST", "/agent/deploy", body)
    assert refusal(asked) == (402, "payment_required")

    transfer = calldata("transfer(address,uint256)", dev_gateway.info["pay_to"], 500_000)
    inner = bytes.fromhex(transfer[2:])
    words: list[int | str] = [96, len(inner)]
    padded = inner.ljust(96, b"\0").hex()
    execute = calldata(
        "execute(address,uint256,bytes)",
        *(token, 0, *words, padded[:64], padded[64:128], padded[128:]),
    )
    tx = await send_transaction(url, signing.key, to=signing.address, data=execute)
    answer = await signing.ask("POST", "/agent/deploy", body, {"X-Payment-Tx": tx})

    assert answer.status == 200, answer.body
    path = f"/agent/deploy/{answer.body['projectId']}/{answer.body['deploymentId']}/status"
    assert (await signing.ask("GET", path)).status == 200
    assert (await by_key(dev_gateway).ask("GET", path)).status == 403


@pytest.mark.parametrize("bound", [False, True])
async def test_wallet_lists_its_projects_before_it_is_deployed(
    dev_gateway: DevGateway, bound: bool
) -> None:
    signing = await undeployed(dev_gateway)

    answer = await signing.ask(bound=bound)

    assert answer.status == 200, answer.body
    assert answer.body["wallet"].lower() == signing.address.lower()


# Bound signatures


async def test_bound_request_with_a_body_passes_once(dev_gateway: DevGateway) -> None:
    signing, body = by_key(dev_gateway), body_of(fresh_name())
    headers = signing.headers("POST", "/agent/quote", body, bound=True)

    answer = await send(dev_gateway, "POST", "/agent/quote", body, headers)
    assert answer.status == 200, answer.body
    again = await send(dev_gateway, "POST", "/agent/quote", body, headers)
    assert refusal(again) == (401, "nonce_reused")


@pytest.mark.parametrize("kind", ["key", "deployed", "undeployed"])
async def test_power_over_a_project_is_given_by_a_signature_of_the_very_request(
    dev_gateway: DevGateway, kind: str
) -> None:
    makes = {"deployed": deployed, "undeployed": undeployed}
    signing = by_key(dev_gateway) if kind == "key" else await makes[kind](dev_gateway)
    tokens = f"/agent/projects/{fresh_name()}/tokens"
    key = {"Idempotency-Key": str(uuid.uuid4())}

    refused = await signing.ask("POST", tokens, headers=key)
    assert refusal(refused) == (401, "signature_unbound")
    assert "EIP-712" in refused.body["recipe"]["text"]
    keyless = await signing.ask("POST", tokens, bound=True)
    assert (*refusal(keyless), keyless.body["field"]) == (400, "invalid_field", "Idempotency-Key")
    passed = await signing.ask("POST", tokens, headers=key, bound=True)
    assert refusal(passed) == (404, "project_not_found")


# Where signatures must be bound


@pytest.fixture(scope="module")
def strict_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("strict")
    settings = {"require_bound_signatures": "true", "rpc_timeout_seconds": "4"}
    settings |= {"requests_per_minute": str(PER_MINUTE), "trusted_proxies": "127.0.0.0/8"}
    with running(directory, **settings) as started:
        yield started


async def test_operator_may_require_bound_signatures(strict_gateway: DevGateway) -> None:
    signing = by_key(strict_gateway)

    refused = await signing.ask()
    assert refusal(refused) == (401, "signature_unbound")
    assert "X-Signature-Version: 2" in refused.body["error"]
    assert (await signing.ask(bound=True)).status == 200
    assert (await call(strict_gateway, "GET", "/agent/chains")).status == 200


async def test_client_goes_over_to_bound_signatures_when_asked(
    strict_gateway: DevGateway,
) -> None:
    signer = Signer(new_key())
    async with Client(strict_gateway.url, signer) as client:
        assert (await client.projects()).count == 0
        assert (await client.projects()).count == 0
    async with asyncio.timeout(60):  # a request's line is written once its answer is sent
        while answered(strict_gateway)[-3:] != [401, 200, 200]:
            await asyncio.sleep(0.02)


def answered(gateway: DevGateway) -> list[int]:
    """The statuses of all requests for a list of projects, from the log."""
    lines = [json.loads(line) for line in gateway.log.splitlines() if line[:1] == "{"]
    return [line["status"] for line in lines if line.get("route") == "/agent/projects"]

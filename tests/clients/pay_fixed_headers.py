"""Clients as people call them: headers signed once, then one call, which pays by itself."""

import asyncio
import json

import httpx
from agent import (
    ACCOUNT,
    DEPLOY_URL,
    GIVEN,
    PATIENCE_SECONDS,
    deploy_body,
    followed,
    signed_headers,
)
from mpp.client import PaymentTransport
from mpp.methods.evm import EvmAsset
from mpp.methods.evm import client as evm
from x402 import x402Client, x402ClientSync
from x402.http.clients import x402_requests
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

NETWORK = f"eip155:{GIVEN['chainId']}"


async def by_httpx(name: str) -> httpx.Response:
    """x402HttpxClient."""
    paying = register_exact_evm_client(x402Client(), ACCOUNT, networks=NETWORK)
    async with x402HttpxClient(paying, timeout=PATIENCE_SECONDS) as client:
        return await client.post(DEPLOY_URL, json=deploy_body(name), headers=signed_headers())


async def by_requests(name: str) -> httpx.Response:
    """x402_requests."""
    signer = EthAccountSigner(ACCOUNT)
    session = x402_requests(register_exact_evm_client(x402ClientSync(), signer, networks=NETWORK))
    answer = await asyncio.to_thread(
        session.post, DEPLOY_URL, json=deploy_body(name), headers=signed_headers()
    )
    return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


async def by_pympp(name: str) -> httpx.Response:
    """pympp's transport in an ordinary client."""
    token = EvmAsset(
        address=GIVEN["token"], decimals=6, chain_id=GIVEN["chainId"], name="USD Coin", version="2"
    )
    paying = PaymentTransport([evm.charge(currency=token, account=ACCOUNT, max_amount="1")])
    async with httpx.AsyncClient(transport=paying, timeout=PATIENCE_SECONDS) as client:
        return await client.post(DEPLOY_URL, json=deploy_body(name), headers=signed_headers())


async def main() -> None:
    """Each deploys an app of its own."""
    told = {}
    for client, deploy in {"httpx": by_httpx, "requests": by_requests, "pympp": by_pympp}.items():
        told[client] = await followed(await deploy(f"{GIVEN['name']}-{client}"))
    print(json.dumps(told))


asyncio.run(main())

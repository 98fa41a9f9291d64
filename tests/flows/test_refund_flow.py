"""A wallet pays for a year, uses minutes, and takes back the rest."""

import asyncio
from typing import Any

import pytest

from support.chains.paying import mine, token_balance
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

PAID = 2_000_000
GAS = 10_000


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def quoted(wallet: Wallet, **body: Any) -> dict[str, Any]:
    """A quote, once the payment is final."""
    async with asyncio.timeout(60):
        while True:
            quote = (await wallet.call("POST", "/agent/refunds/quote", json=body)).body
            if all(each["why"] != "not_final" for each in quote["kept"]):
                return quote
            await mine(wallet.gateway.info["chains"]["arbitrum"]["rpc_url"])
            await asyncio.sleep(0.2)


async def ended(wallet: Wallet, refund: str) -> str:
    """The state that a refund comes to."""
    async with asyncio.timeout(60):
        while True:
            shown = (await wallet.call("GET", f"/agent/refunds/{refund}")).body
            if shown["state"] in ("final", "failed"):
                return str(shown["state"])
            await mine(wallet.gateway.info["chains"]["arbitrum"]["rpc_url"])
            await asyncio.sleep(0.2)


async def test_what_a_wallet_paid_and_did_not_use_comes_back_to_it(wallet: Wallet) -> None:
    deployed = await wallet.deploy(fresh_name(), tx=await wallet.pay(PAID))
    assert (await wallet.settled(deployed))["status"] == "ready"
    project = deployed.body["projectId"]
    chain = wallet.gateway.info["chains"]["arbitrum"]
    held = chain["rpc_url"], chain["tokens"]["usdc"], wallet.address
    before = await token_balance(*held)

    quote = await quoted(wallet)
    assert [each["projectId"] for each in quote["ends"]] == [project]
    body = {"quote": quote["id"], "expect": {"refundable_usd": quote["refundable_usd"]}}
    unbound = await wallet.call("POST", "/agent/refunds", json=body)
    assert (unbound.status, unbound.body["code"]) == (401, "signature_unbound")
    asked = await wallet.call_bound("POST", "/agent/refunds", json=body)
    assert (asked.status, asked.body["decided_by"]) == (202, "gateway")
    again = await wallet.call_bound("POST", "/agent/refunds", json=body)
    assert (again.status, again.body["code"]) == (409, "refund_in_progress")
    assert await ended(wallet, asked.body["id"]) == "final"

    after = await token_balance(*held)
    assert after - before == round(quote["refundable_usd"] * 1_000_000)
    assert 0 < PAID - GAS - (after - before) < 5_000  # minutes, and an hour that is kept
    shown = await wallet.call("GET", f"/agent/projects/{project}")
    assert shown.body["status"] == "active"

    rest = await quoted(wallet)
    gone = await wallet.call_bound(
        "DELETE", f"/agent/projects/{project}", json={"refund": rest["id"]}
    )
    refused = gone.body["refund_refused"]  # a cent, for the gas, is more than what is left
    assert (gone.status, refused) == (200, "invalid_field")

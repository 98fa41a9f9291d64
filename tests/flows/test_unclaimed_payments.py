"""Payments that nobody presents, and payments that leave the chain, through a running gateway."""

import pytest

from support.chains.paying import rpc
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root

WITHIN_SECONDS = 90


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def balance_of(wallet: Wallet) -> float:
    """The wallet's credits, in dollars."""
    answer = await wallet.deploy(fresh_name(), headers={"X-Dry-Run": "true"})
    assert answer.status == 200, answer.body
    return float(answer.body["current_credit_balance_usd"])


async def until_credited(wallet: Wallet, dollars: float) -> None:
    async def credited() -> bool:
        return await balance_of(wallet) == dollars

    await until(credited, seconds=WITHIN_SECONDS, pause_seconds=0.1)


def rpc_url(wallet: Wallet) -> str:
    return str(wallet.gateway.info["chains"]["arbitrum"]["rpc_url"])


async def test_client_that_died_after_paying_finds_its_credits(wallet: Wallet) -> None:
    name = fresh_name()
    asked = await wallet.deploy(name)
    assert asked.status == 402
    await wallet.pay(int(asked.body["amount_token"]))
    await until_credited(wallet, 0.5)
    deployed = await wallet.deploy(name)  # it knows of no hash any more
    assert deployed.status == 200, deployed.body


async def test_app_paid_for_by_a_dropped_payment_is_suspended_until_it_is_mined_again(
    wallet: Wallet,
) -> None:
    name, url = fresh_name(), rpc_url(wallet)
    await wallet.deploy(name)
    tx = await wallet.pay(500_000)
    raw = await rpc(url, "eth_getRawTransactionByHash", tx)
    deployed = await wallet.deploy(name, tx=tx)
    assert (await wallet.settled(deployed))["status"] == "ready"
    await wallet.until_answers(name)

    async def answers(status: int) -> bool:
        return (await wallet.visit(name))[0] == status

    mined = int((await rpc(url, "eth_getTransactionReceipt", tx))["blockNumber"], 16)
    newest = int(await rpc(url, "eth_blockNumber"), 16)
    await rpc(url, "anvil_reorg", newest - mined + 1, [])
    await rpc(url, "anvil_mine", "0x2")
    await until(lambda: answers(402), seconds=WITHIN_SECONDS, pause_seconds=0.1)
    assert await balance_of(wallet) == 0

    assert await rpc(url, "eth_sendRawTransaction", raw) == tx
    await until(lambda: answers(200), seconds=WITHIN_SECONDS, pause_seconds=0.1)
    assert await balance_of(wallet) == 0.5

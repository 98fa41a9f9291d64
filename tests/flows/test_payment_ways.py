"""The other two ways to pay the one 402, spoken as their specifications write them."""

import base64
import json
from typing import Any

import pytest

from support.chains.paying import token_balance
from support.clients.protocols import (
    authorization_payload,
    challenges,
    credential,
    demanded,
    hash_payload,
    payment_signature,
    unpadded,
)
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

PRICE = 500_000
FUNDS = 100_000_000
USDC, USDT = "usdc", "usdt"
WAYS = ("mpp", "x402")


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


@pytest.fixture
async def rival(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def tokens_of(wallet: Wallet, token: str = USDC, chain: str = "arbitrum") -> int:
    described = wallet.gateway.info["chains"][chain]
    return await token_balance(described["rpc_url"], described["tokens"][token], wallet.address)


async def credits_of(wallet: Wallet) -> float:
    answer = await wallet.deploy(fresh_name(), headers={"X-Dry-Run": "true"})
    return float(answer.body["current_credit_balance_usd"])


def signed(wallet: Wallet, asked: Answer, way: str) -> dict[str, str]:
    """The wallet's payment of what was asked, by signature."""
    if way == "x402":
        return payment_signature(wallet, demanded(asked)["accepts"][0])
    first = challenges(asked)[0]
    return credential(first, authorization_payload(wallet, first))


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


@pytest.mark.parametrize("way", WAYS)
async def test_authorization_pays_once_and_deploys(wallet: Wallet, way: str) -> None:
    name = fresh_name()
    asked = await wallet.deploy(name)

    deployed = await wallet.deploy(name, headers=signed(wallet, asked, way))

    assert deployed.status == 200, deployed.body
    receipt = json.loads(unpadded(deployed.headers["Payment-Receipt"]))
    assert (receipt["method"], receipt["status"], receipt["chainId"]) == ("evm", "success", 42161)
    if way == "x402":
        told = json.loads(base64.b64decode(deployed.headers["PAYMENT-RESPONSE"]))
        assert told["success"] is True
        assert (told["transaction"], told["payer"]) == (
            receipt["reference"],
            wallet.address.lower(),
        )
    else:
        assert receipt["challengeId"] == challenges(asked)[0].parameters["id"]
    assert await tokens_of(wallet) == FUNDS - PRICE
    assert await credits_of(wallet) == 0.5
    assert (await wallet.settled(deployed))["status"] == "ready"


@pytest.mark.parametrize("way", WAYS)
async def test_headers_of_the_402_pass_again_with_a_fresh_authorization_and_with_nothing_else(
    wallet: Wallet, rival: Wallet, way: str
) -> None:
    """As stock clients repeat the request; two minutes are left for it."""
    headers, body = wallet.signed_ahead(50_000), deploy_body(fresh_name(), HELLO)

    async def repeated(payment: dict[str, str], **changed: str) -> Answer:
        return await call(
            wallet.gateway,
            "POST",
            "/agent/deploy",
            json=body | changed,
            headers=headers | payment,
        )

    asked = await repeated({})
    assert asked.status == 402
    payment = signed(wallet, asked, way)
    tx = await rival.pay(PRICE)
    for refused in (
        await repeated({}),
        await repeated(payment, displayName="Other"),
        await repeated(signed(rival, asked, way)),
        await repeated({"X-Payment-Tx": tx}),
    ):
        assert code(refused) == (401, "nonce_reused")
        assert refused.body["field"] == "X-Nonce"
        assert refused.body["recipe"]["text"] == "{X-Wallet-Address}:{X-Timestamp}:{X-Nonce}"
    assert refused.body["payment"]["state"] == "foreign"
    assert await tokens_of(wallet) == FUNDS

    deployed = await repeated(payment)
    again = await repeated(payment)

    assert deployed.status == 200, deployed.body
    assert code(again) == (401, "nonce_reused")
    assert again.body["payment"]["do_not_pay_again"] is True
    assert await tokens_of(wallet) == FUNDS - PRICE
    bought = await call(
        wallet.gateway, "POST", "/agent/credits", headers=(own := wallet.signed_ahead(50_000))
    )
    topped_up = await call(
        wallet.gateway, "POST", "/agent/credits", headers=own | signed(wallet, bought, way)
    )
    assert (bought.status, topped_up.status) == (402, 200), topped_up.body


@pytest.mark.parametrize("token", [USDC, USDT])
async def test_hash_answers_a_challenge(wallet: Wallet, token: str) -> None:
    name = fresh_name()
    address = wallet.gateway.info["chains"]["base"]["tokens"][token]
    asked = await wallet.deploy(name)
    (challenge,) = [c for c in challenges(asked) if c.request["currency"] == address]
    await wallet.fund(chain="base")
    tx = await wallet.pay(PRICE, chain="base", token=token)

    deployed = await wallet.deploy(name, headers=credential(challenge, hash_payload(tx)))

    assert deployed.status == 200, deployed.body
    receipt = json.loads(unpadded(deployed.headers["Payment-Receipt"]))
    assert (receipt["reference"], receipt["chainId"]) == (tx, 8453)


async def test_authorization_for_a_name_that_is_taken_is_not_spent(
    wallet: Wallet, rival: Wallet
) -> None:
    name = fresh_name()
    payment = signed(wallet, await wallet.deploy(name), "x402")
    await rival.deploy(taken := fresh_name())
    refused = await wallet.deploy(taken, headers=payment)
    assert code(refused) == (400, "name_unavailable")
    assert await tokens_of(wallet) == FUNDS
    assert (await wallet.deploy(name, headers=payment)).status == 200


# Topping up


async def top_up(wallet: Wallet, body: Any = None, **headers: str) -> Answer:
    return await wallet.call("POST", "/agent/credits", json=body, headers=headers)


@pytest.mark.parametrize("way", WAYS)
async def test_credits_are_bought_without_a_deploy(wallet: Wallet, way: str) -> None:
    body = {"amount_usd": 2.5}
    asked = await top_up(wallet, body)
    assert (asked.status, asked.body["amount_token"]) == (402, "2500000")
    if way == "x402":
        assert demanded(asked)["resource"]["url"] == f"{wallet.gateway.url}/agent/credits"
    payment = signed(wallet, asked, way)

    bought = await top_up(wallet, body, **payment)
    again = await top_up(wallet, body, **payment)

    assert (bought.status, bought.body["credited_usd"], bought.body["balance_usd"]) == (
        200,
        2.5,
        2.5,
    )
    assert (again.status, again.body) == (200, bought.body)
    assert await tokens_of(wallet) == FUNDS - 2_500_000


async def test_hash_tops_up_by_whatever_arrived_and_then_pays_for_no_deploy(
    wallet: Wallet,
) -> None:
    tx = await wallet.pay(1_234_567)
    bought = await top_up(wallet, **{"X-Payment-Tx": tx})
    assert (bought.status, bought.body["credited_usd"]) == (200, 1.234567)
    assert (await top_up(wallet, **{"X-Payment-Tx": tx})).body == bought.body
    assert code(await wallet.deploy(fresh_name(), tx=tx)) == (409, "payment_already_used")
    assert (await wallet.deploy(fresh_name())).status == 200  # by credits


async def test_same_key_buys_once_and_is_answered_alike(wallet: Wallet) -> None:
    body, key = {"amount_usd": 1}, {"Idempotency-Key": fresh_name()}
    asked = await top_up(wallet, body, **key)
    first = await top_up(wallet, body, **key, **signed(wallet, asked, "mpp"))
    unpaid = await top_up(wallet, body, **key)
    fresh = signed(wallet, await top_up(wallet, body), "x402")
    again = await top_up(wallet, body, **key, **fresh)
    assert first.body["credited_usd"] == 1
    assert (unpaid.status, unpaid.body) == (200, first.body)
    unused = again.body["payment"]
    assert (unused["tx"], unused["state"], unused["do_not_pay_again"]) == (None, "unused", False)
    assert (again.status, again.body | {"payment": first.body["payment"]}) == (200, first.body)
    assert again.headers["Payment-Receipt"] == first.headers["Payment-Receipt"]
    assert await tokens_of(wallet) == FUNDS - 1_000_000


async def test_hash_that_paid_for_a_deploy_tops_up_nothing(wallet: Wallet) -> None:
    tx = await wallet.pay(PRICE)
    deployed = await wallet.deploy(fresh_name(), tx=tx)
    refused = await top_up(wallet, **{"X-Payment-Tx": tx})
    assert code(refused) == (409, "payment_already_used")
    assert refused.body["deploymentId"] == deployed.body["deploymentId"]

"""Deploys and top-ups without wallet headers: the signed payment says who pays."""

import asyncio
import json
import time
from typing import Any

import pytest
from eth_account import Account

from support.chains.paying import (
    cancel_authorization,
    mine,
    send_transaction,
    sign_authorization,
    token_balance,
)
from support.clients.protocols import (
    authorization_payload,
    challenges,
    credential,
    demanded,
    payment_signature,
    unpadded,
)
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.root

PRICE, FUNDS = 500_000, 100_000_000
WAYS = ("mpp", "x402")


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


@pytest.fixture
async def rival(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def tokens_of(wallet: Wallet) -> int:
    described = wallet.gateway.info["chains"]["arbitrum"]
    return await token_balance(described["rpc_url"], described["tokens"]["usdc"], wallet.address)


async def credits_of(wallet: Wallet) -> float:
    return float((await wallet.call("GET", "/agent/credits")).body["balance_usd"])


async def post(
    gateway: DevGateway, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """A request that nobody signed."""
    return await call(gateway, "POST", path, json=body, headers=headers)


def signed(wallet: Wallet, asked: Answer, way: str) -> dict[str, str]:
    """The wallet's payment of what was asked."""
    assert asked.status == 402, asked.body
    if way == "x402":
        return payment_signature(wallet, demanded(asked)["accepts"][0])
    first = challenges(asked)[0]
    return credential(first, authorization_payload(wallet, first))


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


@pytest.mark.parametrize("path", ["/deploy", "/credits"])
async def test_unsigned_request_learns_how_to_pay_alone(wallet: Wallet, path: str) -> None:
    refused = await post(wallet.gateway, f"/agent{path}")
    assert code(refused) == (401, "auth_missing")
    sign, instead = refused.body["next_actions"]
    assert sign.startswith("Sign the request as `recipe` says")
    assert instead.startswith(f"Or send it to POST {path} without wallet headers")
    paid = await post(wallet.gateway, f"/agent{path}", headers={"X-Payment-Tx": "0x" + "ab" * 32})
    assert "next_actions" in paid.body
    assert f"POST {path}" not in str(paid.body["next_actions"])


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_pays_deploys_and_manages_that_one_project(wallet: Wallet, way: str) -> None:
    gateway, name = wallet.gateway, fresh_name()
    body = deploy_body(name, HELLO)
    asked = await post(gateway, "/deploy", body)
    assert "pay_from" not in asked.body
    assert {tuple(each.types) for each in challenges(asked)} == {("authorization",)}
    payment = signed(wallet, asked, way)

    deployed = await post(gateway, "/deploy", body, payment)

    assert deployed.status == 200, deployed.body
    assert deployed.body["status"] == "deploying"
    assert deployed.body["wallet"] == wallet.address
    assert "Payment-Receipt" in deployed.headers
    assert await tokens_of(wallet) == FUNDS - PRICE
    token = {"Authorization": f"Bearer {deployed.body['manage_token']}"}
    path = deployed.body["status_url"].removeprefix(gateway.url)
    project = f"/agent/projects/{deployed.body['projectId']}"

    async def is_ready() -> bool:
        told = await call(gateway, "GET", path, headers=token)
        assert told.status == 200, told.body
        assert told.body["status"] != "failed", told.body
        return bool(told.body["status"] == "ready")

    await until(is_ready)
    await wallet.until_answers(name)
    assert (await call(gateway, "GET", project, headers=token)).body["name"] == name
    assert (await wallet.call("GET", project)).body["name"] == name

    again = await post(gateway, "/deploy", body, payment)
    assert again.status == 200, again.body
    for member in ("projectId", "deploymentId", "wallet", "status_url", "payment"):
        assert again.body[member] == deployed.body[member]
    assert "manage_token" not in again.body
    assert f"POST /agent/projects/{deployed.body['projectId']}/tokens" in again.body["message"]
    for elsewhere, other in (("/deploy", deploy_body(fresh_name(), HELLO)), ("/credits", None)):
        refused = await post(gateway, elsewhere, other, payment)
        assert code(refused) == (409, "payment_already_used")
        assert refused.body["payment"]["state"] == "credited"
        assert "projectId" not in refused.body
    for foreign in ("/agent/credits", "/agent/projects"):
        refused = await call(gateway, "GET", foreign, headers=token)
        assert code(refused) == (403, "token_scope")

    gone = await call(gateway, "DELETE", project, headers=token)
    assert gone.status == 200, gone.body
    late = await call(gateway, "GET", project, headers=token)
    assert late.status in (401, 404)
    assert await tokens_of(wallet) == FUNDS - PRICE


async def test_same_payment_sent_twice_at_once_deploys_once_and_gives_one_token(
    wallet: Wallet,
) -> None:
    body = deploy_body(fresh_name(), HELLO)
    payment = signed(wallet, await post(wallet.gateway, "/deploy", body), "x402")

    async def insist() -> Answer:
        """Sends it again while it is being settled, as the answer says."""
        while (answer := await post(wallet.gateway, "/deploy", body, payment)).body.get(
            "code"
        ) == "payment_pending":
            assert answer.body["payment"]["do_not_pay_again"], answer
        return answer

    async with asyncio.timeout(240):  # only to end a hung test
        answers = await asyncio.gather(*(insist() for _ in range(6)))

    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.body["deploymentId"] for answer in answers}) == 1
    assert sum("manage_token" in answer.body for answer in answers) == 1
    assert await tokens_of(wallet) == FUNDS - PRICE


async def test_key_gets_the_same_ids_again_and_no_second_token(wallet: Wallet) -> None:
    body, key = deploy_body(fresh_name(), HELLO), {"Idempotency-Key": fresh_name()}
    payment = signed(wallet, await post(wallet.gateway, "/deploy", body), "x402")

    first = await post(wallet.gateway, "/deploy", body, payment | key)
    again = await post(wallet.gateway, "/deploy", body, payment | key)

    assert (first.status, again.status) == (200, 200), (first.body, again.body)
    for member in ("projectId", "deploymentId", "wallet", "status_url"):
        assert again.body[member] == first.body[member]
    assert "manage_token" in first.body
    assert "manage_token" not in again.body
    made = await wallet.call_bound("POST", f"/agent/projects/{first.body['projectId']}/tokens")
    token = {"Authorization": f"Bearer {made.body['manage_token']}"}
    path = first.body["status_url"].removeprefix(wallet.gateway.url)
    assert (await call(wallet.gateway, "GET", path, headers=token)).status == 200


async def test_authorization_that_may_have_been_read_elsewhere_names_nobody(
    wallet: Wallet, rival: Wallet
) -> None:
    """Of what is on a chain everybody could make a deploy on its payer's credits."""
    gateway, body = wallet.gateway, deploy_body(fresh_name(), HELLO)
    asked = await post(gateway, "/deploy", body)
    bought = await wallet.call("POST", "/agent/credits")
    settled = signed(wallet, bought, "x402")
    assert (await wallet.call("POST", "/agent/credits", headers=settled)).status == 200

    accepted = demanded(asked)["accepts"][0]
    described = gateway.info["chains"]["arbitrum"]
    sent = sign_authorization(
        wallet.key,
        chain_id=42161,
        token_address=accepted["asset"],
        to=accepted["payTo"],
        value=PRICE,
        valid_before=int(time.time()) + accepted["maxTimeoutSeconds"],
    )
    await send_transaction(
        described["rpc_url"], rival.key, to=accepted["asset"], data=sent.calldata
    )
    on_chain = payment_signature(wallet, accepted, authorization=sent)

    for public in (settled, on_chain):
        refused = await post(gateway, "/deploy", body, public)
        assert code(refused) == (409, "payment_already_used"), refused.body
        told = refused.body["payment"]
        assert (told["state"], told["credited_usd"]) == ("credited", 0.5), told
        assert told["do_not_pay_again"] is not None
    assert await credits_of(wallet) == 1.0
    assert (await wallet.call("GET", "/agent/projects")).body["count"] == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spent", ["canceled", "elsewhere"])
@pytest.mark.parametrize("path", ["/deploy", "/credits"])
async def test_authorization_that_was_spent_without_paying_here_is_refused_as_unused(
    wallet: Wallet, rival: Wallet, path: str, spent: str, way: str
) -> None:
    gateway = wallet.gateway
    body = deploy_body(fresh_name(), HELLO) if path == "/deploy" else None
    payment = signed(wallet, asked := await post(gateway, path, body), way)
    url = gateway.info["chains"]["arbitrum"]["rpc_url"]
    token = demanded(asked)["accepts"][0]["asset"]
    nonce = nonce_of(payment, way)
    if spent == "canceled":
        await cancel_authorization(
            url, wallet.key, chain_id=42161, token_address=token, nonce=nonce
        )
    else:
        other = sign_authorization(
            wallet.key,
            chain_id=42161,
            token_address=token,
            to=rival.address,
            value=PRICE,
            nonce=bytes.fromhex(nonce[2:]),
        )
        await send_transaction(url, rival.key, to=token, data=other.calldata)
    await mine(url, 2)  # so what used it is safe

    refused = await post(gateway, path, body, payment)
    assert code(refused) == (402, "authorization_refused"), refused.body
    assert refused.body["payment"]["state"] == "unused"
    assert (await wallet.call("GET", "/agent/projects")).body["count"] == 0
    assert await credits_of(wallet) == 0


def nonce_of(payment: dict[str, str], way: str) -> str:
    """The nonce of an authorization, as a client sends it."""
    (shown,) = payment.values()
    payload = json.loads(unpadded(shown.removeprefix("Payment ")))["payload"]
    return str((payload if way == "mpp" else payload["authorization"])["nonce"])


async def test_what_says_not_who_pays_deploys_nothing_and_takes_nothing(
    wallet: Wallet, rival: Wallet
) -> None:
    gateway, body = wallet.gateway, deploy_body(fresh_name(), HELLO)
    asked = await post(gateway, "/deploy", body)
    accepted = demanded(asked)["accepts"][0]
    thief = Wallet(gateway, key=rival.key)
    forged = payment_signature(thief, accepted, payer=wallet.address)

    refused = await post(gateway, "/deploy", body, forged)
    by_hash = await post(gateway, "/deploy", body, {"X-Payment-Tx": await rival.pay(PRICE)})

    assert code(refused) == (402, "authorization_refused")
    assert refused.body["payment"]["state"] == "unused"
    assert code(by_hash) == (401, "auth_missing")
    assert "everybody can read it" in by_hash.body["error"]
    assert by_hash.body["payment"]["tx"] is not None
    assert (await wallet.call("GET", "/agent/projects")).body["count"] == 0
    assert await tokens_of(wallet) == FUNDS


async def test_402_holds_no_name_and_whoever_loses_it_is_not_charged(
    wallet: Wallet, rival: Wallet
) -> None:
    gateway, body = wallet.gateway, deploy_body(fresh_name(), HELLO)
    other = body | {"displayName": "Other"}
    first = signed(wallet, await post(gateway, "/deploy", body), "x402")
    second = signed(rival, await post(gateway, "/deploy", other), "x402")
    assert (await post(gateway, "/deploy", body, first)).status == 200

    lost = await post(gateway, "/deploy", other, second)

    assert code(lost) == (400, "name_unavailable")
    assert lost.body["payment"]["state"] == "unused"
    assert await tokens_of(rival) == FUNDS
    assert code(await post(gateway, "/deploy", other)) == (400, "name_unavailable")


async def test_refused_payment_holds_no_name_either(wallet: Wallet) -> None:
    gateway, body = wallet.gateway, deploy_body(fresh_name(), HELLO)
    poor = Wallet(gateway)
    asked = await post(gateway, "/deploy", body)

    refused = await post(gateway, "/deploy", body, signed(poor, asked, "x402"))

    assert code(refused) == (402, "authorization_refused")
    assert "exceeds balance" in refused.body["error"]
    paid = await post(gateway, "/deploy", body, signed(wallet, asked, "x402"))
    assert paid.status == 200, paid.body
    assert paid.body["wallet"] == str(Account.from_key(wallet.key).address)


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_pays_has_the_credits(wallet: Wallet, way: str) -> None:
    asked = await post(wallet.gateway, "/credits", {"amount_usd": 2})
    payment = signed(wallet, asked, way)

    bought, again = [
        await post(wallet.gateway, "/credits", {"amount_usd": 2}, payment) for _ in range(2)
    ]

    assert bought.status == again.status == 200, bought.body
    assert bought.body["wallet"] == wallet.address
    assert "balance_usd" not in bought.body | again.body
    assert bought.body["credited_usd"] == again.body["credited_usd"] == 2
    assert await credits_of(wallet) == 2
    assert await tokens_of(wallet) == FUNDS - 2_000_000

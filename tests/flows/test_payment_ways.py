"""The other two ways to pay the one 402, spoken as their specifications write them."""

import asyncio
import base64
import hashlib
import json
from typing import Any

import pytest

from support.chains.paying import token_balance
from support.clients.protocols import (
    Challenge,
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
from support.gateway.waiting import until

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


async def test_demand_has_a_challenge_for_each_chain_and_token(wallet: Wallet) -> None:
    asked = await wallet.deploy(fresh_name())
    found = challenges(asked)
    chains = wallet.gateway.info["chains"]
    tokens = {
        (chain["chain_id"], address.lower())
        for chain in chains.values()
        for address in chain["tokens"].values()
    }
    assert {(each.chain_id, each.request["currency"].lower()) for each in found} == tokens
    types = [["authorization"] if is_usdc(each, chains) else ["hash"] for each in found]
    assert [each.types for each in found] == types == sorted(types)
    for each in found:
        assert each.request["amount"] == str(PRICE)
        assert each.request["recipient"].lower() == wallet.gateway.info["pay_to"].lower()


def is_usdc(challenge: Challenge, chains: dict[str, Any]) -> bool:
    return challenge.request["currency"] in {each["tokens"][USDC] for each in chains.values()}


async def test_first_challenge_is_in_the_means_that_the_client_named(wallet: Wallet) -> None:
    for chain in ("arbitrum", "base"):
        asked = await wallet.deploy(fresh_name(), headers={"X-Payment-Chain": chain})
        described = wallet.gateway.info["chains"][chain]
        first = challenges(asked)[0]
        assert first.chain_id == described["chain_id"]
        assert first.request["currency"] == described["tokens"][USDC]
        assert demanded(asked)["accepts"][0]["network"] == f"eip155:{described['chain_id']}"


async def test_offers_begin_where_the_wallet_holds_the_price_and_end_where_it_failed(
    dev_gateway: DevGateway,
) -> None:
    wallet, name = await Wallet(dev_gateway).fund(chain="base"), fresh_name()
    base = dev_gateway.info["chains"]["base"]
    asked = await wallet.deploy(name)

    async def begins_on_base() -> bool:
        nonlocal asked
        asked = await wallet.deploy(name)
        return bool(asked.body["payment_chain"] == "base")

    await until(begins_on_base, pause_seconds=2)  # the look at balances may take its time
    assert asked.body["token_address"] == base["tokens"][USDC]
    assert challenges(asked)[0].chain_id == base["chain_id"]
    assert demanded(asked)["accepts"][0]["network"] == f"eip155:{base['chain_id']}"
    poor = Wallet(dev_gateway)
    name = fresh_name()
    payment = signed(poor, await poor.deploy(name), "x402")
    refused = await poor.deploy(name, headers=payment)
    assert code(refused) == (402, "authorization_refused")
    told = json.loads(base64.b64decode(refused.headers["PAYMENT-RESPONSE"]))
    assert (told["success"], told["errorReason"]) == (False, "invalid_transaction_state")
    assert told["payer"] == poor.address.lower()
    assert refused.body["payment_chain"] == "base"
    assert demanded(refused)["accepts"][0]["network"] == f"eip155:{base['chain_id']}"


async def test_challenge_is_bound_to_the_body(wallet: Wallet) -> None:
    body = json.dumps(deploy_body(fresh_name(), HELLO)).encode()
    asked = await wallet.call("POST", "/agent/deploy", json=json.loads(body))
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
    bound = [json.loads(unpadded(each.parameters["opaque"])) for each in challenges(asked)]
    assert {each["body"] for each in bound} == {digest}


async def test_x402_demand_names_the_very_resource(wallet: Wallet) -> None:
    asked = await wallet.deploy(fresh_name())
    said = demanded(asked)
    assert said["x402Version"] == 2
    assert said["resource"]["url"] == f"{wallet.gateway.url}/agent/deploy"
    for accepted in said["accepts"]:
        assert (accepted["scheme"], accepted["amount"]) == ("exact", str(PRICE))
        assert accepted["maxTimeoutSeconds"] <= 600
        assert (accepted["extra"]["name"], accepted["extra"]["version"]) == ("USD Coin", "2")


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


async def test_nonce_of_the_json_array_is_taken_as_well(wallet: Wallet) -> None:
    """As pympp derives it."""
    from eth_utils.crypto import keccak

    name = fresh_name()
    first = challenges(await wallet.deploy(name))[0]
    of = json.dumps([first.parameters["id"], first.parameters["realm"]], separators=(",", ":"))
    payload = authorization_payload(wallet, first, nonce=keccak(text=of))
    assert (await wallet.deploy(name, headers=credential(first, payload))).status == 200


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


PENDING = "payment_pending"


@pytest.mark.parametrize("way", WAYS)
async def test_forty_requests_with_one_authorization_settle_and_deploy_once(
    wallet: Wallet, way: str
) -> None:
    name = fresh_name()
    payment = signed(wallet, await wallet.deploy(name), way)

    async def insist() -> Answer:
        """Sends it again while it is being settled, as the answer says."""
        while (answer := await wallet.deploy(name, headers=payment)).body.get("code") == PENDING:
            assert answer.body["payment"]["do_not_pay_again"], answer
        return answer

    async with asyncio.timeout(240):  # only to end a hung test
        answers = await asyncio.gather(*(insist() for _ in range(40)))

    assert {answer.status for answer in answers} <= {200, 409}
    accepted = [answer for answer in answers if answer.status == 200]
    assert accepted
    assert len({answer.body["deploymentId"] for answer in answers}) == 1
    assert all("Payment-Receipt" in answer.headers for answer in accepted)
    assert await tokens_of(wallet) == FUNDS - PRICE
    assert await credits_of(wallet) == 0.5


@pytest.mark.parametrize("way", WAYS)
async def test_replayed_authorization_tells_its_payer_what_it_paid_for(
    wallet: Wallet, way: str
) -> None:
    name = fresh_name()
    payment = signed(wallet, await wallet.deploy(name), way)
    deployed = await wallet.deploy(name, headers=payment)

    replayed = await wallet.deploy(fresh_name(), headers=payment)

    assert code(replayed) == (409, "payment_already_used")
    assert replayed.body["deploymentId"] == deployed.body["deploymentId"]
    assert await tokens_of(wallet) == FUNDS - PRICE


@pytest.mark.parametrize("way", WAYS)
async def test_anothers_authorization_is_refused_and_not_spent(
    wallet: Wallet, rival: Wallet, way: str
) -> None:
    name = fresh_name()
    payment = signed(wallet, await wallet.deploy(name), way)

    stolen = await rival.deploy(fresh_name(), headers=payment)

    assert code(stolen) == (402, "payer_mismatch")
    assert await tokens_of(wallet) == FUNDS
    assert (await wallet.deploy(name, headers=payment)).status == 200


async def test_challenge_of_another_body_is_refused_and_nothing_is_spent(wallet: Wallet) -> None:
    payment = signed(wallet, await wallet.deploy(fresh_name()), "mpp")
    refused = await wallet.deploy(fresh_name(), headers=payment)
    assert code(refused) == (402, "challenge_invalid")
    assert challenges(refused)
    assert await tokens_of(wallet) == FUNDS


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "AAAA"},
        {"realm": "elsewhere.example"},
        {"expires": "2099-01-01T00:00:00Z"},
        {"digest": "sha-256=:AAAA:"},
        {"opaque": ""},
    ],
)
async def test_challenge_that_is_not_ours_is_refused_and_nothing_is_spent(
    wallet: Wallet, changed: dict[str, str]
) -> None:
    name = fresh_name()
    first = challenges(await wallet.deploy(name))[0]
    headers = credential(first, authorization_payload(wallet, first), **changed)
    refused = await wallet.deploy(name, headers=headers)
    assert code(refused) == (402, "challenge_invalid")
    assert await tokens_of(wallet) == FUNDS


async def test_challenge_with_a_smaller_amount_is_refused(wallet: Wallet) -> None:
    name = fresh_name()
    first = challenges(await wallet.deploy(name))[0]
    request = json.dumps(first.request | {"amount": "1"}).encode()
    cheaper = base64.urlsafe_b64encode(request).rstrip(b"=").decode()
    payload = authorization_payload(wallet, first, value=1)
    refused = await wallet.deploy(name, headers=credential(first, payload, request=cheaper))
    assert code(refused)[0] == 402
    assert await tokens_of(wallet) == FUNDS


@pytest.mark.parametrize("way", WAYS)
async def test_wallet_without_tokens_is_refused_before_anything_is_sent(
    dev_gateway: DevGateway, way: str
) -> None:
    poor = Wallet(dev_gateway)
    name = fresh_name()
    payment = signed(poor, await poor.deploy(name), way)
    refused = await poor.deploy(name, headers=payment)
    assert code(refused) == (402, "authorization_refused")
    assert challenges(refused)
    assert "amount_token" in refused.body


async def test_authorization_for_less_than_the_price_is_refused_unspent(wallet: Wallet) -> None:
    name = fresh_name()
    accepted = demanded(await wallet.deploy(name))["accepts"][0]
    short = payment_signature(wallet, accepted, value=PRICE - 1)
    assert code(await wallet.deploy(name, headers=short)) == (402, "authorization_refused")
    assert await tokens_of(wallet) == FUNDS


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


@pytest.mark.parametrize(
    "headers",
    [
        {"PAYMENT-SIGNATURE": "e30="},
        {"PAYMENT-SIGNATURE": "!"},
        {"X-Payment-Tx": "0x" + "ab" * 32, "PAYMENT-SIGNATURE": "e30="},
        {"X-Payment-Tx": "0x" + "ab" * 32, "Authorization": "Payment e30"},
    ],
)
async def test_payment_that_cannot_be_read_or_came_twice_is_a_400(
    wallet: Wallet, headers: dict[str, str]
) -> None:
    assert code(await wallet.deploy(fresh_name(), headers=headers)) == (400, "payment_malformed")


async def test_credential_that_cannot_be_read_gets_a_fresh_challenge(wallet: Wallet) -> None:
    name = fresh_name()
    asked = await wallet.deploy(name, headers={"Authorization": "Payment !"})
    assert code(asked) == (402, "payment_malformed")
    assert asked.body["payment"]["state"] == "unused"
    paid = await wallet.deploy(name, headers=signed(wallet, asked, "mpp"))
    assert paid.status == 200, paid.body


async def test_second_deploy_is_asked_for_anew_after_the_first_was_paid_by_signature(
    wallet: Wallet,
) -> None:
    name = fresh_name()
    await wallet.deploy(name, headers=signed(wallet, await wallet.deploy(name), "mpp"))
    other = fresh_name()
    asked = await wallet.deploy(other)
    assert asked.status == 402
    deployed = await wallet.deploy(other, headers=signed(wallet, asked, "mpp"))
    assert deployed.status == 200, deployed.body
    assert await tokens_of(wallet) == FUNDS - 2 * PRICE


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


@pytest.mark.parametrize(
    "body",
    [
        {"amount_usd": 0.49},
        {"amount_usd": -1},
        {"amount_usd": 0.5000001},
        {"amount_usd": 1e9},
        {"amount_usd": "NaN"},
        {"amount_usd": True},
        {"amount_usd": "much"},
        {"amount": 3},  # it would ask for the least there is
        [],
    ],
)
async def test_amount_that_cannot_be_bought_is_a_400(wallet: Wallet, body: Any) -> None:
    assert (await top_up(wallet, body)).status == 400


async def test_least_top_up_is_the_minimum_charge(wallet: Wallet) -> None:
    assert (await top_up(wallet)).body["amount_token"] == str(PRICE)

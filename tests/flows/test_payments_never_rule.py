"""S1: a shop has its customer pay this gateway, and shows that payment here with code of its own.

An authorization of EIP-3009 names neither host nor body. So the customer's wallet signs what its
agent signs for any purchase; a shop, a facilitator, or who reads it on its way, has the rest.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.chains.paying import send_transaction, sign_authorization, token_balance
from support.clients.mcp_client import remote_tools
from support.clients.protocols import (
    Challenge,
    authorization_payload,
    challenges,
    credential,
    demanded,
    payment_signature,
)
from support.clients.wallet import Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

PRICE, CENT = 500_000, 10_000
SECRET = "the customer's own"
APP = {
    "index.js": "require('http').createServer((q, s) => s.end(String(process.env.WORD)))"
    ".listen(process.env.PORT)"
}
STOLEN = {
    "index.js": "require('http').createServer((q, s) => s.end('shop ' + process.env.SECRET))"
    ".listen(process.env.PORT)"
}

Payment = dict[str, str]


class Customer:
    """A wallet with a running app, a secret in it, and credits."""

    def __init__(self, wallet: Wallet, deployed: Answer, name: str) -> None:
        self.wallet, self.deployed, self.name = wallet, deployed, name

    @property
    def project(self) -> str:
        return f"/agent/projects/{self.deployed.body['projectId']}"

    async def tokens(self) -> int:
        chains = self.wallet.gateway.info["chains"]
        return sum(
            [
                await token_balance(
                    chains[name]["rpc_url"], chains[name]["tokens"]["usdc"], self.wallet.address
                )
                for name in ("arbitrum", "base")
            ]
        )

    async def is_untouched(self) -> None:
        shown = (await self.wallet.call("GET", self.project)).body
        assert shown["servingDeploymentId"] == self.deployed.body["deploymentId"], shown
        assert (shown["runEnvNames"], shown["deploymentInProgress"]) == (["SECRET", "WORD"], None)
        assert await self.wallet.visit(self.name) == (200, "mine")


@pytest.fixture
async def customer(dev_gateway: DevGateway) -> Customer:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    await wallet.fund(chain="base")
    paid = await wallet.pay(10 * PRICE)
    settings = {"runEnvs": {"SECRET": SECRET, "WORD": "mine"}}
    deployed = await wallet.deploy(name, APP, tx=paid, settings=settings)
    assert deployed.status == 200, deployed.body
    assert (await wallet.settled(deployed))["status"] == "ready"
    return Customer(wallet, deployed, name)


# How a shop comes to a payment


def bought(customer: Customer, amount: int, chain: str = "arbitrum") -> dict[str, Any]:
    """What a shop's 402 asks for: `payTo` is the gateway's."""
    described = customer.wallet.gateway.info["chains"][chain]
    return {
        "scheme": "exact",
        "network": f"eip155:{described['chain_id']}",
        "asset": described["tokens"]["usdc"],
        "payTo": customer.wallet.gateway.info["pay_to"],
        "amount": str(amount),
        "maxTimeoutSeconds": 600,
        "extra": {"name": "USD Coin", "version": "2"},
    }


def by_x402(customer: Customer, amount: int = PRICE) -> Payment:
    return payment_signature(customer.wallet, bought(customer, amount))


def by_x402_v1(customer: Customer, amount: int = PRICE) -> Payment:
    (second,) = payment_signature(customer.wallet, bought(customer, amount, "base")).values()
    payload = json.loads(base64.b64decode(second))["payload"]
    document = {"x402Version": 1, "scheme": "exact", "network": "base", "payload": payload}
    return {"X-PAYMENT": base64.b64encode(json.dumps(document).encode()).decode()}


async def relayed(customer: Customer, path: str, body: Any) -> Payment:
    """The gateway's own challenge for the shop's body, which its customer answers."""
    asked = await post(customer.wallet.gateway, path, body)
    first: Challenge = challenges(asked)[0]
    return credential(first, authorization_payload(customer.wallet, first))


async def post(gateway: DevGateway, path: str, body: Any, headers: Payment | None = None) -> Answer:
    """What the shop sends: it signs nothing."""
    return await call(gateway, "POST", path, json=body, headers=headers)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"]


# A name that is taken


@pytest.mark.parametrize("pays", [by_x402, by_x402_v1])
@pytest.mark.parametrize("amount", [PRICE, CENT])
async def test_a_payment_never_changes_what_its_payer_has(
    customer: Customer, pays: Callable[[Customer, int], Payment], amount: int
) -> None:
    gateway, before = customer.wallet.gateway, await customer.tokens()
    body = deploy_body(customer.name, STOLEN)

    refused = await post(gateway, "/deploy", body, pays(customer, amount))

    assert code(refused) == (400, "name_unavailable"), refused.body
    assert "If it is yours, sign the request" in refused.body["error"]
    assert any("manage_token" in each for each in refused.body["next_actions"])
    assert refused.body["payment"]["state"] == "unused"
    assert not {"manage_token", "projectId", "wallet"} & set(refused.body)
    assert await customer.tokens() == before
    await customer.is_untouched()


async def test_a_taken_name_has_one_answer_whosever_it_is(customer: Customer) -> None:
    """The owner who lost its token, and a shop that was handed its payment, look the same here."""
    gateway, stranger = customer.wallet.gateway, await Wallet(customer.wallet.gateway).fund()
    body = deploy_body(customer.name, STOLEN)
    theirs = Customer(stranger, customer.deployed, customer.name)

    told = [
        (await post(gateway, "/deploy", body, payment)).body
        for payment in (by_x402(customer), by_x402(theirs))
    ]
    unpaid = (await post(gateway, "/deploy", body)).body

    assert told[0] == told[1]
    assert unpaid["next_actions"] == told[0]["next_actions"][:2]
    assert told[0]["error"].startswith(unpaid["error"])


async def test_a_challenge_that_a_shop_relays_opens_nothing_that_was_there(
    customer: Customer,
) -> None:
    gateway, before = customer.wallet.gateway, await customer.tokens()
    own = deploy_body(fresh_name(), STOLEN)
    payment = await relayed(customer, "/deploy", own)

    taken = await post(gateway, "/deploy", deploy_body(customer.name, STOLEN), payment)
    another = await post(gateway, "/deploy", deploy_body(fresh_name(), STOLEN), payment)

    assert code(taken) == (400, "name_unavailable")
    assert code(another) == (402, "challenge_invalid"), another.body
    assert await customer.tokens() == before
    await customer.is_untouched()

    opened = await post(gateway, "/deploy", own, payment)  # a new name, and no more
    assert opened.status == 200, opened.body
    assert opened.body["projectId"] not in customer.project
    await customer.is_untouched()


async def test_a_payment_to_the_tools_never_changes_what_its_payer_has(customer: Customer) -> None:
    gateway, before = customer.wallet.gateway, await customer.tokens()
    payment = by_x402(customer)["PAYMENT-SIGNATURE"]
    meta = {"x402/payment": json.loads(base64.b64decode(payment))}
    files = [{"path": "index.js", "text": STOLEN["index.js"]}]
    async with remote_tools(gateway.url) as tools:
        result = await tools.result("deploy", meta=meta, name=customer.name, files=files)
    refused = result.structured_content
    assert result.is_error
    assert (refused["code"], refused["payment"]["state"]) == ("name_unavailable", "unused")
    assert "manage_token" not in refused
    assert await customer.tokens() == before
    await customer.is_untouched()


# A new name


async def test_a_cent_opens_nothing_whatever_credits_its_payer_has(customer: Customer) -> None:
    gateway, before = customer.wallet.gateway, await customer.tokens()
    body = deploy_body(fresh_name(), STOLEN) | {"months": 10}

    refused = await post(gateway, "/deploy", body, by_x402(customer, CENT))
    unpaid = await post(gateway, "/deploy", body)

    assert code(refused) == (402, "authorization_refused")
    assert refused.body["amount_usd"] == unpaid.body["amount_usd"] == 5
    assert refused.body["buys"]["hours"] == unpaid.body["buys"]["hours"]
    assert (refused.body["current_credit_balance_usd"], refused.body["active_projects"]) == (0, 0)
    assert "pay_from" not in refused.body
    assert await customer.tokens() == before


async def test_who_was_handed_a_payment_opens_a_new_project_which_its_payer_is_told_and_ends(
    customer: Customer,
) -> None:
    gateway, name = customer.wallet.gateway, fresh_name()
    before = (await customer.wallet.call("GET", "/agent/credits")).body["balance_usd"]

    opened = await post(gateway, "/deploy", deploy_body(name, STOLEN), by_x402(customer))

    assert opened.status == 200, opened.body
    left = (await customer.wallet.call("GET", "/agent/credits")).body["balance_usd"]
    assert left == pytest.approx(before, abs=0.01)  # the project lives from what was paid, alone
    token = {"Authorization": f"Bearer {opened.body['manage_token']}"}
    for method, path in (
        ("GET", customer.project),
        ("DELETE", customer.project),
        ("GET", "/agent/credits"),
        ("GET", "/agent/projects"),
    ):
        assert code(await call(gateway, method, path, headers=token)) == (403, "token_scope")
    quoted = await call(
        gateway, "POST", "/agent/quote", json=deploy_body(name, STOLEN), headers=token
    )
    told = [quoted.body[each] for each in ("current_credit_balance_usd", "active_projects")]
    assert told == [0, 0], quoted.body
    events = (await customer.wallet.call("GET", "/agent/events")).body["events"]
    (event,) = [each for each in events if each["data"].get("name") == name]
    assert event["type"] == "project.deployed_by_payment"
    assert event["data"] == {
        "project_id": opened.body["projectId"],
        "name": name,
        "amount_usd": 0.5,
        "chain": "arbitrum",
        "tx_hash": opened.body["payment"]["tx"],
    }
    ended = await customer.wallet.call("DELETE", f"/agent/projects/{opened.body['projectId']}")
    assert ended.status == 200, ended.body
    await customer.is_untouched()


# What is told


@pytest.mark.parametrize("pays", [by_x402, by_x402_v1])
async def test_a_dry_run_says_the_same_whatever_payment_comes_along(
    customer: Customer, pays: Callable[[Customer], Payment]
) -> None:
    gateway = customer.wallet.gateway
    fresh, spent = pays(customer), pays(customer)
    assert (await post(gateway, "/credits", None, spent)).status == 200
    for name in (fresh_name(), customer.name):
        body = deploy_body(name, STOLEN)
        nothing, *others = [
            await post(gateway, "/deploy", body, payment | {"X-Dry-Run": "true"})
            for payment in ({}, fresh, spent)
        ]
        for each in others:
            assert each.status == nothing.status
            assert stripped(each.body) == stripped(nothing.body)
    assert (nothing.status, nothing.body["code"]) == (400, "name_unavailable")


def stripped(body: dict[str, Any]) -> dict[str, Any]:
    """Without what the time of the answer decides, and the chain that the payment itself names."""
    bought = {name: value for name, value in body.get("buys", {}).items() if name != "until"}
    return body | {"buys": bought, "payment_chain": ""}


async def test_credits_go_to_their_payer_and_tell_nothing_of_it(customer: Customer) -> None:
    before = (await customer.wallet.call("GET", "/agent/credits")).body["balance_usd"]
    topped = await post(customer.wallet.gateway, "/credits", None, by_x402(customer))
    assert topped.status == 200, topped.body
    assert (topped.body["credited_usd"], "balance_usd" in topped.body) == (0.5, False)
    after = (await customer.wallet.call("GET", "/agent/credits")).body["balance_usd"]
    assert after == pytest.approx(before + 0.5, abs=0.01)


@pytest.mark.parametrize("path", ["/credits", "/agent/credits"])
async def test_a_manage_token_adds_credits_and_is_told_nothing_of_its_wallet(
    customer: Customer, path: str
) -> None:
    wallet, gateway = customer.wallet, customer.wallet.gateway
    made = await wallet.call_bound("POST", f"{customer.project}/tokens")
    token = {"Authorization": f"Bearer {made.body['manage_token']}"}

    asked = await post(gateway, path, {"amount_usd": 2}, token)
    assert code(asked) == (402, "payment_required")
    assert asked.body["pay_from"] == wallet.address
    assert (asked.body["current_credit_balance_usd"], asked.body["active_projects"]) == (0, 0)

    accepted = demanded(asked)["accepts"][0]
    stranger = await Wallet(gateway).fund()
    foreign = await post(
        gateway, path, {"amount_usd": 2}, token | payment_signature(stranger, accepted)
    )
    assert code(foreign) == (402, "payer_mismatch")
    assert foreign.body["payment"]["state"] == "unused"
    paid = await post(gateway, path, {"amount_usd": 2}, token | payment_signature(wallet, accepted))
    assert paid.status == 200, paid.body
    assert (paid.body["credited_usd"], "balance_usd" in paid.body) == (2, False)


async def test_the_tools_take_a_manage_token_beside_a_credential(customer: Customer) -> None:
    """MPP's credential takes the header that a token has elsewhere."""
    wallet, gateway = customer.wallet, customer.wallet.gateway
    made = await wallet.call_bound("POST", f"{customer.project}/tokens")
    async with remote_tools(gateway.url) as tools:
        tools.common = {"manage_token": made.body["manage_token"]}
        asked = await tools.result("top_up", amount_usd=2)
        data = (asked.meta or {})["org.paymentauth/payment-required"]
        request = data["challenges"][0]["request"]
        first = Challenge(data["challenges"][0] | {"request": unpadded_json(request)})
        answer = {
            "challenge": data["challenges"][0],
            "payload": authorization_payload(wallet, first),
        }
        paid = await tools.result(
            "top_up", meta={"org.paymentauth/credential": answer}, amount_usd=2
        )
    assert not paid.is_error, paid.structured_content
    assert paid.structured_content["credited_usd"] == 2
    assert not {"balance_usd", "wallet"} & set(paid.structured_content)


def unpadded_json(request: dict[str, Any]) -> str:
    """A challenge's request as its header has it."""
    written = json.dumps(request).encode()
    return base64.urlsafe_b64encode(written).rstrip(b"=").decode()


# Once


async def test_one_payment_at_two_doors_at_once_is_used_once(customer: Customer) -> None:
    gateway, before = customer.wallet.gateway, await customer.tokens()
    payment = by_x402(customer)
    bodies = [deploy_body(fresh_name(), STOLEN) for _ in range(2)]

    async with asyncio.timeout(120):  # only to end a hung test
        answers = await asyncio.gather(
            post(gateway, "/credits", None, payment),
            *(post(gateway, "/deploy", body, payment) for body in bodies),
        )

    done = [each for each in answers if each.status == 200]
    refused = [each for each in answers if each.status != 200]
    assert len(done) == 1, [each.body for each in answers]
    for each in refused:
        assert code(each) == (409, "payment_already_used")
        assert each.body["payment"]["do_not_pay_again"] is True
        assert each.body["payment"]["state"] in ("pending", "credited")
        assert "projectId" not in each.body
    assert await customer.tokens() == before - PRICE


@pytest.mark.parametrize("path", ["/deploy", "/credits"])
async def test_who_sends_a_customers_payment_to_the_chain_brings_its_payer_the_money_alone(
    customer: Customer, path: str
) -> None:
    """A facilitator that says it failed, or whoever read it in the mempool."""
    gateway = customer.wallet.gateway
    accepted = bought(customer, PRICE)
    signed = sign_authorization(
        customer.wallet.key,
        chain_id=42161,
        token_address=accepted["asset"],
        to=accepted["payTo"],
        value=PRICE,
        valid_before=int(time.time()) + 600,
    )
    body = deploy_body(fresh_name(), STOLEN) if path == "/deploy" else None
    facilitator = await Wallet(gateway).fund()
    url = gateway.info["chains"]["arbitrum"]["rpc_url"]
    before = (await customer.wallet.call("GET", "/agent/credits")).body["balance_usd"]
    await send_transaction(url, facilitator.key, to=accepted["asset"], data=signed.calldata)

    late = await post(
        gateway, path, body, payment_signature(customer.wallet, accepted, authorization=signed)
    )

    assert code(late) == (409, "payment_already_used"), late.body
    told = late.body["payment"]
    assert (told["state"], told["do_not_pay_again"]) == ("credited", True)
    assert not {"manage_token", "projectId"} & set(late.body)
    after = (await customer.wallet.call("GET", "/agent/credits")).body["balance_usd"]
    assert after == pytest.approx(before + 0.5, abs=0.01)
    await customer.is_untouched()


async def test_what_its_owner_signs_is_deployed_by_the_same_payment(customer: Customer) -> None:
    """The way that the refusal names: the same payment, with the wallet's own headers."""
    gateway, body = customer.wallet.gateway, deploy_body(customer.name, APP)
    payment = by_x402(customer)
    assert code(await post(gateway, "/deploy", body, payment)) == (400, "name_unavailable")
    signed = await customer.wallet.call("POST", "/agent/deploy", json=body, headers=payment)
    assert signed.status == 200, signed.body
    assert signed.body["projectId"] in customer.project

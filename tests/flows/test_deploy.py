"""The main job over real HTTP: 402, pay, 200, ready, answering, deleted."""

import asyncio
from typing import Any

import pytest

from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

PRICE = 500_000
SLOW = HELLO | {"package.json": '{"scripts": {"build": "sleep 300", "start": "node index.js"}}'}


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def test_paid_deploy_becomes_ready_and_answers(wallet: Wallet) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, settings={"runEnvs": {"GREETING": "you"}})

    assert set(deployed.body) == {"projectId", "deploymentId", "status", "message", "payment"}
    assert deployed.body["status"] == "deploying"
    status = await wallet.settled(deployed)
    assert status == {
        "status": "ready",
        "deployment_id": deployed.body["deploymentId"],
        "endpoint": f"http://{name}.localhost:{wallet.gateway.proxy_port}",
    }
    assert await wallet.visit(name) == (200, "hello you")


async def test_months_multiply_the_price_and_other_means_are_quoted(wallet: Wallet) -> None:
    answer = await wallet.deploy(
        fresh_name(), months=3, headers={"X-Payment-Chain": "base", "X-Payment-Token": "usdt"}
    )

    assert answer.status == 402
    assert (answer.body["amount_usd"], answer.body["amount_token"]) == (1.5, "1500000")
    assert (answer.body["payment_chain"], answer.body["token"]) == ("base", "usdt")


async def test_payment_deploys_whatever_chain_and_token_the_headers_name(wallet: Wallet) -> None:
    await wallet.fund(chain="base")
    tx = await wallet.pay(500_000, chain="base", token="usdt")
    name = fresh_name()

    deployed = await wallet.deploy(name, tx=tx)  # usdc on arbitrum, by default

    assert deployed.status == 200, deployed.body
    assert deployed.body["payment"] == {
        "tx": tx,
        "chain": "base",
        "token": "usdt",
        "state": "credited",
        "credited_usd": 0.5,
        "do_not_pay_again": True,
    }
    named = {"X-Payment-Chain": "base", "X-Payment-Token": "usdt"}
    again = await wallet.deploy(name, tx=tx, headers=named)
    assert (again.status, again.body["deploymentId"]) == (409, deployed.body["deploymentId"])
    assert again.body["payment"] == deployed.body["payment"]


async def test_another_wallets_payment_is_credited_to_who_paid(wallet: Wallet) -> None:
    thief = await Wallet(wallet.gateway).fund()
    tx = await wallet.pay(500_000)

    stolen = await thief.deploy(fresh_name(), tx=tx)
    assert (stolen.status, stolen.body["code"]) == (402, "payer_mismatch")
    assert stolen.body["current_credit_balance_usd"] == 0

    own = await wallet.deploy(fresh_name(), tx=tx)
    assert own.status == 200


async def test_existing_credits_deploy_on_request(wallet: Wallet) -> None:
    await wallet.deploy(fresh_name(), tx=await wallet.pay(1_000_000))

    answer = await wallet.deploy(fresh_name(), headers={"X-Use-Existing-Credits": "true"})

    assert answer.status == 200
    assert "reduce" in answer.body["message"]


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"X-Payment-Tx": "0x12"}, "X-Payment-Tx"),
        ({"X-Payment-Chain": "doge"}, "X-Payment-Chain"),
        ({"X-Payment-Token": "dai"}, "X-Payment-Token"),
        ({"X-Use-Existing-Credits": "maybe"}, "X-Use-Existing-Credits"),
        ({"X-Use-Credits": "true"}, "X-Use-Credits"),
        ({"X-Dry-Run": "yes"}, "X-Dry-Run"),
        ({"X-Dryrun": "true"}, "X-Dryrun"),  # it would deploy
    ],
)
async def test_malformed_headers_are_refused_by_name(
    wallet: Wallet, headers: dict[str, str], field: str
) -> None:
    answer = await wallet.deploy(fresh_name(), headers=headers)

    assert (answer.status, answer.body["field"]) == (400, field)


async def test_deleted_project_is_gone_and_its_name_is_free(wallet: Wallet) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name)
    await wallet.settled(deployed)
    project = deployed.body["projectId"]

    answer = await wallet.call("DELETE", f"/agent/projects/{project}")

    left = answer.body.pop("credits_usd")
    message = answer.body.pop("message")
    assert (answer.status, answer.body) == (
        200,
        {"projectId": project, "status": "deleted", "volume_deleted": False},
    )
    credited = (await wallet.call("GET", "/agent/credits")).body
    assert left == credited["balance_usd"] > 0
    assert "gone for good" in message
    assert "moorage refund" in message
    assert (await wallet.call("GET", "/agent/projects")).body["count"] == 0
    assert (await wallet.visit(name))[0] == 404
    assert (await wallet.status(deployed)).status == 404
    rival = await Wallet(wallet.gateway).fund()
    assert (await rival.deploy(name)).status == 402


async def test_deleting_a_deployment_under_way_ends_it(wallet: Wallet) -> None:
    slow = {"package.json": '{"scripts": {"build": "sleep 60", "start": "node index.js"}}'}
    deployed = await wallet.deploy_paid(fresh_name(), HELLO | slow)

    answer = await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")

    assert answer.status == 200
    assert (await wallet.call("GET", "/agent/projects")).body["count"] == 0


async def test_projects_list_what_the_contract_says(wallet: Wallet) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, displayName="My App")
    await wallet.settled(deployed)

    answer = await wallet.call("GET", "/agent/projects")

    assert (answer.body["wallet"], answer.body["count"]) == (wallet.address, 1)
    (project,) = answer.body["projects"]
    assert project["id"] == deployed.body["projectId"]
    assert (project["name"], project["displayName"]) == (name, "My App")
    assert project["status"] == "active"
    assert project["url"] == f"http://{name}.localhost:{wallet.gateway.proxy_port}"
    assert project["createdAt"].endswith("Z")


async def test_redeploy_of_ones_own_name_replaces_the_app_for_free(wallet: Wallet) -> None:
    name = fresh_name()
    first = await wallet.deploy_paid(name)
    await wallet.settled(first)

    second = await wallet.deploy(name, HELLO, settings={"runEnvs": {"GREETING": "two"}})
    assert second.status == 200
    assert second.body["projectId"] == first.body["projectId"]
    assert (await wallet.settled(second))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello two")

    broken = await wallet.deploy(name, {"index.js": "process.exit(1)"})
    assert (await wallet.settled(broken))["status"] == "failed"
    assert await wallet.visit(name) == (200, "hello two")


async def test_dry_run_changes_nothing(wallet: Wallet) -> None:
    name = fresh_name()
    answer = await wallet.deploy(name, headers={"X-Dry-Run": "true"})

    assert (answer.status, answer.body["amount_token"]) == (200, "500000")
    assert answer.body["plan"]["start"] == "exec node index.js"
    rival = Wallet(wallet.gateway)
    assert (await rival.deploy(name)).status == 402  # the name was not held


CLIENTS_DOCKERFILE = """\
FROM node:20
WORKDIR /app
ENV NODE_ENV=production
COPY . .
USER node
EXPOSE 3000
CMD ["node", "index.js"]
"""


async def test_fixed_dockerfile_of_a_client_is_followed(wallet: Wallet) -> None:
    files, name = {**HELLO, "Dockerfile": CLIENTS_DOCKERFILE}, fresh_name()
    settings = {"hasDockerfile": True, "runEnvs": {"GREETING": "you"}}
    status = await wallet.settled(await wallet.deploy_paid(name, files, settings=settings))

    assert status["status"] == "ready", status
    assert await wallet.visit(name) == (200, "hello you")


async def test_balances_are_the_chains(wallet: Wallet) -> None:
    await wallet.pay(500_000)
    tokens = wallet.gateway.info["chains"]["arbitrum"]["tokens"]

    answer = await call(wallet.gateway, "GET", f"/agent/balance/{wallet.address}?chain=arbitrum")

    assert answer.status == 200
    assert answer.body == {
        "address": wallet.address,
        "chain": "arbitrum",
        "chain_id": 42161,
        "balances": [
            {
                "token": "usdc",
                "symbol": "USDC",
                "address": tokens["usdc"],
                "balance": "99.500000",
                "balance_raw": "99500000",
                "decimals": 6,
            },
            {
                "token": "usdt",
                "symbol": "USDT",
                "address": tokens["usdt"],
                "balance": "100.000000",
                "balance_raw": "100000000",
                "decimals": 6,
            },
        ],
    }


async def test_nonce_passes_once_of_two_at_once(wallet: Wallet) -> None:
    headers = wallet.signed()

    answers = await asyncio.gather(
        *(call(wallet.gateway, "GET", "/agent/projects", headers=headers) for _ in range(2))
    )

    assert sorted(answer.status for answer in answers) == [200, 401]
    assert {answer.body.get("code") for answer in answers} == {None, "nonce_reused"}


async def test_bodies_out_of_bounds_name_the_field(wallet: Wallet) -> None:
    for change, field in (
        ({"uniqueName": "-abc"}, "uniqueName"),
        ({"uniqueName": "abc"}, "uniqueName"),
        ({"displayName": ""}, "displayName"),
        ({"description": "x" * 2049}, "description"),
        ({"months": 0}, "months"),
        ({"months": 1.5}, "months"),
        ({"settings": {"port": 70_000}}, "settings.port"),
        ({"settings": {"color": "red"}}, "settings.color"),
        ({"settings": {"runEnvs": {"A": 1}}}, "settings.runEnvs"),
        ({"upload": {"type": "tar"}}, "upload.type"),
    ):
        body = deploy_body(fresh_name(), HELLO) | change
        answer = await wallet.call("POST", "/agent/deploy", json=body)
        assert (answer.status, answer.body.get("field")) == (400, field), answer.body


# A payment beside what is refused, over, or under way


async def balance_of(wallet: Wallet) -> float:
    """The wallet's credits, in dollars."""
    answer = await wallet.deploy(fresh_name(), headers={"X-Dry-Run": "true"})
    assert answer.status == 200, answer.body
    return float(answer.body["current_credit_balance_usd"])


async def delete(wallet: Wallet, deployed: Answer) -> None:
    answer = await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"months": 99}, "invalid_field"),
        ({"settings": {"nonsense": 1}}, "invalid_field"),
        ({"upload": {"type": "zip", "data": "AAAA", "filename": "a.zip"}}, "upload_invalid"),
        (
            {"upload": {"type": "files", "files": [{"path": "a.txt", "content": ""}]}},
            "plan_not_found",
        ),
    ],
)
async def test_payment_that_comes_with_a_refused_request_is_credited_and_told(
    wallet: Wallet, wrong: dict[str, Any], told: str
) -> None:
    """Contract 1.5: what is wrong with the request is told beside what became of the money."""
    name = fresh_name()
    tx = await wallet.pay(PRICE)

    refused = await wallet.deploy(name, tx=tx, **wrong)

    assert (refused.status, refused.body["code"]) == (400, told)
    assert refused.body["payment"] == {
        "tx": tx,
        "chain": "arbitrum",
        "token": "usdc",
        "state": "credited",
        "credited_usd": 0.5,
        "do_not_pay_again": True,
    }
    assert "do not pay again" in refused.body["error"]
    assert await balance_of(wallet) == 0.5
    assert (await wallet.deploy(name, tx=tx)).status == 200


async def test_second_payment_for_a_deploy_under_way_is_credited_and_starts_nothing(
    wallet: Wallet,
) -> None:
    name = fresh_name()
    first = await wallet.deploy(name, SLOW, tx=await wallet.pay(PRICE))
    second_tx = await wallet.pay(PRICE)

    second = await wallet.deploy(name, SLOW, tx=second_tx)

    assert second.status == 200
    assert second.body["deploymentId"] == first.body["deploymentId"]
    assert await balance_of(wallet) == 1.0
    again = await wallet.deploy(name, SLOW, tx=second_tx)
    assert (again.status, again.body["deploymentId"]) == (409, first.body["deploymentId"])
    await delete(wallet, first)


async def test_used_hash_stays_used_after_its_project_is_deleted(wallet: Wallet) -> None:
    name, tx = fresh_name(), await wallet.pay(PRICE)
    deployed = await wallet.deploy(name, SLOW, tx=tx)
    await delete(wallet, deployed)

    replayed = await wallet.deploy(name, SLOW, tx=tx)

    assert (replayed.status, replayed.body["code"]) == (409, "payment_already_used")
    assert replayed.body["deploymentId"] == deployed.body["deploymentId"]
    # Nothing ran, so nothing burned: the credits deploy again without any payment.
    again = await wallet.deploy(name, SLOW)
    assert again.status == 200
    await delete(wallet, again)

"""The main job over real HTTP: 402, pay, 200, ready, answering, deleted."""

import asyncio

import pytest

from support.clients.wallet import HELLO, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def test_first_answer_is_a_402_that_says_how_to_pay(wallet: Wallet) -> None:
    answer = await wallet.deploy(fresh_name())

    assert answer.status == 402
    expected = {
        "error": "Payment required",
        "amount_usd": 0.5,
        "amount_token": "500000",
        "current_credit_balance_usd": 0,
        "active_projects": 0,
        "pay_to": wallet.gateway.info["pay_to"],
        "payment_chain": "arbitrum",
        "token": "usdc",
        "decimals": 6,
        "supported_chains": [
            {"chain": "arbitrum", "chain_id": 42161, "tokens": ["usdc", "usdt"]},
            {"chain": "base", "chain_id": 8453, "tokens": ["usdc", "usdt"]},
        ],
        "code": "payment_required",
        "retryable": False,
    }
    assert expected.items() <= answer.body.items()
    assert "warning" not in answer.body


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


async def test_forty_requests_with_one_hash_credit_once_and_deploy_once(wallet: Wallet) -> None:
    tx = await wallet.pay(500_000)
    name = fresh_name()

    answers = await asyncio.gather(*(wallet.deploy(name, tx=tx) for _ in range(40)))

    assert sorted(answer.status for answer in answers) == [200] + [409] * 39
    won = next(answer.body for answer in answers if answer.status == 200)
    for answer in answers:
        assert answer.body["deploymentId"] == won["deploymentId"]
        assert answer.body["projectId"] == won["projectId"]
    listed = await wallet.call("GET", "/agent/projects")
    assert listed.body["count"] == 1
    again = await wallet.deploy(fresh_name())
    assert again.body["current_credit_balance_usd"] == 0.5


async def test_hash_spelled_otherwise_is_the_same_hash(wallet: Wallet) -> None:
    tx = await wallet.pay(500_000)
    name = fresh_name()
    first = await wallet.deploy(name, tx=tx.removeprefix("0x").upper())
    assert first.status == 200

    again = await wallet.deploy(name, tx=tx)

    assert (again.status, again.body["code"]) == (409, "payment_already_used")
    assert again.body["deploymentId"] == first.body["deploymentId"]


async def test_another_wallets_payment_is_credited_to_who_paid(wallet: Wallet) -> None:
    thief = await Wallet(wallet.gateway).fund()
    tx = await wallet.pay(500_000)

    stolen = await thief.deploy(fresh_name(), tx=tx)
    assert (stolen.status, stolen.body["code"]) == (402, "payer_mismatch")
    assert stolen.body["current_credit_balance_usd"] == 0

    own = await wallet.deploy(fresh_name(), tx=tx)
    assert own.status == 200


async def test_used_hash_shown_by_another_wallet_is_a_409_without_ids(wallet: Wallet) -> None:
    tx = await wallet.pay(500_000)
    await wallet.deploy(fresh_name(), tx=tx)

    answer = await Wallet(wallet.gateway).deploy(fresh_name(), tx=tx)

    assert answer.status == 409
    assert "deploymentId" not in answer.body


async def test_short_payment_is_credited_and_the_remainder_asked_for(wallet: Wallet) -> None:
    name = fresh_name()
    short = await wallet.deploy(name, tx=await wallet.pay(200_000))

    assert (short.status, short.body["code"]) == (402, "payment_short")
    assert (short.body["amount_token"], short.body["credited_usd"]) == ("300000", 0.2)

    asked_again = await wallet.deploy(name)
    assert asked_again.body["amount_token"] == "300000"

    rest = await wallet.deploy(name, tx=await wallet.pay(300_000))
    assert rest.status == 200


async def test_overpayment_stays_as_credits(wallet: Wallet) -> None:
    first = await wallet.deploy(fresh_name(), tx=await wallet.pay(1_700_000))
    assert first.status == 200

    answer = await wallet.deploy(fresh_name())

    assert answer.status == 402
    assert answer.body["current_credit_balance_usd"] == 1.7
    assert answer.body["active_projects"] == 1
    warning = (
        "You have 1 active project(s) sharing credits. Paying extends total runtime. "
        "To deploy using existing credits (will reduce other projects' runtime), retry with "
        "header X-Use-Existing-Credits: true"
    )
    assert answer.body["warning"] == warning
    assert answer.headers["X-CreateOS-Credit-Warning"] == warning


async def test_existing_credits_deploy_on_request(wallet: Wallet) -> None:
    await wallet.deploy(fresh_name(), tx=await wallet.pay(1_000_000))

    answer = await wallet.deploy(fresh_name(), headers={"X-Use-Existing-Credits": "true"})

    assert answer.status == 200
    assert "reduce" in answer.body["message"]


async def test_credits_of_a_deleted_project_deploy_the_next_without_paying(
    wallet: Wallet,
) -> None:
    first = await wallet.deploy_paid(fresh_name())
    await wallet.settled(first)
    await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")

    asked = await wallet.deploy(fresh_name())

    # It ran, so it burned; what is left is below the price.
    assert asked.status == 402
    assert 0.49 < asked.body["current_credit_balance_usd"] < 0.5


async def test_unknown_hash_is_pending_and_never_asks_to_pay(wallet: Wallet) -> None:
    answer = await wallet.deploy(fresh_name(), tx="0x" + "ab" * 32)

    assert (answer.status, answer.body["code"]) == (402, "payment_pending")
    assert answer.body["retryable"] is True
    assert int(answer.headers["Retry-After"]) > 0
    assert "amount_token" not in answer.body


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"X-Payment-Tx": "0x12"}, "X-Payment-Tx"),
        ({"X-Payment-Tx": "0x" + "ab" * 32, "X-Payment-Chain": "doge"}, "X-Payment-Chain"),
        ({"X-Payment-Token": "dai"}, "X-Payment-Token"),
        ({"X-Use-Existing-Credits": "maybe"}, "X-Use-Existing-Credits"),
    ],
)
async def test_malformed_headers_are_refused_by_name(
    wallet: Wallet, headers: dict[str, str], field: str
) -> None:
    answer = await wallet.deploy(fresh_name(), headers=headers)

    assert (answer.status, answer.body["field"]) == (400, field)


async def test_name_is_held_while_a_quote_lives(wallet: Wallet) -> None:
    name = fresh_name()
    assert (await wallet.deploy(name)).status == 402
    rival = await Wallet(wallet.gateway).fund()

    refused = await rival.deploy(name.upper())
    assert (refused.status, refused.body["field"]) == (400, "uniqueName")

    assert (await wallet.deploy_paid(name)).status == 200
    still = await rival.deploy(name)
    assert (still.status, still.body["code"]) == (400, "name_unavailable")


async def test_only_the_deployer_sees_and_deletes(wallet: Wallet) -> None:
    deployed = await wallet.deploy_paid(fresh_name())
    stranger = Wallet(wallet.gateway)
    project = deployed.body["projectId"]

    assert (await stranger.status(deployed)).status == 403
    assert (await stranger.call("DELETE", f"/agent/projects/{project}")).status == 403
    unknown = await stranger.call("DELETE", "/agent/projects/none")
    assert (unknown.status, unknown.body["code"]) == (404, "project_not_found")
    missing = await wallet.call("GET", f"/agent/deploy/{project}/none/status")
    assert (missing.status, missing.body["code"]) == (404, "deployment_not_found")


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
    assert "sent back" in message  # the rule of refunds
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


async def test_failing_app_says_why_and_keeps_the_credits(wallet: Wallet) -> None:
    files = {"index.js": "console.error('no config file'); process.exit(3)"}
    deployed = await wallet.deploy_paid(fresh_name(), files)

    status = await wallet.settled(deployed)

    assert (status["status"], status["reason_code"]) == ("failed", "crashed")
    assert "3" in status["reason"]
    assert "no config file" in status["log_tail"]
    listed = await wallet.call("GET", "/agent/projects")
    assert listed.body["projects"][0]["status"] == "failed"
    assert listed.body["projects"][0]["url"] is None
    assert (await wallet.deploy(fresh_name())).status == 200  # the credits were enough


async def test_app_on_another_port_is_found_and_said(wallet: Wallet) -> None:
    files = {"index.js": HELLO["index.js"].replace("process.env.PORT", "4567")}
    name = fresh_name()

    status = await wallet.settled(await wallet.deploy_paid(name, files))

    assert status["status"] == "ready"
    assert "4567" in status["message"]
    assert (await wallet.visit(name))[0] == 200


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


async def test_same_body_again_while_deploying_returns_the_same_ids(wallet: Wallet) -> None:
    slow = {"package.json": '{"scripts": {"build": "sleep 30", "start": "node index.js"}}'}
    name = fresh_name()
    first = await wallet.deploy_paid(name, HELLO | slow)

    again = await wallet.deploy(name, HELLO | slow)

    assert again.status == 200
    assert again.body["deploymentId"] == first.body["deploymentId"]
    await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")


async def test_dry_run_changes_nothing(wallet: Wallet) -> None:
    name = fresh_name()
    answer = await wallet.deploy(name, headers={"X-Dry-Run": "true"})

    assert (answer.status, answer.body["amount_token"]) == (200, "500000")
    assert answer.body["plan"]["start"] == "exec node index.js"
    rival = Wallet(wallet.gateway)
    assert (await rival.deploy(name)).status == 402  # the name was not held


async def test_unplannable_upload_is_refused_before_any_payment(wallet: Wallet) -> None:
    answer = await wallet.deploy(fresh_name(), {"notes.txt": "nothing to run"})

    assert (answer.status, answer.body["code"]) == (400, "plan_not_found")
    assert answer.body["looked_for"]


async def test_dockerfile_is_refused_before_any_payment(wallet: Wallet) -> None:
    answer = await wallet.deploy(fresh_name(), settings={"hasDockerfile": True})

    assert (answer.status, answer.body["code"]) == (400, "runtime_unsupported")
    assert answer.body["field"] == "settings.hasDockerfile"


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


async def test_public_endpoints_answer(dev_gateway: DevGateway) -> None:
    assert (await call(dev_gateway, "GET", "/health")).body == {"status": "ok"}
    chains = await call(dev_gateway, "GET", "/agent/chains")
    assert chains.body["chains"][1] == {
        "chain": "base",
        "chain_id": 8453,
        "tokens": ["usdc", "usdt"],
        "payment_protocols": ["tx", "mpp", "x402"],
    }
    unknown = await call(dev_gateway, "GET", "/agent/nothing")
    assert (unknown.status, unknown.body["code"]) == (404, "not_found")
    wrong = await call(dev_gateway, "PUT", "/health")
    assert (wrong.status, wrong.body["code"]) == (405, "method_not_allowed")


async def test_every_signed_endpoint_refuses_the_unsigned(dev_gateway: DevGateway) -> None:
    for method, path in (
        ("POST", "/agent/deploy"),
        ("POST", "/agent/quote"),
        ("GET", "/agent/projects"),
        ("GET", "/agent/deploy/a/b/status"),
        ("DELETE", "/agent/projects/a"),
    ):
        answer = await call(dev_gateway, method, path, json={})
        assert (answer.status, answer.body["code"]) == (401, "auth_missing"), path


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

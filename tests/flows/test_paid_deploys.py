"""Money in unusual orders: whatever a client does, each payment is credited once, to its payer."""

import asyncio
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from support.chains.paying import rpc, send_transaction, sign_authorization
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

PRICE = 500_000
SLOW = HELLO | {"package.json": '{"scripts": {"build": "sleep 300", "start": "node index.js"}}'}


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


@pytest.fixture
async def rival(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def balance_of(wallet: Wallet) -> float:
    """The wallet's credits, in dollars."""
    answer = await wallet.deploy(fresh_name(), headers={"X-Dry-Run": "true"})
    assert answer.status == 200, answer.body
    return float(answer.body["current_credit_balance_usd"])


async def delete(wallet: Wallet, deployed: Answer) -> None:
    answer = await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "wrong",
    [{"months": 25}, {"upload": {"type": "zip", "data": "AAAA"}}, {"settings": {"hasDocker": 1}}],
)
async def test_proof_with_a_broken_body_spends_nothing(
    wallet: Wallet, wrong: dict[str, Any]
) -> None:
    tx, name = await wallet.pay(PRICE), fresh_name()

    assert (await wallet.deploy(name, tx=tx, **wrong)).status == 400

    assert (await wallet.deploy(name, tx=tx)).status == 200
    assert await balance_of(wallet) == 0.5


@pytest.mark.parametrize("where", ["tx_hash", "payment", "query", "quote", "top-up"])
async def test_hash_where_none_is_read_is_credited_and_never_paid_again(
    wallet: Wallet, where: str
) -> None:
    tx, name = await wallet.pay(PRICE), fresh_name()
    body = deploy_body(name, HELLO)
    mistaken = {
        "tx_hash": ("/agent/deploy", body | {"tx_hash": tx}),
        "payment": ("/agent/deploy", body | {"payment": {"tx": tx, "chain": "arbitrum"}}),
        "query": (f"/agent/deploy?tx={tx}", body),
        "quote": ("/agent/quote", body | {"payment_tx": tx}),
        "top-up": ("/agent/credits", {"amount_usd": 0.5, "tx": tx}),
    }

    refused = await wallet.call("POST", mistaken[where][0], json=mistaken[where][1])

    assert (refused.status, refused.body["code"]) == (400, "payment_malformed"), refused.body
    assert "X-Payment-Tx" in refused.body["error"]
    assert (refused.body["payment"]["tx"], refused.body["payment"]["state"]) == (tx, "credited")
    assert refused.body["payment"]["do_not_pay_again"] is True
    assert "amount_token" not in refused.body
    assert (await wallet.deploy(name, tx=tx)).status == 200
    assert await balance_of(wallet) == 0.5


async def test_unknown_fields_are_told_in_quote_demand_and_answer(wallet: Wallet) -> None:
    body = deploy_body(fresh_name(), HELLO) | {"client": "x", "chain": {"id": 1}}
    quoted = await wallet.call("POST", "/agent/quote", json=body)
    asked = await wallet.call("POST", "/agent/deploy", json=body)
    another = body | {"uniqueName": fresh_name()}
    anybody = await call(wallet.gateway, "POST", "/deploy", json=another)
    proof = {"X-Payment-Tx": await wallet.pay(PRICE)}
    deployed = await wallet.call("POST", "/agent/deploy", json=body, headers=proof)

    answers = (quoted, asked, anybody, deployed)
    assert [answer.status for answer in answers] == [200, 402, 402, 200]
    for answer in answers:
        told = [each for each in answer.body["warnings"] if each["code"] == "unknown_field"]
        assert [each["field"] for each in told] == ["client", "chain"]


async def test_proof_for_a_name_that_is_taken_works_for_another(
    wallet: Wallet, rival: Wallet
) -> None:
    name = fresh_name()
    await rival.deploy(name)
    tx = await wallet.pay(PRICE)

    refused = await wallet.deploy(name, tx=tx)
    assert (refused.status, refused.body["code"]) == (400, "name_unavailable")
    assert refused.body["payment"]["state"] == "credited"
    assert "nothing was charged" not in refused.body["error"]
    assert await balance_of(wallet) == 0.5

    assert (await wallet.deploy(fresh_name(), tx=tx)).status == 200


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


async def test_two_wallets_that_pay_for_one_name_at_once_both_keep_their_money(
    wallet: Wallet, rival: Wallet
) -> None:
    name = fresh_name()
    both = (wallet, rival)
    proofs = [await each.pay(PRICE) for each in both]

    answers = await asyncio.gather(
        *(each.deploy(name, tx=tx) for each, tx in zip(both, proofs, strict=True))
    )

    assert sorted(answer.status for answer in answers) == [200, 400]
    lost = next(index for index, answer in enumerate(answers) if answer.status == 400)
    assert answers[lost].body["code"] == "name_unavailable"
    assert (await both[lost].deploy(fresh_name(), tx=proofs[lost])).status == 200
    assert [await balance_of(each) for each in both] == [0.5, 0.5]


async def test_name_of_an_expired_quote_is_free_and_a_late_payment_still_counts(
    wallet: Wallet, rival: Wallet
) -> None:
    name = fresh_name()
    assert (await wallet.deploy(name)).status == 402
    assert (await rival.deploy(name)).status == 400
    with closing(sqlite3.connect(wallet.gateway.data_dir / "moorage.db", timeout=30)) as db, db:
        past_ms = time.time_ns() // 1_000_000 - 1
        db.execute("UPDATE quotes SET expires_at_ms = ? WHERE unique_name = ?", (past_ms, name))
        db.execute("UPDATE names SET held_until_ms = ? WHERE unique_name = ?", (past_ms, name))
    tx = await wallet.pay(PRICE)

    assert (await rival.deploy(name)).status == 402
    refused = await wallet.deploy(name, tx=tx)
    assert (refused.status, refused.body["code"]) == (400, "name_unavailable")

    assert (await wallet.deploy(fresh_name(), tx=tx)).status == 200


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


async def test_ten_payments_for_one_name_at_once_make_one_project(wallet: Wallet) -> None:
    name = fresh_name()
    proofs = [await wallet.pay(PRICE) for _ in range(10)]

    answers = await asyncio.gather(*(wallet.deploy(name, SLOW, tx=tx) for tx in proofs))

    assert [answer.status for answer in answers] == [200] * 10
    assert len({answer.body["projectId"] for answer in answers}) == 1
    assert len({answer.body["deploymentId"] for answer in answers}) == 1
    assert await balance_of(wallet) == 5.0
    await delete(wallet, answers[0])


async def test_one_transaction_of_two_payers_credits_each_his_own(
    wallet: Wallet, rival: Wallet
) -> None:
    tx = await pay_together({wallet: 600_000, rival: 700_000})

    answers = [await each.deploy(fresh_name(), SLOW, tx=tx) for each in (wallet, rival)]

    assert [answer.status for answer in answers] == [200, 200]
    assert [await balance_of(wallet), await balance_of(rival)] == [0.6, 0.7]
    again = await rival.deploy(fresh_name(), tx=tx)
    assert (again.status, again.body["deploymentId"]) == (409, answers[1].body["deploymentId"])
    for each, answer in zip((wallet, rival), answers, strict=True):
        await delete(each, answer)


async def pay_together(amounts: dict[Wallet, int]) -> str:
    """One transaction that carries out everybody's signed wish to pay."""
    payer = next(iter(amounts))
    chain = payer.gateway.info["chains"]["arbitrum"]
    token, pay_to = chain["tokens"]["usdc"], payer.gateway.info["pay_to"]
    wishes = [
        sign_authorization(
            each.key, chain_id=42161, token_address=token, to=pay_to, value=amount
        ).calldata
        for each, amount in amounts.items()
    ]
    contract = to_checksum_address("0x" + secrets.token_hex(20))
    code = "".join(_call(token, bytes.fromhex(wish[2:])) for wish in wishes) + "00"
    await rpc(chain["rpc_url"], "anvil_setCode", contract, "0x" + code)
    return await send_transaction(chain["rpc_url"], payer.key, to=contract)


def _call(target: str, data: bytes) -> str:
    """EVM code that calls `target` with `data`: MSTORE each word, then CALL."""
    words = (data[at : at + 32].ljust(32, b"\0").hex() for at in range(0, len(data), 32))
    stored = "".join(f"7f{word}61{32 * index:04x}52" for index, word in enumerate(words))
    return f"{stored}60006000" + f"61{len(data):04x}60006000" + f"73{target[2:]}5af150"


async def test_credits_for_one_deploy_at_once_on_two_names_deploy_one(wallet: Wallet) -> None:
    broken = await wallet.deploy(
        fresh_name(), {"index.js": "process.exit(1)"}, tx=await wallet.pay(PRICE)
    )
    await wallet.settled(broken)  # failed: the credits stay, and nothing is active

    answers = await asyncio.gather(*(wallet.deploy(fresh_name(), SLOW) for _ in range(5)))

    assert sorted(answer.status for answer in answers) == [200] + [402] * 4
    refused = [answer for answer in answers if answer.status == 402]
    assert all("warning" in answer.body for answer in refused)
    await delete(wallet, next(answer for answer in answers if answer.status == 200))


async def test_existing_credits_that_are_short_are_no_payment(wallet: Wallet) -> None:
    await wallet.deploy(fresh_name(), SLOW, tx=await wallet.pay(PRICE))

    answer = await wallet.deploy(fresh_name(), months=2, headers={"X-Use-Existing-Credits": "true"})

    assert (answer.status, answer.body["active_projects"]) == (402, 1)
    assert answer.body["current_credit_balance_usd"] == 0.5
    assert "warning" not in answer.body
    assert "X-CreateOS-Credit-Warning" not in answer.headers
    listed = await wallet.call("GET", "/agent/projects")
    await wallet.call("DELETE", f"/agent/projects/{listed.body['projects'][0]['id']}")


async def test_dry_run_leaves_a_payment_unspent(wallet: Wallet) -> None:
    tx = await wallet.pay(PRICE)

    dry = await wallet.deploy(fresh_name(), tx=tx, headers={"X-Dry-Run": "true"})

    assert (dry.status, dry.body["current_credit_balance_usd"]) == (200, 0)
    assert (await wallet.deploy(fresh_name(), tx=tx)).status == 200


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


async def test_short_payment_is_never_refused_for_holding_many_names(wallet: Wallet) -> None:
    held = [fresh_name() for _ in range(60)]
    statuses = [(await wallet.deploy(name)).status for name in held]
    assert 429 in statuses  # nobody holds every name for free

    short = await wallet.deploy(fresh_name(), tx=await wallet.pay(PRICE // 2))

    assert (short.status, short.body["code"]) == (402, "payment_short")
    assert (short.body["credited_usd"], short.body["amount_token"]) == (0.25, "250000")


async def test_quote_is_honoured_when_the_price_rises_over_a_restart(tmp_path: Path) -> None:
    with running(tmp_path / "data") as gateway:
        wallet = await Wallet(gateway).fund()
        name = fresh_name()
        quoted = await wallet.deploy(name, months=3)
        assert quoted.body["amount_token"] == "1500000"

        gateway.stop()
        gateway.start(memory_gib_month_micro_usd="50000000")

        dearer = await wallet.deploy(fresh_name(), months=3)
        assert dearer.body["amount_token"] == str((25_000_000 + 250_000) * 3)
        again = await wallet.deploy(name, months=3)
        assert again.body["amount_token"] == "1500000"
        assert (await wallet.deploy(name, months=4)).body["amount_token"] == str(25_250_000 * 4)
        paid = await wallet.deploy(name, SLOW, months=3, tx=await wallet.pay(1_500_000))
        assert paid.status == 200
        await delete(wallet, paid)

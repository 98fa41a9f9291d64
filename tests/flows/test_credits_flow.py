"""Credits over real HTTP: their page, repeated requests, and waking by a plain transfer."""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import datetime

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

PRICE = 500_000


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def test_paid_app_shows_what_it_burns_and_when_credits_run_out(wallet: Wallet) -> None:
    name, tx = fresh_name(), await wallet.pay(PRICE)
    deployed = await wallet.deploy(name, tx=tx)
    assert (await wallet.settled(deployed))["status"] == "ready"

    shown = await wallet.call("GET", "/agent/credits")

    assert shown.status == 200
    assert (shown.body["balance_usd"], shown.body["burn_per_hour_micro_usd"]) == (0.5, 685)
    assert [each["projectId"] for each in shown.body["burning"]] == [deployed.body["projectId"]]
    (payment,) = shown.body["ledger"]
    assert (payment["kind"], payment["amount_usd"]) == ("payment", 0.5)
    assert (payment["chain"], payment["tx_hash"]) == ("arbitrum", tx)
    runs_out_at = datetime.fromisoformat(shown.body["runs_out_at"]).timestamp()
    assert abs(runs_out_at - (time.time() + 730 * 3600)) < 600
    assert (await wallet.call("GET", "/agent/credits?limit=0")).status == 400
    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")


async def test_payment_has_a_signed_receipt_for_its_payer_alone_and_is_in_the_invoice(
    wallet: Wallet,
) -> None:
    tx = await wallet.pay(PRICE)
    paid = await wallet.call("POST", "/agent/credits", headers={"X-Payment-Tx": tx})
    assert paid.status == 200, paid.body

    shown = await wallet.call("GET", f"/agent/payments/{tx}/receipt")
    keys = await wallet.call("GET", "/.well-known/moorage-receipts.json")
    (receipt,) = shown.body["receipts"]
    typed = {name: receipt[name] for name in ("types", "primaryType", "domain", "message")}
    signed = encode_typed_data(full_message=typed)
    signer = Account.recover_message(signed, signature=receipt["signature"])
    assert [each["address"] for each in keys.body["keys"]] == [signer]
    assert receipt["message"]["amount"] == str(PRICE)
    assert f"http://{receipt['message']['host']}" == wallet.gateway.url

    other = Wallet(wallet.gateway)
    refused = await other.call("GET", f"/agent/payments/{tx}/receipt")
    assert (refused.status, refused.body["code"]) == (404, "receipt_not_found")
    invoice = await wallet.call("GET", "/agent/invoice")
    assert (invoice.body["paid_micro_usd"], invoice.body["closing_micro_usd"]) == (PRICE, PRICE)


async def test_suspended_app_wakes_when_a_transfer_is_claimed(wallet: Wallet) -> None:
    name = fresh_name()
    deployed = await wallet.deploy(name, tx=await wallet.pay(PRICE))
    assert (await wallet.settled(deployed))["status"] == "ready"
    await _spend_everything(wallet)
    async with asyncio.timeout(60):
        while (await wallet.visit(name))[0] != 402:
            await asyncio.sleep(0.05)

    claimed = await wallet.deploy(fresh_name(), tx=await wallet.pay(PRICE // 2))

    assert claimed.status in {200, 402}  # whatever becomes of the deploy, the money is there
    await wallet.until_answers(name)
    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")


async def _spend_everything(wallet: Wallet) -> None:
    """As metering does at the full hour that takes the last credits, in a balanced posting."""
    address = wallet.address.lower()
    with closing(sqlite3.connect(wallet.gateway.data_dir / "moorage.db", timeout=30)) as db, db:
        db.execute("BEGIN IMMEDIATE")
        interval, project, started = db.execute(
            "SELECT r.id, r.project_id, r.started_at_ms FROM run_intervals r JOIN projects p"
            " ON p.id = r.project_id WHERE p.wallet = ? AND r.ended_at_ms IS NULL",
            (address,),
        ).fetchone()
        ended = started + 730 * 3_600_000
        posting = f"burn:{interval}:{ended}"
        db.execute("INSERT INTO postings VALUES (?, 'burn', 0, '')", (posting,))
        for account, amount in ((f"wallet:{address}", -PRICE), ("earned", PRICE)):
            db.execute(
                "INSERT INTO entries (posting_id, account, amount_micro_usd) VALUES (?, ?, ?)",
                (posting, account, amount),
            )
        db.execute("UPDATE wallets SET balance_micro_usd = 0 WHERE address = ?", (address,))
        db.execute(
            "UPDATE run_intervals SET ended_at_ms = ?, charged_until_ms = ?, charged_micro_usd = ?"
            " WHERE id = ?",
            (ended, ended, PRICE, interval),
        )
        db.execute(
            "UPDATE projects SET status = 'suspended', suspended_at_ms = ? WHERE id = ?",
            (ended, project),
        )

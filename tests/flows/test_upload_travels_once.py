"""An upload that is sent once, and named by its digest in quote, 402 and paid request."""

import hashlib
import json

import pytest

from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root


def written(name: str) -> bytes:
    """An upload nobody else sends."""
    upload = deploy_body(name, HELLO | {"name.txt": name})["upload"]
    return json.dumps(upload).encode()


async def put(wallet: Wallet, upload: bytes, sha256: str | None = None) -> Answer:
    path = f"/agent/uploads/{sha256 or hashlib.sha256(upload).hexdigest()}"
    return await wallet.call("PUT", path, json=json.loads(upload))


async def test_upload_travels_once_from_quote_to_the_running_app(dev_gateway: DevGateway) -> None:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()

    stored = await put(wallet, written(name))
    assert stored.status == 200, stored.body
    assert stored.body["bytes"] == len(written(name))
    named = {"upload": stored.body["upload"]}

    quoted = await wallet.call("POST", "/agent/quote", json=deploy_body(name, HELLO) | named)
    assert quoted.status == 200, quoted.body
    asked = await wallet.deploy(name, **named)
    assert asked.status == 402, asked.body
    tx = await wallet.pay(int(asked.body["amount_token"]))
    deployed = await wallet.deploy(name, tx=tx, **named)
    assert deployed.status == 200, deployed.body
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert (await wallet.visit(name)) == (200, "hello world")


async def test_upload_that_is_gone_spends_nothing_and_pays_once(dev_gateway: DevGateway) -> None:
    """As after an hour, or after a restart: what is not stored for this wallet is not found."""
    other, wallet = Wallet(dev_gateway), await Wallet(dev_gateway).fund()
    name = fresh_name()
    stored = await put(other, written(name))
    assert stored.status == 200, stored.body
    named = {"upload": stored.body["upload"]}

    unpaid = await wallet.deploy(name, **named)
    assert (unpaid.status, unpaid.body["code"]) == (400, "upload_not_found")
    assert unpaid.body["field"] == "upload.sha256"
    assert "PUT" in unpaid.body["next_actions"][0]

    tx = await wallet.pay(500_000)
    refused = await wallet.deploy(name, tx=tx, **named)
    assert (refused.status, refused.body["code"]) == (400, "upload_not_found")
    told = refused.body["payment"]
    assert (told["tx"], told["chain"], told["state"]) == (tx, "arbitrum", "credited")
    assert (told["credited_usd"], told["do_not_pay_again"]) == (0.5, True)

    assert (await put(wallet, written(name))).status == 200
    deployed = await wallet.deploy(name, tx=tx, **named)
    assert deployed.status == 200, deployed.body
    booked = await wallet.call("GET", "/agent/credits")
    paid = [each for each in booked.body["ledger"] if each["kind"] == "payment"]
    assert [(each["tx_hash"], each["amount_usd"]) for each in paid] == [(tx, 0.5)]


async def test_put_takes_what_its_path_names_from_a_wallet(dev_gateway: DevGateway) -> None:
    wallet, upload = Wallet(dev_gateway), written("any")
    wrong = await put(wallet, upload, "0" * 64)
    assert (wrong.status, wrong.body["field"]) == (400, "sha256")
    assert hashlib.sha256(upload).hexdigest() in wrong.body["error"]
    no_digest = await put(wallet, upload, "latest")
    assert (no_digest.status, no_digest.body["field"]) == (400, "sha256")
    unsigned = await call(dev_gateway, "PUT", f"/agent/uploads/{'0' * 64}", json={})
    assert unsigned.status == 401

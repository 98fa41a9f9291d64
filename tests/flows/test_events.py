"""What a wallet is told of its deploys, by webhook and when it asks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.receiver import Receiver, receiving
from support.gateway.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


async def webhook(wallet: Wallet, receiver: Receiver) -> Webhook:
    """Have the wallet's events sent to the receiver; what checks their signatures."""
    made = await wallet.call("PUT", "/agent/webhook", json={"url": receiver.url})
    assert made.status == 200, made.body
    return Webhook(made.body["secret"])


async def test_deploy_is_told_signed_and_in_order(wallet: Wallet, receiver: Receiver) -> None:
    signed = await webhook(wallet, receiver)
    name = fresh_name()

    deployed = await wallet.deploy_paid(name)
    ready = await wallet.settled(deployed)
    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")
    await until(lambda: len(receiver.got) >= 3)

    told = [signed.verify(body, headers) for headers, body in receiver.got]
    assert [item["type"] for item in told] == [
        "payment.credited",
        "deployment.ready",
        "project.deleted",
    ]
    assert [item["sequence"] for item in told] == [1, 2, 3]
    paid, served, gone = (item["data"] for item in told)
    assert (paid["amount_token"], paid["amount_usd"], paid["token"]) == ("500000", 0.5, "usdc")
    assert served == {
        "project_id": deployed.body["projectId"],
        "deployment_id": deployed.body["deploymentId"],
        "endpoint": ready["endpoint"],
    }
    assert gone == {"project_id": deployed.body["projectId"]}


async def test_who_has_no_webhook_asks_page_by_page_and_has_events_sent_later(
    wallet: Wallet, receiver: Receiver
) -> None:
    deployed = await wallet.deploy_paid(fresh_name())
    await wallet.settled(deployed)

    first = await wallet.call("GET", "/agent/events?limit=1")
    assert [item["type"] for item in first.body["events"]] == ["payment.credited"]
    rest = await wallet.call("GET", f"/agent/events?after={first.body['last_sequence']}")
    assert [item["type"] for item in rest.body["events"]] == ["deployment.ready"]
    none = await wallet.call("GET", f"/agent/events?after={rest.body['last_sequence']}")
    assert (none.body["events"], none.body["last_sequence"]) == ([], 2)

    event_id = rest.body["events"][0]["id"]
    again = f"/agent/events/{event_id}/redeliver"
    refused = await wallet.call("POST", again)
    assert (refused.status, refused.body["code"]) == (404, "webhook_not_found")
    await webhook(wallet, receiver)
    assert (await wallet.call("POST", again)).status == 200
    await until(lambda: len(receiver.got) == 1)
    assert receiver.got[0][0]["webhook-id"] == event_id


async def test_events_and_webhooks_are_their_wallets_own(
    wallet: Wallet, dev_gateway: DevGateway, receiver: Receiver
) -> None:
    await webhook(wallet, receiver)
    await wallet.settled(await wallet.deploy_paid(fresh_name()))
    (credited, *_) = (await wallet.call("GET", "/agent/events")).body["events"]

    other = Wallet(dev_gateway)
    assert (await other.call("GET", "/agent/events")).body["events"] == []
    refused = await other.call("POST", f"/agent/events/{credited['id']}/redeliver")
    assert (refused.status, refused.body["code"]) == (404, "event_not_found")
    for method in ("GET", "DELETE"):
        missing = await other.call(method, "/agent/webhook")
        assert (missing.status, missing.body["code"]) == (404, "webhook_not_found")


async def test_webhook_shows_how_it_does_and_never_its_secret(
    wallet: Wallet, receiver: Receiver
) -> None:
    async def broken(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    await wallet.settled(await wallet.deploy_paid(fresh_name()))
    receiver.answer = broken
    await webhook(wallet, receiver)
    # Sent when it has been deployed, however long that took: a second attempt comes after 10 s.
    for event in (await wallet.call("GET", "/agent/events")).body["events"]:
        await wallet.call("POST", f"/agent/events/{event['id']}/redeliver")
    async with asyncio.timeout(60):
        while (shown := await wallet.call("GET", "/agent/webhook")).body["last_delivery"] is None:
            await asyncio.sleep(0.05)

    assert "secret" not in shown.body
    assert shown.body["url"] == receiver.url
    assert shown.body["waiting"] == 2
    assert shown.body["next_attempt_at"] > shown.body["created_at"]
    assert shown.body["last_delivery"] == {"status": "pending", "attempts": 1, "error": "HTTP 503"}

    assert (await wallet.call("DELETE", "/agent/webhook")).body == {"status": "deleted"}
    assert (await wallet.call("GET", "/agent/webhook")).status == 404


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1e3", "limit=201", "limit=٣"])
async def test_wrong_page_is_refused(wallet: Wallet, query: str) -> None:
    refused = await wallet.call("GET", f"/agent/events?{query}")
    assert (refused.status, refused.body["code"]) == (400, "invalid_field")


async def test_gateway_killed_while_it_sends_sends_again(
    tmp_path: Path, receiver: Receiver
) -> None:
    with running(tmp_path / "killed", requests_per_minute="100000") as gateway:
        wallet = await Wallet(gateway).fund()

        async def kill(_request: web.Request) -> web.StreamResponse:
            receiver.answer = None
            gateway.kill()
            return web.Response()

        receiver.answer = kill
        signed = await webhook(wallet, receiver)
        asked = await wallet.deploy(fresh_name())
        tx = await wallet.pay(int(asked.body["amount_token"]))
        with_proof = asyncio.create_task(wallet.deploy(fresh_name(), tx=tx))
        await until(lambda: len(receiver.got) == 1, seconds=90)
        await asyncio.gather(with_proof, return_exceptions=True)

        gateway.start()
        await until(lambda: len(receiver.got) >= 2, seconds=90)

    told = [signed.verify(body, headers) for headers, body in receiver.got[:2]]
    assert [item["sequence"] for item in told] == [1, 1]
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]

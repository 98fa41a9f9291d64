"""The contract's rate limits, and a chain that does not answer."""

import json
from collections.abc import Iterator

import aiohttp
import pytest

from support.clients.wallet import Wallet, call, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.standing_still import standing_still

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("limits")
    settings = {
        "rpc_timeout_seconds": "4",
        "payment_wait_seconds": "4",
        "operator_listen": "0.0.0.0:0",
    }
    with running(directory, trusted_proxies="127.0.0.0/8", **settings) as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


async def test_operator_port_answers_where_the_operator_says(gateway: DevGateway) -> None:
    _, _, port = gateway.info["operator"].rpartition(":")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.9:{port}/metrics") as response,
    ):
        assert response.status == 200


async def test_thirty_requests_a_minute_pass_and_the_next_is_told_when(wallet: Wallet) -> None:
    answers = [await wallet.call("GET", "/agent/projects") for _ in range(31)]

    assert [answer.status for answer in answers] == [200] * 30 + [429]
    refused = answers[-1]
    assert (refused.body["code"], refused.body["retryable"]) == ("rate_limited", True)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    other = await Wallet(wallet.gateway).call("GET", "/agent/projects")
    assert other.status == 200


async def test_payment_proof_passes_a_full_bucket_and_polls_have_their_own(
    wallet: Wallet,
) -> None:
    for _ in range(30):
        await wallet.call("GET", "/agent/projects")
    assert (await wallet.deploy(fresh_name())).status == 429

    deployed = await wallet.deploy(fresh_name(), tx=await wallet.pay(500_000))

    assert deployed.status == 200
    polls = [await wallet.status(deployed) for _ in range(31)]
    assert [poll.status for poll in polls] == [200] * 30 + [429]


async def test_chain_that_does_not_answer_is_a_502_and_the_same_hash_works_later(
    wallet: Wallet,
) -> None:
    tx = await wallet.pay(500_000)
    name = fresh_name()
    node = json.loads((wallet.gateway.data_dir / "chains/arbitrum/node.json").read_text())["pid"]
    async with standing_still(node):
        refused = await wallet.deploy(name, tx=tx)
        balance = await call(wallet.gateway, "GET", f"/agent/balance/{wallet.address}")

    for answer in (refused, balance):
        assert (answer.status, answer.body["code"]) == (502, "chain_unavailable")
        assert answer.body["retryable"] is True
    assert (await wallet.deploy(name, tx=tx)).status == 200


async def test_readiness_names_the_part_that_is_not_well(gateway: DevGateway) -> None:
    operator = DevGateway(gateway.data_dir)
    operator.info = {"gateway": gateway.info["operator"]}
    well = await call(operator, "GET", "/ready")
    assert (well.status, well.body["status"]) == (200, "ok")
    node = json.loads((gateway.data_dir / "chains/base/node.json").read_text())["pid"]
    async with standing_still(node):
        ill = await call(operator, "GET", "/ready")

    assert ill.status == 503
    assert [name for name, state in ill.body["parts"].items() if state != "ok"] == ["chain base"]

"""The operator's commands beside a running gateway: hold, release, refund, and account for it."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from support.chains.paying import mine, token_balance
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

PRICE, REFUSED = 500_000, 777_777
SCREEN = f"""\
import json, sys
if json.load(sys.stdin)["amount"] == "{REFUSED}":
    print("looks wrong")
    sys.exit(1)
"""


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """A gateway whose screening refuses one amount."""
    directory = tmp_path_factory.mktemp("screened")
    program = directory / "screen.py"
    program.write_text(SCREEN)
    command = ",".join((sys.executable, "-I", str(program)))
    with running(
        directory / "data",
        requests_per_minute="100000",
        watch_seconds="1",
        screening=command,
    ) as gateway:
        yield gateway


@pytest.fixture
async def wallet(screened: DevGateway) -> Wallet:
    return await Wallet(screened).fund()


async def check_audit(gateway: DevGateway) -> Any:
    code, document = await gateway.command("operator", "audit")
    assert (code, document["ok"]) == (0, True), document
    return document["report"]


async def tokens(wallet: Wallet) -> int:
    chain = wallet.gateway.info["chains"]["arbitrum"]
    return await token_balance(chain["rpc_url"], chain["tokens"]["usdc"], wallet.address)


async def make_safe(gateway: DevGateway) -> None:
    for _ in range(2):
        await mine(gateway.info["chains"]["arbitrum"]["rpc_url"])


async def test_held_payment_is_sent_back_while_the_gateway_runs(
    screened: DevGateway, wallet: Wallet
) -> None:
    before = await tokens(wallet)
    tx = await wallet.pay(REFUSED)
    assert (await wallet.deploy(fresh_name(), tx=tx)).body["code"] == "payment_held"
    await make_safe(screened)

    code, document = await screened.command("operator", "refund", tx, "--reason", "looks wrong")

    (refund,) = document["refunds"]
    assert (code, refund["status"], refund["reason"]) == (0, "refunded", "looks wrong")
    assert refund["refund_tx_hash"] not in (None, tx)
    assert await tokens(wallet) == before
    again, _ = await screened.command("operator", "refund", tx, "--reason", "once more")
    assert again == 2
    assert await tokens(wallet) == before
    await check_audit(screened)


async def test_unused_credits_are_sent_back_and_the_app_that_runs_keeps_the_rest(
    screened: DevGateway, wallet: Wallet
) -> None:
    before = await tokens(wallet)
    tx = await wallet.pay(PRICE)
    assert (await wallet.deploy(fresh_name(), tx=tx)).status == 200
    await make_safe(screened)

    arguments = ["operator", "refund", tx, "--reason", "asked for", "--amount", "0.4"]
    code, _ = await screened.command(*arguments)

    assert code == 0
    assert await tokens(wallet) == before - PRICE + 400_000
    code, document = await screened.command(*arguments)
    assert (code, document["code"]) == (2, "error")
    report = await check_audit(screened)
    assert report["payments"] >= 1

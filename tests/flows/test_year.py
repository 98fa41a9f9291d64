"""A year of a gateway, as its operator lives it: the books are audited after each step."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chain_fixture import LocalChains
from gateway_fixture import MOORAGE
from served import ServedGateway, served
from waiting import until_read
from wallet import Wallet, fresh_name

pytestmark = pytest.mark.root

NEW_DOMAIN = "apps.localhost"


@pytest.fixture
async def gateway(tmp_path: Path, local_chains: LocalChains) -> AsyncIterator[ServedGateway]:
    with served(tmp_path / "year", local_chains) as started:
        yield started


async def audited(gateway: ServedGateway) -> None:
    """Nothing is wrong; what is on its way may be pending."""
    _, document = await gateway.command("audit")
    assert document["report"]["findings"] == [], document


async def told(wallet: Wallet) -> list[str]:
    answer = await wallet.call("GET", "/agent/events")
    return [event["type"] for event in answer.body["events"]]


async def visited(wallet: Wallet, name: str) -> None:
    await until_read(lambda: wallet.visit(name), lambda page: page == (200, "hello world"))


async def test_a_year_of_changes_loses_no_money_no_project_and_no_address(
    gateway: ServedGateway, tmp_path: Path
) -> None:
    # Install: a customer comes.
    alice, shop = await Wallet(gateway).fund(), fresh_name()
    deployed = await alice.deploy_paid(shop)
    assert (await alice.settled(deployed))["status"] == "ready"
    await audited(gateway)

    # Prices fall: seen before, told, in force by itself, and a month of what was paid lasts longer.
    gateway.write(memory_gib_month_micro_usd=100_000)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _, preview = await gateway.command("prices", "preview", now)
    (line,) = preview["prices"]
    assert (line["name"], line["now"], line["then"]) == (shop, 500_000, 300_000)
    code, _ = await gateway.command("prices", "order", now, "--reason", "power is cheaper")
    assert code == 0
    await audited(gateway)

    # Another address to be paid at; who pays the old one is credited all the same.
    old_address = gateway.info["pay_to"]
    gateway.restart(pay_to="0x" + secrets.token_hex(20))
    await visited(alice, shop)
    await alice.pay(700_000, to=old_address)
    await alice.pay(800_000)

    async def credited() -> int:
        return (await told(alice)).count("payment.credited")

    await until_read(credited, lambda found: found == 3)
    refused, _ = await gateway.command("recipient", "retire", old_address, "--reason", "x")
    assert refused != 0  # it holds what was paid
    await audited(gateway)

    # A chain is closed, and its payments stay in the books.
    await alice.fund(chain="base")
    await alice.pay(600_000, chain="base")
    await until_read(credited, lambda found: found == 4)
    chains = gateway.written["chains"]
    gateway.restart(chains={**chains, "base": {**chains["base"], "closed": True}})
    await audited(gateway)

    # Another domain: old addresses go on.
    gateway.restart(base_domain=NEW_DOMAIN)
    await visited(alice, shop)
    gateway.info["base_domain"] = "localhost"
    await visited(alice, shop)
    gateway.info["base_domain"] = NEW_DOMAIN
    await audited(gateway)

    # Rules change while it serves; a wallet that is not listed is told so, one that has apps stays.
    await gateway.reload(listed_wallets_only=True)
    bob = await Wallet(gateway).fund()
    assert (await bob.deploy(fresh_name())).status == 403
    await visited(alice, shop)
    await gateway.reload(listed_wallets_only=None)
    await audited(gateway)

    # The price counts by now, or does within the minute.
    async def price() -> int:
        _, shown = await gateway.command("prices", "show")
        return int(shown["prices"][0]["now"])

    await until_read(price, lambda now: now == 300_000, seconds=180)
    await audited(gateway)

    # The key of secrets is lost with the machine: the backup has both, and is put back elsewhere.
    saved = tmp_path / "gateway.backup"
    code, _ = await gateway.command("backup", str(saved))
    assert code == 0
    gateway.stop()
    code, _ = await gateway.command("stop", "--reason", "the machine is lost")
    assert code == 0
    gateway.move(tmp_path / "elsewhere")
    put_back = [MOORAGE, "restore", str(saved), "--data-dir", str(gateway.data_dir)]
    await asyncio.to_thread(subprocess.run, put_back, check=True, capture_output=True)
    gateway.restart(base_domain="localhost")  # and the domain is another once more
    await visited(alice, shop)

"""A year of a gateway, as its operator changes it: the books are audited after each step."""

import json
import secrets
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eth_account import Account

from support.chains.chain_fixture import LocalChains
from support.chains.paying import mine, rpc
from support.clients.protocols import demanded, payment_signature, unpadded
from support.clients.wallet import Answer, Wallet, fresh_name, new_key
from support.gateway.ports import quiet_port
from support.gateway.served import ServedGateway, served
from support.gateway.waiting import until, until_read

pytestmark = [pytest.mark.root, pytest.mark.long]

NEW_DOMAIN = "apps.localhost"


@pytest.fixture
async def gateway(tmp_path: Path, local_chains: LocalChains) -> AsyncIterator[ServedGateway]:
    with served(
        tmp_path / "year", local_chains, operator_listen=f"127.0.0.1:{quiet_port()}"
    ) as started:
        yield started


async def audited(gateway: ServedGateway) -> None:
    """Nothing is wrong; what is on its way may be pending."""
    _, document = await gateway.command("operator", "audit")
    assert document["report"]["findings"] == [], document


async def visited(wallet: Wallet, name: str) -> None:
    """The variable in the page is one of those that the secrets key seals."""
    await until_read(lambda: wallet.visit(name), lambda page: page == (200, "hello again"))


async def balance(wallet: Wallet) -> float:
    answer = await wallet.call("GET", "/agent/credits")
    return float(answer.body["balance_usd"])


def take_new_secrets_key(gateway: ServedGateway) -> None:
    """As the operator's book says."""
    line = "umask 077; { openssl rand -hex 32; cat secrets.key; } > new && mv new secrets.key"
    subprocess.run(line, shell=True, check=True, cwd=gateway.data_dir)


def forget_old_secrets_keys(gateway: ServedGateway) -> None:
    key = gateway.data_dir / "secrets.key"
    newest, *old = key.read_text().split()
    assert old
    key.write_text(newest)


async def take_new_relayer(gateway: ServedGateway, directory: Path) -> str:
    """Gives it gas, and names it in the settings; returns its address."""
    key, file = new_key(), directory / "new relayer.key"
    file.touch(mode=0o600)
    file.write_text(key)
    gateway.write(relayer_key_file=str(file))
    address = str(Account.from_key(key).address)
    for described in gateway.info["chains"].values():
        await rpc(described["rpc_url"], "anvil_setBalance", address, hex(10**18))
    return address


async def sender(gateway: ServedGateway, deployed: Answer) -> str:
    """Who has sent the transaction that paid for a deployment."""
    receipt = json.loads(unpadded(deployed.headers["Payment-Receipt"]))
    url = gateway.info["chains"]["arbitrum"]["rpc_url"]
    found = await rpc(url, "eth_getTransactionByHash", receipt["reference"])
    return str(found["from"])


async def test_a_year_of_changes_loses_no_money_no_project_and_no_address(
    gateway: ServedGateway, tmp_path: Path
) -> None:
    # Install: a customer comes.
    alice, shop = await Wallet(gateway).fund(), fresh_name()
    again = {"runEnvs": {"GREETING": "again"}}
    deployed = await alice.deploy_paid(shop, settings=again)
    assert (await alice.settled(deployed))["status"] == "ready"
    await audited(gateway)

    # Every key is replaced, while a payment is signed that the former relayer was to send.
    stand = fresh_name()
    asked = await alice.deploy(stand, settings=again)
    signed = payment_signature(alice, demanded(asked)["accepts"][0])
    relayer = await take_new_relayer(gateway, tmp_path)
    take_new_secrets_key(gateway)
    (gateway.data_dir / "challenges.key").unlink()
    gateway.restart()
    bought = await alice.deploy(stand, settings=again, headers=signed)
    assert bought.status == 200, bought.body
    assert (await alice.settled(bought))["status"] == "ready"
    assert (await sender(gateway, bought)).lower() == relayer.lower()
    await gateway.command("operator", "link")
    _, ended = await gateway.command("operator", "end", "--reason", "a notebook was stolen")
    assert ended["links"] == 1
    forget_old_secrets_keys(gateway)
    await audited(gateway)

    # Prices fall: seen before, told, in force by itself, and a month of what was paid lasts longer.
    gateway.write(memory_gib_month_micro_usd=100_000)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _, preview = await gateway.command("operator", "prices", "preview", now)
    told_of = {(line["name"], line["now"], line["then"]) for line in preview["prices"]}
    assert told_of == {(shop, 500_000, 300_000), (stand, 500_000, 300_000)}
    code, _ = await gateway.command(
        "operator", "prices", "order", now, "--reason", "power is cheaper"
    )
    assert code == 0
    await audited(gateway)

    # Another address to be paid at; who pays the old one is credited all the same. The chain is
    # reorganised: one such payment comes in another block, and one to the new address never came.
    old_address, node = gateway.info["pay_to"], gateway.info["chains"]["arbitrum"]["rpc_url"]
    gateway.restart(pay_to="0x" + secrets.token_hex(20))
    await visited(alice, shop)
    before = await balance(alice)
    moved = await alice.pay(700_000, to=old_address)
    await until_read(lambda: balance(alice), lambda now: now > before + 0.69)
    raw = await rpc(node, "eth_getRawTransactionByHash", moved)
    await rpc(node, "anvil_reorg", 1, [[raw, 0]])
    lost = await alice.pay(800_000)
    await until(lambda: "payment moved" in gateway.log)
    await until_read(lambda: balance(alice), lambda now: now > before + 1.49)
    raw = await rpc(node, "eth_getRawTransactionByHash", lost)
    await rpc(node, "anvil_reorg", 1, [])
    await mine(node, 3)
    await until_read(lambda: balance(alice), lambda now: now < before + 0.71)
    await audited(gateway)
    await rpc(node, "eth_sendRawTransactionSync", raw)
    await until_read(lambda: balance(alice), lambda now: now > before + 1.49)
    refused, _ = await gateway.command(
        "operator", "recipient", "retire", old_address, "--reason", "x"
    )
    assert refused != 0  # it holds what was paid
    await audited(gateway)

    # A chain is closed, and its payments stay in the books.
    await alice.fund(chain="base")
    await alice.pay(600_000, chain="base")
    await until_read(lambda: balance(alice), lambda now: now > before + 2.09)
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
        _, shown = await gateway.command("operator", "prices", "show")
        return int(shown["prices"][0]["now"])

    await until_read(price, lambda now: now == 300_000, seconds=180)
    await audited(gateway)

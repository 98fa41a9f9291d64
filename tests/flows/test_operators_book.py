"""An operator who has only the book: each line of its shell blocks does what the page says."""

import asyncio
import json
import re
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bookish import InstalledGateway, Operator, real_node
from eth_account import Account

from moorage.storage.money import settlements
from moorage.storage.opening import open_database
from support.books.postgres_fixture import PostgresServer
from support.chains.chain_fixture import LocalChains
from support.chains.paying import mine, rpc
from support.clients import book
from support.clients.wallet import HELLO, Wallet, fresh_name
from support.gateway.content_fixture import S3Server, credentials_text
from support.gateway.ports import quiet_port
from support.gateway.receiver import receiving
from support.gateway.waiting import until_read

pytestmark = [pytest.mark.root, pytest.mark.long]

NOT_HERE = {
    "git clone FOLDER /opt/moorage && make -C /opt/moorage setup": "where it is cloned from is the "
    "reader's; this clone is set up, which made the .venv that the tests run in",
    "cd /opt/moorage && git pull && make setup && moorage check --config "
    "/etc/moorage/moorage.toml && systemctl restart moorage": "the same",
    "moorage operator install --systemd --gateways a,b --yes": "the test of several types it",
    "systemctl stop moorage && systemctl enable --now moorage@a moorage@b": "the same",
    "moorage operator engine move shop --to docker --config /etc/moorage/moorage.toml": "needs a "
    "Docker of its own; tests/flows/test_engine_moves.py moves so",
    "moorage operator engine move --all --to docker --config /etc/moorage/moorage.toml": "the same",
}
"""The lines that can't be carried out here, each with the reason."""

EXAMPLE_WALLET = "0x1111111111111111111111111111111111111111"
REFUSED = 777_777
SCREEN = f"""\
#!/usr/bin/env python3
import json, sys
if json.load(sys.stdin)["amount"] == "{REFUSED}":
    print("looks wrong")
    sys.exit(1)
"""


@pytest.fixture
async def gateway(tmp_path: Path, local_chains: LocalChains) -> AsyncIterator[InstalledGateway]:
    """Configured, and not started yet; its nodes do not say that they are local ones."""
    settings = tmp_path / "etc"
    screen = tmp_path / "screen"
    screen.write_text(SCREEN)
    screen.chmod(0o700)
    key = Account.create()
    async with AsyncExitStack() as stack:
        chains = {
            chain.name: {"rpc_urls": [await real_node(stack, chain.rpc_urls[0])]}
            for chain in (local_chains.arbitrum, local_chains.base)
        }
        gateway = InstalledGateway(
            settings,
            local_chains,
            pay_to=key.address,
            screening=[str(screen)],
            operator_listen=f"127.0.0.1:{quiet_port()}",
        )
        gateway.write(chains=chains)
        (settings / "pay-to.key").touch(mode=0o600)
        (settings / "pay-to.key").write_text(key.key.hex())
        for chain in (local_chains.arbitrum, local_chains.base):
            await rpc(chain.rpc_urls[0], "anvil_setBalance", key.address, hex(10**18))
            await mine(chain.rpc_urls[0])  # a node whose newest block is old has not caught up
        try:
            yield gateway
        finally:
            await asyncio.to_thread(gateway.end)


def shapes(lines: list[str]) -> set[str]:
    return {re.sub(r"\d[\d.]*", "#", line) for line in lines}


async def answered(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status


async def exported(wallet: Wallet) -> str:
    """The link to its project's archive, once its owner is told."""

    async def told() -> list[str]:
        answer = await wallet.call("GET", "/agent/events")
        found = [each for each in answer.body["events"] if each["type"] == "project.exported"]
        return [each["data"]["path"] for each in found]

    return (await until_read(told, bool))[0]


async def asked_back(wallet: Wallet, usd: float) -> str:
    """The id of a request for so many dollars of its credits."""
    quoted = await wallet.call("POST", "/agent/refunds/quote", json={"max_usd": usd})
    expected = {"refundable_usd": quoted.body["refundable_usd"]}
    body = {"quote": quoted.body["id"], "expect": expected}
    answer = await wallet.call_bound("POST", "/agent/refunds", json=body)
    assert (answer.status, answer.body["state"]) == (202, "queued"), answer.body
    return str(answer.body["id"])


async def state_of(wallet: Wallet, request: str) -> str:
    return str((await wallet.call("GET", f"/agent/refunds/{request}")).body["state"])


async def final(gateway: InstalledGateway) -> None:
    """Nothing of what was paid, or sent back, may still leave the chain."""
    await mine(gateway.written["chains"]["arbitrum"]["rpc_urls"][0], 2)

    async def pending() -> list[Any]:
        _, document = await gateway.command("operator", "audit", "--fast")
        with closing(open_database(gateway.data_dir / "moorage.db")) as books:
            refunds = await settlements.unsettled_by_token(
                books
            )  # the audit names them after a day
        return [*document["report"]["pending"], *refunds]

    await until_read(pending, lambda found: not found, seconds=300)


async def test_each_line_of_the_book_does_what_its_page_says(
    gateway: InstalledGateway, tmp_path: Path, postgres_server: PostgresServer, s3_server: S3Server
) -> None:
    operator = Operator(gateway, tmp_path)
    operator.leaves_out(NOT_HERE)

    # The first day: apps of two customers come.
    await operator.types("first-day", "Install")
    assert stat.S_IMODE((gateway.config.parent / "relayer.key").stat().st_mode) == 0o600
    (checked,) = await operator.types("first-day", "Configure")
    assert "MISSING" not in checked
    await operator.types("first-day", "Start")
    assert set(operator.starts_at_boot()) == {"moorage.service"}
    (checked,) = await operator.types("configure", "Check")
    assert "MISSING" not in checked
    (planned,) = await operator.types("install", "Run")
    assert "moorage-backup.timer" in planned
    alice, bob = [await Wallet(gateway).fund() for _ in range(2)]
    shop, blog = fresh_name(), fresh_name()
    for wallet, name in ((alice, shop), (bob, blog)):
        deployed = await wallet.deploy_paid(name)
        assert (await wallet.settled(deployed))["status"] == "ready"
    (engines,) = await operator.types("engines", "Moving to another engine")
    assert "2 on root" in engines

    # Payments.
    held = await bob.pay(REFUSED)
    refused = await bob.deploy(fresh_name(), tx=held)
    assert refused.body["code"] == "payment_held"
    (audit,) = await operator.types("payments", "Audit")
    assert shapes(book.shown("payments", "Audit")) <= shapes(audit.splitlines())
    today, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (0, 1))
    ours = {"2027-03-01": today, "2027-03-02": tomorrow, "381204000": "1"}
    found = await operator.types("payments", "Find payments", given=ours)
    assert found == ["The books lack no payment there.\n", "Nothing was credited.\n"]
    await operator.types("payments", "Export")
    assert "posting,kind,account" in (tmp_path / "april.csv").read_text()
    await operator.types("payments", "Report", given={EXAMPLE_WALLET: alice.address})
    listed, _ = await operator.types("payments", "Screening", given={"0x…": held})
    assert "looks wrong" in listed
    assert (await bob.deploy(blog, tx=held)).status == 200
    paid = await alice.pay(500_000)
    topped_up = await alice.call("POST", "/agent/credits", headers={"X-Payment-Tx": paid})
    assert topped_up.status == 200
    await mine(gateway.written["chains"]["arbitrum"]["rpc_urls"][0], 2)
    sent, _ = await operator.types("payments", "Refund", given={"0x…": paid})
    assert "refunded" in sent
    asked = await asked_back(alice, 0.2)
    queued, sent = await operator.types(
        "payments", "The treasury", next_lines=2, given={"REQUEST": asked}
    )
    assert asked in queued
    await mine(gateway.written["chains"]["arbitrum"]["rpc_urls"][0], 2)
    await until_read(lambda: state_of(alice, asked), lambda state: state in ("mined", "final"))
    asked = await asked_back(alice, 0.1)
    await operator.types("payments", "The treasury", given={"REQUEST": asked})
    assert await state_of(alice, asked) == "failed"

    # Customers.
    its = {EXAMPLE_WALLET: alice.address}
    wallets, listed, *_ = await operator.types("customers", "Customers", given=its)
    assert alice.address.lower() in wallets
    assert shop in listed
    await operator.types("customers", "Quotas", next_lines=1)
    assert (await bob.deploy(fresh_name())).body["code"] == "maintenance"
    await operator.types("customers", "Quotas", given=its)
    assert "1 May" in str((await bob.call("GET", "/agent/credits")).body)
    abuse = {"NAME": shop, "0x…": bob.address}
    *_, suspended = await operator.types("customers", "Abuse", next_lines=3, given=abuse)
    assert "phishing, ticket 7" in suspended
    await operator.types("customers", "Abuse", next_lines=2, given=abuse)
    path = await exported(alice)
    await operator.run(f"curl -s -f -o export.tar {gateway.url}{path}")
    unpacked = "tar -xOf export.tar files.tar.gz | tar -xzOf - files/index.js"
    held = await operator.run(unpacked)
    assert held == HELLO["index.js"]
    _, listed = await operator.types("customers", "Abuse", given=abuse)
    assert "No project is to be deleted." in listed
    await operator.types("customers", "Deployers' secrets")
    assert len((gateway.data_dir / "secrets.key").read_text().split()) == 2
    await until_read(lambda: alice.visit(shop), lambda page: page == (200, "hello world"))

    # Watch, and the pages.
    at = {"http://127.0.0.1:8403": gateway.info["operator"]}
    ready, metrics = await operator.types("watch", "Watch", given=at)
    assert json.loads(ready)["status"] == "ok"
    assert "moorage_build_info" in metrics
    await operator.types("watch", "Alarms", next_lines=1)
    async with receiving() as hook:
        key = gateway.config.parent / "alerts.key"
        gateway.write(alert_webhook=hook.url, alert_webhook_secret_file=str(key))
        (tried,) = await operator.types("watch", "Alarms")
    assert "webhook: ok" in tried
    gateway.write(alert_webhook=None, alert_webhook_secret_file=None)
    await operator.types("watch", "With Prometheus")
    (link,) = await operator.types("pages", "The operator's pages")
    assert await answered(link.splitlines()[0]) == 200

    # Change.
    shown, *_ = await operator.types("change", "Change")
    assert re.search(r"base_domain +\S+ +localhost", shown)
    pay_to, other = gateway.written["pay_to"], "0x" + secrets.token_hex(20)
    await asyncio.to_thread(gateway.restart, pay_to=other)
    new = {"pay_to": pay_to, "base_domain": "apps.localhost", "memory_gib_month_micro_usd": 900_000}
    await asyncio.to_thread(gateway.restart, **new)
    await final(gateway)
    await operator.types("change", "Another address to be paid at", given={"0x…": other})
    former = {"old.example.com": "localhost"}
    await operator.types("change", "Another domain for apps", given=former)
    await operator.types("change", "New keys")
    day = (datetime.now(UTC) + timedelta(days=60)).strftime("%Y-%m-%d")
    preview, *_ = await operator.types("change", "New prices", given={"2027-03-01": day})
    assert shop in preview
    (acts,) = await operator.types("change", "Who did what")
    assert "phishing, ticket 7" in acts

    # Back up; what is put back elsewhere has its books on a server from then on.
    await operator.types("backup", "Backup and restore", next_lines=1)
    (saved,) = (tmp_path / "backups").iterdir()
    operator.places["/var/lib/moorage"] = restored = tmp_path / "restored"
    copy = {"moorage-2026-04-07.backup": saved.name}
    await operator.types("backup", "Backup and restore", given=copy)
    await operator.types("backup", "One project out of a backup", given=copy | {"shop": shop})
    assert (tmp_path / f"backups/{shop}.tar").exists()
    await sends_off_site(operator, tmp_path, s3_server)
    operator.places["/var/lib/moorage"] = restored
    operator.environment |= {"PGHOST": str(postgres_server.directory), "PGUSER": "moorage"}
    names = {
        "--pwprompt moorage": "--pwprompt leader",
        "--owner=moorage": "--owner=leader",
        "template0 moorage": "template0 books",
        "DATABASE moorage": "DATABASE books",
    }
    await operator.types("gateways", "PostgreSQL", next_lines=3, given=names)
    url = f"postgresql://leader@/books?host={postgres_server.directory}"
    operator.places["/etc/moorage"] = elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = gateway.config.read_text().replace(str(gateway.data_dir), str(restored))
    (elsewhere / "moorage.toml").write_text(f'database_url = "{url}"\n{moved}')
    moved_books, *_ = await operator.types("gateways", "PostgreSQL")
    assert "moorage.db.moved" in moved_books
    example = "postgresql://moorage:PASSWORD@db.example.com:5432/moorage"
    await operator.types("gateways", "Nonces and counts", given={example: f"'{url}'"})
    assert "nonce_floor" not in (tmp_path / "moorage.sql").read_text()
    operator.places["/var/lib/moorage"] = gateway.data_dir
    operator.places["/etc/moorage"] = gateway.config.parent

    # Trouble; and leave.
    await operator.types("trouble", "Nonces, leases and the gateway's id")
    await until_read(lambda: alice.visit(shop), lambda page: page == (200, "hello world"))
    await operator.types("leave", "Stop everything")
    (owed,) = await operator.types("leave", "End a gateway for good", exits=1)
    assert alice.address.lower() in owed
    retire = 'moorage operator retire /var/backups/moorage-books --reason "sold" --i-know --config'
    await operator.run(operator.filled(f"{retire} /etc/moorage/moorage.toml"))
    assert alice.address.lower() in (tmp_path / "backups/moorage-books/owed.csv").read_text()
    assert operator.untyped == []


async def test_gateways_of_the_page_of_several_serve_together_after_a_boot(
    gateway: InstalledGateway, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    gateway.write(database_url=postgres_server.url(postgres_server.create()))
    operator = Operator(gateway, tmp_path)
    operator.leaves_out([next(iter(NOT_HERE))])
    await operator.types("first-day", "Install")
    await operator.types("first-day", "Start")
    await operator.types("gateways", "More than one gateway")
    at_boot = operator.starts_at_boot()
    assert set(at_boot) == {"moorage@a.service", "moorage@b.service"}
    async with AsyncExitStack() as stack:
        for words, variables in at_boot.values():
            process = await asyncio.create_subprocess_exec(
                *words, env=operator.environment | variables
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
        for _, variables in at_boot.values():
            ready = f"http://{variables['MOORAGE_OPERATOR_LISTEN']}/ready"
            await until_read(partial(ready_at, ready), lambda status: status == 200)


async def ready_at(url: str) -> int:
    """The status there; 0 while nothing listens."""
    try:
        return await answered(url)
    except aiohttp.ClientError:
        return 0


async def sends_off_site(operator: Operator, directory: Path, server: S3Server) -> None:
    """Has a backup sent to a bucket, tried, and restored with the key that was printed."""
    (printed,) = await operator.types("backup", "Off-site", next_lines=1)
    key, credentials = directory / "operator.key", directory / "s3"
    key.write_text("\n".join(re.findall(r"^(?:# public key|AGE-SECRET-KEY).*", printed, re.M)))
    key.chmod(0o600)
    credentials.write_text(credentials_text(server.url))
    credentials.chmod(0o600)
    operator.gateway.write(
        backup_to=f"s3://{server.bucket()}/saved",
        backup_recipient=re.findall(r"age1\w+", printed)[0],
        backup_credentials_file=str(credentials),
    )
    config = f"--config {operator.gateway.config}"
    sent = await operator.run(f"moorage operator backup {config}")
    assert "It restores" in await operator.run(f"moorage operator drill {config}")
    operator.places["/var/lib/moorage"] = fetched = directory / "fetched"
    given = {
        "s3://my-backups/moorage/moorage-<id>": sent.partition(": ")[0].rpartition("/")[0],
        "--identity KEY": f"--identity {key}",
        "S3-KEYS": str(credentials),
    }
    drilled, _ = await operator.types("backup", "Off-site", given=given)
    assert "It restores" in drilled
    assert "is searched up to block" in drilled
    assert (fetched / "moorage.db").exists()

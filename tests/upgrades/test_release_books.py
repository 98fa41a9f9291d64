"""Books as each release wrote them: this version upgrades them, and loses nothing.

`REWRITE_BOOKS=1 .venv/bin/pytest tests/upgrades` writes those of this version, as root, when its
release is made.
"""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

import moorage
from moorage.chains.chain import KNOWN_CHAINS
from moorage.operate.audit.rows import audit_books
from moorage.operate.audit.states import audit_states
from moorage.records.payments import Finality
from moorage.storage.migrate import is_newest, migrate
from moorage.storage.opening import DATABASE, open_database
from moorage.storage.schema import metadata
from support.chains.paying import mine
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.gateway_fixture import moorage as run_moorage
from support.gateway.waiting import until

HERE = Path(__file__).parent
FACTS = (
    "SELECT address, balance_micro_usd FROM wallets ORDER BY address",
    "SELECT project_id, balance_micro_usd FROM purses",
    "SELECT id, unique_name, status, serving_deployment_id FROM projects ORDER BY id",
    "SELECT id, status, request_digest FROM deployments ORDER BY id",
    "SELECT tx_hash, credited_micro_usd, status, finality FROM payments ORDER BY tx_hash",
    "SELECT id, refund_tx_hash, debited_micro_usd, status FROM refunds",
    "SELECT account, sum(amount_micro_usd) FROM entries GROUP BY account ORDER BY account",
)
"""What an upgrade keeps as it is."""


async def lived(gateway: DevGateway) -> None:
    """Two customers pay, deploy, top up, fill a purse, are paid back, and delete."""
    alice, bob = [await Wallet(gateway).fund() for _ in range(2)]
    shop = await alice.deploy_paid(fresh_name(), settings={"runEnvs": {"WORD": "secret"}})
    blog = await bob.deploy_paid(fresh_name())
    for wallet, deployed in ((alice, shop), (bob, blog)):
        assert (await wallet.settled(deployed))["status"] == "ready"
    await until_final(gateway)
    quote = (await alice.call("POST", "/agent/refunds/quote", json={"max_usd": 0.2})).body
    body = {"quote": quote["id"], "expect": {"refundable_usd": quote["refundable_usd"]}}
    asked = await alice.call_bound("POST", "/agent/refunds", json=body)
    assert asked.status == 202, asked.body
    paid = {"X-Payment-Tx": await alice.pay(5_000_000)}
    assert (await alice.call("POST", "/agent/credits", headers=paid)).status == 200
    purse = f"/agent/projects/{shop.body['projectId']}/purse"
    assert (await alice.call_bound("PUT", purse, json={"add_usd": 1})).status == 200
    deleted = await bob.call_bound("DELETE", f"/agent/projects/{blog.body['projectId']}")
    assert deleted.status in (200, 202), deleted.body
    await until_final(gateway)


async def until_final(gateway: DevGateway) -> None:
    """Mines until nothing of what was paid, or paid back, may still leave the chain."""

    async def final() -> bool:
        await mine(gateway.info["chains"]["arbitrum"]["rpc_url"])
        return await asyncio.to_thread(all_final, gateway.data_dir / DATABASE)

    await until(final, seconds=60)


def all_final(database: Path) -> bool:
    with closing(sqlite3.connect(database)) as books:
        states = books.execute("SELECT finality FROM payments UNION SELECT finality FROM refunds")
        return {state for (state,) in states} <= {Finality.SAFE, Finality.FINALIZED}


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The dump of each release's books by its version."""
    if os.environ.get("REWRITE_BOOKS"):
        with running(tmp_path_factory.mktemp("lived"), watch_seconds="1") as gateway:
            asyncio.run(lived(gateway))
        with closing(sqlite3.connect(gateway.data_dir / DATABASE)) as books:
            (purpose,) = books.execute("PRAGMA application_id").fetchone()
            lines = [f"PRAGMA application_id={purpose};", *books.iterdump()]
        text = "\n".join(lines).replace(str(gateway.data_dir), "/var/lib/moorage")
        (HERE / f"{moorage.__version__}.sql").write_text(f"{text}\n")
    return {each.stem: each for each in HERE.glob("*.sql")}


@pytest.fixture(params=sorted(each.stem for each in HERE.glob("*.sql")))
def database(request: pytest.FixtureRequest, releases: dict[str, Path], tmp_path: Path) -> Path:
    """A release's database."""
    path = tmp_path / DATABASE
    with closing(sqlite3.connect(path)) as books:
        books.executescript(releases[request.param].read_text())
    path.chmod(0o600)
    return path


def facts(database: Path) -> list[list[Any]]:
    with closing(sqlite3.connect(database)) as books:
        return [books.execute(each).fetchall() for each in FACTS]


async def test_upgraded_books_hold_what_they_held_and_the_audit_finds_nothing(
    database: Path,
) -> None:
    before = facts(database)
    assert all(before)
    migrate(database)
    assert is_newest(database)
    assert facts(database) == before
    with closing(sqlite3.connect(database)) as books:
        (last_ms,) = books.execute("SELECT max(created_at_ms) FROM events").fetchone()
    with closing(open_database(database)) as db:
        async with db.snapshot() as snapshot:
            _, found = await audit_books(snapshot, KNOWN_CHAINS.values())
            found += await audit_states(snapshot, now_ms=last_ms)
    assert found == []


def test_upgraded_schema_is_what_a_new_database_gets(database: Path) -> None:
    migrate(database)
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_older_version_refuses_newer_books_in_a_line(database: Path) -> None:
    with closing(sqlite3.connect(database)) as books, books:
        books.execute("UPDATE alembic_version SET version_num = 'release_9999'")
    before = database.read_bytes()
    done = run_moorage(*("operator", "wallets", "--data-dir", str(database.parent)), env=os.environ)
    (said,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert "newer version of Moorage (revision release_9999)" in said
    assert database.read_bytes() == before

"""Books that earlier versions wrote are upgraded to this one's schema, and lose nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from moorage.chains.chain import KNOWN_CHAINS
from moorage.clock import SystemClock
from moorage.operate.audit.rows import audit_books
from moorage.operate.audit.states import audit_states
from moorage.storage.apps import deployments, projects
from moorage.storage.migrate import NEWEST_REVISION, is_newest, migrate
from moorage.storage.sqlite import SqliteDatabase

DUMPS = sorted((Path(__file__).parents[2] / "upgrades").glob("*.sql"))
"""Each written by a `moorage dev` of the version whose newest revision names it: two wallets paid
for three projects, of which one has two versions and one failed; one wallet topped up."""

BOB = "0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025"  # of the key 0x4242…42
MONEY = (
    "SELECT account, sum(amount_micro_usd) FROM entries GROUP BY account ORDER BY account",
    "SELECT address, balance_micro_usd FROM wallets ORDER BY address",
    "SELECT chain_id, tx_hash, payer, credited_micro_usd FROM payments ORDER BY tx_hash",
    "SELECT unique_name, wallet, serving_deployment_id, monthly_price_micro_usd FROM projects",
    "SELECT id, status, plan, created_at_ms FROM deployments ORDER BY id",
    "SELECT id, project_id, started_at_ms, charged_micro_usd FROM run_intervals ORDER BY id",
    "SELECT wallet, sequence, kind, data FROM events ORDER BY wallet, sequence",
)


@pytest.fixture(params=DUMPS, ids=lambda dump: str(dump.stem))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database file as a version wrote it."""
    path = tmp_path / "moorage.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(request.param.read_text())
    return path


def told(path: Path) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(query).fetchall() for query in MONEY]


def test_there_is_a_dump_of_each_age() -> None:
    assert [dump.stem for dump in DUMPS] == ["0004", "0009", "0017", "0021", "0028"]


async def test_upgrade_loses_no_money_no_project_and_no_version(old: Path) -> None:
    before = told(old)
    assert all(before)

    migrate(old)

    assert is_newest(old), NEWEST_REVISION
    assert told(old) == before
    db = SqliteDatabase(old)
    try:
        async with db.snapshot() as snapshot:
            chains = list(KNOWN_CHAINS.values())
            _, found = await audit_books(snapshot, chains)
            states = await audit_states(snapshot, now_ms=SystemClock().now_ms())
            project = await projects.by_name(snapshot, "kept")
            assert project is not None
            serving = await deployments.by_id(snapshot, project.serving_deployment_id or "")
        assert [*found, *states] == []
        assert (project.wallet, serving is not None) == (BOB, True)
    finally:
        db.close()

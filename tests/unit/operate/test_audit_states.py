"""States that only a hand can have put there are found; what ordinary flows leave is not."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.operate.audit.states import audit_states
from moorage.storage.apps import projects
from moorage.storage.database import Database
from support.books.busy_books import MONTHLY, keep_busy
from support.books.records_fixture import (
    ALICE,
    BOB,
    CAROL,
    add_deployment,
    add_project,
    fresh_hash,
    transfer,
)
from support.clients.quoting import Quoting
from support.gateway.clock import HOUR_MS, MovableClock

DAN = "0x" + "d" * 40
PAYERS = [ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL]
DAY_MS = 24 * HOUR_MS


@pytest.fixture
async def busy(db: Database, db_path: Path, clock: MovableClock) -> Database:
    """Books with every kind of row, a project that serves, and one that was just quoted."""
    transfers = [transfer(payer, 500_000) for payer in PAYERS]
    await keep_busy(db, clock, [*transfers, transfer(DAN, 2_500)], [fresh_hash(), fresh_hash()])
    await Quoting(db, clock).offer(
        wallet=ALICE, unique_name="quoted", months=1, price=MicroUsd(500_000)
    )
    serving = await add_project(db, ALICE, "serves", monthly_price_micro_usd=MONTHLY)
    deployment = await add_deployment(db, serving)
    metering = Metering(db=db, clock=clock)
    async with db.transaction(durable=True) as tx:
        await projects.set_serving(tx, serving.id, deployment.id)
        await metering.begin(tx, serving.id)
    corrupt(
        db_path,
        "INSERT INTO relay_transactions SELECT chain_id, tx_hash, '0xrelayer', 1, id, '0x', '0x', "
        "1, '1', '1', '0x', 'mined', 1, 1 FROM settlements",
        "UPDATE settlements SET valid_before = '9'",
    )
    return db


def corrupt(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        connection.commit()


async def rows(db: Database, now_ms: int) -> list[str]:
    async with db.snapshot() as snapshot:
        found = await audit_states(snapshot, now_ms=now_ms)
    return [" ".join(item.row.split()[:-1]) for item in found]


async def test_honest_books_pass_now_and_a_year_later(busy: Database, clock: MovableClock) -> None:
    assert await rows(busy, clock.now_ms()) == []
    assert await rows(busy, clock.now_ms() + 365 * DAY_MS) == []


def later(*columns: str) -> str:
    """Moves them on by a day."""
    return ", ".join(f"{column} = {column} + {DAY_MS}" for column in columns)


OPEN = "WHERE ended_at_ms IS NULL"
SERVES = "WHERE project_id = (SELECT id FROM projects WHERE unique_name = 'serves')"
FORGERIES = {
    "open run interval deleted": (f"DELETE FROM run_intervals {SERVES}", "project"),
    "open run interval closed": (
        f"UPDATE run_intervals SET ended_at_ms = started_at_ms {SERVES}",
        "project",
    ),
    "run interval begun later": (
        f"UPDATE run_intervals SET started_at_ms = started_at_ms + 1 {SERVES}",
        "run interval",
    ),
    "run interval shifted": (
        f"UPDATE run_intervals SET {later('started_at_ms', 'charged_until_ms')} {SERVES}",
        "run interval",
    ),
    "run interval charged ahead": (
        f"UPDATE run_intervals SET charged_until_ms = charged_until_ms + {10 * HOUR_MS} {OPEN}",
        "run interval",
    ),
    "run interval said to be asleep": (
        f"UPDATE run_intervals SET asleep = 1 {SERVES}",
        "run interval",
    ),
    "project said to be asleep": (
        "UPDATE projects SET asleep_since_ms = 1 WHERE unique_name = 'serves'",
        "run interval",
    ),
    "monthly price set to 1": (
        "UPDATE projects SET monthly_price_micro_usd = 1 WHERE unique_name = 'serves'",
        "run interval",
    ),
    "price of a project that does not run set to 1": (
        "UPDATE projects SET monthly_price_micro_usd = 1 WHERE unique_name != 'serves'",
        "project",
    ),
    "settlement stuck": (
        "UPDATE settlements SET status = 'sent', tx_hash = NULL, ended_at_ms = NULL",
        "settlement",
    ),
    "settlement failed": ("UPDATE settlements SET status = 'failed'", "settlement"),
    "refund sent since 1970": (
        "UPDATE refunds SET status = 'sent', created_at_ms = 0 WHERE status = 'refunded'",
        "refund",
    ),
    "refund not final since 1970": (
        "UPDATE refunds SET finality = 'provisional', created_at_ms = 0 WHERE status = 'refunded'",
        "refund",
    ),
    "quote that lives for a year": (
        f"UPDATE quotes SET expires_at_ms = expires_at_ms + {365 * DAY_MS}",
        "quote",
    ),
    "quote that counts what nobody paid": (
        "UPDATE quotes SET received_micro_usd = 1000000000",
        "quote",
    ),
    "quote of the future": (
        f"UPDATE quotes SET {later('created_at_ms', 'expires_at_ms')}",
        "quote",
    ),
    "promise of long ago": ("UPDATE quotes SET promised_at_ms = 1", "quote"),
    "release that nobody was told of": (
        "DELETE FROM events WHERE kind = 'payment.credited'",
        "posting",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_row_changed_by_hand_is_found(
    busy: Database, db_path: Path, clock: MovableClock, forgery: str
) -> None:
    statement, row = FORGERIES[forgery]
    corrupt(db_path, statement)
    assert row in await rows(busy, clock.now_ms() + 2 * HOUR_MS)


async def test_fake_quote_is_found(busy: Database, db_path: Path, clock: MovableClock) -> None:
    """Made by a plain INSERT, with a price of its own and a year to pay it."""
    corrupt(
        db_path,
        "INSERT INTO quotes (id, wallet, unique_name, months, price_micro_usd, received_micro_usd, "
        f"created_at_ms, expires_at_ms) VALUES ('{uuid.uuid4()}', '{BOB}', 'mine', 24, 1, 0, "
        f"{clock.now_ms()}, {clock.now_ms() + 365 * DAY_MS})",
    )
    assert await rows(busy, clock.now_ms()) == ["quote"]

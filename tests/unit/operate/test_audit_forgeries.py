"""What is forged in the books, with balances and sums that agree, is found by what it is of."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.ledger import Filling
from moorage.ledger.metering import Metering, PurseChange
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.project import Project
from moorage.records.project import Transfer as Offer
from moorage.storage.apps import projects, transfers
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts
from support.books.busy_books import refund_part, stored
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    add_deployment,
    add_project,
    transfer,
)
from support.gateway.clock import HOUR_MS, MINUTE_MS, MovableClock

PRICE = MicroUsd(730_000)  # 1,000 micro-USD an hour


@pytest.fixture
async def books(db: Database, clock: MovableClock) -> Database:
    """Alice has filled a purse, lost an app, built, had money sent back, and given a project."""
    metering = Metering(db=db, clock=clock)
    own, gift, filled = [
        await add_project(db, ALICE, name, monthly_price_micro_usd=PRICE)
        for name in ("own-app", "gift", "filled")
    ]
    paid, filling = transfer(ALICE, 500_000), transfer(ALICE, 70_000)
    into = Filling(ALICE, filling.token_address, filling.amount, filled.id)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [paid], now_ms=clock.now_ms())
        await ledger.credit_transfers(tx, [filling], filling=into, now_ms=clock.now_ms())
        await metering.change_purse(tx, own, PurseChange(add=MicroUsd(5_000)))
        await metering.change_purse(tx, gift, PurseChange(add=MicroUsd(30_000)))
        await metering.begin(tx, own.id)
    await lose_and_regain(db, clock, metering, own)
    await build(db, clock, own)
    async with db.transaction(durable=True) as tx:
        assert await refund_part(tx, await stored(tx, paid), 100_000, now_ms=clock.now_ms())
        await give(tx, gift, now_ms=clock.now_ms())
    return db


async def lose_and_regain(
    db: Database, clock: MovableClock, metering: Metering, project: Project
) -> None:
    clock.advance(HOUR_MS)
    async with db.transaction(durable=True) as tx:
        await metering.lose(tx, project.id)
    for _ in range(2):
        clock.advance(HOUR_MS)
        await metering.tick()
    async with db.transaction(durable=True) as tx:
        found = await projects.by_id(tx, project.id)
        assert found is not None
        await metering.regain(tx, found)
    clock.advance(3 * HOUR_MS)
    await metering.tick()


async def build(db: Database, clock: MovableClock, project: Project) -> None:
    deployment = await add_deployment(db, project)
    builds = BuildTime(db=db, minutes_per_usd=0, monthly_price=PRICE, clock=clock)

    async def work() -> None:
        clock.advance(30 * MINUTE_MS)

    await builds.spend(work, wallet=ALICE, project_id=project.id, deployment_id=deployment.id)


async def give(tx: Transaction, project: Project, *, now_ms: int) -> None:
    offer = Offer("offer", project.id, ALICE, BOB, True, False, now_ms, now_ms + HOUR_MS)
    purse = await accounts.purse(tx, project.id)
    assert purse is not None
    await accounts.ensure_wallet(tx, BOB, now_ms=now_ms)
    await transfers.add(tx, offer, max_kept=1)
    await transfers.accept(tx, offer.id, now_ms=now_ms)
    assert await ledger.hand_over(tx, purse, offer, now_ms=now_ms)
    assert await transfers.give(tx, project, taker=BOB)


OF = "SELECT id FROM projects WHERE unique_name = '{}'"
OWN = OF.format("own-app")
WALLET = f"UPDATE wallets SET balance_micro_usd = balance_micro_usd {{}} WHERE address = '{ALICE}'"
TAKERS = WALLET.replace(ALICE, BOB)
PURSE = f"UPDATE purses SET balance_micro_usd = balance_micro_usd {{}} WHERE project_id = ({OWN})"


def booked(kind: str, account: str, change: str) -> str:
    """Changes an entry of the only posting of a kind."""
    return (
        f"UPDATE entries SET amount_micro_usd = amount_micro_usd {change} WHERE account "
        f"LIKE '{account}' AND posting_id = (SELECT max(id) FROM postings WHERE kind = '{kind}')"
    )


FORGERIES: dict[str, tuple[list[str], str]] = {
    "more came back than was burned while the app was lost": (
        [
            booked("compensated", "project:%", "+ 7"),
            booked("compensated", "compensated", "- 7"),
            PURSE.format("+ 7"),
        ],
        "posting compensated:",
    ),
    "a project went with more than was in its purse": (
        [
            booked("transfer", f"wallet:{ALICE}", "- 7"),
            booked("transfer", f"wallet:{BOB}", "+ 7"),
            WALLET.format("- 7"),
            TAKERS.format("+ 7"),
        ],
        "transfer offer",
    ),
    "a purse went that was not to go": (["UPDATE transfers SET with_purse = 0"], "transfer offer"),
    "a project went to somebody else": (
        [f"UPDATE transfers SET taker = '0x{'d' * 40}'"],
        "transfer offer",
    ),
    "a purse is another wallet's": (
        [f"UPDATE purses SET wallet = '{BOB}' WHERE project_id = ({OWN})"],
        "posting purse:",
    ),
    "a purse has more than was moved": ([PURSE.format("+ 7")], "purse "),
    "a payment has filled a purse of somebody else's": (
        [f"UPDATE purses SET wallet = '{BOB}' WHERE project_id = ({OF.format('filled')})"],
        "payment ",
    ),
    "a refund took more than it sent": (
        [
            booked("refund", f"wallet:{ALICE}", "- 7"),
            booked("refund", "refunded", "+ 7"),
            WALLET.format("- 7"),
        ],
        "refund ",
    ),
    "a build burned more than it cost": (
        [
            booked("build", f"wallet:{ALICE}", "- 7"),
            booked("build", "earned", "+ 7"),
            WALLET.format("- 7"),
        ],
        "build ",
    ),
    "a build was charged for free time": (
        ["UPDATE work SET billed_ms = 0"],
        "build ",
    ),
}


async def findings(db: Database) -> list[str]:
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    return [each.row for each in found]


async def test_books_with_every_newer_kind_of_entry_pass(books: Database) -> None:
    assert await findings(books) == []


@pytest.mark.parametrize(("forgery", "row"), FORGERIES.values(), ids=FORGERIES)
async def test_forged_entry_is_found_though_all_sums_agree(
    books: Database, db_path: Path, forgery: list[str], row: str
) -> None:
    with closing(sqlite3.connect(db_path)) as connection:
        assert [connection.execute(each).rowcount for each in forgery] == [1] * len(forgery)
        connection.commit()
    assert [each for each in await findings(books) if each.startswith(row)] != []

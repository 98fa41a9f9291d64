"""Books of a busy gateway pass the audit; any one row that is changed by hand is found."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from moorage.operate.audit.rows import Finding, audit_books
from moorage.storage.database import Database
from support.books.busy_books import keep_busy
from support.books.records_fixture import ALICE, ARBITRUM, BOB, CAROL, fresh_hash, transfer
from support.gateway.clock import MovableClock

DAN = "0x" + "d" * 40
PAYERS = [ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL]
A_POSTING = "(SELECT min(id) FROM postings WHERE kind = '{kind}')"
KINDS = ("payment", "reversal", "release", "refund", "grant", "burn")


@pytest.fixture
async def busy(db: Database, clock: MovableClock) -> Database:
    transfers = [transfer(payer, 500_000) for payer in PAYERS]
    await keep_busy(db, clock, [*transfers, transfer(DAN, 2_500)], [fresh_hash(), fresh_hash()])
    return db


async def findings(db: Database) -> list[Finding]:
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    return found


async def test_honest_books_pass(busy: Database) -> None:
    assert await findings(busy) == []


async def test_empty_books_pass(db: Database) -> None:
    assert await findings(db) == []


def add_to_entry(kind: str, *, account: str) -> str:
    posting = A_POSTING.format(kind=kind)
    return (
        "UPDATE entries SET amount_micro_usd = amount_micro_usd + 1 "
        f"WHERE posting_id = {posting} AND account LIKE '{account}'"
    )


def changed(table: str, column: str, value: str, where: str = "1") -> str:
    """Changes one row's column."""
    return (
        f"UPDATE {table} SET {column} = {value} "
        f"WHERE rowid = (SELECT min(rowid) FROM {table} WHERE {where})"
    )


IN_KIND = {kind: A_POSTING.format(kind=kind) for kind in KINDS}
ACCOUNT = {
    "payment": "received:%",
    "reversal": "received:%",
    "release": "held:%",
    "refund": "refunded",
    "grant": "granted",
    "burn": "earned",
}
ROW = {"burn": "run interval", "refund": "refund", "grant": "grant"}
OTHER_WALLET = f"'0x{'e' * 40}'"
CREDITED = "status = 'credited'"
CORRUPTIONS: dict[str, tuple[str, str]] = {
    **{
        f"{kind}: one entry": (add_to_entry(kind, account=ACCOUNT[kind]), "posting")
        for kind in KINDS
    },
    **{
        f"{kind}: both entries": (
            f"UPDATE entries SET amount_micro_usd = 2 * amount_micro_usd WHERE posting_id = {of}",
            ROW.get(kind, "payment"),
        )
        for kind, of in IN_KIND.items()
    },
    **{
        f"{kind}: no entries": (f"DELETE FROM entries WHERE posting_id = {of}", "posting")
        for kind, of in IN_KIND.items()
    },
    **{
        f"{kind}: gone": (
            f"DELETE FROM entries WHERE posting_id = {of};DELETE FROM postings WHERE id = {of}",
            ROW.get(kind, "payment"),
        )
        for kind, of in IN_KIND.items()
    },
    **{
        f"{kind}: twice": (
            (
                "INSERT INTO postings SELECT id || '0', kind, created_at_ms, acted_by "
                f"FROM postings WHERE id = {of};"
                f"INSERT INTO entries (posting_id, account, amount_micro_usd) "
                f"SELECT posting_id || '0', account, amount_micro_usd "
                f"FROM entries WHERE posting_id = {of}"
            ),
            "run interval" if kind == "burn" else "posting",
        )
        for kind, of in IN_KIND.items()
    },
    "an entry's account": (
        (
            f"UPDATE entries SET account = 'wallet:' || {OTHER_WALLET} "
            f"WHERE posting_id = {IN_KIND['payment']} AND account LIKE 'wallet:%'"
        ),
        "payment",
    ),
    "a grant's amount": (changed("grants", "amount_micro_usd", "1"), "grant"),
    "a grant that is said to be taken back": (changed("grants", "undone_at_ms", "1"), "grant"),
    "burn for no interval": (
        (
            "INSERT INTO postings VALUES ('burn:nobody:1', 'burn', 0, '');"
            "INSERT INTO entries (posting_id, account, amount_micro_usd) VALUES "
            f"('burn:nobody:1', 'wallet:{ALICE}', -1),"
            "('burn:nobody:1', 'earned', 1)"
        ),
        "posting burn:nobody:1",
    ),
    "burn of another wallet's credits": (
        (
            f"UPDATE entries SET account = 'wallet:' || {OTHER_WALLET} "
            f"WHERE posting_id = {IN_KIND['burn']} AND account LIKE 'wallet:%'"
        ),
        "run interval",
    ),
    "posting of a kind that is not known": (
        (
            "INSERT INTO postings VALUES ('gift', 'gift', 0, '');"
            "INSERT INTO entries (posting_id, account, amount_micro_usd) VALUES "
            f"('gift', 'wallet:{ALICE}', 5), ('gift', 'earned', -5)"
        ),
        "posting gift",
    ),
    "balance up": (changed("wallets", "balance_micro_usd", "balance_micro_usd + 1"), "wallet"),
    "balance down": (changed("wallets", "balance_micro_usd", "balance_micro_usd - 1"), "wallet"),
    "wallet gone": ("DELETE FROM wallets WHERE balance_micro_usd > 0", "wallet"),
    **{
        f"payment: {column}": (changed("payments", column, value, where=CREDITED), "payment")
        for column, value in {
            "chain_id": "8453",
            "tx_hash": "'0x12'",
            "log_index": "log_index + 7",
            "payer": OTHER_WALLET,
            "token": "'usdt'",
            "amount_atomic": "'500001'",
            "credited_micro_usd": "credited_micro_usd + 1",
            "round": "round + 1",
            "posting_id": "'payment'",
        }.items()
    },
    **{
        f"payment: {before} becomes {after}": (
            changed("payments", "status", f"'{after}'", where=f"status = '{before}'"),
            "payment",
        )
        for before in ("credited", "held", "reversed", "refunded")
        for after in ("credited", "held", "reversed", "refunded")
        if before != after and (before, after) != ("refunded", "held")
    },
    "payment gone": ("DELETE FROM payments WHERE status = 'held'", "posting"),
    **{
        f"interval: {column} {change:+} where {where}": (
            changed("run_intervals", column, f"{column} + {change}", where=where),
            "run interval",
        )
        for column, change, where in (
            ("charged_micro_usd", 1, "1"),
            ("charged_micro_usd", -1, "1"),
            ("started_at_ms", 7_200_000, "1"),
            ("started_at_ms", -7_200_000, "ended_at_ms IS NULL"),
            ("ended_at_ms", 7_200_000, "charged_until_ms = ended_at_ms"),
            ("charged_until_ms", 7_200_000, "ended_at_ms IS NULL"),
        )
    },
    "interval gone": ("DELETE FROM run_intervals WHERE ended_at_ms IS NULL", "posting burn"),
    "price": (changed("run_intervals", "monthly_price_micro_usd", "1"), "run interval"),
    **{
        f"refund: {column}": (changed("refunds", column, value), "refund")
        for column, value in {
            "recipient": OTHER_WALLET,
            "token_address": "'0x12'",
            "debited_micro_usd": "199999",
            "status": "'failed'",
            "log_index": "77",
        }.items()
    },
    "refund: more than the payment": (changed("refunds", "amount_atomic", "'500001'"), "payment"),
    "refund: failed becomes refunded": (
        changed("refunds", "status", "'refunded'", where="status = 'failed'"),
        "refund",
    ),
    "refund gone": ("DELETE FROM refunds WHERE status = 'refunded'", "posting refund"),
    "held payment was not refunded": (
        changed("refunds", "amount_atomic", "'499999'", where="debited_micro_usd = 500000"),
        "payment",
    ),
    "settlement": (changed("settlements", "tx_hash", "'0x12'"), "settlement"),
    "settlement's payer": (changed("settlements", "payer", OTHER_WALLET), "settlement"),
    "use": (changed("payment_uses", "wallet", OTHER_WALLET), "use"),
}


@pytest.mark.parametrize(("corruption", "row"), CORRUPTIONS.values(), ids=CORRUPTIONS)
async def test_single_corruption_is_found(
    busy: Database, db_path: Path, corruption: str, row: str
) -> None:
    with closing(sqlite3.connect(db_path)) as connection:
        touched = [connection.execute(statement).rowcount for statement in corruption.split(";")]
        connection.commit()
    assert min(touched) > 0
    assert [item for item in await findings(busy) if item.row.startswith(row)] != []


async def test_snapshot_does_not_see_what_is_written_meanwhile(
    busy: Database, db_path: Path
) -> None:
    async with busy.snapshot() as snapshot:
        _, before = await audit_books(snapshot, [ARBITRUM])
        with closing(sqlite3.connect(db_path)) as connection:
            connection.execute("DELETE FROM payments")
            connection.commit()
        _, after = await audit_books(snapshot, [ARBITRUM])
    assert before == after == []
    assert await findings(busy) != []

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, MetaData, create_engine

from moorage.errors import DatabaseUnavailable
from moorage.records.deployment import TRANSITIONS, DeploymentStatus, Origin
from moorage.records.domain import DomainStatus
from moorage.records.job import JobStatus
from moorage.records.money.cursor import Search
from moorage.records.money.payment import Finality, PaymentStatus
from moorage.records.money.refund import RefundStatus
from moorage.records.money.relay_transaction import RelayStatus
from moorage.records.money.settlement import SettlementStatus
from moorage.records.project import ProjectStatus
from moorage.records.session import Role
from moorage.records.webhook import DeliveryStatus
from moorage.storage import migrate as migration
from moorage.storage.migrate import REVISIONS, migrate
from moorage.storage.schema import metadata


@contextmanager
def connected(path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


ENUMS: dict[str, type[StrEnum]] = {
    "payments.status": PaymentStatus,
    "payments.finality": Finality,
    "settlements.status": SettlementStatus,
    "relay_transactions.status": RelayStatus,
    "refunds.status": RefundStatus,
    "refunds.finality": Finality,
    "watch_cursors.search": Search,
    "deliveries.status": DeliveryStatus,
    "projects.status": ProjectStatus,
    "deployments.status": DeploymentStatus,
    "deployments.origin": Origin,
    "domains.status": DomainStatus,
    "jobs.status": JobStatus,
    "sessions.role": Role,
    "links.role": Role,
}


def test_columns_hold_the_values_of_their_enums() -> None:
    """Compares every CHECK of the schema, as each is of a column that holds an enum's values."""
    checked = {
        f"{table.name}.{str(check.sqltext).split()[0]}": set(
            re.findall(r"'(\w+)'", str(check.sqltext))
        )
        for table in metadata.tables.values()
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    assert checked == {column: set(states) for column, states in ENUMS.items()}


def test_every_deployment_status_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(DeploymentStatus)


def test_migrations_make_what_the_schema_says(migrated: Path) -> None:
    with connected(migrated) as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_migrations_make_the_same_checks_and_partial_indexes(
    migrated: Path, tmp_path: Path
) -> None:
    created = tmp_path / "created.db"
    with connected(created) as connection:
        metadata.create_all(connection)
        connection.commit()

    assert definitions(created) == definitions(migrated)


def definitions(path: Path) -> dict[str, set[str]]:
    """What SQLite was told to create, in any order and spacing."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    ).fetchall()
    connection.close()
    # A table that was altered has been made again, with its name in quotes and its parts moved.
    parts = {name: re.split(r"[,()]", sql.replace('"', "")) for name, sql in rows}
    return {name: {" ".join(part.split()) for part in split} for name, split in parts.items()}


def test_schema_has_no_table_that_reflection_does_not_find(migrated: Path) -> None:
    reflected = MetaData()
    with connected(migrated) as connection:
        reflected.reflect(connection)
    assert set(reflected.tables) - {"alembic_version"} == set(metadata.tables)


def test_revisions_are_the_scripts() -> None:
    scripts = ScriptDirectory(str(Path(migration.__file__).parent / "migrations"))
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS


def test_second_migration_does_nothing(
    migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(migrated, tmp_path / "again.db"))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise AssertionError("nothing is to be upgraded")

    monkeypatch.setattr("alembic.command.upgrade", fail)
    migrate(path)

    assert path.read_bytes() == before


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(DatabaseUnavailable, match=r"damaged\.db"):
        migrate(path)


def test_rows_survive_a_migration_of_an_up_to_date_file(migrated: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(migrated, tmp_path / "kept.db"))
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO wallets (address, balance_micro_usd, created_at_ms) VALUES ('0xa', 5, 0)"
    )
    connection.commit()
    migrate(path)
    assert connection.execute("SELECT balance_micro_usd FROM wallets").fetchall() == [(5,)]
    connection.close()


def test_what_was_pay_to_is_known_from_what_was_settled(tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    migrate_to(path, "0004")
    connection = sqlite3.connect(path)
    for number, recipient in enumerate(("0xa", "0xb", "0xa"), 1):
        connection.execute(
            "INSERT INTO settlements VALUES (?, 1, 'usdc', '0xt', '0xp', ?, '5', '0', '9', ?, '', "
            "0, NULL, 'settled', ?, NULL, ?, 9)",
            (str(number), recipient, str(number), f"0x{number}", number),
        )
    for number in (1, 2, 4):
        connection.execute(
            "INSERT INTO payments (chain_id, tx_hash, log_index, payer, token, token_address, "
            "amount_atomic, credited_micro_usd, block_number, block_hash, claimed_at_ms) "
            "VALUES (1, ?, 0, '0xp', 'usdc', '0xt', '5', 5, 1, '0x', 1)",
            (f"0x{number}",),
        )
    connection.commit()
    migrate(path)
    columns = "address, since_ms"
    known = connection.execute(f"SELECT {columns} FROM recipients ORDER BY address").fetchall()
    assert known == [("0xa", 1), ("0xb", 2)]
    paid = connection.execute("SELECT tx_hash, recipient FROM payments ORDER BY tx_hash").fetchall()
    assert paid == [("0x1", "0xa"), ("0x2", "0xb"), ("0x4", None)]
    connection.close()


def test_names_that_quotes_held_and_projects_have_are_still_theirs(tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    migrate_to(path, "0013")
    connection = sqlite3.connect(path)
    for wallet, name, deleted_ms in (("0xa", "had", None), ("0xa", "gone", 5)):
        connection.execute(
            "INSERT INTO projects (id, wallet, unique_name, display_name, description, status, "
            "monthly_price_micro_usd, created_at_ms, deleted_at_ms) "
            "VALUES (?, ?, ?, '', '', 'active', 1, 0, ?)",
            (name, wallet, name, deleted_ms),
        )
    for number, (wallet, name, until_ms) in enumerate(
        [("0xa", "had", 7), ("0xb", "held", 7), ("0xb", "held", 9), ("0xc", "held", 3)]
    ):
        connection.execute(
            "INSERT INTO quotes (id, wallet, unique_name, months, price_micro_usd, "
            "received_micro_usd, created_at_ms, expires_at_ms) VALUES (?, ?, ?, 1, 1, 0, 0, ?)",
            (str(number), wallet, name, until_ms),
        )
    connection.commit()
    migrate(path)
    known = connection.execute("SELECT * FROM names ORDER BY unique_name").fetchall()
    assert known == [("had", "0xa", None), ("held", "0xb", 9)]
    connection.close()


def migrate_to(path: Path, revision: str) -> None:
    """As a gateway of that time would have it."""
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_entries_keep_their_order_and_meters_their_reading(tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    migrate_to(path, "0013")
    connection = sqlite3.connect(path)
    for posting in ("z", "a", "m"):
        connection.execute("INSERT INTO postings VALUES (?, 'payment', 1)", (posting,))
        connection.execute("INSERT INTO entries VALUES (?, 'wallet:0xa', 5)", (posting,))
        connection.execute("INSERT INTO entries VALUES (?, 'received:1:usdc', -5)", (posting,))
    connection.execute("DELETE FROM entries WHERE posting_id = 'z'")
    connection.execute("INSERT INTO meter VALUES (1, 70, 7, 'boot')")
    numbered = "SELECT rowid, posting_id, account, amount_micro_usd FROM entries ORDER BY rowid"
    before = connection.execute(numbered).fetchall()
    connection.commit()
    migrate(path)
    by_place = "SELECT place, posting_id, account, amount_micro_usd FROM entries ORDER BY place"
    assert connection.execute(by_place).fetchall() == before
    assert [row[1] for row in before] == ["a", "a", "m", "m"]
    connection.execute("INSERT INTO entries VALUES (NULL, 'z', 'earned', 0)")
    assert connection.execute("SELECT max(place) FROM entries").fetchone() == (before[-1][0] + 1,)
    assert connection.execute("SELECT * FROM meters").fetchall() == [("", 70, 7, "boot")]
    connection.close()

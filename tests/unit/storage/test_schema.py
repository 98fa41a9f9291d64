import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, MetaData, create_engine

from moorage.errors import DatabaseUnavailable, SchemaUnknown
from moorage.records.access import Role
from moorage.records.deployment import TRANSITIONS, DeploymentStatus, JobStatus, Origin, ReleaseStep
from moorage.records.domain import DomainStatus
from moorage.records.event import DeliveryStatus
from moorage.records.payments import (
    Finality,
    PaymentStatus,
    RefundStatus,
    RelayStatus,
    SettlementStatus,
)
from moorage.records.project import Kind, ProjectStatus
from moorage.records.run import RUN_TRANSITIONS, RunKind, RunStatus
from moorage.storage.migrate import REVISIONS, SCRIPTS, is_newest, migrate
from moorage.storage.money.billing import WorkKind
from moorage.storage.operation.alerts import AlertState, ChannelName
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
    "deliveries.status": DeliveryStatus,
    "projects.status": ProjectStatus,
    "deployments.status": DeploymentStatus,
    "deployments.origin": Origin,
    "deployments.release_step": ReleaseStep,
    "projects.kind": Kind,
    "domains.status": DomainStatus,
    "jobs.status": JobStatus,
    "work.kind": WorkKind,
    "runs.kind": RunKind,
    "runs.status": RunStatus,
    "sessions.role": Role,
    "links.role": Role,
    "alerts.told_by_webhook": AlertState,
    "alerts.told_by_mail": AlertState,
    "alert_channels.name": ChannelName,
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


def test_every_status_of_deployments_and_runs_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(DeploymentStatus)
    assert set(RUN_TRANSITIONS) == set(RunStatus)


def test_new_database_has_what_the_schema_declares(migrated: Path) -> None:
    with connected(migrated) as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_schema_has_no_table_that_reflection_does_not_find(migrated: Path) -> None:
    reflected = MetaData()
    with connected(migrated) as connection:
        reflected.reflect(connection)
    assert set(reflected.tables) - {"alembic_version"} == set(metadata.tables)


def test_revisions_are_the_scripts() -> None:
    scripts = ScriptDirectory(str(SCRIPTS))
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS


def test_second_migration_does_nothing(migrated: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(migrated, tmp_path / "again.db"))
    before = path.read_bytes()
    migrate(path)
    assert path.read_bytes() == before


def test_later_release_upgrades_the_books_of_an_earlier_one(
    migrated: Path, tmp_path: Path, later_release: str
) -> None:
    path = Path(shutil.copy(migrated, tmp_path / "kept.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO wallets (address, balance_micro_usd, created_at_ms) VALUES ('0xa', 5, 0)"
        )
    assert not is_newest(path)
    migrate(path)
    assert is_newest(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (later_release,)
        ]
        found = connection.execute("SELECT balance_micro_usd, later FROM wallets").fetchall()
        assert found == [(5, None)]


@pytest.mark.parametrize(
    ("revision", "says"),
    [("0045", "from before the first release"), ("release_9999", "newer version")],
)
def test_books_of_an_unknown_version_are_refused_and_left_as_they_are(
    migrated: Path, tmp_path: Path, revision: str, says: str
) -> None:
    path = Path(shutil.copy(migrated, tmp_path / "unknown.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    before = path.read_bytes()
    for use in (migrate, is_newest):
        with pytest.raises(SchemaUnknown, match=f"{says}.*{revision}"):
            use(path)
    assert path.read_bytes() == before


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(DatabaseUnavailable, match=r"damaged\.db"):
        migrate(path)


def test_database_that_cannot_be_opened_is_not_taken_for_an_older_one(db_path: Path) -> None:
    """As on a full disk, where the file beside it can't be made."""
    with closing(sqlite3.connect(db_path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    db_path.with_name(f"{db_path.name}-wal").mkdir()
    with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
        is_newest(db_path)

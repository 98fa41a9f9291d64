"""What a new version may do to the schema, on which gateways of the old version still run."""

import io
import re
from itertools import pairwise

import pytest
from alembic import command
from alembic.config import Config

from moorage.storage import migrations
from moorage.storage.migrate import REVISIONS

FIRST = "0018"
"""Since then every upgrade can be done while others serve: CHANGELOG.md names no other."""

ADDING = (
    r"ALTER TABLE \w+ ADD COLUMN \w+ (?!.* NOT NULL).*",
    r"ALTER TABLE \w+ ADD COLUMN \w+ .* DEFAULT .* NOT NULL",
    r"UPDATE alembic_version SET .*",
    r"UPDATE evictions SET after_export_at_ms = .*",  # the old version has less to delete
)
"""Statements that rows and statements of the old version stand."""

ON_NEW_TABLES = r"CREATE (?:UNIQUE )?INDEX \w+ ON (\w+) .*"
NEW_TABLE = r"CREATE TABLE (\w+) .*"


def statements(since: str, to: str) -> list[str]:
    """The SQL that a server is sent, a statement each."""
    config = Config(output_buffer=(script := io.StringIO()))
    config.set_main_option("script_location", migrations.__path__[0])
    command.upgrade(config, f"{since}:{to}", sql=True)
    lines = [line for line in script.getvalue().splitlines() if not line.startswith("--")]
    parts = (" ".join(part.split()) for part in "\n".join(lines).split(";"))
    return [part for part in parts if part not in ("", "BEGIN", "COMMIT")]


def harmful(found: list[str]) -> list[str]:
    """Those that the old version may not stand."""
    new = {match[1] for sql in found if (match := re.fullmatch(NEW_TABLE, sql))}
    return [
        sql
        for sql in found
        if not any(re.fullmatch(pattern, sql) for pattern in (*ADDING, NEW_TABLE))
        and not sql.startswith("CREATE INDEX ")
        and not ((match := re.fullmatch(ON_NEW_TABLES, sql)) and match[1] in new)
    ]


@pytest.mark.parametrize(
    ("since", "to"),
    [pair for pair in pairwise(REVISIONS) if pair[1] >= FIRST],
)
def test_new_version_only_adds_to_what_the_old_one_uses(since: str, to: str) -> None:
    found = statements(since, to)
    assert found
    assert harmful(found) == []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE wallets DROP COLUMN balance_micro_usd",
        "ALTER TABLE wallets RENAME COLUMN address TO owner",
        "ALTER TABLE wallets ADD COLUMN owner TEXT NOT NULL",
        "ALTER TABLE wallets ALTER COLUMN address TYPE INTEGER",
        "ALTER TABLE wallets ADD CONSTRAINT positive CHECK (balance_micro_usd > 0)",
        "CREATE UNIQUE INDEX one ON wallets (address)",
        "DROP TABLE wallets",
    ],
)
def test_what_the_old_version_would_fail_by_is_noticed(sql: str) -> None:
    assert harmful([sql]) == [sql]

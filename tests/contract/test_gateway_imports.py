"""What a gateway's process imports at its start, all of which stays in its memory."""

import subprocess
import sys
from pathlib import Path

SELDOM_NEEDED = {
    "alembic",  # once per upgrade
    "dns",  # for the first domain of a deployer's own
    "segno",  # for the first page to pay on
    "rich",  # structlog's colours
    "asyncpg",  # with a PostgreSQL server alone
    "aiodocker",  # with Docker alone
    "lightkube",  # with a cluster alone
    "pyrage",  # for off-site backups alone
    "obstore",  # with a content store alone
    "sqlalchemy.dialects.postgresql",
    *("acme", "cryptography", "requests"),  # with TLS alone
    "cffi",  # and its parser of C, where ctypes is enough
}


def imported_by(program: str, *arguments: str) -> set[str]:
    """Returns the modules that a process has once it has run a program."""
    command = [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)", *arguments]
    return set(subprocess.check_output(command, text=True).split())


def test_what_is_seldom_needed_is_not_imported_at_the_start() -> None:
    modules = "moorage.logs, moorage.gateway.dev, moorage.gateway.running, moorage.operate.check"
    imported = imported_by(f"import {modules}")
    assert "moorage.gateway.running" in imported
    assert not SELDOM_NEEDED & imported


def test_new_books_are_made_without_what_only_an_upgrade_needs(tmp_path: Path) -> None:
    program = "import pathlib, sys; from moorage.storage.migrate import migrate"
    imported = imported_by(f"{program}; migrate(pathlib.Path(sys.argv[1]))", str(tmp_path / "db"))
    assert (tmp_path / "db").exists()
    assert not {"alembic", "sqlalchemy.dialects.postgresql"} & imported

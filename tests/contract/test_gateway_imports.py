"""What a gateway's process imports at its start, all of which stays in its memory."""

import subprocess
import sys

SELDOM_NEEDED = {
    "alembic",  # once per upgrade
    "dns",  # for the first domain of a deployer's own
    "segno",  # for the first page to pay on
    "rich",  # structlog's colours
    "asyncpg",  # with a PostgreSQL server alone
    "aiodocker",  # with Docker alone
    "lightkube",  # with a cluster alone
    "obstore",  # with a content store alone
    "sqlalchemy.dialects.postgresql",
    "valkey",
    "cffi",  # and its parser of C, where ctypes is enough
}


def test_what_is_seldom_needed_is_not_imported_at_the_start() -> None:
    modules = "moorage.logs, moorage.gateway.dev, moorage.gateway.serve, moorage.operate.check"
    program = f"import sys, {modules}; print(*sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    imported = set(said.split())
    assert "moorage.gateway.running" in imported
    assert not SELDOM_NEEDED & imported

"""What a gateway's process imports at its start, all of which stays in its memory."""

import subprocess
import sys

SELDOM_NEEDED = {
    "alembic",  # once per upgrade
    "dns",  # for the first domain of a deployer's own
    "segno",  # for the first page to pay on
    "lightkube",  # with a cluster alone
    "obstore",  # with a content store alone
    "valkey",
}


def test_what_is_seldom_needed_is_not_imported_at_the_start() -> None:
    program = "import sys, moorage.gateway.dev, moorage.gateway.serve; print(*sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    imported = set(said.split())
    assert "moorage.gateway.running" in imported
    assert not SELDOM_NEEDED & imported

"""A gateway goes on with the books that the oldest version wrote: owners, credits and names."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from moorage.storage.purpose import Purpose, set_purpose
from support.books.old_books import BOBS_KEY, DUMPS, write_books
from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import MOORAGE, running

pytestmark = pytest.mark.root


async def test_project_of_the_first_version_is_served_again_for_its_credits(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    write_books(DUMPS[0], data_dir / "moorage.db")
    set_purpose(data_dir / "moorage.db", Purpose.DEV)  # which no dump tells
    with running(data_dir, requests_per_minute="100000") as gateway:
        wallet = Wallet(gateway, key=BOBS_KEY)
        balance = await wallet.call("GET", "/agent/credits")
        assert balance.body["balance_usd"] > 0.5
        listed = await wallet.call("GET", "/agent/projects")
        assert "kept" in str(listed.body)

        deployed = await wallet.deploy("kept", {"index.html": "the third version"})

        assert (await wallet.settled(deployed))["status"] == "ready"
        assert await wallet.visit("kept") == (200, "the third version")
        done = await asyncio.to_thread(
            subprocess.run,
            [MOORAGE, "ledger", "export", "--data-dir", str(data_dir)],
            capture_output=True,
            check=True,
        )
        assert b"payment:" in done.stdout
        assert json.loads((data_dir / "dev.json").read_text())["base_domain"] == "localhost"

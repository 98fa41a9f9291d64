"""The addresses that a gateway holds, so that no other on its machine takes the same payments."""

import os
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from moorage.gateway.several import takers
from moorage.settings import Settings
from moorage.storage.database import Database
from records_fixture import ALICE


async def test_apps_users_can_pass_the_directory_that_is_made_for_the_lock(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "moorage" / "addresses.lock"  # gone, as after a restart of the machine
    monkeypatch.setattr(takers, "ROOTS_LOCK_FILE", lock)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = SimpleNamespace(chains={}, relayer_key_file=None, gateway_name=None)
    async with AsyncExitStack() as stack:
        await takers.hold_addresses(stack, cast("Settings", settings), db, pay_to=ALICE)
    assert lock.parent.stat().st_mode & 0o001
    assert not lock.stat().st_mode & 0o077

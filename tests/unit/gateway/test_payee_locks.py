"""The addresses that a gateway holds, so that no other on its machine takes the same payments."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from moorage.gateway import duplicate_gateway_check
from moorage.settings import Settings
from moorage.storage.database import Database
from support.books.records_fixture import ALICE

_HOLDER = """
import asyncio, contextlib, os, sys
from pathlib import Path
from types import SimpleNamespace
from moorage.gateway import duplicate_gateway_check

async def hold(lock, name, books, pay_to):
    async def watched(db):
        return frozenset()
    async def identity(db):
        return books
    duplicate_gateway_check.configuration.watched_recipients = watched
    duplicate_gateway_check.identity = identity
    duplicate_gateway_check.ROOTS_LOCK_FILE, os.geteuid = Path(lock), lambda: 0
    chain = SimpleNamespace(chain=lambda name: SimpleNamespace(chain_id=1))
    settings = SimpleNamespace(chains={"c": chain}, relayer_key_file=None, gateway_name=name)
    async with contextlib.AsyncExitStack() as stack:
        try:
            addresses = await duplicate_gateway_check.taken_addresses(settings, None, pay_to=pay_to)
            await duplicate_gateway_check.hold_addresses(stack, settings, None, addresses=addresses)
        except duplicate_gateway_check.AlreadyRunning:
            print("refused", flush=True)
            return
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(hold(*sys.argv[1:]))
"""
"""A gateway's process, as far as it holds addresses: until its input ends."""


async def hold(stack: AsyncExitStack, lock: Path, *, name: str, books: str) -> str:
    """Starts one, and returns what it says: held or refused."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLDER, str(lock), name, books, ALICE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stack.push_async_callback(process.communicate, b"")
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (("a", "books"), ("b", "books"), "held"),
        (("a", "books"), ("b", "others"), "refused"),
        (("a", "books"), ("", "books"), "refused"),
        (("", "books"), ("b", "books"), "refused"),
        (("", "books"), ("", "others"), "refused"),
    ],
    ids=["shared", "others", "no-name-second", "no-name-first", "no-names"],
)
async def test_gateways_of_one_database_alone_hold_an_address_together(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str], said: str
) -> None:
    lock = tmp_path / "moorage/addresses.lock"
    async with AsyncExitStack() as stack:
        assert await hold(stack, lock, name=first[0], books=first[1]) == "held"
        assert await hold(stack, lock, name=second[0], books=second[1]) == said


async def test_apps_users_can_pass_the_directory_that_is_made_for_the_lock(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "moorage" / "addresses.lock"  # gone, as after a restart of the machine
    monkeypatch.setattr(duplicate_gateway_check, "ROOTS_LOCK_FILE", lock)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = SimpleNamespace(chains={}, relayer_key_file=None, gateway_name=None)
    async with AsyncExitStack() as stack:
        await duplicate_gateway_check.hold_addresses(
            stack, cast("Settings", settings), db, addresses=[]
        )
    assert lock.parent.stat().st_mode & 0o001
    assert not lock.stat().st_mode & 0o077
